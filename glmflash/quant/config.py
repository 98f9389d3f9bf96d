"""What a user says about quantisation → a frozen value, checked before anything is loaded."""

import re
from dataclasses import dataclass
from typing import Self

from glmflash.errors import ParameterError

__all__ = ["SCHEMES", "QuantizationConfig"]

#: Scheme → rows whose peak is more than this many times their root mean square are multiplied in two parts.
#: With 8 bits a row of peak p loses about p / 440 of itself: at 16 that is 3.6 %, the weights' own error is 0.9 %.
SCHEMES = {"int8": 0.0, "w8a8": 16.0}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationConfig:
    """Which layers become INT8, and how.

    Args:
        scheme: "int8" rounds weights only: activations keep 14 bits or more. "w8a8" rounds activations to
            7 or 8 bits too, each row on a grid of its own, and reads prompts up to twice as fast; rows with
            outliers keep 14 bits or more.
        match: A regular expression; linear layers in whose name it is found become INT8. None is all: both
            towers, the merger between them and the projection to the vocabulary.
        embeddings: "auto" leaves the token embeddings as they are stored; "int8" rounds them too.
        kernel: A kernel's name, to compare; None takes the best that runs. See `glmflash.ops.int8`.

    Raises:
        ParameterError: If a value is not as above.

    Example:
        >>> QuantizationConfig(match=r"language_model").selects("model.visual.merger.proj")
        False
    """

    scheme: str = "int8"
    match: str | None = None
    embeddings: str = "auto"
    kernel: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ParameterError("quantize", f"is {self.scheme!r:.40}; allowed: {_listed(SCHEMES)}, None")
        if self.embeddings not in ("auto", "int8"):
            raise ParameterError("embeddings", f"is {self.embeddings!r:.40}; allowed: 'auto', 'int8'")
        try:
            re.compile(self.match or "")
        except (re.error, TypeError) as error:
            raise ParameterError(
                "match", f"is {self.match!r:.80}; allowed: a regular expression or None ({error})"
            ) from None

    @classmethod
    def of(cls, given: object) -> Self | None:
        """What `quantize=` may be: None, the name of a scheme, or a `QuantizationConfig`."""
        if given is None or isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls(scheme=given)
        kind = type(given).__name__
        raise ParameterError(
            "quantize", f"is a {kind}; allowed: {_listed(SCHEMES)}, a QuantizationConfig, None"
        )

    def selects(self, name: str) -> bool:
        """Whether the linear layer of this name becomes INT8."""
        return self.match is None or re.search(self.match, name) is not None


def _listed(names: object) -> str:
    return ", ".join(map(repr, names))  # type: ignore[call-overload]
