"""What went wrong where nobody can be told → the log, whatever its handlers do."""

import contextlib
import logging

__all__ = ["note", "report"]


def __dir__() -> list[str]:
    return __all__


def note(logger: logging.Logger, level: int, message: str, *args: object) -> None:
    """Log a message, without the exception that is being handled. Raises nothing.

    Args:
        logger: Where.
        level: How bad it is.
        message: What happened, as `logging` takes it.
        args: What belongs into it.
    """
    with contextlib.suppress(BaseException):
        logger.log(level, message, *args)


def report(logger: logging.Logger, level: int, message: str, *args: object) -> None:
    """Log a message with the exception that is being handled. Raises nothing: handlers are the host's own.

    Args:
        logger: Where.
        level: How bad it is.
        message: What was being done, as `logging` takes it.
        args: What belongs into it.
    """
    with contextlib.suppress(BaseException):
        logger.log(level, message, *args, exc_info=True)
