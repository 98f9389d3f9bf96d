"""Sides that take turns → seconds, ratios and shares of each phase; requests together beside one alone."""

import statistics

from asking import Asker, Samples, fixed, in_turns, ratio, seconds, timed
from bandwidth import Memory
from contenders import PHASES, Contender
from overhead import Steps, watched


def measure(
    sides: dict[str, Contender], ask: Asker, memory: Memory, read: dict[str, int], rounds: int
) -> dict:
    """Every phase of every side, round by round in changing order; round 0 only warms up.

    Args:
        sides: By name.
        ask: Brings new pictures and questions.
        memory: Read from right after each decode, in the same noise.
        read: For some of the sides, bytes of weights that a decode step reads.
        rounds: How many count.
    """
    samples: dict[str, Samples] = {phase: {name: [] for name in sides} for phase in PHASES}
    shares: Samples = {name: [] for name in read}
    for turn in range(rounds + 1):
        picture, texts = ask.picture(), (ask.question(), ask.question())
        given = {"vision": (), "first_token": (picture, texts[0]), "decode": (picture, texts[1])}
        for phase in PHASES:
            for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                took = getattr(sides[name], phase)(*given[phase])
                if turn:
                    samples[phase][name].append(took)
                if turn and phase == "decode" and name in read:
                    shares[name].append(read[name] / took / memory.read())
    return {
        **{phase: seconds(found) for phase, found in samples.items()},
        "ratios": {phase: ratios(found) for phase, found in samples.items()},
        "share_of_bandwidth": {name: statistics.median(found) for name, found in shares.items()},
    }


def ratios(samples: Samples) -> dict[str, dict[str, object]]:
    """Seconds of each transformers over those of each of ours: above 1 is faster than transformers."""
    theirs, ours = (
        [name for name in samples if name.startswith(side)] for side in ("transformers", "glmflash")
    )
    return {f"{b} / {a}": ratio(samples[b], samples[a]) for b in theirs for a in ours}


def together(ask: Asker, *, requests: int, tokens: int, rounds: int) -> dict[str, object]:
    """Requests about pictures of their own, all at once, and one alone: tokens per second of both."""
    pipe = ask.pipe

    def new() -> tuple[list[dict[str, object]], dict[str, object]]:
        several = [{"text": ask.question(), "images": ask.picture()} for _ in range(requests + 1)]
        return several[1:], several[0]

    def at_once(several: list[dict[str, object]], _: object) -> dict[str, float]:
        steps = Steps(requests)
        with watched(steps):
            took, _ = timed(pipe.batch, several, progress=False, **fixed(tokens))
        return {"together": took, "together_step": statistics.median(steps.whole)}

    def alone(_: object, one: dict[str, object]) -> dict[str, float]:
        steps = Steps(1)
        with watched(steps):
            took, _ = timed(pipe, **one, **fixed(tokens))
        return {"alone": took, "alone_step": statistics.median(steps.whole)}

    samples: Samples = {}
    for found in in_turns({"at_once": at_once, "alone": alone}, rounds, new=new):
        for name, value in found.items():
            samples.setdefault(name, []).append(value)
    middle = {name: statistics.median(values) for name, values in samples.items()}

    def over(name: str) -> dict[str, object]:
        return ratio([requests * took for took in samples["alone" + name]], samples["together" + name])

    return {
        "requests": requests,
        "answer_tokens": tokens,
        "decode": {
            "alone_tokens_per_second": round(1 / middle["alone_step"], 3),
            "together_tokens_per_second": round(requests / middle["together_step"], 3),
            **over("_step"),
        },
        "end_to_end": {
            "alone_tokens_per_second": round(tokens / middle["alone"], 3),
            "together_tokens_per_second": round(requests * tokens / middle["together"], 3),
            **over(""),
        },
    }
