"""StreamParser: channels by control tokens only, newlines at markers, calls, truncation."""

import pytest

from glmflash.output.parse import Parsed, StreamParser, parse_text
from glmflash.output.result import Delta, ToolCall

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def test_thinking_then_answer() -> None:
    parsed = parse_text("<think>hm\n</think>\nYes.", thinking=True)
    assert parsed == Parsed("Yes.", "hm", (), "<think>hm\n</think>\nYes.")


def test_truncated_thinking_is_all_thinking() -> None:
    parsed = parse_text("<think>\nhm, let\n", thinking=True)
    assert (parsed.text, parsed.thinking) == ("", "hm, let\n")


def test_empty_thinking_is_not_none() -> None:
    assert parse_text("<think></think>\nYes").thinking == ""
    assert parse_text("Yes").thinking is None


def test_without_think_the_text_is_the_answer() -> None:
    parsed = parse_text(" Yes. ", thinking=True)
    assert (parsed.text, parsed.thinking) == (" Yes. ", None)


def test_blank_text_before_think_is_dropped_only_if_think_comes() -> None:
    assert parse_text(" \n <think>a</think>b", thinking=True).text == "b"
    assert parse_text(" \n <think>a</think>b").text == " \n b"
    assert parse_text(" \n <|begin_of_box|>b", thinking=True).text == " \n b"


def test_blank_text_after_the_first_marker_does_not_wait_for_think() -> None:
    parser = StreamParser(thinking=True)
    assert parser.push(" ") == []
    assert parser.push("", "<|begin_of_box|>") == [Delta(" ")]
    assert parser.push(" ") == [Delta(" ")]


def test_a_marker_takes_newlines_and_no_other_blanks() -> None:
    assert parse_text("<think>a</think>\n\n  b").text == "  b"
    assert parse_text("<think>  a  \n</think>b").thinking == "  a  "


def test_with_thinking_off_the_answer_starts_at_once_and_keeps_its_newline() -> None:
    parser = StreamParser(thinking=False)
    assert parser.push("\nYes") == [Delta("\nYes", "answer")]


def test_box_markers_leave_the_text_and_stay_in_raw() -> None:
    raw = "It is <|begin_of_box|>42<|end_of_box|>."
    assert parse_text(raw) == Parsed("It is 42.", None, (), raw, marked=((6, 8),))


def test_a_box_cut_short_is_marked_to_the_end() -> None:
    assert parse_text("a<|begin_of_box|>b<|end_of_box|>c<|begin_of_box|>de").marked == ((1, 2), (3, 5))


def test_answer_markers_of_glm_4_1v() -> None:
    raw = "<think>a</think>\n<answer>\nIt is <|begin_of_box|>4<|end_of_box|></answer>"
    parsed = parse_text(raw, thinking=True)
    assert (parsed.text, parsed.thinking, parsed.raw) == ("It is 4", "a", raw)


def test_markers_in_plain_text_stay_text() -> None:
    text = "<think>no</think><tool_call>f</tool_call><|begin_of_box|>"
    parser = StreamParser(thinking=True)
    assert parser.push(text) == [Delta(text, "answer")]
    parser.finish()
    assert parser.parsed() == Parsed(text, None, (), text)


def test_unknown_control_tokens_are_only_in_raw() -> None:
    parser = StreamParser()
    deltas = parser.push("a", "<|image|>") + parser.push("b", "<arg_key>") + parser.finish()
    assert "".join(delta.text for delta in deltas) == "ab"
    assert parser.parsed().raw == "a<|image|>b<arg_key>"


def test_two_calls_and_the_text_around_them() -> None:
    raw = (
        "Let me look.\n<tool_call>f\n<arg_key>q</arg_key>\n<arg_value>红茶 [1]</arg_value>\n</tool_call>\n"
        "<tool_call>g\n</tool_call>"
    )
    parsed = parse_text(raw, tools=TOOLS)
    assert parsed.text == "Let me look."
    assert parsed.tool_calls == (ToolCall("f", {"q": "红茶 [1]"}), ToolCall("g", {}))
    assert parsed.raw == raw


