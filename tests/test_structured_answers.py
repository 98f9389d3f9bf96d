"""Answers, token by token → fields: what is read, how sure the model was, what is wrong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.output import Box, Result, TokenLogprob
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.structured.answers import object_fields, word_field
from glmflash.structured.composites import many, maybe, record
from glmflash.structured.json_spans import json_spans
from glmflash.structured.kinds import Part, choice, number, text, truth
from glmflash.structured.leaves import Leaf, leaves
from glmflash.structured.spelling import spell
from glmflash.weights import resolve

EACH = math.log(0.5)  # of every token


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(resolve("tiny") / "tokenizer.json")


def answered(tokenizer, *pieces, boxes=(), finish="stop", ended=True):
    """A result of these texts and control tokens; `text` is without the latter, as the parser has it."""
    ids, shown = [], ""
    for piece in pieces:
        if piece.startswith("<"):
            ids.append(tokenizer.control(piece))
            shown = "" if piece == "</think>" else shown
        else:
            ids += tokenizer.encode(piece)
            shown += piece
    ids += [tokenizer.control("<|user|>")] if ended else []
    logprobs = tuple(TokenLogprob(one, EACH) for one in ids)
    return Result(text=shown, token_ids=tuple(ids), logprobs=logprobs, boxes=boxes, finish_reason=finish)


def leaf(kind, *, needed=True):
    return Leaf(("x",), kind, "", needed)


def halves(tokenizer, words, more=1):
    """The probability of a text's tokens and the next one, if each has one half."""
    return pytest.approx(0.5 ** (len(tokenizer.encode(words)) + more))


def test_a_bare_answer_and_its_end_count(tokenizer):
    field = word_field(leaf(number(float)), answered(tokenizer, "12.50"), tokenizer, "Q?")
    assert (field.value, field.text, field.problem, field.question) == (12.5, "12.50", None, "Q?")
    assert field.confidence == halves(tokenizer, "12.50")


def test_without_an_end_only_the_words_count(tokenizer):
    field = word_field(leaf(number(float)), answered(tokenizer, "12.50", ended=False), tokenizer, "")
    assert field.confidence == halves(tokenizer, "12.50", more=0)


def test_words_around_a_value_do_not_count(tokenizer):
    result = answered(tokenizer, "Total", " ", "12.50", " ", "Coffee")
    field = word_field(leaf(number(float)), result, tokenizer, "")
    assert field.text == "12.50"
    assert field.confidence >= 0.5 ** (len(tokenizer.encode("12.50")) + 2)
    assert field.confidence > 0.5 ** len(result.token_ids)


def test_between_markers_comes_first_and_reasoning_does_not_count(tokenizer):
    pieces = ("<think>", "99.99", "</think>", "1 Coffee ", "<|begin_of_box|>", "12.50", "<|end_of_box|>")
    field = word_field(leaf(number(float)), answered(tokenizer, *pieces), tokenizer, "")
    assert field.value == 12.5
    assert field.confidence == halves(tokenizer, "12.50")
    words = word_field(leaf(text()), answered(tokenizer, *pieces), tokenizer, "")
    assert words.value == "12.50"


def test_box_markers_that_were_forbidden_are_left_aside(tokenizer):
    marker = tokenizer.control("<|begin_of_box|>")
    ids = tokenizer.encode("12")
    wanted = TokenLogprob(ids[0], math.log(0.09), top=((marker, math.log(0.9)), (ids[0], math.log(0.09))))
    logprobs = (wanted, *(TokenLogprob(one, 0.0) for one in ids[1:]))
    result = Result(text="12", token_ids=tuple(ids), logprobs=logprobs)
    assert word_field(leaf(number(int)), result, tokenizer, "").confidence == pytest.approx(0.9)


def test_a_box_in_the_answer_is_the_fields_and_not_its_words(tokenizer):
    box = Box("", (1, 2, 3, 4), (10, 20, 30, 40))
    pieces = ("Corner Cafe", "<|begin_of_box|>", "[[10,20,30,40]]", "<|end_of_box|>")
    field = word_field(leaf(text()), answered(tokenizer, *pieces, boxes=(box,)), tokenizer, "")
    assert (field.value, field.box) == ("Corner Cafe", box)
    listed = word_field(
        leaf(many(number(int))), answered(tokenizer, "[10,20,30,40]", boxes=(box,)), tokenizer, ""
    )
    assert (listed.value, listed.box) == ([10, 20, 30, 40], None)


@pytest.mark.parametrize("said", ["none", "N/A", "", "无"])
def test_what_is_not_there(tokenizer, said):
    field = word_field(leaf(maybe(text()), needed=False), answered(tokenizer, said), tokenizer, "")
    assert (field.value, field.problem) == (None, "is not there")


def test_no_and_none_may_be_values(tokenizer):
    assert word_field(leaf(truth(), needed=False), answered(tokenizer, "No"), tokenizer, "").value is False
    kind = choice({"none": 0, "some": 1})
    assert word_field(leaf(kind, needed=False), answered(tokenizer, "none"), tokenizer, "").value == 0
    assert word_field(leaf(text()), answered(tokenizer, "none"), tokenizer, "").value == "none"


