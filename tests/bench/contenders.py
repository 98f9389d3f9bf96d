"""A loaded model → seconds of vision, first token and decode: through `Pipeline`, or by transformers."""

import statistics
import time
from typing import Protocol

import numpy as np
from asking import Asker, fixed, timed
from overhead import Steps, watched
from sides import Generate, Theirs, Work
from transformers import Glm4vForConditionalGeneration

from glmflash import Pipeline

PHASES = ("vision", "first_token", "decode")


class Contender(Protocol):
    """Seconds of each phase; of decode, those of one token."""

    def vision(self) -> float:
        """A picture's patches to its vision tokens."""

    def first_token(self, picture: np.ndarray, text: str) -> float:
        """From the call to an answer of one token, about a picture that is new."""

    def decode(self, picture: np.ndarray, text: str) -> float:
        """The median step of an answer, from its second token on."""


class Glmflash:
    """Ours. First token and decode are a user's: through the pipeline, waiting and handing over included.

    Args:
        pipe: The loaded model.
        work: The picture for `vision`.
        steps: Tokens decoded.
    """

    def __init__(self, pipe: Pipeline, work: Work, steps: int) -> None:
        self.pipe, self.work, self.steps = pipe, work, steps

    def vision(self) -> float:
        return timed(self.pipe.engine.model.encode_images, self.work.rows, [self.work.grid])[0]

    def first_token(self, picture: np.ndarray, text: str) -> float:
        return timed(self.pipe, text, images=picture, **fixed(1))[0]

    def decode(self, picture: np.ndarray, text: str) -> float:
        found = Steps(1)
        with watched(found):
            self.pipe(text, images=picture, **fixed(self.steps + 1))
        return statistics.median(found.whole)


class Transformers:
    """transformers on our weights. What it would work out at each step is handed to it; see `sides.Theirs`.

    Args:
        model: On the weights of `pipe`.
        pipe: Lays questions out.
        work: The picture and the prompt behind which it decodes.
        steps: Tokens decoded.
    """

    def __init__(self, model: Glm4vForConditionalGeneration, pipe: Pipeline, work: Work, steps: int) -> None:
        self.generate, self.network, self.steps = Generate(model, pipe), Theirs(model, work), steps

    def vision(self) -> float:
        return timed(self.network.vision)[0]

    def first_token(self, picture: np.ndarray, text: str) -> float:
        return timed(self.generate, text, picture, 1)[0]

    def decode(self, picture: np.ndarray, text: str) -> float:
        logits = self.network.prefill()
        found = []
        for _ in range(self.steps):
            start = time.perf_counter()
            logits = self.network.step(int(logits.argmax()))
            found.append(time.perf_counter() - start)
        return statistics.median(found)


def asker(pipe: Pipeline, *, side: int, prompt: int) -> Asker:
    """Pictures, and questions that make prompts of so many tokens, picture and template included."""
    found = Asker(pipe, side=side, tokens=24)
    ids = Generate(None, pipe).inputs(found.question(), found.picture())["input_ids"]
    found.tokens += prompt - ids.shape[1]
    return found
