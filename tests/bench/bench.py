"""A size of random checkpoint → seconds of vision, prefill and decode, beside transformers.

    nox -s bench                                  # flash-4+4: 10 GB of memory, 5 GB of disk, some minutes
    nox -s bench -- --quick --out quick           # shows that it runs; the figures mean nothing

Both sides run in this process, on the same threads and the same weight tensors, turn by turn: ours first in
even rounds, transformers first in odd ones, so that whatever else the machine does falls on both.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import checkpoint, machine, parser, write
from sides import Ours, Theirs, Work, reference_on_the_same_weights
from torch import Tensor

from glmflash import Pipeline

SIDES = ("glmflash", "transformers")
PHASES = ("vision", "prefill", "decode")
Samples = dict[str, dict[str, list[float]]]  # phase -> side -> seconds, round by round


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["float32", "bfloat16"], rounds=9, steps=24, steps_help="tokens decoded in a round",
    )  # fmt: skip
    chosen = described.parse_args()
    chosen.side, chosen.prompt = 448, 288
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps, chosen.side, chosen.prompt = "nano", 3, 3, 112, 48
    return chosen


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def decode(side: Ours | Theirs, logits: Tensor, steps: int) -> Iterator[tuple[int, float]]:
    """Greedy tokens and the seconds each took: choosing it and computing what follows it."""
    for _ in range(steps):
        start = time.perf_counter()
        token = int(logits.argmax())
        logits = side.step(token)
        yield token, time.perf_counter() - start


def measure(sides: dict[str, Ours | Theirs], *, rounds: int, steps: int) -> tuple[Samples, dict[str, float]]:
    """Round 0 warms up and shows that both compute the same; it is not counted."""
    samples: Samples = {phase: {name: [] for name in SIDES} for phase in PHASES}
    differences: dict[str, float] = {}
    for turn in range(rounds + 1):
        order = SIDES if turn % 2 == 0 else SIDES[::-1]
        results: dict[str, dict[str, Tensor]] = {"vision": {}, "logits": {}, "tokens": {}}
        seconds: dict[str, dict[str, float]] = {phase: {} for phase in PHASES}
        for name in order:
            seconds["vision"][name], results["vision"][name] = timed(sides[name].vision)
        for name in order:
            seconds["prefill"][name], results["logits"][name] = timed(sides[name].prefill)
        for name in order:
            pairs = list(decode(sides[name], results["logits"][name], steps))
            seconds["decode"][name] = statistics.median(second for _, second in pairs)
            results["tokens"][name] = torch.tensor([token for token, _ in pairs])
        if turn == 0:
            differences = {stage: distance(**found) for stage, found in results.items()}
            continue
        for phase in PHASES:
            for name in SIDES:
                samples[phase][name].append(seconds[phase][name])
    return samples, differences


def distance(glmflash: Tensor, transformers: Tensor) -> float:
    """Root mean square of the difference over that of the value; for tokens, the share that differs."""
    if not glmflash.is_floating_point():
        return (glmflash != transformers).float().mean().item()
    wanted = transformers.float()
    return ((glmflash.float() - wanted).square().mean() / wanted.square().mean()).sqrt().item()


def summary(samples: dict[str, list[float]], tokens: int) -> dict[str, object]:
    """Medians of both sides, and of the rounds' ratios; the spread of those holds half of the rounds."""
    ours, theirs = (samples[name] for name in SIDES)
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    sides = {
        name: {
            "seconds": round(statistics.median(seconds), 6),
            "fastest": round(min(seconds), 6),
            "slowest": round(max(seconds), 6),
            "tokens_per_second": round(tokens / statistics.median(seconds), 2),
        }
        for name, seconds in samples.items()
    }
    return {
        **sides,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(low, 3), round(high, 3)],
    }


def first_token(pipe: Pipeline, work: Work, rounds: int) -> dict[str, float]:
    """From a picture in memory and a question to the first token, by the pipeline's own clock."""
    results = [
        pipe("What is the total?", images=work.picture, max_new_tokens=1, temperature=0.0)
        for _ in range(rounds)
    ]
    phases = ("media", "vision", "prefill", "first_token")
    medians = {
        phase: round(statistics.median(getattr(result.timings, phase) for result in results), 6)
        for phase in phases
    }
    return {**medians, "prompt_tokens": results[0].usage.prompt, "image_tokens": results[0].usage.image}


@torch.inference_mode()
def run(folder: Path, dtype: str, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of one dtype."""
    pipe = Pipeline.from_pretrained(folder, dtype=dtype, device="cpu", progress=False)
    model = pipe.engine.model
    work = Work(pipe, side=chosen.side, length=chosen.prompt)
    sides = {
        "glmflash": Ours(model, work, steps=chosen.steps),
        "transformers": Theirs(reference_on_the_same_weights(model, folder), work),
    }
    samples, differences = measure(sides, rounds=chosen.rounds, steps=chosen.steps)
    tokens = {"vision": work.span.length, "prefill": len(work.ids), "decode": 1}
    cells = {phase: summary(samples[phase], tokens[phase]) for phase in PHASES}
    return {**cells, "pipeline": first_token(pipe, work, chosen.rounds), "differences": differences}


def table(report: dict) -> str:
    lines = [f"{'':18}{'glmflash':>12}{'transformers':>14}{'ratio':>8}  quartiles"]
    for dtype, cells in report["results"].items():
        for phase in PHASES:
            cell = cells[phase]
            seconds = [f"{cell[name]['seconds'] * 1e3:,.1f} ms" for name in SIDES]
            low, high = cell["ratio_quartiles"]
            left = f"{dtype + ' ' + phase:18}{seconds[0]:>12}{seconds[1]:>14}"
            lines.append(f"{left}{cell['ratio']:>8.2f}  {low:.2f} .. {high:.2f}")
        first = cells["pipeline"]["first_token"] * 1e3
        lines.append(f"{dtype + ' 1st token':18}{first:>9,.1f} ms")
    return "\n".join(lines)


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    results = {}
    with checkpoint(chosen) as folder:
        for dtype in chosen.dtypes:
            results[dtype] = run(folder, dtype, chosen)
            gc.collect()  # one copy of the weights at a time
    report = {
        "machine": machine(),
        "work": {
            "size": chosen.size,
            "picture": [chosen.side, chosen.side],
            "prompt_tokens": chosen.prompt,
            "decode_steps": chosen.steps,
            "rounds": chosen.rounds,
        },
        "results": results,
    }
    write(report, chosen.out / "model-cpu.json")
    print(table(report))
    print("seconds are medians; ratio = transformers / glmflash, above 1 is faster than transformers")


if __name__ == "__main__":
    main()
