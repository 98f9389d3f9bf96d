"""An exception → the HTTP status and the error object that OpenAI's clients understand."""

import logging

from glmflash.errors import (
    CacheFullError,
    CapacityError,
    ClosedError,
    ContextLengthError,
    DeadlineError,
    EngineDeadError,
    GlmflashError,
    InputError,
    ParameterError,
    QueueFullError,
)
from glmflash.openai.write import Json

__all__ = ["error_body"]

# The first that fits. What was sent is too much for this machine however often it is sent: 413.
_STATUS: tuple[tuple[type[GlmflashError], int], ...] = (
    (InputError, 400),
    (QueueFullError, 429),
    (CacheFullError, 413),
    (CapacityError, 503),
    (DeadlineError, 504),
    (EngineDeadError, 503),
    (ClosedError, 503),
)
_TYPES = {400: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error"}
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


def error_body(error: BaseException) -> tuple[int, Json]:
    """Say what went wrong as OpenAI's servers would.

    An error of ours says what was given, what is allowed and what to do. Any other may hold anything, so it
    is logged, and its text stays here.

    Args:
        error: Whatever was raised.

    Returns:
        The HTTP status, and an object whose `error` has message, type, param and code.

    Example:
        >>> status, body = error_body(ParameterError("seed", "is -1; allowed: a whole number from 0"))
        >>> status, body["error"]["param"], body["error"]["code"]
        (400, 'seed', 'parameter_error')
    """
    if not isinstance(error, GlmflashError):
        _log.error("an error that is not one of ours", exc_info=error)
        return 500, _body("internal error; the server's log has it", 500, "internal_error")
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    # Clients know one code by heart: they shorten the conversation and try again.
    code = "context_length_exceeded" if isinstance(error, ContextLengthError) else error.code
    return status, _body(str(error), status, code, _param(error))


def _body(message: str, status: int, code: str, param: str | None = None) -> Json:
    kind = _TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _param(error: GlmflashError) -> str | None:
    if isinstance(error, ParameterError):
        return error.parameter
    return "messages" if isinstance(error, InputError) else None
