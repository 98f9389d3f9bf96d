"""A question and its possible answers → how probable each is, in one forward behind the question."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import islice
from types import MappingProxyType
from typing import Unpack

from glmflash import prepare
from glmflash.asks import Asks
from glmflash.engine.request import Options
from glmflash.errors import ParameterError
from glmflash.structured.fields_html import bar, to_table

__all__ = ["Choices", "choose"]

_MOST = 2048  # each has a token, and an end


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Choices(Mapping[str, float]):
    """How probable each of several answers is; a mapping from answers to probabilities that sum to 1.

    Args:
        logprobs: Of each answer, the log-probability that the model gives it as a whole, its end included.

    Example:
        >>> choices = Choices({"yes": math.log(0.6), "no": math.log(0.2)})
        >>> choices.best, round(choices["yes"], 3), len(choices)
        ('yes', 0.75, 2)
        >>> choices
        <Choices: 'yes' 75.0 %, 'no' 25.0 %>
    """

    logprobs: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "logprobs", MappingProxyType(dict(self.logprobs)))

    @property
    def best(self) -> str:
        """The most probable answer; of equals the first."""
        return max(self.logprobs, key=self.logprobs.__getitem__)

    def __getitem__(self, option: str) -> float:
        top = max(self.logprobs.values())
        return math.exp(self.logprobs[option] - top) / sum(
            math.exp(value - top) for value in self.logprobs.values()
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.logprobs)

    def __len__(self) -> int:
        return len(self.logprobs)

    def __repr__(self) -> str:
        shown = [f"{option!r} {self[option]:.1%}".replace("%", " %") for option in self._ranked()]
        return f"<Choices: {', '.join(shown)}>"

    def _repr_html_(self) -> str:
        return to_table(("answer", "probability"), [(escape(one), bar(self[one])) for one in self._ranked()])

    def _ranked(self) -> list[str]:
        return sorted(self.logprobs, key=self.logprobs.__getitem__, reverse=True)


def choose(
    self: Asks,
    text: str,
    options: Sequence[str],
    *,
    images: object = None,
    system: str | None = None,
    **settings: Unpack[Options],
) -> Choices:
    """Ask which of several answers is right, and get the probability of each.

    That of an answer is the model's own of all its tokens and of an end behind them, shared out among the
    answers given: `Choices.logprobs` has what it was before. Picture and question are computed once, the
    answers together in one forward; nothing is generated, and settings for choosing tokens change nothing.

    Args:
        self: The pipeline.
        text: The question.
        options: Answers, written as the model would write them; a short one is no likelier for being short.
        images: As for a call.
        system: As for a call.
        settings: Those of a call that concern the prompt and its turn: `max_image_tokens`, `cache_salt`,
            `answer_prefix`, `priority`, `timeout`, `tools`.

    Raises:
        ParameterError: If an option is empty or there twice; if there is to be reasoning before the answer.
        GlmflashError: As a call.

    Example:
        >>> from glmflash import Pipeline
        >>> pipe = Pipeline.from_pretrained("tiny")
        >>> answers = pipe.choose("What is the total?", ["5.75", "3.50"], images="receipt.png")
        >>> round(sum(answers.values()), 6)
        1.0
    """
    listed = _listed(options)
    engine = self.engine
    messages = prepare.question(text, images=images, system=system)
    request = prepare.request(messages, settings, defaults=engine.generation)
    with _naming():
        found = engine.wait(engine.score(request, listed))
    return Choices({option: sum(logprobs) for option, logprobs in zip(listed, found, strict=True)})


def _listed(options: object) -> list[str]:
    listed = (
        list(islice(options, _MOST + 1))
        if isinstance(options, Iterable) and not isinstance(options, str)
        else []
    )
    if not listed or not all(map(_is_text, listed)) or len(set(listed)) < len(listed):
        raise ParameterError(
            "options",
            "is empty, has one twice, or holds what is no text; allowed: a list of different strings",
        )
    if len(listed) > _MOST:
        raise ParameterError("options", f"has more than {_MOST:,}; allowed: as many, of 4,096 tokens in all")
    return listed


@contextmanager
def _naming() -> Iterator[None]:
    """What the engine calls texts was given as options."""
    try:
        yield
    except ParameterError as error:
        if error.parameter != "texts":
            raise
        raise ParameterError("options", str(error.args[1])) from None


def _is_text(option: object) -> bool:
    return (
        isinstance(option, str) and option == option.encode(errors="ignore").decode()
    )  # half a pair is none
