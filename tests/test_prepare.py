"""What people write becomes a strict request, or an error that names what is wrong."""

import dataclasses

import numpy as np
import pytest

from glmflash import MessageError, ParameterError, prepare
from glmflash.config import GenerationConfig
from glmflash.prompt import Image, Text

DEFAULTS = GenerationConfig(do_sample=True, temperature=0.8, top_p=0.6, top_k=2)


def test_one_picture_or_many_stand_before_the_question():
    array = np.zeros((2, 2, 3), np.uint8)
    for images, count in ((None, 0), ("a.png", 1), (b"bytes", 1), (array, 1), (["a", array], 2), ((), 0)):
        request = prepare.request(prepare.question("Q", images=images), {}, defaults=DEFAULTS)
        (message,) = request.messages
        assert message.parts == (*map(Image, range(count)), Text("Q"))
        assert len(request.pictures) == count


def test_a_system_message_comes_first():
    request = prepare.request(prepare.question("Q", system="Be terse."), {}, defaults=DEFAULTS)
    assert [message.role for message in request.messages] == ["system", "user"]


@pytest.mark.parametrize("wrong", [None, 3, b"Q", ["Q"]])
def test_a_question_is_a_string(wrong):
    with pytest.raises(MessageError, match="the question"):
        prepare.question(wrong)


def test_defaults_come_from_the_checkpoint():
    request = prepare.request(prepare.question("Q"), {"top_k": 7}, defaults=DEFAULTS)
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.top_k) == (0.8, 0.6, 7)


def test_options_reach_sampling_and_request():
    options = {
        "stop": "x",
        "thinking": True,
        "max_image_tokens": 9,
        "cache_salt": "a",
        "tools": [{"name": "f"}],
        "priority": -100,
        "timeout": 0.5,
    }
    request = prepare.request(prepare.question("Q"), options, defaults=DEFAULTS)
    assert request.sampling.stop == ("x",)
    assert (request.thinking, request.max_image_tokens, request.cache_salt) == (True, 9, "a")
    assert request.tools == ({"name": "f"},)
    assert (request.priority, request.timeout) == (-100, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 3),
        ("max_new_tokens", 0),
        ("temperature", float("nan")),
        ("thinking", 1),
        ("answer_prefix", 3),
        ("max_image_tokens", 0),
        ("max_image_tokens", True),
        ("max_image_tokens", 2.5),
        ("cache_salt", ""),
        ("cache_salt", "x" * 257),
        ("cache_salt", 5),
        ("priority", 101),
        ("priority", -101),
        ("priority", True),
        ("priority", 1.0),
        ("priority", "high"),
        ("timeout", 0),
        ("timeout", -1.5),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", True),
        ("timeout", "10 s"),
    ],
)
def test_a_bad_option_is_named(name, value):
    with pytest.raises(ParameterError) as caught:
        prepare.request(prepare.question("Q"), {name: value}, defaults=DEFAULTS)
    assert caught.value.parameter == name
    assert "allowed" in str(caught.value)


@pytest.mark.parametrize("tools", ["f", {"name": "f"}, 3])
def test_tools_are_a_list(tools):
    with pytest.raises(MessageError, match="tools"):
        prepare.request(prepare.question("Q"), {"tools": tools}, defaults=DEFAULTS)


def test_none_is_the_default():
    options = dict.fromkeys(set(prepare.Options.__annotations__) - {"repetition_stop"})
    wanted = prepare.request(prepare.question("Q"), {}, defaults=DEFAULTS)
    assert prepare.request(prepare.question("Q"), options, defaults=DEFAULTS) == wanted
    off = prepare.request(prepare.question("Q"), {"repetition_stop": None}, defaults=DEFAULTS)
    assert off.sampling.repetition_stop is None


def test_a_missing_picture_is_not_a_picture():
    with pytest.raises(MessageError, match="None"):
        prepare.question("Q", images=["a.png", None])


@pytest.mark.parametrize("field", ["messages", "pictures", "sampling", "tools"])
def test_a_request_checks_its_types(field):
    good = prepare.request(prepare.question("Q"), {}, defaults=DEFAULTS)
    with pytest.raises(ParameterError) as caught:
        dataclasses.replace(good, **{field: "abc"})
    assert caught.value.parameter == field


def test_the_developer_is_the_system():
    messages = [{"role": "developer", "content": "S"}, {"role": "user", "content": "Q"}]
    assert prepare.request(messages, {}, defaults=DEFAULTS).messages[0].role == "system"


def test_every_form_of_an_item_is_the_same_request():
    wanted = prepare.request(prepare.question("Q", images=["a.png"]), {"seed": 1}, defaults=DEFAULTS)
    messages = prepare.question("Q", images="a.png")
    for item in (
        wanted,
        {"text": "Q", "images": "a.png", "seed": 1},
        {"text": "Q", "images": ["a.png"], "system": None},
        {"messages": messages, "seed": 1},
        {"messages": messages, "text": None},
        messages,
        tuple(messages),
    ):
        assert prepare.one(item, {"seed": 1}, defaults=DEFAULTS) == wanted
    plain = prepare.request(prepare.question("Q", system="S"), {}, defaults=DEFAULTS)
    assert prepare.one({"text": "Q", "system": "S"}, defaults=DEFAULTS) == plain
    assert prepare.one("Q", defaults=DEFAULTS).messages == plain.messages[1:]


def test_an_item_overrides_the_options_beside_it():
    options = {"seed": 1, "max_new_tokens": 9}
    item = {"text": "Q", "seed": 2}
    sampling = prepare.one(item, options, defaults=DEFAULTS).sampling
    assert (sampling.seed, sampling.max_new_tokens) == (2, 9)
    assert prepare.one({"text": "Q", "seed": None}, options, defaults=DEFAULTS).sampling.seed is None
    assert item == {"text": "Q", "seed": 2}
    complete = prepare.one("Q", defaults=DEFAULTS)
    assert prepare.one(complete, options, defaults=DEFAULTS) is complete


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (3, "int"),
        (None, "NoneType"),
        (b"Q", "bytes"),
        ({}, "neither text nor messages"),
        ({"images": "a.png"}, "neither"),
        ({"role": "user", "content": "Q"}, "goes into a list"),
        ({"text": "Q", "messages": []}, "both messages and text"),
        ({"messages": [{"role": "user", "content": "Q"}], "images": "a.png"}, "both messages and images"),
        ({"messages": "Q"}, "list of messages"),
        ({"messages": None}, "messages"),
        ({"text": None}, "the question"),
        ([], "empty"),
        (["Q"], "messages"),
    ],
)
def test_an_item_that_is_none_of_these(item, said):
    with pytest.raises(MessageError, match=said):
        prepare.one(item, defaults=DEFAULTS)


def test_an_unknown_keyword_of_an_item_is_named():
    with pytest.raises(ParameterError, match="allowed") as caught:
        prepare.one({"text": "Q", "max_tokens": 3}, defaults=DEFAULTS)
    assert caught.value.parameter == "max_tokens"
