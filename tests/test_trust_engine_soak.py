"""Ten thousand requests, some hostile, cancelled, late or wrong: afterwards all is as it was."""

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
from engine_world import Question, World, open_world, question, to_request

from glmflash import DeadlineError, ImageError, ParameterError
from glmflash.engine.engine import Engine
from glmflash.weights.trim import give_memory_back

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc"),
]

REQUESTS, STEP, CLIENTS = 10_000, 1000, 8
#: What becomes of requests, of each hundred.
WAYS = ["hostile"] * 5 + ["cancel"] * 5 + ["late"] * 2 + ["wrong"] * 3 + ["left"] * 5 + ["stream"] * 10


@dataclass(frozen=True, slots=True)
class Look:
    """What the process holds after so many requests, and what they cost."""

    requests: int
    resident: int  # bytes, once freed memory was given back to the system
    blocks: int  # that Python has handed out
    in_use: int  # bytes that the C library has handed out
    threads: int
    files: int
    free: int  # blocks, or reusable
    cpu: float  # seconds for each request
    p50: float  # seconds from question to answer, of those that were answered
    p99: float


@dataclass
class Clients:
    """What they ask, how it ended, and how long answers took."""

    nano: World
    engine: Engine
    pictures: list[bytes]
    ended: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def run(self, number: int) -> None:
        rng = Random(number)
        way = WAYS[number % 100] if number % 100 < len(WAYS) else "ask"
        (asked,) = self.nano.questions(number, 1)
        began = time.perf_counter()
        getattr(self, way)(rng, asked)
        if way in ("ask", "stream"):
            self.seconds.append(time.perf_counter() - began)
        self.ended[way] += 1

    def _submit(self, asked: Question, **options):
        return self.engine.submit(to_request(asked, self.engine.generation, **options), wait=True)

    def ask(self, rng: Random, asked: Question) -> None:
        assert self._submit(asked).result(60).usage.completion

    def stream(self, rng: Random, asked: Question) -> None:
        stream = self.engine.start(to_request(asked, self.engine.generation), wait=True)
        text = "".join(delta.text for delta in stream if delta.channel == "answer")
        assert text == stream.result.text

    def left(self, rng: Random, asked: Question) -> None:
        stream = self.engine.start(to_request(asked, self.engine.generation), wait=True)
        next(stream, None)

    def hostile(self, rng: Random, asked: Question) -> None:
        try:
            self._submit(question("read", rng.choice(self.pictures), max_new_tokens=2)).result(60)
        except ImageError:
            self.ended["refused picture"] += 1

    def cancel(self, rng: Random, asked: Question) -> None:
        future = self._submit(asked)
        time.sleep(rng.random() * 0.05)
        if future.cancel():
            with pytest.raises(CancelledError):
                future.result(60)

    def late(self, rng: Random, asked: Question) -> None:
        try:
            self._submit(asked, timeout=rng.choice([1e-6, 0.005, 0.02])).result(60)
        except DeadlineError:
            self.ended["deadline"] += 1

    def wrong(self, rng: Random, asked: Question) -> None:
        name, value = rng.choice([("temperature", -1), ("top_p", float("nan")), ("priority", 10**9)])
        with pytest.raises(ParameterError):
            self._submit(asked, **{name: value})


def hostile_pictures() -> list[bytes]:
    """Those of the test data if it is there, and damaged ones of our own."""
    rng = Random(1)
    mine = [b"\x89PNG\r\n\x1a\n" + rng.randbytes(40), b"", b"GIF89a" + rng.randbytes(9), b"\xff\xd8\xff" * 99]
    folder = Path(os.environ.get("GLMFLASH_TEST_DATA", "/nowhere")) / "data" / "hostile"
    return mine + [path.read_bytes() for path in sorted(folder.glob("*"))[:200]]


def settle(engine: Engine) -> None:
    end = time.monotonic() + 60
    while engine._inbox.held or engine.stats().running:
        assert time.monotonic() < end
        gc.collect()
        time.sleep(0.005)
    gc.collect()


class Mallinfo(ctypes.Structure):
    """Of glibc: see mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def large_pieces_go_back_at_once() -> None:
    """Else glibc adapts to the largest picture, and may keep 64 MB of what was freed for each thread."""
    trim_threshold, mmap_threshold = -1, -3  # see mallopt(3)
    for what in (trim_threshold, mmap_threshold):
        ctypes.CDLL(None).mallopt(what, 128 * 1024)


def in_use() -> int:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Mallinfo
    seen = mallinfo()
    return seen.uordblks + seen.hblkhd


def look(clients: Clients, requests: int, cpu: float) -> Look:
    pool = clients.engine.call(lambda pool, _: pool.stats()).result(10)
    p50, p99 = np.percentile(clients.seconds, [50, 99])
    clients.seconds.clear()
    give_memory_back()  # else it is the heaps of a dozen threads that are measured, full of holes
    return Look(
        requests=requests,
        blocks=sys.getallocatedblocks(),
        in_use=in_use(),
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * 4096,
        threads=threading.active_count(),
        files=len(list(Path("/proc/self/fd").iterdir())),
        free=pool.free + pool.cached,
        cpu=round(cpu / STEP, 5),
        p50=round(float(p50), 4),
        p99=round(float(p99), 4),
    )


def test_ten_thousand_requests_leave_nothing_behind(nano_checkpoint, capsys):
    large_pieces_go_back_at_once()
    nano = open_world(nano_checkpoint, "random")
    with nano.engine(blocks=128, vision_memory="256 KiB", max_waiting=64) as engine:
        clients, looks = Clients(nano, engine, hostile_pictures()), []
        with ThreadPoolExecutor(CLIENTS) as pool:
            for start in range(0, REQUESTS, STEP):
                began = time.process_time()
                list(pool.map(clients.run, range(start, start + STEP)))
                settle(engine)
                looks.append(look(clients, start + STEP, time.process_time() - began))
        stats = engine.stats()
    with capsys.disabled():
        print()
        for one in looks:
            print(one)
        print(json.dumps(clients.ended))
    early, *_, late = looks
    assert {(one.threads, one.files, one.free) for one in looks} == {(early.threads, early.files, 128)}
    assert late.blocks <= early.blocks * 1.01
    assert late.in_use <= early.in_use + 3 * 2**20  # tokenizers remembers ten thousand words, and fills up
    assert late.resident <= early.resident * 1.01
    assert late.cpu <= early.cpu * 1.25  # processor seconds, for clocks tell what else the machine does
    assert stats.submitted == stats.answered + sum(stats.failed.values())
    assert stats.pool.used == 0
    assert min(clients.ended[name] for name in ("refused picture", "deadline", "cancel", "wrong")) > 50
