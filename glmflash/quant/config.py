"""What a user says about quantisation → a frozen value, checked before anything is loaded."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from glmflash.errors import ParameterError
from glmflash.ops.int8 import KERNELS

__all__ = ["SCHEMES", "QuantizationConfig"]

#: Scheme → rows whose peak is more than this many times their root mean square are multiplied in two parts.
#: With 8 bits a row of peak p loses about p / 440 of itself: 3.6 % at 16; the weights' own error is 0.9 %.
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
        embeddings: "auto" leaves the token embeddings (`embed_tokens`) as they are stored; "int8" rounds
            them too.
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
        _choose("quantize", self.scheme, tuple(SCHEMES))
        _choose("embeddings", self.embeddings, ("auto", "int8"))
        _choose("kernel", self.kernel, (*(kernel.name for kernel in KERNELS), None))
        if self.match is None:
            return
        try:
            if not isinstance(self.match, str):
                raise TypeError(f"a {type(self.match).__name__}")
            re.compile(self.match)
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

    def choose(self, names: Iterable[str]) -> tuple[str, ...]:
        r"""Those of the linear layers that become INT8.

        Raises:
            ParameterError: If there are some, but `match` is found in none of their names.

        Example:
            >>> QuantizationConfig(match=r"\.mlp\.").choose(["blocks.0.attn.qkv", "blocks.0.mlp.up_proj"])
            ('blocks.0.mlp.up_proj',)
        """
        given = tuple(names)
        chosen = tuple(name for name in given if self.selects(name))
        if given and not chosen:
            some = ", ".join(given[:: -(-len(given) // 4)])
            raise ParameterError(
                "match",
                f"is {self.match!r:.80}, found in none of {len(given)} layers; they are called {some}",
            )
        return chosen

    def selects_embedding(self, name: str) -> bool:
        """Whether the table of this name becomes INT8: token embeddings do, learned positions never."""
        return self.embeddings == "int8" and name.rpartition(".")[2] == "embed_tokens"


def _choose(parameter: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        raise ParameterError(parameter, f"is {value!r:.40}; allowed: {_listed(allowed)}")


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(repr, names))
