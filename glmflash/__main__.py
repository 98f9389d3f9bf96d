"""`python -m glmflash` → the command line."""

import sys

from glmflash.cli import main

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__


if __name__ == "__main__":
    sys.exit(main())
