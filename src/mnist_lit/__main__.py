"""`python -m mnist_lit` does what `mnist-lit` does: it, too, imports nothing from the working directory."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        sys.path.pop(0)  # before any other import: `-m` puts the working directory there, with whatever code it holds
    from mnist_lit.cli.main import main

    sys.exit(main())
