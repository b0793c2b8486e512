"""`python -m flamlib` is the command `flam`."""

import sys

from flamlib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
