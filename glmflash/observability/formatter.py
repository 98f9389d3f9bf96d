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

    It has `time` (UTC), `level`, `logger`, `message`, `exception` if there is one, and what was given as
    `extra`, except where that is None. Everything beyond ASCII is escaped, so no text can begin a line.

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
        given = vars(record).items()
        extra = {name: value for name, value in given if name not in _STANDARD and value is not None}
        return json.dumps({**own, **extra, **own}, default=str)
