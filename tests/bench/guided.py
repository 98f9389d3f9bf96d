"""A size of random checkpoint → what it costs a decode step that answers have to be of some format.

    nox -s bench                                  # after the others: 12 GB of memory, a few minutes
    nox -s bench -- --quick --out quick           # shows that it runs; the figures mean nothing

Answers with and without a format take turns in one process, alone and together, in INT8, whose steps are the
shortest. The tokenizer is the published one if GLMFLASH_TEST_DATA has it: masks depend on the tokens.
"""

import argparse
import os
import shutil
import statistics
from operator import sub
from pathlib import Path
from typing import Any

import torch
from asking import Asker, ratio
from common import checkpoint, machine, parser, write
from overhead import Steps, watched

from glmflash import Pipeline

FIELDS = {
    "vendor": {"type": "string"}, "total": {"type": "number"}, "paid": {"type": "boolean"},
    "items": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
}  # fmt: skip
SCHEMA = {"type": "object", "properties": FIELDS, "required": list(FIELDS)}
FORMATS: dict[str, dict[str, Any]] = {
    "none": {},
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    "regex": {"regex": r"(\w+ )*\d{4}-\d\d-\d\d"},
}
CHOSEN_BY = {"greedy": {"temperature": 0.0}, "sampled": {"temperature": 1.0, "top_k": 50, "seed": 1}}


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["int8"], rounds=6, steps=24, steps_help="tokens of an answer",
    )  # fmt: skip
    described.add_argument("--batch", type=int, help="sequences decoded at once", default=8)
    chosen = described.parse_args()
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps, chosen.batch = "nano", 2, 6, 2
    return chosen


def tokenizer_of(folder: Path) -> str:
    """Put the published tokenizer in the place of the random one, if it is at hand and fits."""
    data = os.environ.get("GLMFLASH_TEST_DATA")
    published = Path(data, "data", "glm4-tokenizer.json") if data else Path()
    if not published.is_file():
        return "random"
    shutil.copyfile(published, folder / "tokenizer.json")
    return "published"


def cost(pipe: Pipeline, how: dict[str, Any], *, batch: int, chosen: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of a step by format, and those with a format over those without, round by round.

    `engine_ms` is what a step takes beside the model, where a format is at work; `added` is how much more
    that is than without one, as a share of the step. Reading weights, whose time scatters, is not in it.
    """
    asker = Asker(pipe, side=112, tokens=24)
    found: dict[str, list[float]] = {name: [] for name in FORMATS}
    beside: dict[str, list[float]] = {name: [] for name in FORMATS}
    for turn in range(chosen.rounds + 1):
        for name in list(FORMATS) if turn % 2 == 0 else list(FORMATS)[::-1]:
            steps = Steps(batch)
            asked = [asker.question() for _ in range(batch)]
            end = {"max_new_tokens": chosen.steps, "ignore_eos": True, "repetition_stop": None}
            with watched(steps):
                pipe.batch(asked, progress=False, **end, **how, **FORMATS[name])
            if turn:
                found[name].append(1e3 * statistics.median(steps.whole))
                beside[name].append(1e3 * statistics.median(map(sub, steps.whole, steps.model)))
    step, engine = statistics.median(found["none"]), statistics.median(beside["none"])
    return {
        name: {
            "step_ms": round(statistics.median(ms), 3),
            "engine_ms": round(statistics.median(beside[name]), 3),
            "added": round((statistics.median(beside[name]) - engine) / step, 4),
            "over_none": ratio(ms, found["none"]),
        }
        for name, ms in found.items()
    }


@torch.inference_mode()
def run(folder: Path, dtype: str, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of one dtype."""
    how = {"quantize": dtype} if dtype in ("int8", "w8a8") else {"dtype": dtype}
    with Pipeline.from_pretrained(folder, device="cpu", progress=False, **how) as pipe:
        return {
            f"{name}, batch {batch}": cost(pipe, how, batch=batch, chosen=chosen)
            for name, how in CHOSEN_BY.items()
            for batch in (1, chosen.batch)
        }


def table(report: dict) -> str:
    """A line for each way to choose tokens and each format."""
    return "\n".join(
        f"{dtype:9} {how:18} {name:12}{cell['step_ms']:>12,.2f} ms, {cell['over_none']['ratio']:.4f} of none,"
        f" {cell['added']:.2%} added beside the model"
        for dtype, cells in report["results"].items()
        for how, formats in cells.items()
        for name, cell in formats.items()
    )


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with checkpoint(chosen) as folder:
        ours = chosen.size.startswith("flash") and chosen.checkpoint is None
        tokenizer = tokenizer_of(folder) if ours else "the checkpoint's"
        results = {dtype: run(folder, dtype, chosen) for dtype in chosen.dtypes}
    work = {
        "size": chosen.size,
        "tokenizer": tokenizer,
        "answer_tokens": chosen.steps,
        "rounds": chosen.rounds,
    }
    report = {"machine": machine(), "work": work, "results": results}
    write(report, chosen.out / "guided-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
