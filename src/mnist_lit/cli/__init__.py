"""The command line. `main.py` holds the table of commands and imports a command only when it is called;
`mnist-lit X` is `cli/x.py`, except that `lightning.py` serves `fit`, `validate` and `test`.
"""
