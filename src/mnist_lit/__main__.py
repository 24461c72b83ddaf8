"""`python -m mnist_lit` is `mnist-lit`, also in that it imports nothing from the working directory."""

import sys

from mnist_lit.cli.main import main

if __name__ == "__main__":
    if not sys.flags.safe_path:
        sys.path.pop(0)  # `-m` puts the working directory there, where a config's `class_path` could name code
    sys.exit(main())
