"""Schemas and expressions through llguidance: whatever is written under a mask fits; what fails is typed."""

import json
import re
from random import Random

import pytest
from grammar_world import EOS, VOCABULARY, allowed, follow, walk
from hypothesis import given
from hypothesis import strategies as st

from glmflash.errors import ParameterError
from glmflash.grammar import ResponseFormat, guidance
from glmflash.grammar.compile import Compiler

pytest.importorskip("llguidance")
pytestmark = pytest.mark.extras

COMPILER = Compiler(VOCABULARY)
seeds = st.integers(0, 2**32).map(Random)
names = st.sampled_from("a b c total é".split())
leaves = st.sampled_from(
    [
        {"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 99}, {"type": "null"},
        {"type": "string", "maxLength": 5}, {"enum": ["x", 1, None]},
        {"type": "string", "pattern": "^[0-9]{2}$"}, {"type": "number", "minimum": -1, "maximum": 1},
    ]
)  # fmt: skip


def objects_of(inner):
    def make(properties):
        closed = {"required": list(properties), "additionalProperties": False}
        return {"type": "object", "properties": properties, **closed}

    return st.dictionaries(names, inner, min_size=1, max_size=3).map(make)


def lists_of(inner):
    return inner.map(lambda one: {"type": "array", "items": one, "minItems": 1, "maxItems": 3})


schemas = objects_of(st.recursive(leaves, lambda one: objects_of(one) | lists_of(one), max_leaves=4))
parts = st.sampled_from([r"[a-c]{1,3}", r"\d+", r"(yes|no)", r"x?", r"é*", r"[^\n]", r"(ab)+", r"\."])
expressions = st.lists(parts, min_size=1, max_size=4).map("".join)


def fits(value, schema) -> bool:
    """A plain validator of the schemas above."""
    match schema:
        case {"enum": allowed_values}:
            return value in allowed_values and not isinstance(value, bool)
        case {"type": "object"}:
            return (
                isinstance(value, dict)
                and value.keys() == schema["properties"].keys()
                and all(fits(value[name], one) for name, one in schema["properties"].items())
            )
        case {"type": "array"}:
            return (
                isinstance(value, list)
                and 1 <= len(value) <= 3
                and all(fits(v, schema["items"]) for v in value)
            )
        case {"type": "string", "pattern": pattern}:
            return isinstance(value, str) and re.search(pattern, value) is not None
        case {"type": "string"}:
            return isinstance(value, str) and len(value) <= 5
        case {"type": "boolean" | "null"}:
            return isinstance(value, bool) if schema["type"] == "boolean" else value is None
    number = isinstance(value, int if schema["type"] == "integer" else (int, float)) and not isinstance(
        value, bool
    )
    return number and schema["minimum"] <= value <= schema["maximum"]


@pytest.mark.property
@given(schemas, seeds)
def test_what_is_written_fits_the_schema(schema, rng):
    text = walk(COMPILER(ResponseFormat.schema(schema)), rng, most=400)
    if text is not None:
        assert fits(json.loads(text), schema), text


@pytest.mark.property
@given(expressions, seeds)
def test_what_is_written_matches_the_expression(expression, rng):
    text = walk(COMPILER(ResponseFormat("regex", expression)), rng)
    if text is not None:
        assert re.fullmatch(expression, text.decode()), text


def test_the_validator_of_this_test_can_refuse():
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}}
    assert fits({"a": True}, schema)
    assert not fits({"a": 1}, schema)
    assert not fits({}, schema)


def test_all_end_tokens_end_and_no_other_id_comes():
    state = follow(COMPILER(ResponseFormat("regex", "ab?")), b"a", Random(0))
    assert allowed(state) == sorted([ord("b"), *EOS])
    state.accept(max(EOS))
    assert set(allowed(state)) == EOS


def test_blank_space_has_a_bound():
    state = follow(COMPILER(ResponseFormat.schema({"type": "object"})), b"{", Random(0))
    for _ in range(100):
        if not state.mask()[ord(" ")]:
            break
        state.accept(ord(" "))
    assert allowed(state)
    assert not state.mask()[ord(" ")]


def test_two_texts_of_one_grammar_know_nothing_of_each_other():
    grammar = COMPILER(ResponseFormat("regex", "ab"))
    one, other = grammar.start(), grammar.start()
    one.accept(ord("a"))
    assert allowed(one) == [ord("b")]
    assert ord("a") in allowed(other)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "foo"}, "foo"),
        ({"not": {}}, "not"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"type": "string", "pattern": "(?=a)"}, "look"),
        (5, "schema"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_when_it_is_given(schema, said):
    with pytest.raises(ParameterError, match=rf"^response_format: cannot be enforced \(.*{said}") as caught:
        ResponseFormat.read({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert "\n" not in str(caught.value)


def test_an_expression_that_cannot_be_enforced_is_refused():
    with pytest.raises(ParameterError, match="look-around"):
        ResponseFormat("regex", "(?=a)b")


class PanicException(BaseException):
    """As PyO3 raises it: no `Exception`."""


@pytest.mark.parametrize(
    "error", [PanicException("index out of bounds\nat src/x.rs"), ValueError("too complex")]
)
def test_whatever_the_library_raises_is_a_typed_error(error, monkeypatch):
    class Broken:
        def is_error(self):
            return False

        def deep_copy(self):
            return self

        def unsafe_compute_mask_ptr(self, *_):
            raise error

        consume_token = unsafe_compute_mask_ptr

    state = guidance.Matched(Broken(), vocabulary=VOCABULARY).start()
    for act in (state.mask, lambda: state.accept(1)):
        with pytest.raises(ParameterError, match=r"^response_format: failed \([a-z ]+\)"):
            act()


def test_a_token_that_the_mask_forbids_is_a_typed_error():
    state = COMPILER(ResponseFormat("regex", "ab")).start()
    with pytest.raises(ParameterError, match="failed"):
        state.accept(ord("x"))


def test_an_interrupt_is_none_of_its_errors():
    class Interrupted:
        def is_error(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guidance.Matched(Interrupted(), vocabulary=VOCABULARY)
