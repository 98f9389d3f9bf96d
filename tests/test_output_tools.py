"""Tool calls: names, and values by schema, JSON, Python literal or text."""

import json
import time
from collections.abc import Callable
from random import Random

import pytest
from prompt_chats import glm_tokenizer, golden_chats
from spelling import spelled

from glmflash.output.parse import StreamParser, parse_text
from glmflash.output.result import Result, ToolCall
from glmflash.output.text import Detokenizer
from glmflash.output.tools import read_call
from glmflash.prompt.template import render


def call(value: str, schema: dict[str, object] | None = None) -> object:
    """The value that an argument spelled so gets."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}]
    text = f"<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"
    (one,) = parse_text(text, tools=tools if schema is not None else ()).tool_calls
    return one.arguments["a"]


@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ("5", 5),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('"x"', "x"),
        ('{"k": [1, "two"]}', {"k": [1, "two"]}),
        ("Paris", "Paris"),
        ("", ""),
        (" 12 Main St ", " 12 Main St "),
        ("True", True),
        ("None", None),
        ("{'k': 'it\\'s', 'q': 'say \"hi\"', 'n': None,}", {"k": "it's", "q": 'say "hi"', "n": None}),
        ("(1, 2)", [1, 2]),
        ("['True', True]", ["True", True]),
        ('{"s": "(None)"}', {"s": "(None)"}),
        ("'quoted'", "quoted"),
        ("'unclosed", "'unclosed"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ('"\\ud800"', '"\\ud800"'),
        ("9" * 5000, "9" * 5000),
        ("[" * 100_000, "[" * 100_000),
        ("[" * 101 + "]" * 101, "[" * 101 + "]" * 101),
        ("[[" * 49 + '{"k": [1]}' + "]]" * 49, json.loads("[[" * 49 + '{"k": [1]}' + "]]" * 49)),
        ("1 if x else 2", "1 if x else 2"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_a_value_without_schema_is_json_else_python_else_text(spelled: str, value: object) -> None:
    assert call(spelled) == value


@pytest.mark.parametrize(
    ("schema", "spelled", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "null", "null"),
        ({"type": "integer"}, "5", 5),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "5", "5"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "true", "true"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "5", 5),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "x", "x"),
        ({"enum": [1, 2]}, "2", 2),
        ({}, "2", 2),
    ],
)
def test_the_schema_tells_a_string_from_json(schema: dict[str, object], spelled: str, value: object) -> None:
    assert call(spelled, schema) == value


def test_a_tool_without_the_openai_wrapper_counts_too() -> None:
    tool = {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}
    parsed = parse_text("<tool_call>f<arg_key>a</arg_key><arg_value>5</arg_value></tool_call>", tools=[tool])
    assert parsed.tool_calls == (ToolCall("f", {"a": "5"}),)


@pytest.mark.parametrize(
    "tool",
    [{}, {"function": 3}, {"name": "f", "parameters": 1}, {"name": "f", "parameters": {"properties": []}}],
)
def test_odd_schemas_are_as_none(tool: dict[str, object]) -> None:
    text = "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>5</arg_value>\n</tool_call>"
    assert parse_text(text, tools=[tool]).tool_calls == (ToolCall("f", {"a": 5}),)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("g\n", ToolCall("g", {})),
        ("g", ToolCall("g", {})),
        ("\n g \nrest", ToolCall("g", {})),
        ("g<arg_key>a</arg_key><arg_value>1</arg_value>", ToolCall("g", {"a": 1})),
        ("g\n<arg_key> a </arg_key>\n\n<arg_value>x\ny</arg_value>", ToolCall("g", {"a": "x\ny"})),
        ("g\n<arg_key>a</arg_key><arg_key>b</arg_key><arg_value>1</arg_value>", ToolCall("g", {"b": 1})),
        ("g\n<arg_value>1</arg_value>", ToolCall("g", {})),
        ("g\n<arg_key>a</arg_key><arg_value>1</arg_value><arg_value>2</arg_value>", ToolCall("g", {"a": 1})),
        (
            "g\n<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>a</arg_key><arg_value>2</arg_value>",
            ToolCall("g", {"a": 2}),
        ),
        ("", None),
        ("\n\n", None),
        ("<arg_key>a</arg_key><arg_value>1</arg_value>", None),
    ],
)
def test_the_shape_of_a_call(inside: str, expected: ToolCall | None) -> None:
    parsed = parse_text(f"<tool_call>{inside}</tool_call>")
    assert parsed.tool_calls == ((expected,) if expected else ())


def test_a_marker_spelled_in_plain_text_stays_in_the_value() -> None:
    events = [("f\n", False), ("<arg_key>", True), ("a", False), ("</arg_key>", True)]
    events += [("<arg_value>", True), ("x</arg_value></tool_call>y", False), ("</arg_value>", True)]
    assert read_call(events) == ToolCall("f", {"a": "x</arg_value></tool_call>y"})


@pytest.mark.parametrize("unit", ['"\\', '"\\"', "'\\'", "'", '"', ", ", "(", "{'a':", "True "])
def test_hostile_values_take_linear_time(unit: str) -> None:
    started = time.process_time()
    json.dumps(call(unit * (60_000 // len(unit))))
    assert time.process_time() - started < 0.5


def seconds(work: Callable[[], object]) -> float:
    """Of this thread's own work, the fastest of three."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def stream(events: list[tuple[str, str | None]], *, thinking: bool = False) -> StreamParser:
    parser = StreamParser(thinking=thinking, tools=[{"function": {"name": "f"}}])
    for event in events:
        parser.push(*event)
    parser.finish()
    parser.parsed()
    return parser


