"""A key is equal for what must be answered alike, and for nothing else."""

import dataclasses
import string
from random import Random

import numpy as np
import pytest
from engine_world import World, noise, open_world, question, to_request
from hypothesis import given
from hypothesis import strategies as st

from glmflash import InputPolicy, ParameterError, Request, ResponseFormat, Sampling
from glmflash.config import GenerationConfig
from glmflash.engine import question as module
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.engine.question import answerer, canonical, question_key, repeatable
from glmflash.prompt import Tokenizer
from glmflash.weights.fingerprint import fingerprint

TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object", "properties": {}}}}
TOOL_TOO = {"type": "function", "function": {"name": "ask", "parameters": {"type": "object"}}}
CHOICE = ResponseFormat("choice", ("yes", "no"))
PICTURE = noise(Random(3))

# Each option with two values between which the answer may differ; beside it what it needs.
OPTIONS = {
    "temperature": (0.0, 0.5, {"seed": 1}),
    "top_k": (0, 5, {"seed": 1, "temperature": 1.0}),
    "top_p": (1.0, 0.5, {"seed": 1, "temperature": 1.0}),
    "min_p": (0.0, 0.5, {"seed": 1, "temperature": 1.0}),
    "seed": (1, 2, {"temperature": 1.0}),
    "repetition_penalty": (1.0, 1.1, {}),
    "stop": (("a",), ("a", "b"), {}),
    "ignore_eos": (False, True, {}),
    "logprobs": (None, 0, {}),
    "repetition_stop": (128, None, {}),
    "max_new_tokens": (7, 8, {}),
    "tools": ([TOOL], [TOOL_TOO], {"tool_choice": "required"}),
    "tool_choice": ("auto", "required", {"tools": [TOOL]}),
    "thinking": (False, "auto", {}),
    "thinking_budget": (None, 5, {"thinking": True}),
    "response_format": (None, CHOICE, {}),
    "answer_prefix": ("", "So", {}),
    "cache_salt": (None, "a", {}),
    "max_image_tokens": (None, 4, {}),
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def nano(nano_checkpoint) -> World:
    return open_world(nano_checkpoint, "random")


def key(world, request, *, room=None, who=b"us") -> str:
    pictures = read_pictures(request, world.preprocessor, InputPolicy(), fingerprint=str)
    inputs = build_prompt(request, pictures, tokenizer=world.tokenizer, config=world.model.config)
    room = request.sampling.max_new_tokens if room is None else room
    return question_key(request, inputs, room=room, answerer=who)


def asked(world, text="what", picture=PICTURE, **options) -> str:
    return key(world, to_request(question(text, picture), GenerationConfig(), **options))


def test_a_key_is_a_whole_sha256_and_does_not_change_by_itself(nano):
    assert len(asked(nano)) == 64
    assert set(asked(nano)) <= set(string.hexdigits.lower())
    assert asked(nano) == asked(nano, picture=PICTURE.copy())


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_that_changes_an_answer_changes_the_key(nano, name):
    one, other, needed = OPTIONS[name]
    assert asked(nano, **needed, **{name: one}) != asked(nano, **needed, **{name: other})
    assert asked(nano, **needed, **{name: one}) == asked(nano, **needed, **{name: one})


def test_no_option_was_forgotten():
    """Whoever adds a field decides here: it changes the key by itself, unless it is listed in the module."""
    names = {field.name for kind in (Sampling, Request) for field in dataclasses.fields(kind)}
    assert names >= module._LEFT_OUT
    assert names - module._LEFT_OUT <= OPTIONS.keys()
    assert OPTIONS.keys() <= names


def test_what_cannot_change_an_answer_does_not_change_the_key(nano):
    assert asked(nano) == asked(nano, priority=9, timeout=5)
    assert asked(nano) == asked(nano, seed=3, top_k=7, top_p=0.3, min_p=0.2)  # greedy has no choice
    assert asked(nano, thinking=True, thinking_budget=5) == asked(
        nano, thinking=True, thinking_budget=np.int64(5)
    )


@pytest.mark.property
@given(st.integers(0, 2**32 - 1), st.data())
def test_one_sample_of_one_pixel_is_another_question(nano, seed, data):
    picture = noise(Random(seed))
    changed = picture.copy()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in picture.shape)
    changed[place] ^= 1
    assert asked(nano, picture=picture) != asked(nano, picture=changed)


