"""``python -m arrayopt``."""

import sys

from arrayopt.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
