"""The command line: `mnist-lit X` is `cli/x.py`, except that `lightning.py` serves `fit`, `validate` and `test`."""
