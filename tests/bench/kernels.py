"""Sizes of weights and rows → milliseconds of each kernel for INT8 products that runs on this processor.

    nox -s bench
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python tests/bench/kernels.py --out vnni    # oneDNN held back
    python tests/bench/kernels.py --quick --out quick    # shows that it runs; the figures mean nothing

All in one process, in turns, each time with another weight, so that no cache holds it. It is what the order
of kernels rests on.
"""

import argparse
import itertools

import torch
from asking import Samples, ratio, timed
from common import machine, middle, parser, write

from glmflash.ops.int8 import KERNELS, PackedWeight

SIZES = ((27392, 4096), (4096, 13696), (4096, 4096), (4608, 1536))  # MLPs, attention; of the vision tower
ROWS = (1, 4, 16, 64, 288, 1024)
SPLITS = {"int8": 0.0, "w8a8": 16.0}  # random rows have no outliers


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0], dtypes=["int8"], rounds=5, steps=5, steps_help="weights of each size"
    )
    chosen = described.parse_args()
    chosen.sizes, chosen.rows = SIZES, ROWS
    if chosen.quick:
        chosen.sizes, chosen.rows, chosen.rounds = ((96, 64),), (1, 8), 2
    return chosen


@torch.inference_mode()
def run(chosen: argparse.Namespace) -> dict[str, object]:
    """For each size, scheme and number of rows, every kernel, and how much longer FBGEMM took than oneDNN."""
    cpu = torch.device("cpu")
    kernels = [kernel for kernel in KERNELS if kernel.name != "reference" and kernel.why_not(cpu) is None]
    found: dict[str, object] = {}
    for outputs, inputs in chosen.sizes:
        weights: dict[str, list[PackedWeight]] = {kernel.name: [] for kernel in kernels}
        for _ in range(chosen.steps):
            weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
            for kernel in kernels:
                weights[kernel.name].append(kernel.pack(weight, torch.full((outputs,), 0.01)))
        found[f"{outputs}x{inputs}"] = {
            scheme: {str(rows): clocked(weights, rows, split, chosen.rounds) for rows in chosen.rows}
            for scheme, split in SPLITS.items()
        }
    return found


def clocked(
    weights: dict[str, list[PackedWeight]], rows: int, split: float, rounds: int
) -> dict[str, object]:
    """Milliseconds of a product; of both kernels as a ratio, pair by pair."""
    names = list(weights)
    x = torch.randn(rows, next(iter(weights.values()))[0].unpack().shape[1])
    samples: Samples = {name: [] for name in names}
    for turn, pairs in itertools.product(range(rounds + 1), list(zip(*weights.values(), strict=True))):
        for place in range(len(names)) if turn % 2 else reversed(range(len(names))):
            took, _ = timed(pairs[place].linear, x, split=split)
            if turn:  # round 0 warms up
                samples[names[place]].append(took)
    cells: dict[str, object] = {}
    for name, values in samples.items():
        median, quartiles = middle([1e3 * value for value in values], 4)
        cells[name] = {"ms": median, "quartiles": quartiles}
    if "fbgemm" in samples and "onednn" in samples:
        cells["fbgemm / onednn"] = ratio(samples["fbgemm"], samples["onednn"])
    return cells


def table(report: dict) -> str:
    """A line for each size, scheme and number of rows."""
    lines = []
    for size, schemes in report["results"].items():
        for scheme, counts in schemes.items():
            for rows, cells in counts.items():
                said = [f"{name} {cell['ms']:9.3f} ms" for name, cell in cells.items() if "ms" in cell]
                said += [f"{cell['ratio']:5.2f} times" for cell in cells.values() if "ratio" in cell]
                lines.append(f"{size:12} {scheme} {rows:>5} rows  " + "  ".join(said))
    return "\n".join(lines)


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    report = {
        "machine": machine(),
        "work": {"weights_of_each_size": chosen.steps, "rounds": chosen.rounds},
        "results": run(chosen),
    }
    write(report, chosen.out / "kernels-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
