"""A running pipeline → what its engine computes, and what it adds to each decode step beside the model."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from asking import Asker, fixed

from glmflash.engine.worker import Worker
from glmflash.model import Glm4v
from glmflash.model.decode import DecodeStep


@dataclass(slots=True)
class Computed:
    """What went through the model: tokens through the decoder, patches through the vision tower."""

    tokens: int = 0
    patches: int = 0
    vision_seconds: float = 0.0


@contextmanager
def counted() -> Iterator[Computed]:
    """Count at the model itself, whatever the accounts say."""
    found = Computed()
    forward, encode, step = Glm4v.forward, Glm4v.encode_images, DecodeStep.__call__

    def counting_forward(model: Glm4v, embeds: Any, *others: Any, **named: Any) -> Any:
        found.tokens += len(embeds)
        return forward(model, embeds, *others, **named)

    def counting_step(decode: DecodeStep, embeds: Any, *others: Any) -> Any:
        found.tokens += len(embeds)
        return step(decode, embeds, *others)

    def counting_encode(model: Glm4v, rows: Any, grids: Any) -> Any:
        found.patches += len(rows)
        began = time.perf_counter()
        tokens = encode(model, rows, grids)
        found.vision_seconds += time.perf_counter() - began
        return tokens

    with (
        patch.object(DecodeStep, "__call__", counting_step),
        patch.multiple(Glm4v, forward=counting_forward, encode_images=counting_encode),
    ):
        yield found


@dataclass(slots=True)
class Steps:
    """Turns of the worker in which `batch` sequences decoded: seconds in all, and in the model."""

    batch: int
    whole: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Medians over the steps; the share is the median of the steps' own shares."""
        engine = [whole - model for whole, model in zip(self.whole, self.model, strict=True)]
        shares = [cost / whole for cost, whole in zip(engine, self.whole, strict=True)]
        low, share, high = statistics.quantiles(shares, n=4, method="inclusive")
        return {
            "steps": len(engine),
            "step_ms": round(1e3 * statistics.median(self.whole), 4),
            "engine_ms": round(1e3 * statistics.median(engine), 4),
            "engine_ms_least": round(1e3 * min(engine), 4),
            "engine_share": round(share, 4),
            "engine_share_quartiles": [round(low, 4), round(high, 4)],
        }


@contextmanager
def watched(steps: Steps) -> Iterator[None]:
    """Put a clock around the worker's turn, and one around the model's `embed`, `forward` and decode step."""
    seconds, packs = 0.0, list[int]()
    turn = Worker._turn

    def clocked(work: Callable[..., Any], *, packed: bool) -> Callable[..., Any]:
        def clock(model: Glm4v | DecodeStep, first: Any, *others: Any, **named: Any) -> Any:
            nonlocal seconds
            began = time.perf_counter()
            result = work(model, first, *others, **named)
            seconds += time.perf_counter() - began
            if packed:
                packs.append(len(first))
            return result

        return clock

    def clocked_turn(worker: Worker) -> bool:
        nonlocal seconds
        seconds = 0.0
        packs.clear()
        began = time.perf_counter()
        going_on = turn(worker)
        whole = time.perf_counter() - began
        if packs == [steps.batch]:
            steps.whole.append(whole)
            steps.model.append(seconds)
        return going_on

    embed, forward = clocked(Glm4v.embed, packed=False), clocked(Glm4v.forward, packed=True)
    decode = clocked(DecodeStep.__call__, packed=True)
    with (
        patch.object(Worker, "_turn", clocked_turn),
        patch.object(DecodeStep, "__call__", decode),
        patch.multiple(Glm4v, embed=embed, forward=forward),
    ):
        yield


def engine_cost(asker: Asker, *, batch: int, tokens: int, rounds: int) -> dict[str, dict[str, object]]:
    """Answer one question alone and `batch` together, in turns; round 0 only warms up.

    Args:
        asker: Whose pipeline is measured.
        batch: Questions asked together.
        tokens: Length of each answer.
        rounds: How often.
    """
    found = {size: Steps(size) for size in (1, batch)}
    for turn in range(rounds + 1):
        for size, steps in found.items():
            with watched(Steps(size) if turn == 0 else steps):
                asker.pipe.batch([asker.question() for _ in range(size)], progress=False, **fixed(tokens))
    return {str(size): steps.summary() for size, steps in found.items()}