def test_newlines_before_a_call_wait_only_if_tools_were_offered() -> None:
    assert StreamParser(tools=TOOLS).push("a\n\n") == [Delta("a", "answer")]
    assert StreamParser().push("a\n\n") == [Delta("a\n\n", "answer")]


def test_waiting_newlines_come_with_the_next_text_or_at_the_end() -> None:
    parser = StreamParser(tools=TOOLS)
    assert parser.push("a\n") + parser.push("\n") + parser.push("b\n") == [Delta("a"), Delta("\n\nb")]
    assert parser.finish() == [Delta("\n")]
    assert parser.finish() == []
    assert parser.parsed().text == "a\n\nb\n"


def test_a_call_streams_as_the_model_spells_it() -> None:
    parser = StreamParser()
    deltas = parser.push("", "<tool_call>") + parser.push("g\n", "</tool_call>") + parser.push("\nok")
    assert [(delta.text, delta.channel) for delta in deltas] == [
        ("<tool_call>", "tool_call"),
        ("g\n", "tool_call"),
        ("</tool_call>", "tool_call"),
        ("ok", "answer"),
    ]


def test_a_call_cut_short_is_no_call() -> None:
    parsed = parse_text("<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1")
    assert (parsed.text, parsed.tool_calls) == ("", ())
    assert parsed.raw == "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1"


def test_a_call_begun_anew_forgets_the_open_one() -> None:
    assert parse_text("<tool_call>f\n<tool_call>g\n</tool_call>").tool_calls == (ToolCall("g", {}),)


def test_a_call_inside_thinking_is_not_made() -> None:
    parsed = parse_text("<think>maybe <tool_call>f\n</tool_call> no</think>No.")
    assert parsed.tool_calls == ()
    assert (parsed.text, parsed.thinking) == ("No.", "maybe f\n no")


@pytest.mark.parametrize(
    ("keep", "text", "raw", "marked"),
    [
        (0, "", "<think>t</think>\n", ()),
        (2, "ab", "<think>t</think>\nab", ()),
        (3, "abc", "<think>t</think>\nabc<|begin_of_box|>", ((3, 3),)),
        (5, "abcde", "<think>t</think>\nabc<|begin_of_box|>de", ((3, 5),)),
        (6, "abcdef", "<think>t</think>\nabc<|begin_of_box|>def<|end_of_box|>", ((3, 6),)),
        (9, "abcdef", "<think>t</think>\nabc<|begin_of_box|>def<|end_of_box|>", ((3, 6),)),
    ],
)
def test_truncate_keeps_the_first_characters_of_the_answer(
    keep: int, text: str, raw: str, marked: tuple[tuple[int, int], ...]
) -> None:
    parser = StreamParser()
    for piece, control in [
        ("", "<think>"),
        ("t", "</think>"),
        ("\nabc", "<|begin_of_box|>"),
        ("def", "<|end_of_box|>"),
    ]:
        parser.push(piece, control)
    parser.truncate(keep)
    assert parser.finish() == []
    assert parser.parsed() == Parsed(text, "t", (), raw, marked)


def test_the_piece_that_ends_a_call_brings_it() -> None:
    parser = StreamParser()
    deltas = parser.push("One.", "<tool_call>") + parser.push("g\n", "</tool_call>")
    deltas += parser.push("\n", "<tool_call>") + parser.push("\n", "</tool_call>")  # it has no name
    deltas += parser.push("\n", "<tool_call>") + parser.push("h\n", "<arg_key>") + parser.finish()
    assert [delta.tool_call for delta in deltas if delta.tool_call] == [ToolCall("g", {})]
    assert deltas[3] == Delta("</tool_call>", "tool_call", ToolCall("g", {}))
    assert parser.parsed().tool_calls == (ToolCall("g", {}),)
