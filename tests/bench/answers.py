"""A size of random checkpoint → how long an answer takes that is computed, and one that is found.

    nox -s bench                                    # after the others: 12 GB of memory, a few minutes
    nox -s bench -- --quick --out quick             # shows that it runs; the figures mean nothing

Every picture is new, so that nothing of a miss is in any cache. Then the same is asked again, many times.
Both are timed from the call to the result: reading the picture and laying out the prompt is part of a hit.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from common import checkpoint, machine, middle, parser, write

from glmflash import AnswerCache, Engine, Pipeline, Settings, prepare
from glmflash.answers import AnswerStore, MemoryAnswers, RedisAnswers, SQLiteAnswers

SIDE = 448  # pixels: 256 vision tokens
HITS = 30  # of each answer


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["int8"], rounds=5, steps=32, steps_help="tokens of an answer",
    )  # fmt: skip
    chosen = described.parse_args()
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps = "nano", 3, 6
    return chosen


@contextmanager
def stores() -> Iterator[dict[str, AnswerStore]]:
    """One of each kind; Redis if its server and client are here."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found: dict[str, AnswerStore] = {
            "memory": MemoryAnswers(),
            "sqlite": SQLiteAnswers(folder / "answers.db"),
        }
        server = shutil.which("redis-server")
        try:
            import redis  # noqa: F401
        except ImportError:
            server = None
        if server is None:
            yield found
            return
        socket = folder / "redis.sock"
        command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", scratch]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield found | {"redis": RedisAnswers(f"unix://{socket}")}
        finally:
            process.terminate()
            process.wait()


def timed(pipe: Pipeline, store: AnswerStore, chosen: argparse.Namespace) -> dict[str, object]:
    """Seconds of misses and hits with one store, and how often a hit was none."""
    generator = np.random.default_rng(0)
    end = {"temperature": 0, "max_new_tokens": chosen.steps, "ignore_eos": True, "repetition_stop": None}
    parts, misses, hits, lost = pipe.engine, [], [], 0
    with AnswerCache(store) as cache:
        engine = Engine(
            parts.model,
            parts.tokenizer,
            preprocessor=parts.preprocessor,
            generation=parts.generation,
            settings=Settings(answers=cache),
        )
        engine.answer(prepare.one({"text": "Hi", **end}, defaults=parts.generation))  # who answers is named
        for _ in range(chosen.rounds):
            picture = generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            request = prepare.one(
                {"text": "What is it?", "images": picture, **end}, defaults=parts.generation
            )
            for turn in range(1 + HITS):
                began = time.perf_counter()
                result = engine.answer(request)
                seconds = time.perf_counter() - began
                if turn == 0:
                    misses.append(seconds)
                elif result.from_cache:
                    hits.append(seconds)
                else:
                    lost += 1
        engine.close()
    (miss, miss_quartiles), (hit, hit_quartiles) = middle(misses), middle(hits)
    return {
        "miss_seconds": miss,
        "miss_quartiles": miss_quartiles,
        "hit_seconds": hit,
        "hit_quartiles": hit_quartiles,
        "ratio": round(statistics.median(misses) / statistics.median(hits), 1),
        "hits": len(hits),
        "lost": lost,
    }


def run(folder: Path, dtype: str, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of one dtype."""
    how = {"quantize": dtype} if dtype in ("int8", "w8a8") else {"dtype": dtype}
    with Pipeline.from_pretrained(folder, device="cpu", progress=False, **how) as pipe, stores() as kinds:
        return {name: timed(pipe, store, chosen) for name, store in kinds.items()}


def table(report: dict) -> str:
    """A line for each dtype and store."""
    return "\n".join(
        f"{dtype:9} {store:8} miss {cell['miss_seconds']:9.4f} s, hit {1e3 * cell['hit_seconds']:8.3f} ms,"
        f" {cell['ratio']:,.0f} times"
        for dtype, cells in report["results"].items()
        for store, cell in cells.items()
    )


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with checkpoint(chosen) as folder:
        results = {dtype: run(folder, dtype, chosen) for dtype in chosen.dtypes}
    work = {
        "size": chosen.size,
        "picture": [SIDE, SIDE],
        "answer_tokens": chosen.steps,
        "rounds": chosen.rounds,
    }
    report = {"machine": machine(), "work": work, "results": results}
    write(report, chosen.out / "answers-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
