"""The loop that calls functions, around a model that says what it is told to."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import logging
import pathlib
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from glmflash import DataUrl, ImageError, MessageError, ParameterError
from glmflash.output.result import Result, ToolCall
from glmflash.prompt.messages import parse
from glmflash.prompt.template import render
from glmflash.tools import ToolRun, run_tools
from glmflash.tools.returned import content, explain


class Model:
    """Says what it was told to, and remembers what it heard."""

    def __init__(self, *results: Result) -> None:
        self.results = list(results)
        self.heard: list[list[dict]] = []
        self.options: list[dict] = []
        self.read: list[tuple[object, dict]] = []
        self.engine = SimpleNamespace(read=self._read)

    def chat(self, messages, **options) -> Result:
        self.heard.append([*messages])
        self.options.append(options)
        return self.results.pop(0) if self.results else Result(text="done")

    def _read(self, picture, **options) -> object:
        self.read.append((picture, options))
        if isinstance(picture, DataUrl):
            raise ImageError("data URL: is damaged")
        return f"read {len(self.read)}"

    def run(self, *functions, text="Go.", **options) -> ToolRun:
        return run_tools(self, text, list(functions), **options)


def asks(*calls: ToolCall | tuple, text: str = "", **fields) -> Result:
    made = tuple(call if isinstance(call, ToolCall) else ToolCall(*call) for call in calls)
    return Result(text=text, tool_calls=made, **fields)


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def fail(why: str = "no such city") -> None:
    raise ValueError(why)


def test_without_calls_it_is_a_plain_answer() -> None:
    model = Model(Result(text="42"))
    run = model.run(add, system="S", max_new_tokens=5)
    assert (str(run), run.finished, run.calls) == ("42", True, ())
    assert [message["role"] for message in run.messages] == ["system", "user", "assistant"]
    assert model.options[0]["max_new_tokens"] == 5
    assert model.options[0]["tools"][0]["function"]["name"] == "add"


def test_calls_are_made_in_order_and_answered() -> None:
    model = Model(
        asks(("add", {"a": 1}), ("add", {"b": 5, "a": 2}), text="Let me count."), asks(("add", {"a": 7}))
    )
    run = model.run(add)
    assert [(one.call.arguments, one.value, one.error) for one in run.calls] == [
        ({"a": 1}, 2, None),
        ({"b": 5, "a": 2}, 7, None),
        ({"a": 7}, 8, None),
    ]
    assert all(one.seconds >= 0 for one in run.calls)
    roles = [(message["role"], message.get("content")) for message in run.messages[1:]]
    assert roles == [
        ("assistant", "Let me count."),
        ("tool", "2"),
        ("tool", "7"),
        ("assistant", None),
        ("tool", "8"),
        ("assistant", "done"),
    ]
    assert model.heard[-1] == [*run.messages[:-1]]
    assert repr(run).startswith("<ToolRun: add, add, add; <Result 'done'")


def test_each_answer_names_the_call_that_it_answers() -> None:
    run = Model(asks(("add", {"a": 1}), ("add", {"a": 2})), asks(("add", {"a": 3}))).run(add)
    asked = [call["id"] for message in run.messages for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in run.messages if message["role"] == "tool"]
    assert asked == answered
    assert len(set(asked)) == 3


def test_the_transcript_is_a_chat() -> None:
    run = Model(asks(("add", {"a": 1}), text="Hm.", thinking="I add.")).run(add)
    assert json.loads(json.dumps(run.messages)) == [*run.messages]
    text = render(parse(run.messages)[0], thinking=True)
    assert (
        "<think>I add.</think>\nHm.\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>" in text
    )
    assert "<|observation|>\n<tool_response>\n2\n</tool_response>" in text
    again = Model().run(add, text=run.messages)
    assert again.messages[: len(run.messages)] == run.messages


NOWHERE = "there is no function {}; allowed: add, fail"


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (("subtract", {}), MessageError, NOWHERE.format("subtract")),
        (("__class__", {}), MessageError, NOWHERE.format("__class__")),
        (("add", {"a": "1"}), ParameterError, "a: is a string; allowed: a whole number"),
        (("add", {}), ParameterError, "a: is missing; give a whole number"),
        (("add", {"a": 1, "c": 2}), ParameterError, "c: is unknown; allowed: a, b"),
        (("fail", {}), ValueError, "no such city"),
    ],
    ids=["unknown", "dunder", "type", "missing", "extra", "raises"],
)
def test_what_goes_wrong_is_told_to_the_model_which_goes_on(call, kind, told) -> None:
    run = Model(asks(call)).run(add, fail)
    (called,) = run.calls
    assert type(called.error) is kind
    assert called.value is None
    assert run.messages[-2]["content"] == f"error: {kind.__name__}: {told}"
    assert str(run) == "done"
    assert run.finished
    assert "failed" in repr(run)


def test_on_error_raise_raises_what_a_function_raises_and_only_that() -> None:
    with pytest.raises(ValueError, match="no such city"):
        Model(asks(("fail", {}))).run(fail, on_error="raise")
    run = Model(asks(("nothing", {}), ("fail", {"why": 3}))).run(fail, on_error="raise")
    assert [type(one.error) for one in run.calls] == [MessageError, ParameterError]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(interrupt) -> None:
    def stop() -> None:
        raise interrupt

    with pytest.raises(interrupt):
        Model(asks(("stop", {}))).run(stop)


@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_are_bounded_and_the_outcome_says_so(rounds) -> None:
    model = Model(*[asks(("add", {"a": i})) for i in range(10)])
    run = model.run(add, max_rounds=rounds)
    assert not run.finished
    assert [one.call.arguments["a"] for one in run.calls] == [*range(rounds)]
    assert run.result.tool_calls == (ToolCall("add", {"a": rounds}),)
    assert len(model.heard) == rounds + 1
    assert "not finished" in repr(run)


def test_calls_of_one_answer_are_bounded_and_the_model_is_told() -> None:
    made = []

    def note(n: int) -> int:
        made.append(n)
        return n

    model = Model(asks(*[("note", {"n": n}) for n in range(5)]), asks(("note", {"n": 9})))
    run = model.run(note, max_calls=2)
    assert made == [0, 1, 9]
    assert [type(one.error) for one in run.calls] == [*[type(None)] * 2, *[MessageError] * 3, type(None)]
    told = [message["content"] for message in run.messages if message["role"] == "tool"]
    assert told[:2] == ["0", "1"]
    assert (
        told[2]
        == told[4]
        == ("error: MessageError: was not made: at most 2 calls of one answer are; ask for it again")
    )
    assert run.finished


def test_a_thousand_calls_in_one_answer_are_not_made_by_default() -> None:
    run = Model(asks(*[("add", {"a": n}) for n in range(1000)])).run(add)
    assert sum(one.error is None for one in run.calls) == 32


def test_the_last_round_may_still_end_in_an_answer() -> None:
    assert Model(asks(("add", {"a": 1}))).run(add, max_rounds=1).finished


@pytest.mark.parametrize("reason", ["length", "repetition", "cancelled"])
def test_calls_of_an_answer_that_was_cut_short_are_not_made(reason) -> None:
    run = Model(asks(("add", {"a": 1}), finish_reason=reason)).run(add)
    assert run.calls == ()
    assert not run.finished
    assert run.result.tool_calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rounds": 0}, "max_rounds: is 0"),
        ({"max_rounds": True}, "max_rounds: is True"),
        ({"max_rounds": 1.5}, "max_rounds: is 1.5"),
        ({"max_calls": 0}, "max_calls: is 0"),
        ({"max_calls": float("inf")}, "max_calls: is inf"),
        ({"on_error": "ignore"}, "on_error: is 'ignore'"),
        ({"tools": []}, "tools: is given beside functions"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(options, message) -> None:
    model = Model()
    with pytest.raises(ParameterError, match=message):
        model.run(add, **options)
    assert model.heard == []


def test_tools_none_is_as_not_given() -> None:
    assert Model().run(add, tools=None).finished


def test_pictures_are_read_once_wherever_they_come_from() -> None:
    picture = PIL.Image.new("RGB", (28, 28))

    def look() -> PIL.Image.Image:
        return picture

    model = Model(asks(("look", {})), asks(("look", {})))
    run = model.run(look, images=picture, max_image_tokens=9, cache_salt="s")
    assert model.read == [(picture, {"max_image_tokens": 9, "cache_salt": "s"})] * 3
    assert [set(options) for options in model.options] == [
        {"cache_salt", "tools"},
        *[{"cache_salt", "tools", "tool_choice"}] * 2,
    ]
    pictures = [
        part["image"] for message in run.messages for part in message["content"] or () if "image" in part
    ]
    assert pictures == ["read 1", "read 2", "read 3"]
    assert run.calls[0].value is picture


def test_a_returned_picture_that_cannot_be_read_is_an_error_of_the_call() -> None:
    def look() -> DataUrl:
        return DataUrl("data:image/png;base64,AAAA")

    run = Model(asks(("look", {}))).run(look)
    assert type(run.calls[0].error) is ImageError
    assert run.messages[-2]["content"] == "error: ImageError: data URL: is damaged"


@dataclasses.dataclass
class Place:
    city: str
    when: dt.date


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        ("", ""),
        ("receipt.png", "receipt.png"),
        ("half \ud800 pair", "half ? pair"),
        (None, "null"),
        (3, "3"),
        ([1, "ü"], '[1, "ü"]'),
        (Place("Köln", dt.date(2024, 5, 1)), '{"city": "Köln", "when": "2024-05-01"}'),
        ({"a": Colour.RED, "b": decimal.Decimal("1.50")}, '{"a": "red", "b": "1.50"}'),
        ([pathlib.PurePosixPath("a/b"), {1}], '["a/b", [1]]'),
        (np.float32(0.5), "0.5"),
        (np.arange(4).reshape(2, 2), "[[0, 1], [2, 3]]"),
        (torch.tensor([1, 2]), "[1, 2]"),
    ],
    ids=str,
)
def test_values_become_text(value, text) -> None:
    assert content(value) == text


@pytest.mark.parametrize(
    "picture",
    [
        PIL.Image.new("RGB", (2, 2)),
        np.zeros((2, 4, 3), np.uint8),
        torch.zeros(3, 2, 4),
        DataUrl("data:image/png;base64,AAAA"),
    ],
    ids=["pil", "numpy", "torch", "url"],
)
def test_pictures_become_pictures(picture) -> None:
    assert content(picture) == [{"type": "image", "image": picture}]
    both = content([picture, "beside", {"a": 1}])
    assert [part["type"] for part in both] == ["image", "text", "text"]
    assert both[2]["text"] == '{"a": 1}'


@pytest.mark.parametrize("value", [b"bytes", object(), [object()], Colour, {(1, 2): 3}])
def test_what_json_does_not_hold_is_an_error(value) -> None:
    with pytest.raises(TypeError):
        content(value)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "error: ValueError"),
        (KeyError("city"), "error: KeyError: 'city'"),
        (RuntimeError("<object at 0x7f3a01bb42c0>"), "error: RuntimeError: <object at 0x…>"),
        (ValueError("x" * 5000), "error: ValueError: " + "x" * 999 + "…"),
        (ValueError("\ud800"), "error: ValueError: ?"),
        (UnspeakableError(), "error: UnspeakableError"),
    ],
    ids=["bare", "key", "address", "long", "half", "unspeakable"],
)
def test_an_exception_is_a_line_without_addresses(error, text) -> None:
    assert explain(error) == text


def test_only_the_given_functions_can_be_called(caplog) -> None:
    """Names are looked up among the functions, not as attributes or modules."""
    names = ["add.__globals__", "os.system", "__import__", "run_tools", "fail", "ADD", "add ", "", "eval"]
    with caplog.at_level(logging.DEBUG):
        run = Model(asks(*[(name, {"a": 1}) for name in names])).run(add)
    assert [type(one.error) for one in run.calls] == [MessageError] * len(names)
    assert all(one.value is None and one.seconds == 0 for one in run.calls)


def test_a_tool_choice_is_for_the_first_answer() -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    model = Model(asks(("add", {"a": 1})), asks(("add", {"a": 2})))
    model.run(add, tool_choice=choice)
    assert [options["tool_choice"] for options in model.options] == [choice, "auto", "auto"]