def test_pictures_with_the_same_bytes_in_other_shapes_differ(nano):
    flat = np.arange(56 * 112 * 3, dtype=np.uint32).astype(np.uint8)
    assert asked(nano, picture=flat.reshape(56, 112, 3)) != asked(nano, picture=flat.reshape(112, 56, 3))


def test_the_order_and_number_of_pictures_count(nano):
    a, b = noise(Random(1)), noise(Random(2))
    keys = {asked(nano, picture=pictures) for pictures in ([a, b], [b, a], [a], [a, a], None)}
    assert len(keys) == 5


def test_the_room_counts_and_who_answers(nano):
    request = to_request(question("what"), GenerationConfig())
    assert len({key(nano, request), key(nano, request, room=5), key(nano, request, who=b"them")}) == 3


def test_who_answers_is_all_of_model_tokenizer_and_settings(nano, nano_checkpoint, monkeypatch):
    def who(world=nano, model="m", tokenizer=nano.tokenizer, eos=(1, 2), kv_dtype="auto") -> bytes:
        return answerer(
            world.model, tokenizer, fingerprint=lambda: model, eos=frozenset(eos), kv_dtype=kv_dtype
        )

    class Other:
        digest = staticmethod(lambda: "another")

    assert who() == who(eos=(2, 1))
    ways = [who(), who(model="n"), who(kv_dtype="int8"), who(eos=(1,)), who(tokenizer=Other())]
    with monkeypatch.context() as patch:
        patch.setattr(module, "__version__", "0.0.0")
        ways.append(who())
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FORMAT", 0)
        ways.append(who())
    assert len(set(ways)) == len(ways)


def test_weights_and_their_dtype_are_in_the_fingerprint(nano):
    import copy

    other, half = copy.deepcopy(nano.model), copy.deepcopy(nano.model).bfloat16()
    next(other.parameters()).data.view(-1)[0] += 1
    assert len({fingerprint(model) for model in (nano.model, other, half)}) == 3


def test_a_tokenizer_is_named_by_all_that_it_does(nano_checkpoint):
    import json

    data = json.loads((nano_checkpoint / "tokenizer.json").read_text())
    digest = Tokenizer(data).digest()
    assert digest == Tokenizer(data, file="elsewhere.json").digest()
    special = json.loads(json.dumps(data))
    special["added_tokens"][0]["special"] ^= True
    vocab = json.loads(json.dumps(data))
    (one, other, *_) = [name for name in vocab["model"]["vocab"] if len(name) == 1]
    words = vocab["model"]["vocab"]
    words[one], words[other] = words[other], words[one]
    assert len({digest, Tokenizer(special).digest(), Tokenizer(vocab).digest()}) == 3


def test_repeatable_means_no_chance_and_no_functions():
    assert repeatable(Sampling())
    assert repeatable(Sampling(temperature=1.0, seed=0))
    assert not repeatable(Sampling(temperature=1.0))
    assert not repeatable(Sampling(logits_processors=(lambda ids, logits: logits,)))


def known(value: object) -> object:
    """What must be told apart: 1, 1.0 and True are equal to Python; lists and tuples are alike here."""
    match value:
        case list():
            return ("list", *map(known, value))
        case dict():
            return ("dict", *((name, known(item)) for name, item in value.items()))
        case float():
            return ("float", value.hex())
    return (type(value).__name__, value)


@pytest.mark.property
@given(PLAIN, PLAIN)
def test_bytes_are_equal_only_for_equal_values(a, b):
    assert (canonical(a) == canonical(b)) == (known(a) == known(b))


@pytest.mark.property
@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_no_value_begins_with_another(a, b):
    if canonical(a) != canonical(b):
        assert not canonical(a).startswith(canonical(b))


def test_lone_surrogates_have_bytes_and_functions_none():
    assert canonical("\ud800") != canonical("?")
    for odd in (len, {1, 2}, object(), [print]):
        with pytest.raises(TypeError, match="no canonical bytes"):
            canonical(odd)


def test_an_answer_prefix_is_no_part_of_the_question(nano):
    """What ends up in the same ids is still told apart: the answer has it in its text."""
    with pytest.raises(ParameterError):
        asked(nano, answer_prefix="a", thinking=True)
    assert asked(nano, answer_prefix="a") != asked(nano, answer_prefix="b")
