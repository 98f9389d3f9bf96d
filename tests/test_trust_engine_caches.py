"""Threats D2 and D3: what others asked cannot be told, and what lies in free memory harms nobody."""

from random import Random

import numpy as np
import pytest
from engine_world import Question, ask, open_world, paused, question, start, to_request, watch
from test_engine_faults import settled
from test_engine_laws_nan import fill

from glmflash.model import Glm4v


@pytest.fixture(scope="module")
def nano(nano_checkpoint):
    return open_world(nano_checkpoint, "random")


@pytest.fixture
def engine(nano):
    with nano.engine(blocks=256, max_batch=4, max_step_tokens=64) as engine:
        yield engine


# D2: what is cached for one tenant makes no difference to another


def pictured(seed: int) -> Question:
    """Prompts of one length, each about pixels of its own."""
    picture = np.random.default_rng(seed).integers(0, 256, (56, 84, 3), np.uint8)
    return question("what is the total", picture, max_new_tokens=1)


def probe(engine, trial: int, *, salts: tuple[str, str]):
    """Ask what another tenant asked before, and what nobody did; returns both results."""
    theirs, mine = salts
    ask(engine, pictured(2 * trial).but(cache_salt=theirs))
    order = [2 * trial, 2 * trial + 1] if trial % 2 else [2 * trial + 1, 2 * trial]
    results = {seed: ask(engine, pictured(seed).but(cache_salt=mine)).result for seed in order}
    return results[2 * trial], results[2 * trial + 1]


def test_d2_prefix_cache_what_another_tenant_asked_takes_the_same_work(engine, monkeypatch):
    packs, towers = [], []
    watch(monkeypatch, lambda chunks: packs.append([chunk.tokens for chunk in chunks]))
    encode = Glm4v.encode_images
    monkeypatch.setattr(Glm4v, "encode_images", lambda *args: towers.append(1) or encode(*args))
    for trial in range(20):
        ask(engine, pictured(2 * trial).but(cache_salt="theirs"))
        work = []
        for seed in (2 * trial, 2 * trial + 1):
            packs.clear()
            towers.clear()
            usage = ask(engine, pictured(seed).but(cache_salt=f"mine {seed}")).result.usage
            work.append((usage, list(packs), len(towers)))
        assert work[0] == work[1]
        assert work[0][0].cached == 0
    seen, unseen = probe(engine, 999, salts=("mine", "mine"))
    assert seen.usage.cached > unseen.usage.cached


def auc(engine, salts: tuple[str, str], trials: int = 200) -> float:
    """How often what was asked before comes sooner than what was not; half the time if it cannot be told."""
    first = [[one.timings.first_token for one in probe(engine, n, salts=salts)] for n in range(trials)]
    seen, unseen = np.array(first).T
    return float((seen[:, None] < unseen[None]).mean())


@pytest.mark.soak
def test_d2_prefix_cache_time_to_first_token_tells_nothing(nano, capsys):
    with nano.engine(blocks=4096) as engine:
        apart = auc(engine, ("theirs", "mine"))
        together = auc(engine, ("shared", "shared"))
    with capsys.disabled():
        print(f"\nAUC of 200 trials: {apart:.3f} across salts, {together:.3f} within one")
    assert abs(apart - 0.5) <= 0.1  # of so few, chance alone makes it differ by 0.03
    assert together > 0.7  # the same trials notice it where they may


# D3: what lies in free memory


@pytest.mark.slow
def test_d3_kv_poisoning_nan_in_all_that_is_free_while_neighbours_are_cancelled(nano, monkeypatch):
    questions = nano.questions("poison", 16)
    wanted = nano.cold(questions)
    rng = Random(7)
    with nano.engine(blocks=60, max_batch=6, max_step_tokens=48) as engine:
        pool, store = engine._runner.scheduler.pool, engine._runner.store
        watch(monkeypatch, lambda _: fill(pool, store, float("nan")))
        for first in range(0, len(questions), 4):
            with paused(engine, 6):
                lost = [
                    engine.submit(to_request(pictured(rng.randrange(99)), engine.generation)) for _ in "ab"
                ]
                asked = [start(engine, one) for one in questions[first : first + 4]]
            for one in lost:
                one.cancel()
            for got, cold in zip(asked, wanted[first:], strict=False):
                nano.check(got.answer(), cold)
        settled(engine)
