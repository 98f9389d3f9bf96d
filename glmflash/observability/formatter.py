"""A record of `logging` → a line of JSON, with whatever was given as `extra`."""

import json
import logging
from datetime import UTC, datetime

__all__ = ["JsonFormatter"]

#: What every record has; all else came as `extra`.
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


def __dir__() -> list[str]:
    return __all__


class JsonFormatter(logging.Formatter):
    r"""Each record as one JSON object on one line: `handler.setFormatter(JsonFormatter())`.

    It has `time` (UTC), `level`, `logger`, `message`, `exception` and `stack` if there is one, and what was
    given as `extra`, except where that is None. What has no JSON is written as text. Everything beyond ASCII
    is escaped, so no text can begin a line.

    Example:
        >>> record = logging.makeLogRecord({"name": "glmflash.requests", "msg": "a\nb", "request": 7})
        >>> json.loads(JsonFormatter().format(record))["request"]
        7
    """

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        own: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            own["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            own["stack"] = self.formatStack(record.stack_info)
        given = vars(record).items()
        extra = {name: value for name, value in given if name not in _STANDARD and value is not None}
        parts = (f"{json.dumps(name)}: {_json(value)}" for name, value in {**own, **extra, **own}.items())
        return f"{{{', '.join(parts)}}}"


def _json(value: object) -> str:
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(str(value))  # numbers that are not finite, keys that are no text, loops
