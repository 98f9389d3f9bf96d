"""A command line → the checkpoint to measure, what the figures depend on, and the file they go to."""

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers

import glmflash
from glmflash.testing import random_checkpoint

INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ROOT = Path(__file__).parent.parent.parent


def parser(
    description: str, *, dtypes: list[str], rounds: int, steps: int, steps_help: str
) -> argparse.ArgumentParser:
    """Options of every benchmark, so that one command line fits them all."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--out", type=Path, help="folder", default=ROOT / "docs" / "benchmarks")
    options.add_argument("--size", help="a size of glmflash.testing", default="flash-4+4")
    options.add_argument("--checkpoint", type=Path, help="a folder to use instead of a random one")
    options.add_argument("--dtypes", nargs="+", default=dtypes)
    options.add_argument("--rounds", type=int, default=rounds)
    options.add_argument("--steps", type=int, help=steps_help, default=steps)
    options.add_argument("--threads", type=int, help="default: torch's own choice")
    options.add_argument("--quick", action="store_true", help="size nano, few rounds")
    return options


def machine() -> dict[str, object]:
    """What the figures depend on, and nothing that names the machine or its user."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return {
        "cpu": models[0] if models else platform.machine(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "glmflash": glmflash.__version__,
    }


@contextmanager
def checkpoint(chosen: argparse.Namespace) -> Iterator[Path]:
    """The folder given, or a random checkpoint for as long as it is needed."""
    if chosen.checkpoint:
        yield chosen.checkpoint
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield random_checkpoint(Path(scratch) / "checkpoint", chosen.size)


def middle(values: Sequence[float], digits: int = 6) -> tuple[float, list[float]]:
    """The median, and the quartiles: between them lies half of the values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return round(median, digits), [round(low, digits), round(high, digits)]


def write(report: dict[str, object], path: Path) -> None:
    """As JSON, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
