"""`python -m mnist_lit` is `mnist-lit`."""

import sys

from mnist_lit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
