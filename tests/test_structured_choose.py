"""`Pipeline.choose`: probabilities of given answers."""

import math
from pathlib import Path
from random import Random

import pytest

from glmflash import Pipeline
from glmflash.errors import ParameterError
from glmflash.structured import Choices

SCRIPTS = Path(__file__).parents[1] / "examples" / "tiny"


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", device="cpu", progress=False) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def receipt():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        from draw import receipt

        return receipt(Random(3))


def test_the_right_answer_is_the_most_probable(pipe, receipt):
    picture, facts = receipt
    options = [*facts.prices.values(), facts.total]
    found = pipe.choose("What is the total?", options, images=picture)
    assert found.best == facts.total
    assert list(found) == options
    assert sum(found.values()) == pytest.approx(1)


def test_before_they_are_shared_out_they_are_those_of_an_answer(pipe, receipt):
    picture, _ = receipt
    answer = pipe("What is the total?", images=picture, logprobs=0)
    found = pipe.choose("What is the total?", [answer.text, "1"], images=picture)
    assert found.logprobs[answer.text] == pytest.approx(sum(one.logprob for one in answer.logprobs), abs=1e-3)


@pytest.mark.parametrize("options", [[], "yes", ["a", "a"], ["a", ""], [1, 2], [["a"]], 5, None])
def test_options_that_are_none(pipe, options):
    with pytest.raises(ParameterError):
        pipe.choose("Hm?", options)


def test_settings_are_checked_as_everywhere(pipe):
    with pytest.raises(ParameterError, match="unknown"):
        pipe.choose("Hm?", ["a"], warmth=3)
    with pytest.raises(ParameterError, match="thinking"):
        pipe.choose("Hm?", ["a"], thinking=True)


def test_as_a_value():
    found = Choices({"<b>": math.log(0.3), "no": math.log(0.1), "never": -1e4})
    assert found == {"<b>": pytest.approx(0.75), "no": pytest.approx(0.25), "never": 0}
    assert found.best == "<b>"
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    assert repr(found) == "<Choices: '<b>' 75.0 %, 'no' 25.0 %, 'never' 0.0 %>"
    with pytest.raises(TypeError):
        found.logprobs["no"] = 0.0
    with pytest.raises(KeyError):
        found["maybe"]
