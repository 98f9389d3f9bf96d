"""Metrics of texts: the published definitions, worked out by hand; laws; and a naive twin."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.evaluate.levenshtein import levenshtein
from glmflash.evaluate.metrics import anls, contains, contains_formula, exact, letter, relaxed

words = st.text(alphabet="abcAB é咖", max_size=9)
METRICS = (exact, anls, relaxed, contains, contains_formula, letter)


def naive_levenshtein(one, two):
    """The definition itself, by recursion."""

    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        same = distance(i - 1, j - 1) + (one[i - 1] != two[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, same)

    return distance(len(one), len(two))


@given(words, words)
def test_levenshtein_equals_the_recursion(one, two):
    assert levenshtein(one, two) == naive_levenshtein(one, two)


@given(st.lists(st.sampled_from(["<b>", "</b>", "x", "y"]), max_size=12), st.text("xy", max_size=70))
def test_levenshtein_of_tokens_and_of_more_than_a_machine_word(one, two):
    assert levenshtein(one, list(two)) == naive_levenshtein(one, list(two))


@given(words, words, words)
def test_levenshtein_is_a_distance(one, two, three):
    assert levenshtein(one, two) == levenshtein(two, one)
    assert (levenshtein(one, two) == 0) == (one == two)
    assert levenshtein(one, three) <= levenshtein(one, two) + levenshtein(two, three)


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.__name__)
@given(one=words, two=words)
def test_every_metric_is_between_0_and_1(metric, one, two):
    assert 0 <= metric(one, two) <= 1


@pytest.mark.parametrize("metric", [exact, anls, relaxed, contains, contains_formula])
@given(text=words)
def test_what_is_right_is_right(metric, text):
    assert metric(text, text) == 1
    assert metric(f" {text}\n", text) == 1


@given(words, words)
def test_anls_is_symmetric_and_is_its_formula(one, two):
    assert anls(one, two) == anls(two, one)
    left, right = (" ".join(text.lower().split()) for text in (one, two))
    far = naive_levenshtein(left, right) / max(len(left), len(right), 1)
    assert anls(one, two) == (1 - far if far <= 0.5 else 0)


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("12.50", "12.50", 1.0),
        ("12.5", "12.50", 1 - 1 / 5),  # one put in, the longer has 5
        ("Corner Caffe", "corner cafe", 1 - 1 / 12),
        ("kitten", "sitting", 1 - 3 / 7),  # k→s, e→i, +g
        ("ab", "ad", 0.5),  # just at the threshold: 1 of 2
        ("abc", "ade", 0.0),  # 1 - 2/3 = 0.33, below it
        ("the  answer\n", "The Answer", 1.0),
        ("", "x", 0.0),
        ("咖啡", "咖啡店", 1 - 1 / 3),
    ],
)
def test_anls_by_hand(said, right, expected):
    assert anls(said, right) == pytest.approx(expected)


def test_blanks_earn_no_anls():
    assert anls("x" + " " * 1000, "abcde") == 0


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("105", "100", 1),  # |105 - 100| / 100 = 0.05
        ("105.01", "100", 0),  # 0.0501
        ("95", "100", 1),
        ("-95", "-100", 1),
        ("95", "-100", 0),
        ("14.0", "14", 1),
        ("7%", "7", 0),  # 0.07 beside 7
        ("7%", "0.07", 1),
        ("7.3%", "7%", 1),  # 0.003 / 0.07 = 0.043
        ("7.4%", "7%", 0),  # 0.004 / 0.07 = 0.057
        ("0", "0", 1),
        ("0.0", "0", 0),  # 5 % of nothing is nothing: compared as text
        ("yes", "Yes", 1),
        ("Yes.", "Yes", 0),
        ("100", "hundred", 0),
        ("hundred", "100", 0),
        ("1,000", "1000", 0),  # a comma is none of Python's numbers, as in the published script
        ("nan", "100", 0),
        ("inf", "inf", 1),
        ("%", "5", 0),
    ],
)
def test_relaxed_accuracy_by_hand(said, right, expected):
    assert relaxed(said, right) == expected


@pytest.mark.parametrize(
    ("said", "right", "text", "formula"),
    [
        ("The word is CENTRE.", "centre", 1, 0),
        ("two\nlines", "Two Lines", 1, 0),
        ("cent re", "centre", 0, 1),
        (r"\frac { 1 } { 2 } = x", r"\frac{1}{2}", 0, 1),
        ("centr", "centre", 0, 0),
        ("", "a", 0, 0),
        ("5.75", "75", 1, 1),  # the rule of OCRBench knows no words
    ],
)
def test_containment_by_hand(said, right, text, formula):
    assert contains(said, right) == text
    assert contains_formula(said, right) == formula


@given(words, words, words)
def test_more_around_it_cannot_hurt_containment(before, right, after):
    assert contains(f"{before}{right.strip()}{after}", right) == 1


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("B", "B"), ("b", "B"), (" (B) ", "B"), ("B.", "B"), ("**B**", "B"), ("B) a receipt", "B"),
        ("The answer is B.", "B"), ("The answer is A.", "A"), ("A is right", "A"), ("答案是B。", "B"),
        ("选C项", "C"), ("A receipt, so B", "B"), ("Option D: a chart", "D"), ("B, because B fits", "B"),
        ("A or B", ""), ("A receipt", ""), ("Because", ""), ("none", ""), ("", ""), ("I think so", ""),
        ("It's 20°C", ""), ("B2", ""), ("the answer is b", ""),
    ],
)  # fmt: skip
def test_the_letter_by_hand(said, named):
    assert [option for option in "ABCDEFGH" if letter(said, option)] == list(named)


@pytest.mark.parametrize("metric", METRICS, ids=lambda one: one.__name__)
def test_long_answers_cost_little(metric):
    """What somebody writes by the megabyte is judged in well under a second."""
    assert metric("A " * 500_000, "abc") == 0
