"""The bootstrap does what statistics says it should."""

import numpy as np
import pytest
from evaluating import coins, report
from hypothesis import given
from hypothesis import strategies as st

from glmflash.evaluate import statistics
from glmflash.evaluate.statistics import DRAWS, busy_seconds, draw_means, interval


def test_the_spread_is_that_of_the_mean():
    scores = np.array([coins(0.8, 400, seed=1)])
    draws = draw_means(scores, range(400), seed=0)[:, 0]
    share = scores.mean()
    assert draws.std() == pytest.approx(np.sqrt(share * (1 - share) / 400), rel=0.05)
    assert draws.mean() == pytest.approx(share, abs=0.002)


def test_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 400)
    held = 0
    for seed in range(200):
        scores = np.array([coins(0.7, 150, seed=seed)])
        found = interval(
            float(scores.mean()), draw_means(scores, range(150), seed=seed), count=150, clusters=150
        )
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / 200 <= 0.985


def test_questions_about_one_picture_count_as_one():
    once = coins(0.5, 50, seed=3)
    alone = draw_means(np.array([once]), range(50), seed=0)
    copies = draw_means(np.array([once * 8]), list(range(50)) * 8, seed=0)
    np.testing.assert_allclose(alone, copies)  # eight times as many questions, and nothing learned
    naive = draw_means(np.array([once * 8]), range(400), seed=0)
    assert naive.std() < alone.std() / 2


def test_the_same_seed_draws_the_same():
    scores = np.array([coins(0.5, 30, seed=0)])
    first, again, other = (draw_means(scores, range(30), seed=seed) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_large_sets_are_drawn_in_parts_without_a_seam(monkeypatch):
    monkeypatch.setattr(statistics, "_AT_ONCE", 5000)
    means = draw_means(np.array([coins(0.5, 30, seed=0)]), range(30), seed=0)
    assert means.shape == (DRAWS, 1)
    assert len(np.unique(means[:166], axis=0)) > 5


def test_paired_differences_are_surer_than_two_intervals():
    base = coins(0.7, 300, seed=5)
    worse = [0.0 if at % 30 == 0 else score for at, score in enumerate(base)]
    made = report({"base": base, "worse": worse})["worse"]
    assert made.difference.value < 0
    assert made.difference.excludes_zero
    assert made.difference.high - made.difference.low < (made.accuracy.high - made.accuracy.low) / 2


def test_a_system_does_not_differ_from_its_equal():
    base = coins(0.7, 100, seed=5)
    same = report({"base": base, "same": list(base)})["same"].difference
    assert (same.value, same.excludes_zero) == (0.0, False)
    assert same.high == -same.low == pytest.approx(1 - 0.025**0.01)


def test_no_mistake_in_so_many_is_no_proof():
    low = {count: report({"one": [1.0] * count})["one"].accuracy.low for count in (1, 10, 100)}
    assert low == {count: pytest.approx(0.025 ** (1 / count)) for count in low}
    clustered = report({"one": [1.0] * 100}, pictures=["a", "b"] * 50)["one"].accuracy
    assert clustered.low == pytest.approx(0.025**0.5)
    assert report({"one": [0.0] * 10})["one"].accuracy.high == pytest.approx(1 - 0.025**0.1)


@pytest.mark.slow
@pytest.mark.property
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=12))
def test_busy_seconds_are_the_seconds_that_somebody_was_busy(spans):
    seconds = {second for began, length in spans for second in range(began, began + length)}
    assert busy_seconds([(float(began), float(length)) for began, length in spans]) == len(seconds)


@pytest.mark.slow
@pytest.mark.property
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_intervals_stay_within_scores_and_around_the_mean(scores, seed):
    made = report({"one": scores})["one"].accuracy
    assert 0 <= made.low <= made.high <= 1
    if max(scores) > min(scores) + 1e-9:
        assert min(scores) - 1e-9 <= made.low <= made.high <= max(scores) + 1e-9
    assert made.low - 1e-9 <= made.value <= made.high + 1e-9 or len(scores) < 20
