"""A pipeline → questions that are new to it, put to it in turns with others; seconds and ratios of that."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from common import middle

from glmflash import Pipeline

Samples = dict[str, list[float]]  # what -> seconds, round by round
TEXT = "what is the total of this receipt and the name on the button in the picture? " * 8


class Asker:
    """New pictures and questions of one length, for one checkpoint."""

    def __init__(self, pipe: Pipeline, *, side: int, tokens: int) -> None:
        self.pipe, self.side, self.tokens = pipe, side, tokens
        self._random = np.random.default_rng(0)
        self._number = 10

    def picture(self) -> np.ndarray:
        return self._random.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)

    def question(self) -> str:
        """One that differs from all before it from its first token on."""
        self._number = 10 + (self._number - 9) % 90
        text = f"{self._number} {TEXT}"
        encode = self.pipe.engine.tokenizer.encode
        return next(text[:end] for end in range(len(text)) if len(encode(text[:end])) == self.tokens)


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments, **options)
    return time.perf_counter() - start, result


def in_turns(
    sides: dict[str, Callable[..., dict]], rounds: int, *, new: Callable[[], Any], warm: bool = False
) -> Iterator[dict[str, Any]]:
    """What the sides make of the same new thing, round by round, in changing order.

    Round 0 only warms up; it is left out if all is warm.
    """
    for turn in range(warm, rounds + 1):
        given = new()
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        found = {name: sides[name](*given) for name in order}
        if turn:
            yield {key: value for name in sides for key, value in found[name].items()}


def seconds(samples: Samples) -> dict[str, dict[str, float]]:
    """Medians, and how far the rounds lie apart."""
    return {
        name: {
            "seconds": round(statistics.median(values), 6),
            "fastest": round(min(values), 6),
            "slowest": round(max(values), 6),
        }
        for name, values in samples.items()
    }


def ratio(over: list[float], under: list[float]) -> dict[str, object]:
    """The median of the rounds' ratios; between the quartiles lies half of them."""
    median, quartiles = middle([a / b for a, b in zip(over, under, strict=True)], digits=4)
    return {"ratio": median, "quartiles": quartiles}


def said(text: str, picture: object = None) -> dict[str, object]:
    images = [] if picture is None else [{"type": "image", "image": picture}]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def spoken(pipe: Pipeline, tokens: int) -> dict[str, Any]:
    """Options that make the model answer in words: random weights spell nothing that encodes back."""
    tokenizer = pipe.engine.tokenizer
    words = [*tokenizer.encode(f"In all: {TEXT}")[: tokens - 1], tokenizer.control("<|user|>")]

    def choose(ids: Any, logits: torch.Tensor) -> torch.Tensor:
        only = torch.full_like(logits, -torch.inf)
        only[words[len(ids)]] = 0.0
        return only

    return {"logits_processors": [choose], "max_new_tokens": tokens}


def fixed(tokens: int) -> dict[str, Any]:
    """Options for an answer of exactly so many tokens, the most likely ones."""
    return {"max_new_tokens": tokens, "temperature": 0.0, "ignore_eos": True, "repetition_stop": None}
