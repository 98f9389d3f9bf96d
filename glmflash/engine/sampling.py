"""How one request chooses its tokens and when it stops → a frozen value, checked when it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from glmflash.config import GenerationConfig
from glmflash.engine.checked import flag, number, optional, whole
from glmflash.errors import ConfigError, ParameterError
from glmflash.shown import show

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LogitsProcessor", "Sampling"]

#: Gets the ids generated so far and this step's logits (V,); returns logits of the same shape.
LogitsProcessor = Callable[[Sequence[int], "Tensor"], "Tensor"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Sampling:
    r"""How tokens are chosen, and when generation stops.

    The default is greedy: the most likely token each time. Applied in this order: repetition penalty,
    `logits_processors`, temperature, `top_k`, `top_p`, `min_p`.

    Args:
        max_new_tokens: Most tokens to generate; 1 or more.
        temperature: 0 is greedy; below 1 sharpens, above 1 flattens. 0..100.
        top_k: Choose among the k most likely tokens only; 0 is off.
        top_p: Choose among the most likely tokens that together have this probability; 1 is off.
        min_p: Choose among tokens at least this fraction as likely as the best; 0 is off.
        repetition_penalty: Above 1 makes tokens that the prompt or the answer already holds less likely;
            1 is off. 0.01..100.
        seed: Makes sampling repeatable, whatever else runs beside it; None draws a new seed.
        stop: Strings that end the answer. They are not part of it. At most 64, of at most 1,000 characters.
        ignore_eos: Go on to `max_new_tokens` even if the model ends its turn; for measuring.
        logprobs: Report each token's log-probability and those of this many best tokens, 0..20; None: don't.
        logits_processors: Functions `f(token_ids, logits) -> logits`, called in order for every token with
            the ids generated so far and float32 logits of shape (V,). At most 64.
        repetition_stop: Stop once this many tokens at the end (16 or more) are one pattern of at most 64
            tokens over and over, at least eight times; None is off.

    Raises:
        ParameterError: If a value is out of range; it names the parameter.

    Example:
        >>> Sampling(temperature=0.8, top_p=0.6, seed=1, stop=("\n\n",)).greedy
        False
    """

    max_new_tokens: int = 2048
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    logits_processors: tuple[LogitsProcessor, ...] = ()
    repetition_stop: int | None = 128

    def __post_init__(self) -> None:
        checked = {
            "max_new_tokens": whole("max_new_tokens", self.max_new_tokens, 1, 10_000_000),
            "temperature": number("temperature", self.temperature, 0, 100),
            "top_k": whole("top_k", self.top_k, 0, 10_000_000, " (0 turns it off)"),
            "top_p": number("top_p", self.top_p, 0, 1),
            "min_p": number("min_p", self.min_p, 0, 1),
            "repetition_penalty": number("repetition_penalty", self.repetition_penalty, 0.01, 100),
            "seed": optional("seed", self.seed, 0, 2**63 - 1),
            "stop": _stop(self.stop),
            "ignore_eos": flag("ignore_eos", self.ignore_eos),
            "logprobs": optional("logprobs", self.logprobs, 0, 20),
            "logits_processors": _processors(self.logits_processors),
            "repetition_stop": optional("repetition_stop", self.repetition_stop, 16, 1_000_000),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0

    @classmethod
    def from_generation(cls, config: GenerationConfig, **overrides: object) -> "Sampling":
        """The checkpoint's own defaults, with some replaced.

        `do_sample: false` means temperature 0; its other values still hold if a temperature is given.

        Raises:
            ConfigError: If the checkpoint's own values are out of range.
            ParameterError: If an override is, or is no field of `Sampling`.

        Example:
            >>> Sampling.from_generation(GenerationConfig(True, 0.8, 0.6, 2), top_k=5).top_k
            5
        """
        names = [field.name for field in fields(cls)]
        for name in overrides:
            if name not in names:
                raise ParameterError(show(name), f"unknown; allowed: {', '.join(names)}")
        try:
            defaults = cls(
                temperature=config.temperature if config.do_sample else 0.0,
                top_k=config.top_k,
                top_p=config.top_p,
                repetition_penalty=config.repetition_penalty,
            )
        except ParameterError as error:
            raise ConfigError(f"generation_config.json: {error}") from None
        return replace(defaults, **overrides)  # type: ignore[arg-type]  # checked as it is made


def _stop(value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, (tuple, list)) or len(strings) > 64:
        raise ParameterError("stop", f"got {_count(strings)}; allowed is a tuple of at most 64 strings")
    for one in strings:
        if not isinstance(one, str) or not 0 < len(one) <= 1000:
            raise ParameterError("stop", f"holds {show(one)}; allowed are strings of 1 to 1000 characters")
    return tuple(strings)


def _processors(value: object) -> tuple[LogitsProcessor, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 64 or not all(callable(one) for one in value):
        raise ParameterError(
            "logits_processors", f"got {_count(value)}; allowed is a tuple of at most 64 functions"
        )
    return tuple(value)


def _count(value: object) -> str:
    return f"{len(value)} items" if isinstance(value, (tuple, list)) else show(value)