HOSTILE = {
    "newlines that wait": [("a\n", None), ("\n", None)],
    "blank text that waits": [(" ", None)],
    "calls that never end": [("f\n", "<tool_call>")],
    "empty calls": [("", "<tool_call>"), ("", "</tool_call>")],
    "calls": [("", "<tool_call>"), ("f\n", "<arg_key>"), ("a", "</arg_key>"), ("", "</tool_call>")],
    "keys without values": [("k", "<arg_key>")],
    "boxes": [("", "<|begin_of_box|>"), ("", "<|end_of_box|>")],
    "boxes that never end": [("", "<|begin_of_box|>")],
    "thinking on and off": [("", "<think>"), ("\n", "</think>")],
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("before", [[], [("", "<tool_call>"), ("f\n", "<arg_value>")]], ids=["text", "value"])
def test_time_is_linear_in_the_text(unit, before) -> None:
    few, many = (before + unit * (count // len(unit)) for count in (1_000, 16_000))
    ratio = seconds(lambda: stream(many, thinking=True)) / seconds(lambda: stream(few, thinking=True))
    assert ratio < 64  # linear is 16, quadratic 256


def test_a_huge_argument_is_read_whole() -> None:
    text = "值" * 200_000
    events = [("", "<tool_call>"), ("f\n", "<arg_key>"), ("a", "</arg_key>"), ("", "<arg_value>")]
    events += [(letter, None) for letter in text]
    started = time.process_time()
    parser = stream([*events, ("", "</arg_value>"), ("", "</tool_call>")])
    assert parser.parsed().tool_calls == (ToolCall("f", {"a": text}),)
    assert time.process_time() - started < 2


def schemas(call: ToolCall) -> list[dict]:
    """A tool whose schema has the types that a call's arguments have."""
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    properties = {key: {"type": kinds.get(type(value), "null")} for key, value in call.arguments.items()}
    return [{"type": "function", "function": {"name": call.name, "parameters": {"properties": properties}}}]


def written(call: ToolCall) -> str:
    """A call as the template writes it into a chat."""
    return render([assistant(call)], add_generation_prompt=False).partition("</think>\n")[2]


def assistant(call: ToolCall) -> dict:
    return Result(text="", tool_calls=(call,)).to_openai()["choices"][0]["message"]


def golden_calls(test_data) -> list[ToolCall]:
    return [
        ToolCall(call["function"]["name"], call["function"]["arguments"])
        for chat in golden_chats(test_data)
        for message in chat["messages"]
        for call in message.get("tool_calls", ())
    ]


@pytest.mark.slow
def test_every_golden_call_is_read_back_from_tokens_in_any_split(test_data) -> None:
    tokenizer, rng = glm_tokenizer(test_data), Random(0)
    calls = golden_calls(test_data)
    assert len(calls) == 120
    for call in calls:
        parser, detokenizer = StreamParser(tools=schemas(call)), Detokenizer(tokenizer.token_bytes)
        text, ended = "", []
        for token in spelled(tokenizer, written(call)):
            control = tokenizer.control_name(token)
            text += detokenizer.push(token) if control is None else detokenizer.flush()
            if control is not None or rng.random() < 0.5:
                ended += [delta.tool_call for delta in parser.push(text, control) if delta.tool_call]
                text = ""
        assert parser.parsed().tool_calls == (call,)
        assert ended == [call]
        assert parser.parsed().raw == written(call)


def test_a_golden_call_that_was_read_is_rendered_as_it_was(test_data) -> None:
    for chat in golden_chats(test_data):
        for message in chat["messages"]:
            for call in message.get("tool_calls", ()):
                one = ToolCall(call["function"]["name"], call["function"]["arguments"])
                assert written(one) in chat["text"]
                assert parse_text(written(one), tools=schemas(one)).tool_calls == (one,)


def test_without_a_schema_a_golden_call_is_read_as_its_text_says(test_data) -> None:
    """What the template's spelling alone cannot tell: a string that looks like JSON."""
    for call in golden_calls(test_data):
        (got,) = parse_text(written(call)).tool_calls
        assert (got.name, [*got.arguments]) == (call.name, [*call.arguments])
        assert got.arguments == call.arguments  # no golden string looks like JSON
        assert written(got) == written(call)
