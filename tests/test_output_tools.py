"""Tool calls: names, and values by schema, JSON, Python literal or text."""

import json
import time

import pytest

from glmflash.output.parse import parse_text
from glmflash.output.result import ToolCall
from glmflash.output.tools import read_call


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
    started = time.perf_counter()
    json.dumps(call(unit * (60_000 // len(unit))))
    assert time.perf_counter() - started < 0.5
