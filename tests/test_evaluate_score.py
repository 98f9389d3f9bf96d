"""The score of an answer: which metric, the best of several right answers, whatever the answer comes as."""

import pytest

from glmflash.evaluate import METRICS, Answer, Question, score
from glmflash.output import parse_boxes

TABLE = "<table><tr><td>a</td><td>b</td></tr></table>"
# metric: what is right; an answer that is; one that is not at all.
CASES = {
    "exact": ("5.75", "5.75", "5.7"),
    "anls": ("Corner Cafe", "corner cafe", "something else"),
    "relaxed": ("100", "104", "106"),
    "contains": ("CENTRE", "It says: centre", "center"),
    "contains_formula": (r"\frac{a}{b}", r"$\frac { a } { b }$", "a/b"),
    "letter": ("B", "(B)", "(C)"),
    "iou": ("[[0,0,100,100]]", "At [[0,0,100,100]].", "[[200,200,300,300]]"),
    "iou_50": ("[[0,0,100,100]]", "[[0,0,100,60]]", "[[0,0,100,40]]"),
    "teds": (TABLE, f"Here: {TABLE}", "a b"),
    "teds_structure": (TABLE, TABLE.replace("a<", "x<"), "a b"),
}


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_judges(metric):
    right, good, bad = CASES[metric]
    question = Question(id="1", text="?", answers=(right,), metric=metric)
    assert score(question, good) == 1
    assert score(question, bad) == 0
    assert score(question, "") == 0
    assert type(score(question, good)) is type(score(question, bad)) is float


def test_the_best_of_several_counts():
    question = Question(id="1", text="?", answers=("zzzz", "abcd", "abxx"), metric="anls")
    assert score(question, "abcx") == 0.75


def test_boxes_of_an_answer_count_and_not_its_text():
    question = Question(id="1", text="?", answers=("[[0,0,500,500]]",), metric="iou")
    boxes = parse_boxes("[[0,0,500,250]]", size=(33, 77))
    assert score(question, Answer("[[0,0,500,500]]", boxes)) == 0.5
    assert score(question, Answer("[[0,0,500,500]]")) == 0
