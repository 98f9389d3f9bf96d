"""The exception tree: whatever goes wrong → one typed error that says what was given, allowed, and to do.

Every error is also the builtin a caller would expect, and carries a stable `.code`.
Messages never hold memory addresses, payload bytes or credentials.

    GlmflashError
    ├─ ConfigError (ValueError)
    ├─ CheckpointError (ValueError)
    ├─ DownloadError (OSError)
    ├─ InputError (ValueError)
    │  ├─ ImageError
    │  ├─ FetchError
    │  ├─ MessageError
    │  ├─ ParameterError
    │  ├─ QuestionError
    │  └─ ContextLengthError
    ├─ CapacityError (RuntimeError)
    │  ├─ CacheFullError
    │  └─ QueueFullError
    ├─ DeadlineError (TimeoutError)
    ├─ EngineDeadError (RuntimeError)
    ├─ ClosedError (RuntimeError)
    ├─ ExtractionError (ValueError)
    ├─ NumericsError (ArithmeticError)
    └─ RegressionError (AssertionError)
"""

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "CacheFullError",
    "CapacityError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "ContextLengthError",
    "DeadlineError",
    "DownloadError",
    "EngineDeadError",
    "ExtractionError",
    "FetchError",
    "GlmflashError",
    "ImageError",
    "InputError",
    "MessageError",
    "NumericsError",
    "ParameterError",
    "QuestionError",
    "QueueFullError",
    "RegressionError",
]


def __dir__() -> list[str]:
    return __all__


class GlmflashError(Exception):
    """Root of every error that glmflash raises on purpose."""

    code: ClassVar[str] = "glmflash_error"


class ConfigError(GlmflashError, ValueError):
    """A configuration file is missing a field or has a value that is not supported."""

    code = "config_error"


class CheckpointError(GlmflashError, ValueError):
    """Tensors are missing, unexpected, or of the wrong shape or dtype; all of them are listed."""

    code = "checkpoint_error"


class DownloadError(GlmflashError, OSError):
    """A checkpoint could not be fetched, or is not on disk while only local files are allowed."""

    code = "download_error"


class InputError(GlmflashError, ValueError):
    """Something that the caller passed in cannot be used."""

    code = "input_error"


class ImageError(InputError):
    """A picture cannot be decoded, is too large, or is not of an allowed format."""

    code = "image_error"


class FetchError(InputError):
    """A URL is refused, or could not be fetched."""

    code = "fetch_error"


class MessageError(InputError):
    """A chat message has a bad role, part or tool, or the wrong number of pictures."""

    code = "message_error"


class ParameterError(InputError):
    """A request parameter is out of range; `.parameter` names it."""

    code = "parameter_error"

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(parameter, problem)  # both, so that it can be pickled
        self.parameter = parameter

    def __str__(self) -> str:
        return ": ".join(map(str, self.args))


class QuestionError(InputError):
    """A file of questions holds what cannot be used; its problems are listed with file and place."""

    code = "question_error"


class ContextLengthError(InputError):
    """The prompt does not fit into the model's context; `.tokens` and `.limit` say how far, if counted."""

    code = "context_length_error"

    def __init__(self, problem: str, *, tokens: int | None = None, limit: int | None = None) -> None:
        super().__init__(problem)
        self.tokens = tokens
        self.limit = limit


class CapacityError(GlmflashError, RuntimeError):
    """A bounded resource is used up."""

    code = "capacity_error"


class CacheFullError(CapacityError):
    """The KV cache cannot hold the sequence."""

    code = "cache_full_error"


class QueueFullError(CapacityError):
    """The queue of waiting requests is full."""

    code = "queue_full_error"


class DeadlineError(GlmflashError, TimeoutError):
    """A request did not finish before its deadline."""

    code = "deadline_error"


class EngineDeadError(GlmflashError, RuntimeError):
    """The worker thread is gone; the pipeline must be made anew."""

    code = "engine_dead_error"


class ClosedError(GlmflashError, RuntimeError):
    """The pipeline has been closed."""

    code = "closed_error"


class ExtractionError(GlmflashError, ValueError):
    """An answer does not hold what was asked for; `.field` names it, `.text` is the answer."""

    code = "extraction_error"

    def __init__(self, field: str, problem: str, text: str = "") -> None:
        super().__init__(field, problem, text)  # all, so that it can be pickled
        self.field = field
        self.text = text

    def __str__(self) -> str:
        return ": ".join(map(str, self.args[:2]))


class NumericsError(GlmflashError, ArithmeticError):
    """The network, or a caller's logits processor, gave numbers that are not finite."""

    code = "numerics_error"


class RegressionError(GlmflashError, AssertionError):
    """A system is worse than its baseline by more than was allowed; `.systems` names those that are."""

    code = "regression_error"

    def __init__(self, problem: str, systems: Sequence[str] = ()) -> None:
        super().__init__(problem, tuple(systems))  # both, so that it can be pickled
        self.systems = tuple(systems)

    def __str__(self) -> str:
        return str(self.args[0])
