"""What a user decides about an engine → a frozen value, checked before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from glmflash.engine.events import Observer, Observers
from glmflash.engine.recorded import Answers
from glmflash.errors import ParameterError
from glmflash.kv.memory import parse_memory
from glmflash.media.policy import InputPolicy
from glmflash.shown import show

__all__ = ["Settings"]

_ASKED = ("find", "keep")  # of what keeps answers


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and memory of one engine: `Pipeline(load_engine(folder, settings=Settings(...)))`.

    `Pipeline.from_pretrained` takes most of them itself.

    Args:
        policy: Limits on pictures.
        kv_memory: Most memory for keys and values: bytes, or text such as "4 GiB". "auto" is a part of what
            is free once the weights are loaded: a quarter on a CPU, four fifths on a GPU. It is taken as it
            is needed.
        kv_dtype: "auto" stores keys and values in the model's dtype, "int8" in half of it or less.
        vision_memory: Most memory for vision tokens of pictures that come again elsewhere in a prompt.
            "auto" is 256 MiB, 0 is none.
        max_batch: Most requests computed together.
        max_step_tokens: Most tokens in one forward. Longer prompts are computed in chunks, so that answers
            under way go on in between. None is 512 on a CPU, 2,048 elsewhere.
        max_waiting: Most requests in line; `Engine.submit` refuses more.
        observers: Functions that are told every `Event`; see `Observers` for where.
        answers: Keeps answers, so that no question is answered twice: an `AnswerCache`; None keeps none.

    Raises:
        ParameterError: If a value is not as above.

    Example:
        >>> Settings(kv_memory="2 GiB", max_batch=4).max_waiting
        1024
    """

    policy: InputPolicy = field(default_factory=InputPolicy)
    kv_memory: str | int = "auto"
    kv_dtype: str = "auto"
    vision_memory: str | int = "auto"
    max_batch: int = 16
    max_step_tokens: int | None = None
    max_waiting: int = 1024
    observers: Sequence[Observer] = ()
    answers: Answers | None = None

    def __post_init__(self) -> None:
        policy: object = self.policy
        if not isinstance(policy, InputPolicy):
            raise ParameterError("input_policy", f"is a {type(policy).__name__}; allowed: an InputPolicy")
        parse_memory(self.kv_memory)
        parse_memory(self.vision_memory, parameter="vision_memory")
        kv_dtype: object = self.kv_dtype
        if not isinstance(kv_dtype, str) or kv_dtype not in ("auto", "int8"):
            raise ParameterError("kv_dtype", f'is {show(self.kv_dtype)}; allowed: "auto" or "int8"')
        for name in ("max_batch", "max_step_tokens", "max_waiting"):
            value: object = getattr(self, name)
            if value is None and name == "max_step_tokens":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ParameterError(name, f"is {show(value)}; allowed: a whole number from 1")
        object.__setattr__(self, "observers", Observers(self.observers).functions)
        if self.answers is not None and not all(
            callable(getattr(self.answers, name, None)) for name in _ASKED
        ):
            kind = type(self.answers).__name__
            raise ParameterError("answer_cache", f"is a {kind}; allowed: a glmflash.AnswerCache, or None")
