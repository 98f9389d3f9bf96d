"""Grammars that need no library: JSON objects beside `json.loads`, choices beside `str.startswith`."""

import json
from random import Random

import numpy as np
import pytest
from grammar_world import EOS, PIECES, VOCABULARY, allowed, follow, walk
from hypothesis import given
from hypothesis import strategies as st

from glmflash.grammar.choice import Choice
from glmflash.grammar.compile import Compiler
from glmflash.grammar.format import ResponseFormat
from glmflash.grammar.json_object import JsonObject
from glmflash.grammar.json_tables import DEAD, NEXT
from glmflash.grammar.vocabulary import Vocabulary

GRAMMAR = JsonObject(VOCABULARY)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    scalars | texts,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)
seeds = st.integers(0, 2**32).map(Random)


def survives(state, piece: bytes) -> bool:
    """Byte by byte, the plain way: whether a piece can be read in a state."""
    twin = GRAMMAR.start()
    twin.mode, twin.stack, twin.depth = state.mode, state.stack, state.depth
    for byte in piece:
        if not one_byte(twin, byte):
            return False
    return bool(piece)


def one_byte(twin, byte: int) -> bool:
    if NEXT[twin.mode, byte] == DEAD or (byte in b"}]" and not closes(twin, byte)):
        return False
    twin.accept(byte)  # the first 256 tokens are the bytes
    return True


def closes(twin, byte: int) -> bool:
    in_string = NEXT[twin.mode, ord("x")] == twin.mode
    return in_string or (twin.depth > 0 and (twin.stack & 1) == (byte == ord("}")))


@pytest.mark.property
@given(seeds)
def test_what_the_mask_lets_through_is_an_object(rng):
    text = walk(GRAMMAR, rng)
    if text is not None:
        assert isinstance(json.loads(text), dict)


@pytest.mark.property
@given(objects, seeds, st.sampled_from([None, 1, 2]), st.booleans())
def test_every_object_is_let_through_however_it_is_cut(value, rng, indent, escaped):
    escaped = (
        escaped and max(json.dumps(value, ensure_ascii=False)) <= "\uffff"
    )  # pairs are written as they are
    text = json.dumps(value, indent=indent, ensure_ascii=escaped).encode()
    state = follow(GRAMMAR, text, rng)
    assert set(allowed(state)) == EOS


@pytest.mark.property
@given(objects, seeds, st.data())
def test_the_mask_is_what_a_walk_of_each_token_alone_says(value, rng, data):
    text = json.dumps(value, ensure_ascii=False).encode()
    state = follow(GRAMMAR, text[: data.draw(st.integers(0, len(text) - 1))], rng)
    wanted = [number for number, piece in enumerate(PIECES) if survives(state, piece)]
    assert allowed(state) == wanted


def test_nothing_runs_on_for_ever():
    for begin, go_on, least in ((b"{", b" ", 20), (b'{"a": 1', b"0", 20), (b'{"a": 0.', b"3", 20)):
        state = follow(GRAMMAR, begin, Random(0))
        count = 0
        while state.mask()[go_on[0]]:
            state.accept(go_on[0])
            count += 1
            assert count < 100
        assert count >= least
        assert allowed(state)  # no dead end


def test_depth_has_a_bound_and_no_dead_end():
    state = follow(GRAMMAR, b'{"a":', Random(0))
    depth = 0
    while state.mask()[ord("[")]:
        state.accept(ord("["))
        depth += 1
        assert depth < 100
    assert depth >= 25
    text = b"]" * depth + b"}"
    for byte in text:
        assert state.mask()[byte]
        state.accept(byte)
    assert set(allowed(state)) == EOS


@pytest.mark.parametrize(
    "text",
    ['{"a": "\\ud800"}', '{"a": 01}', '{"a" 1}', '{"a": 1,}', "[1]", '{"a": .5}', '{"a": "\t"}', "{} "],
)
def test_what_is_no_object_is_refused(text):
    state = GRAMMAR.start()
    for byte in text.encode():
        if not state.mask()[byte]:
            return
        state.accept(byte)
    pytest.fail(text)


def test_half_a_character_is_finished_first():
    state = follow(GRAMMAR, b'{"\xc3', Random(0))
    assert {PIECES[one][0] for one in allowed(state)} <= set(range(0x80, 0xC0))


@pytest.mark.property
@given(st.lists(texts.filter(bool), min_size=1, max_size=6, unique=True), seeds)
def test_one_of_the_choices_is_written(choices, rng):
    text = walk(Choice(choices, VOCABULARY), rng)
    assert text is not None
    assert text.decode() in choices


@pytest.mark.property
@given(st.lists(texts.filter(bool), min_size=1, max_size=6, unique=True), seeds, st.data())
def test_a_choice_allows_all_that_goes_on(choices, rng, data):
    chosen = data.draw(st.sampled_from(choices)).encode()
    cut = data.draw(st.integers(0, len(chosen)))
    state = follow(Choice(choices, VOCABULARY), chosen[:cut], rng)
    begins = [choice.encode() for choice in choices]
    wanted = [
        number
        for number, piece in enumerate(PIECES)
        if piece and any(one.startswith(chosen[:cut] + piece) for one in begins)
    ]
    assert allowed(state) == sorted([*wanted, *(EOS if chosen[:cut] in begins else ())])


def test_a_place_looks_at_the_beginnings_of_tokens_only(monkeypatch):
    looked = []
    begins = Vocabulary.begins
    monkeypatch.setattr(Vocabulary, "begins", lambda self, piece: looked.append(piece) or begins(self, piece))
    texts = [f"{number:04}" + "x" * 996 for number in range(1000)]
    state = Choice(texts, VOCABULARY).start()
    for byte in b"0123":
        state.accept(byte)
        state.mask()
    longest = max(map(len, PIECES))
    assert max(map(len, looked)) <= longest + 1
    assert len(looked) < 10_000  # of a million characters


def test_places_are_forgotten_and_found_again():
    texts = [bytes([97 + number // 26, 97 + number % 26]).decode() for number in range(26 * 26)]
    grammar = Choice(texts, VOCABULARY)
    first = allowed(grammar.start())
    for text in texts:
        state = follow(grammar, text.encode(), Random(0))
        assert state.complete
        assert allowed(state) == sorted(EOS)
    assert allowed(grammar.start()) == first


def test_grammars_are_kept_up_to_a_number():
    compiler = Compiler(VOCABULARY, keep=2)
    forms = [ResponseFormat("choice", (text,)) for text in ("a", "b", "c")]
    first = compiler(forms[0])
    assert compiler(forms[0]) is first
    compiler(forms[1])
    compiler(forms[2])
    assert len(compiler) == 2
    assert compiler(forms[0]) is not first


def test_masks_of_a_kept_state_do_not_change():
    state = GRAMMAR.start()
    before = state.mask().copy()
    follow(GRAMMAR, b'{"a": [1, {"b": 2}]}', Random(0))
    assert np.array_equal(state.mask(), before)


def test_grammars_of_large_rules_are_not_all_kept():
    compiler = Compiler(VOCABULARY, characters=100)
    small, large = ResponseFormat("choice", ("a", "b")), ResponseFormat("choice", ("c" * 90,))
    assert compiler(small) is compiler(small)
    compiler(large)
    assert len(compiler) == 2
    other = ResponseFormat("choice", ("d" * 200,))  # the newest stays, whatever it takes
    assert compiler(other) is compiler(other)
    assert len(compiler) == 1
