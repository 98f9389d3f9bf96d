"""What stands on a command line → an answer, a plan or facts on standard output, and an exit code."""

from glmflash.cli.main import main

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__