def test_what_cannot_be_read_keeps_the_answer(tokenizer):
    field = word_field(leaf(number(float)), answered(tokenizer, "Coffee"), tokenizer, "")
    assert (field.value, field.text, field.problem) == (None, "Coffee", "is no number")
    assert field.confidence == halves(tokenizer, "Coffee")


def test_a_value_that_was_cut_off_is_no_value(tokenizer):
    field = word_field(leaf(number(float)), answered(tokenizer, "12.5", finish="length"), tokenizer, "")
    assert (field.value, field.problem) == (None, "ended early (length)")


def test_a_stop_string_that_cuts_the_text_leaves_the_value(tokenizer):
    whole = answered(tokenizer, "12.50", " ", "Coffee")
    cut = Result(text="12.50", token_ids=whole.token_ids, logprobs=whole.logprobs)
    assert word_field(leaf(number(float)), cut, tokenizer, "").value == 12.5


@pytest.mark.property
@given(
    st.lists(
        st.sampled_from(["Coffee", " ", "咖啡", "12", "é", "😀", "\n", "<|begin_of_box|>", "<|end_of_box|>"])
    ),
    st.data(),
)
def test_spelling_is_the_text_and_probabilities_fall_with_length(tokenizer, pieces, data):
    result = answered(tokenizer, *pieces)
    spelling = spell(result, tokenizer)
    assert spelling.text == result.text
    assert all(0 <= start <= end <= len(spelling.text) for start, end in spelling.marked)
    end = data.draw(st.integers(0, len(spelling.text)))
    start = data.draw(st.integers(0, end))
    wider, inner = spelling.probability(0, len(spelling.text)), spelling.probability(start, end)
    assert inner is None if start == end else 0 < wider <= inner <= 0.25  # a token and the next


def test_half_a_character_at_the_end_is_laid_out_too(tokenizer):
    ids = [
        one
        for one in range(3000)
        if tokenizer.control_name(one) is None and len(tokenizer.token_bytes(one)) == 1
    ]
    half = next(one for one in ids if tokenizer.token_bytes(one)[0] >= 0xE0)
    result = Result(text="�", token_ids=(half,), logprobs=(TokenLogprob(half, EACH),))
    assert spell(result, tokenizer).probability(0, 1) == pytest.approx(0.5)
    assert word_field(leaf(text()), result, tokenizer, "").text == "�"


BILL = record(
    [
        Part("total", number(float)),
        Part("seller", record([Part("name", text()), Part("city", maybe(text()))])),
        Part("lines", many(number(int))),
        Part("note", text(), required=False),
    ]
)


def test_one_object_gives_every_field_its_own_words(tokenizer):
    written = '{"total": 12.50, "seller": {"name": "Old Mill", "city": null}, "lines": [1, 2]}'
    fields = dict(
        zip(
            [one.name for one in leaves(BILL)],
            object_fields(leaves(BILL), answered(tokenizer, "```json\n", written), tokenizer, "Q"),
            strict=True,
        )
    )
    assert {name: (field.value, field.text, field.problem) for name, field in fields.items()} == {
        "total": (12.5, "12.50", None),
        "seller.name": ("Old Mill", "Old Mill", None),
        "seller.city": (None, "null", "is not there"),
        "lines": ([1, 2], "[1, 2]", None),
        "note": (None, "", "is not there"),
    }
    assert 0 < fields["total"].confidence < 1
    assert fields["note"].confidence is None


def test_an_object_that_is_cut_off_gives_what_stands_before(tokenizer):
    result = answered(tokenizer, '{"total": 12.50, "seller": {"name": "Old', finish="length")
    fields = object_fields(leaves(BILL), result, tokenizer, "")
    assert [field.value for field in fields] == [12.5, None, None, None, None]
    assert object_fields(leaves(BILL), answered(tokenizer, '{"total": 12.5'), tokenizer, "")[0].value is None
    wrong = object_fields(leaves(BILL), answered(tokenizer, '{"total": "x"}'), tokenizer, "")[0]
    assert (wrong.text, wrong.problem) == ("x", "is no number")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.property
@given(
    st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.booleans(), st.sampled_from([None, 2])
)
def test_spans_hold_the_values_that_json_gives(value, ascii_only, indent):
    import json

    written = "Here: " + json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    found = {path: (one, start, end) for path, one, start, end in json_spans(written)}
    for key, inner in value.items():
        one, start, end = found[(key,)]
        assert one == inner
        assert (
            json.loads(f'"{written[start:end]}"' if isinstance(inner, str) else written[start:end]) == inner
        )
    for path in found:
        place = value
        for key in path:
            place = place[key]
        assert place == found[path][0]


@pytest.mark.property
@given(st.text(alphabet='{}[]":,ab1 \\n"', max_size=60))
def test_no_text_makes_the_walk_raise(text):
    for _, _, start, end in json_spans("{" + text):
        assert 0 <= start <= end <= len(text) + 1


def test_deep_nesting_is_no_trouble():
    assert list(json_spans('{"a":' * 100_000)) == []
    assert list(json_spans('{"a":' + "[" * 100_000)) == []
