"""What callers may give as a response format, and how they learn that they may not."""

import importlib
import math

import pytest

from glmflash import prepare
from glmflash.config import GenerationConfig
from glmflash.errors import ParameterError
from glmflash.grammar import ResponseFormat, guidance

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}, {"name": "bare"}]
NAMED = {"type": "function", "function": {"name": "look"}}


def request(**options):
    return prepare.request(prepare.question("Hm?"), options, defaults=GenerationConfig())


def test_openai_spells_it_and_so_do_we():
    read = ResponseFormat.read
    assert read(None) is read({"type": "text"}) is None
    assert read({"type": "json_object"}) == ResponseFormat("json_object")
    choice = ResponseFormat("choice", ("a", "b"))
    assert read({"type": "choice", "choice": ["a", "b"]}) == read(choice) == choice
    assert request(choice=["a", "b"]).response_format == choice
    assert request(response_format={"type": "text"}).response_format is None


@pytest.mark.parametrize(
    "given",
    [
        5, "json", [], {}, {"type": "xml"}, {"type": "json_schema"}, {"type": "regex"}, {"type": 5},
        {"type": "choice", "choice": []}, {"type": "choice", "choice": "ab"},
        {"type": "choice", "choice": [""]},
        {"type": "choice", "choice": ["a", "a"]}, {"type": "choice", "choice": ["a", 1]},
        {"type": "choice", "choice": ["\ud800"]}, {"type": "choice", "choice": ["a" * 1_000_001]},
        {"type": "json_schema", "json_schema": {"schema": {"const": math.nan}}},
        {"type": "json_schema", "json_schema": {"schema": {"const": object()}}},
        {"type": "regex", "regex": "a" * 1_000_001},
    ],
)  # fmt: skip
def test_anything_else_is_an_error_that_names_it(given):
    with pytest.raises(ParameterError, match=r"^response_format: .*(allowed|give)") as caught:
        ResponseFormat.read(given)
    assert caught.value.parameter == "response_format"
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"choice": "yes"}, {"choice": []}, {"regex": 5}, {"regex": "a" * 1_000_001}]
)
def test_a_shorthand_that_is_wrong_is_named_as_it_was_written(given):
    (name,) = given
    with pytest.raises(ParameterError, match=rf"^{name}: .*allowed") as caught:
        request(**given)
    assert caught.value.parameter == name


def test_one_way_at_a_time():
    with pytest.raises(ParameterError, match="together"):
        request(choice=["a"], response_format={"type": "json_object"})


@pytest.mark.parametrize(
    "form", [{"type": "regex", "regex": "a"}, {"type": "json_schema", "json_schema": {"schema": {}}}]
)
def test_without_the_library_it_says_how_to_get_it(form, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(guidance, "importlib", type("Without", (), {"import_module": staticmethod(missing)}))
    with pytest.raises(ParameterError, match=r"pip install 'glmflash\[grammar\]'"):
        ResponseFormat.read(form)
    assert ResponseFormat("json_object").kind == "json_object"
    assert importlib.import_module  # the real one is as it was


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"thinking": "often"}, "thinking"),
        ({"thinking": 1}, "thinking"),
        ({"thinking": True, "thinking_budget": -1}, "thinking_budget"),
        ({"thinking": True, "thinking_budget": True}, "thinking_budget"),
        ({"thinking": True, "thinking_budget": 1.5}, "thinking_budget"),
        ({"thinking_budget": 5}, "thinking_budget"),
        ({"thinking": "auto", "answer_prefix": "x"}, "answer_prefix"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "some", "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "function", "function": {}}]}, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"name": "two\nlines"}]}, "tool_choice"),
        ({"tool_choice": {"type": "function"}, "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "jump"}}, "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": "required", "tools": TOOLS, "answer_prefix": "x"}, "answer_prefix"),
        ({"tools": TOOLS, "choice": ["a"]}, "response_format"),
    ],
)
def test_what_does_not_go_together(options, named):
    with pytest.raises(ParameterError) as caught:
        request(**options)
    assert caught.value.parameter == named


def test_tools_that_are_shown_and_must_be_called():
    assert request(tools=TOOLS).shown_tools == tuple(TOOLS)
    assert request(tools=TOOLS).must_call == ()
    assert request(tools=TOOLS, tool_choice="required").must_call == ("look", "bare")
    assert request(tools=TOOLS, tool_choice=NAMED).must_call == ("look",)
    hidden = request(tools=TOOLS, tool_choice="none", choice=["a"])
    assert hidden.shown_tools == () == hidden.must_call
