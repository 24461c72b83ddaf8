"""`python -m mnist_lit` is `mnist-lit`, also in that it imports nothing from the working directory."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        sys.path.pop(0)  # before all other imports: `-m` puts the working directory there, with whatever code is in it
    from mnist_lit.cli.main import main

    sys.exit(main())
