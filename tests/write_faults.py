"""A writer of files → the same one, stopped at its k-th step by an error, or by a signal that kills.

A step is whatever reaches the disk: opening a file to write to, a write, a flush to the disk, a rename, a
link, a removal, a new folder. As a script this runs whole loops in processes and prints what it found.
"""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from glmflash.model import Glm4v
from glmflash.testing import random_checkpoint
from glmflash.weights import files, load_model, save_pretrained, write_checkpoint
from glmflash.weights.derived import read_derived, write_derived
from glmflash.weights.staged import complete

SMALL = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"depth": 1}}
CALLS = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")
KEYS = {"kind": "sort", "version": 1, "fingerprint": "f"}


class Watched:
    """A file whose writes are steps; one that fails has half of its bytes written."""

    def __init__(self, file, step) -> None:
        self.file, self.step = file, step

    def write(self, data) -> int:
        half = memoryview(data)[: len(data) // 2]
        self.step("write", lambda: (self.file.write(half), self.file.flush()))
        return self.file.write(data)

    def truncate(self, size: int) -> int:
        self.step("truncate")
        return self.file.truncate(size)

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def stopped(at: int, stop: Callable[[str], None]) -> Iterator[list[str]]:
    """Call `stop` at step `at`, counted from 1; gives the steps that were begun."""
    steps: list[str] = []

    def step(name: str, before: Callable[[], object] = lambda: None) -> None:
        steps.append(name)
        if len(steps) == at:
            before()
            stop(name)

    def opened(path: Path, mode: str = "r", *args, real=Path.open, **options):
        if not set(mode) & set("wax+"):
            return real(path, mode, *args, **options)
        step("open")
        return Watched(real(path, mode, *args, **options), step)

    def opened_plainly(path: Path, mode: str, **options):
        step("open")
        return Watched(open(path, mode, **options), step)  # noqa: PTH123

    def watched(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args, **options):
            step(name)
            return real(*args, **options)

        return call

    real = {name: getattr(os, name) for name in CALLS}
    real_open, Path.open = Path.open, opened
    files.open = opened_plainly  # in place of Python's own
    for name in CALLS:
        setattr(os, name, watched(name))
    try:
        yield steps
    finally:
        Path.open = real_open
        del files.open
        for name, function in real.items():
            setattr(os, name, function)


class InjectedError(OSError):
    """What the system would have said."""


def fail(code: int) -> Callable[[str], None]:
    def stop(name: str) -> None:
        raise InjectedError(code, f"{os.strerror(code)} at {name}")

    return stop


def digests(folder: Path) -> dict[str, str]:
    """What others see in a folder: its files by name, and the SHA-256 of each."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Case:
    """Something that is written over something older."""

    def __init__(self, scratch: Path, kind: str) -> None:
        self.scratch, self.kind, self.number = scratch, kind, 0
        self.old, self.new = scratch / "old", scratch / "new"
        self.source = random_checkpoint(scratch / "source", overrides=SMALL)
        self.model: Glm4v | None = None
        if kind != "picture":
            first = load_model(self.source, device="cpu")
            save_pretrained(first, self.old, source=self.source, shard_bytes=150_000)
            self.model = load_model(self.source, quantize="int8" if kind == "int8" else None, device="cpu")
            if kind == "float":
                self.model.lm_head.weight.data.mul_(2)
        else:
            self.old.mkdir()
            self.new.mkdir()
            write_derived(self.old / "it", {"x": torch.zeros(5000)}, metadata={}, **KEYS)
        self.write(self.new)
        self.wanted = {"old": self.digests(self.old), "new": self.digests(self.new)}
        assert self.wanted["old"] != self.wanted["new"]

    def write(self, folder: Path) -> None:
        if self.kind == "picture":
            write_derived(folder / "it", {"x": torch.ones(5000)}, metadata={}, **KEYS)
        else:
            assert self.model is not None
            save_pretrained(self.model, folder, source=self.source, shard_bytes=200_000)

    def digests(self, folder: Path) -> dict[str, str]:
        if self.kind != "picture":
            return digests(folder)
        derived = read_derived(folder / "it", **KEYS)  # checks its SHA-256; safetensors shuffles the header
        return {"it": str(derived.tensors["x"].unique().tolist())}

    def fresh(self) -> Path:
        self.number += 1
        return shutil.copytree(self.old, self.scratch / f"try-{self.number}")

    def state(self, folder: Path) -> str:
        """Old or new, whole, as a reader of the folder finds it; then the next writer's turn."""
        found = self.digests(complete(folder))
        state = next(
            (name for name, files in self.wanted.items() if files == found), f"broken: {sorted(found)}"
        )
        self.write(folder)
        if sorted(path.name for path in folder.iterdir()) != sorted(self.wanted["new"]):
            state += f", litter: {sorted(path.name for path in folder.iterdir())}"
        elif self.digests(folder) != self.wanted["new"]:
            state += ", and the next writer wrote something else"
        shutil.rmtree(folder)
        return state

    def steps(self) -> list[str]:
        """All steps of one undisturbed write."""
        folder = self.fresh()
        with stopped(0, fail(errno.EIO)) as steps:
            self.write(folder)
        shutil.rmtree(folder)
        return steps


def in_a_child(work: Callable[[], None], *, after: float | None = None) -> int:
    """Run in a forked process, killed after some time; gives how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except OSError:
            os._exit(1)
        finally:
            os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_each_step(case: Case, every: int) -> dict[str, object]:
    states, missed, steps = [], 0, case.steps()
    for k in range(1, len(steps) + 1, every):
        folder = case.fresh()

        def work(folder: Path = folder, k: int = k) -> None:
            with stopped(k, lambda name: os.kill(os.getpid(), signal.SIGKILL)):
                case.write(folder)

        missed += in_a_child(work) != -signal.SIGKILL
        states.append(case.state(folder))
    return {"states": states, "missed": missed, "steps": len(steps)}


def killed_at_random(case: Case, times: int) -> dict[str, object]:
    durations, chance = [], random.Random(0)
    for _ in range(5):
        folder, begin = case.fresh(), time.perf_counter()
        in_a_child(lambda folder=folder: case.write(folder))
        durations.append(time.perf_counter() - begin)
    usual = min(durations)
    states = []
    for _ in range(times):
        folder = case.fresh()
        in_a_child(lambda folder=folder: case.write(folder), after=chance.uniform(0, 1.2 * usual))
        states.append(case.state(folder))
    return {"states": states}


def full_disk(case: Case, times: int) -> dict[str, object]:
    """No file may grow beyond a size: the system itself refuses the rest of a write."""
    import resource  # not on every system

    largest = max(path.stat().st_size for path in case.new.iterdir())
    states, chance = [], random.Random(1)
    for _ in range(times):
        folder, most = case.fresh(), chance.randrange(largest)

        def work(folder: Path = folder, most: int = most) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            case.write(folder)

        in_a_child(work)
        states.append(case.state(folder))
    return {"states": states}


def two_writers(case: Case, times: int) -> dict[str, object]:
    """Two processes, two checkpoints of different sizes, one folder."""
    shapes = {1: 40, 2: 25}
    states = []
    for _ in range(times):
        folder = case.fresh()

        def work(mine: int, folder: Path = folder) -> None:
            for _ in range(5):
                tensors = ((f"t{n}", torch.full((1000,), float(mine))) for n in range(shapes[mine]))
                write_checkpoint(folder, tensors, config={"writer": mine}, shard_bytes=8000)

        children = []
        for mine in shapes:
            children.append(os.fork())
            if children[-1] == 0:
                try:
                    work(mine)
                finally:
                    os._exit(0)
        for child in children:
            os.waitpid(child, 0)
        writer = json.loads((folder / "config.json").read_text())["writer"]
        alone = case.scratch / "alone"
        tensors = ((f"t{n}", torch.full((1000,), float(writer))) for n in range(shapes[writer]))
        write_checkpoint(alone, tensors, config={"writer": writer}, shard_bytes=8000)
        hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        mine = {name: digest for name, digest in digests(folder).items() if name in digests(alone)}
        shards = len(list(folder.glob("*.safetensors"))) == len(list(alone.glob("*.safetensors")))
        states.append("whole" if mine == digests(alone) and shards and not hidden else f"mixture {hidden}")
        shutil.rmtree(folder)
        shutil.rmtree(alone)
    return {"states": states}


LOOPS = {"step": killed_at_each_step, "random": killed_at_random, "full": full_disk, "two": two_writers}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        cases: dict[str, Case] = {}
        for order in sys.argv[1:]:
            kind, loop, amount = order.split(":")
            if kind not in cases:
                (Path(scratch) / kind).mkdir()
                cases[kind] = Case(Path(scratch) / kind, kind)
            begin = time.perf_counter()
            found = LOOPS[loop](cases[kind], int(amount))
            print(json.dumps({"order": order, **found, "seconds": time.perf_counter() - begin}), flush=True)
