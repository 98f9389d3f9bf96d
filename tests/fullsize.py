"""The published sizes, INT8, on this machine: written, loaded, asked, saved, loaded again, and measured.

Random weights of the size of GLM-4.6V-Flash take 20.6 GB of disk, their saved INT8 form 11 GB beside them.
Everything happens in processes of its own, whose anonymous memory is read from outside, 200 times a second.
`nox -s fullsize` runs it; `nox -s fullsize -- --size flash-4+4` takes a quarter of the disk.
"""

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "benchmarks" / "fullsize-cpu.json"
MOST_MEMORY, MOST_SAVED = 13_000_000_000, 11_900_000_000
SLACK = 500_000_000
TOKENS = 16
GB = 1e9


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--size", default="flash", help="a size of glmflash.testing; default: flash")
    options.add_argument("--folder", type=Path, help="where there is room; default: a temporary one")
    options.add_argument("--quantize", default="int8", choices=["int8", "w8a8"])
    options.add_argument("--out", type=Path, help=f"a JSON file; default for the size flash: {OUT.name}")
    options.add_argument("--keep", action="store_true", help="keep the saved form")
    options.add_argument("--child", nargs=2, metavar=("MODEL", "SAVE"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        child(*chosen.child, quantize=chosen.quantize)
        return 0
    with tempfile.TemporaryDirectory(prefix="fullsize-", dir=chosen.folder) as scratch:
        report = measure(Path(scratch), chosen.size, chosen.quantize)
        if chosen.keep and chosen.folder:
            (Path(scratch) / "saved").rename(chosen.folder / f"{chosen.size}-{chosen.quantize}")
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    out = chosen.out or (OUT if chosen.size == "flash" else None)
    if out:
        out.write_text(text)
    return 0 if all(report["met"].values()) else 1


def measure(scratch: Path, size: str, quantize: str) -> dict:
    """Everything, in order; the unquantised checkpoint goes as soon as it is not needed."""
    from glmflash.config import ModelConfig
    from glmflash.testing import config_dict
    from glmflash.weights import expected_tensors

    config = ModelConfig.from_dict(config_dict(size))
    width = 2 if config.dtype == "bfloat16" else 4
    counts = [math.prod(shape) for shape in expected_tensors(config).values()]
    need, free = int(1.7 * width * sum(counts)), shutil.disk_usage(scratch).free
    if free < need:
        sys.exit(
            f"{scratch.parent} has {free / GB:.1f} GB free, {need / GB:.1f} GB are needed; give --folder"
        )
    source, saved = scratch / "source", scratch / "saved"
    seconds = {"write": timed_write(source, size)}
    stored = weight_bytes(source)
    forget(source)
    first = run(source, saved, quantize)
    shutil.rmtree(source)
    forget(saved)
    again = run(saved, None, quantize)
    seconds |= {f"{phase}": first["seconds"][phase] for phase in ("load", "answer", "save")}
    seconds |= {"reload": again["seconds"]["load"], "answer again": again["seconds"]["answer"]}
    largest = width * max(counts)
    memory = {
        "peak of load": first["peak"]["load"],
        "allowed for load": first["after"]["load"] + largest + SLACK,
        "after load": first["after"]["load"],
        "peak of answer": first["peak"]["answer"],
        "peak of save": first["peak"]["save"],
        "peak of reload": again["peak"]["load"],
        "after reload": again["after"]["load"],
        "peak of all": max(*first["peak"].values(), *again["peak"].values()),
    }
    saved_bytes = weight_bytes(saved)
    return {
        "what": f"random_checkpoint({size!r}), {quantize}, {TOKENS} tokens about a picture of 448 x 448",
        "machine": {
            "processor": processor(),
            "memory": memory_total(),
            "torch": first["torch"],
            "python": platform.python_version(),
            "threads": first["threads"],
            "kernels": first["kernels"],
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "anonymous_memory_bytes": memory,
        "bytes": {
            "stored": stored,
            "saved": saved_bytes,
            "largest tensor": largest,
            "weights": first["weights"],
        },
        "bars": {"peak of all": MOST_MEMORY, "saved": MOST_SAVED},
        "met": {
            "peak of all": memory["peak of all"] <= MOST_MEMORY,
            "peak of load": memory["peak of load"] <= memory["allowed for load"],
            "saved": saved_bytes <= MOST_SAVED,
            "same answer": first["ids"] == again["ids"],
        },
    }


def timed_write(folder: Path, size: str) -> float:
    """Write the checkpoint, in a process whose memory is given back."""
    start = time.perf_counter()
    code = "import sys; from glmflash.testing import random_checkpoint as write; write(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, str(folder), size], check=True)
    return time.perf_counter() - start


def forget(folder: Path) -> None:
    """Have no file in memory any more, so that both are loaded from the disk: one of them would not fit."""
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)  # what is not written yet stays
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def child(model: str, save: str, *, quantize: str) -> None:
    """Load, ask, save; a line of JSON after each. `save` may be "-"."""
    import numpy as np
    import torch

    from glmflash import Pipeline

    def say(phase: str, start: float, **more: object) -> None:
        print(json.dumps({"phase": phase, "seconds": time.perf_counter() - start, **more}), flush=True)

    start = time.perf_counter()
    wanted = None if save == "-" else quantize
    with Pipeline.from_pretrained(model, device="cpu", quantize=wanted, progress=False) as pipe:
        layers = pipe.card.layers
        kernels = {name: sum(layer.kernel == name for layer in layers) for name in {x.kernel for x in layers}}
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "kernels": kernels}
        say("load", start, weights=pipe.card.bytes_after, **facts)
        picture = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
        start = time.perf_counter()
        given = {"max_new_tokens": TOKENS, "temperature": 0.0, "ignore_eos": True, "repetition_stop": None}
        answer = pipe("What is the total of this receipt?", images=picture, **given)
        say("answer", start, ids=list(answer.token_ids))
        if save != "-":
            start = time.perf_counter()
            pipe.save_pretrained(save)
            say("save", start)


def run(model: Path, save: Path | None, quantize: str) -> dict:
    """One child; what it says, and the most anonymous memory it had in each phase and after it."""
    command = [sys.executable, __file__, "--quantize", quantize, "--child", str(model), str(save or "-")]
    found: dict = {"seconds": {}, "peak": {}, "after": {}}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        watched(process.pid) as peak,
    ):
        for line in process.stdout:
            said = json.loads(line)
            phase = said.pop("phase")
            found["seconds"][phase] = said.pop("seconds")
            found["after"][phase] = anonymous(process.pid)
            found["peak"][phase] = max(peak[0], found["after"][phase])
            peak[0] = 0
            found |= said
    if process.returncode:
        sys.exit(f"the process that loads {model.name} ended with {process.returncode}")
    return found


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """A list of one number: the most anonymous memory since it was last set to 0."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], anonymous(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def anonymous(pid: int) -> int:
    """Bytes of memory that no file stands behind; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def memory_total() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemTotal"))


if __name__ == "__main__":
    sys.exit(main())
