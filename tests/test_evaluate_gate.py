"""A checkpoint that became worse fails, and says by how much."""

import pickle

import pytest
from evaluating import coins, report

from glmflash import ParameterError, RegressionError
from glmflash.evaluate import gate

BASE = coins(0.9, 200, seed=1)
ONES = [at for at, score in enumerate(BASE) if score]


def dropped(count: int) -> list[float]:
    """So many right answers fewer."""
    return [0.0 if at in ONES[:count] else score for at, score in enumerate(BASE)]


def test_equal_systems_pass():
    verdict = gate(report({"base": BASE, "same": BASE}), max_drop=0.05, confidence=0.99)
    assert verdict.passed
    assert verdict.systems[0].certainty == pytest.approx(1 - 0.95**200)
    assert "same passes: 0.0 (−1.8 to +1.8) points, 100.0 % sure" in str(verdict)


def test_few_questions_are_not_sure_of_anything():
    few = report({"base": [1.0] * 10, "same": [1.0] * 10})
    assert gate(few, max_drop=0.01).systems[0].certainty == pytest.approx(1 - 0.99**10)
    with pytest.raises(RegressionError, match=r"9\.6 % sure"):
        gate(few, max_drop=0.01, confidence=0.95)
    assert gate(few, max_drop=0.0).passed


@pytest.mark.parametrize(("count", "passes"), [(1, True), (2, True), (3, False), (40, False)])
def test_the_limit_itself_is_allowed_and_no_more(count, passes):
    made = report({"base": BASE, "new": dropped(count)})
    if passes:
        assert gate(made, max_drop=0.01).passed
    else:
        with pytest.raises(RegressionError) as error:
            gate(made, max_drop=0.01)
        assert error.value.systems == ("new",)
        assert f"−{count / 2:.1f} (" in str(error.value)


def test_confidence_asks_for_more_than_luck():
    made = report({"base": BASE, "new": dropped(2)})
    certainty = gate(made, max_drop=0.012).systems[0].certainty
    assert 0.5 < certainty < 0.95
    with pytest.raises(RegressionError, match="FAILS"):
        gate(made, max_drop=0.012, confidence=0.95)
    assert gate(made, max_drop=0.05, confidence=0.95).passed


def test_one_of_several_is_named_and_others_may_be_left_out():
    made = report({"base": BASE, "good": BASE, "bad": [0.0] * 200})
    with pytest.raises(RegressionError) as error:
        gate(made, max_drop=0.05)
    assert error.value.systems == ("bad",)
    assert "good passes" in str(error.value)
    assert gate(made, max_drop=0.05, systems=["good"]).passed
    assert gate(made, max_drop=0.0, baseline="bad").passed
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.systems, again.code) == (str(error.value), ("bad",), "regression_error")
    assert isinstance(error.value, AssertionError)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_drop": -0.1}, {"max_drop": 2}, {"max_drop": "1"}, {"max_drop": True},
        {"max_drop": float("nan")}, {"max_drop": 0.1, "systems": ["base"]},
        {"max_drop": 0.1, "baseline": "x"}, {"max_drop": 0.1, "systems": []},
        {"max_drop": 0.1, "systems": ["x"]}, {"max_drop": 0.1, "confidence": 95},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ParameterError):
        gate(report({"base": BASE, "new": BASE}), **arguments)
