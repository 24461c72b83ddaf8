"""The command line. `mnist-lit X` is `cli/x.py`; `fit`, `validate` and `test` are `lightning.py`, with `config`,
`trainer`, `execute`, `finish`, `help` and `quiet`. `main` is the entry point, and the other commands share
`command_parser` and `network`, which reads `--model.network`."""
