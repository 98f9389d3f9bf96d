"""The accounts: counted once, timed by exact percentiles, cheap, and safe to share between threads."""

import copy
import dataclasses
import pickle
import re
import threading
import time
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.engine.stats import PHASES, Accounts, Percentiles, Stats, VisionStats
from glmflash.kv.pool import PoolStats
from glmflash.output.result import Result, Timings, Usage

POOL = PoolStats(
    num_blocks=8, block_size=16, free=1, cached=2, used=5, pinned=0, high_water=7, hits=3, misses=4,
    evictions=6, copies=0,
)  # fmt: skip


def answer(*, completion: int = 5, image: int = 0, decode: float = 4.0, **others) -> Result:
    usage = Usage(prompt=20, image=image, cached=8, completion=completion, saved_prefill=9)
    timings = Timings(
        queue=0.5, media=0.25, vision=0.125, prefill=2.0, decode=decode, total=7.0, first_token=3.0
    )
    return Result(text="", usage=usage, timings=timings, **others)


def test_everything_is_counted_once() -> None:
    accounts = Accounts()
    for _ in range(5):
        accounts.submitted()
    accounts.rejected()
    accounts.finished(answer(image=10))
    accounts.finished(answer(finish_reason="length"))
    accounts.failed("image_error")
    accounts.failed("image_error")
    stats = accounts.snapshot(waiting=1, running=2, preemptions=3, pool=POOL, kv_bytes=4096)
    assert (stats.submitted, stats.rejected, stats.waiting, stats.running) == (5, 1, 1, 2)
    assert stats.finished == {"stop": 1, "length": 1}
    assert stats.failed == {"image_error": 2}
    assert (stats.prompt_tokens, stats.image_tokens, stats.cached_tokens) == (40, 10, 16)
    assert (stats.completion_tokens, stats.saved_prefill, stats.preemptions) == (10, 18, 3)
    assert (stats.pool, stats.kv_bytes, stats.vision, stats.answered) == (POOL, 4096, VisionStats(), 2)


def test_a_phase_counts_the_requests_that_had_it() -> None:
    accounts = Accounts()
    accounts.finished(answer(image=10))
    accounts.finished(answer())
    accounts.finished(answer(completion=1))
    accounts.finished(answer(completion=0, finish_reason="cancelled"))
    phases = accounts.snapshot().phases
    assert tuple(phases) == PHASES
    counts = {phase: one.count for phase, one in phases.items()}
    assert counts == {
        "queue": 4, "media": 1, "vision": 1, "prefill": 3, "decode": 2, "total": 4, "first_token": 3,
        "per_token": 2,
    }  # fmt: skip
    assert phases["per_token"] == Percentiles(2, 1.0, 1.0, 1.0, 1.0)  # 4 s for the 4 tokens after the first
    assert phases["vision"].max == 0.125


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_by_nearest_rank(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found.count == len(values)
    assert found.max == max(values)
    for percent, value in ((50, found.p50), (95, found.p95), (99, found.p99)):
        assert value in values
        assert sum(one <= value for one in values) >= percent * len(values) / 100
        assert sum(one < value for one in values) < ceil(percent * len(values) / 100)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=3000))
def test_percentiles_of_the_window_are_those_of_numpy(values: list[float]) -> None:
    """By nearest rank, "inverted_cdf" there, over the last 1,024 requests and no others."""
    accounts = Accounts()
    for seconds in values:
        accounts.finished(answer(decode=seconds, completion=2))
    found = accounts.snapshot().phases["decode"]
    recent = values[-1024:]
    expected = np.percentile(recent, [50, 95, 99], method="inverted_cdf").tolist()
    assert [found.p50, found.p95, found.p99] == expected
    assert (found.count, found.max) == (len(recent), max(recent))


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 99, 100, 101, 1000, 1024])
def test_percentiles_at_the_edges_of_ranks(count: int) -> None:
    values = np.random.default_rng(count).permutation(count).astype(float)
    found = Percentiles.of(values.tolist())
    expected = np.percentile(values, [50, 95, 99], method="inverted_cdf").tolist()
    assert [found.p50, found.p95, found.p99] == expected


