"""An INT8 model → its decode step through the modules and as one function: products, and what stands between.

    nox -s bench
    python tests/bench/decode_step.py --quick --out quick    # shows that it runs; the figures mean nothing

Both in one process, in turns; they come to the same bits.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from asking import Asker, fixed, ratio
from common import checkpoint, machine, middle, parser, write
from overhead import Steps, watched
from torch import Tensor

from glmflash import Pipeline
from glmflash.engine.worker import Worker
from glmflash.model.decode import DecodeStep
from glmflash.ops.int8 import choose_kernel
from glmflash.ops.int8.fbgemm import _FbgemmWeight
from glmflash.ops.int8.onednn import _OnednnWeight

SIDES = ("modules", "one function")
PRODUCTS = {"fbgemm": (_FbgemmWeight, "_multiply_by_parts"), "onednn": (_OnednnWeight, "_multiply_whole")}


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0], dtypes=["int8"], rounds=12, steps=24, steps_help="tokens decoded in a round"
    )
    chosen = described.parse_args()
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps = "nano", 2, 4
    return chosen


@contextmanager
def products(kernel: str, turns: list[float]) -> Iterator[None]:
    """Seconds that each turn of the worker spends in products of a kernel."""
    owner, name = PRODUCTS[kernel]
    multiply, turn = getattr(owner, name), Worker._turn
    seconds = 0.0

    def clocked(weight: object, rows: Tensor) -> object:
        nonlocal seconds
        began = time.perf_counter()
        found = multiply(weight, rows)
        seconds += time.perf_counter() - began
        return found

    def clocked_turn(worker: Worker) -> bool:
        nonlocal seconds
        seconds = 0.0
        going_on = turn(worker)
        turns.append(seconds)
        return going_on

    with patch.object(owner, name, clocked), patch.object(Worker, "_turn", clocked_turn):
        yield


def run(pipe: Pipeline, kernel: str, chosen: argparse.Namespace) -> dict[str, object]:
    """One sequence that decodes: milliseconds of a step, of its products, and of the rest."""
    asker = Asker(pipe, side=112, tokens=24)
    whole: dict[str, list[float]] = {side: [] for side in SIDES}
    inside: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(chosen.rounds + 1):
        for side in SIDES if number % 2 else SIDES[::-1]:
            steps, turns = Steps(1), list[float]()
            takes = DecodeStep.takes if side == "one function" else lambda step, tokens: False
            with patch.object(DecodeStep, "takes", takes), products(kernel, turns), watched(steps):
                pipe(asker.question(), **fixed(chosen.steps + 1))
            if number:  # round 0 warms up
                whole[side].append(statistics.median(steps.whole))
                # The last turns are those that decode.
                inside[side].append(statistics.median(turns[-len(steps.whole) :]))
    rest = {side: [a - b for a, b in zip(whole[side], inside[side], strict=True)] for side in SIDES}
    cells = {}
    for side in SIDES:
        found = {"step_ms": whole[side], "products_ms": inside[side], "between_ms": rest[side]}
        cells[side] = {
            name: dict(zip(("median", "quartiles"), middle([1e3 * one for one in values], 3), strict=True))
            for name, values in found.items()
        }
    return cells | {
        "step": ratio(whole["modules"], whole["one function"]),
        "between": ratio(rest["modules"], rest["one function"]),
    }


def table(report: dict) -> str:
    """A line for each side."""
    cells = report["results"]["int8"]
    return "\n".join(
        f"{side:13}{cells[side]['step_ms']['median']:>8.2f} ms a step,"
        f" {cells[side]['between_ms']['median']:>6.2f} ms of it between products"
        for side in SIDES
    )


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    kernel = choose_kernel(torch.device("cpu")).name
    if kernel not in PRODUCTS:
        print(f"nothing is measured: this processor multiplies by {kernel!r}, which has no such step")
        return
    with (
        checkpoint(chosen) as folder,
        Pipeline.from_pretrained(folder, device="cpu", quantize="int8", progress=False) as pipe,
    ):
        results = {"int8": run(pipe, kernel, chosen)}
    work = {"kernel": kernel, "size": chosen.size, "decode_steps": chosen.steps, "rounds": chosen.rounds}
    report = {"machine": machine(), "work": work, "results": results}
    write(report, chosen.out / "decode-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