def test_only_recent_requests_are_timed() -> None:
    accounts = Accounts()
    for second in range(1500):
        accounts.finished(answer(decode=4.0 * second))
    decode = accounts.snapshot().phases["per_token"]
    assert decode == Percentiles(1024, 987.0, 1448.0, 1489.0, 1499.0)
    assert accounts.snapshot().finished == {"stop": 1500}


def test_speed_is_of_recent_work() -> None:
    accounts = Accounts()
    assert accounts.snapshot().tokens_per_second == 0.0
    accounts.generated(0, 1.0)  # a prefill generates nothing and takes its time
    accounts.generated(9, 2.0)
    assert accounts.snapshot().tokens_per_second == 3.0
    for _ in range(1024):
        accounts.generated(16, 0.5)
    assert accounts.snapshot().tokens_per_second == 32.0


def test_a_snapshot_stays_as_it_was() -> None:
    accounts = Accounts()
    accounts.finished(answer())
    stats = accounts.snapshot()
    kept = copy.deepcopy(stats)
    accounts.finished(answer())
    accounts.failed("x")
    assert stats == kept
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.submitted = 3
    assert pickle.loads(pickle.dumps(stats)) == stats
    assert dataclasses.asdict(stats)["phases"]["total"]["max"] == 7.0


def test_it_prints_as_a_table() -> None:
    accounts = Accounts()
    accounts.submitted()
    accounts.rejected()
    accounts.finished(answer(image=4))
    accounts.failed("<b>")
    accounts.generated(5, 2.0)
    vision = VisionStats(entries=2, bytes=3_000_000, hits=1, misses=2)
    stats = accounts.snapshot(pool=POOL, kv_bytes=2_000_000, vision=vision)
    text = str(stats)
    assert "1 submitted, 0 waiting, 0 running, 1 stop" in text
    assert "1 rejected, 1 <b>" in text
    assert "20 prompt (4 image, 8 cached), 5 completion, 9 saved" in text
    assert "2.5 tokens/s" in text
    assert "5 used + 2 cached + 1 free = 8 blocks of 16 tokens, 2.0 MB, 6 evicted" in text
    assert "2 pictures, 3.0 MB, 1 hits, 2 misses" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["first_token", "1", "3.0000", "3.0000", "3.0000", "3.0000"],
        ["per_token", "1", "1.0000", "1.0000", "1.0000", "1.0000"],
    ]
    assert max(map(len, text.splitlines())) <= 110
    html = stats._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "3.0000" in html
    assert re.findall(r"title='(\d+ \w+)' style='width: ([\d.]+)%", html) == [
        ("5 used", "62.500"), ("2 cached", "25.000"), ("1 free", "12.500")
    ]  # fmt: skip


def test_nothing_done_prints_too() -> None:
    assert "0 submitted" in str(Stats())
    assert "failed" not in str(Accounts().snapshot())
    assert Stats()._repr_html_()


def test_threads_may_write_and_read_together() -> None:
    accounts = Accounts()

    def work() -> None:
        for _ in range(200):
            accounts.submitted()
            accounts.finished(answer())
            accounts.generated(1, 0.001)
            accounts.failed("x")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stats = accounts.snapshot()
        assert stats.completion_tokens == 5 * stats.answered  # one answer is counted as a whole
    for thread in threads:
        thread.join()
    stats = accounts.snapshot()
    assert (stats.submitted, stats.answered, stats.failed) == (1600, 1600, {"x": 1600})


def test_recording_costs_little() -> None:
    """Below 30 µs for a finished request; it takes some 3. The best of several: machines are shared."""
    accounts, result = Accounts(), answer(image=3)
    best = min(_seconds(lambda: accounts.finished(result), 200) for _ in range(10))
    assert best < 30e-6


def _seconds(function, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - began) / times
