"""Laws of the stream parser, the box reader and the stop strings, on generated input."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.engine.stops import StopStrings
from glmflash.output.boxes import parse_boxes
from glmflash.output.parse import MARKERS, Parsed, StreamParser
from glmflash.output.result import Delta, ToolCall
from glmflash.prompt.template import Control, segments

pytestmark = pytest.mark.property

TOOLS = [{"function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}]
Event = tuple[str, str | None]

texts = st.text("ab\n <>[]{}'\"\\:,019你", max_size=8) | st.sampled_from(
    ["f\n", "\n", "<think>", "</tool_call>"]
)
controls = st.sampled_from([*MARKERS, "<|user|>"])
documents = st.lists(st.tuples(texts, st.none() | controls), max_size=12)


def run(events: list[Event], *, thinking: bool, tools: bool) -> tuple[Parsed, list[Delta]]:
    parser = StreamParser(thinking=thinking, tools=TOOLS if tools else ())
    deltas = [delta for text, control in events for delta in parser.push(text, control)]
    deltas += parser.finish()
    return parser.parsed(), deltas


def joined(deltas: list[Delta], channel: str) -> str:
    return "".join(delta.text for delta in deltas if delta.channel == channel)


def by_character(events: list[Event]) -> list[Event]:
    return [one for text, control in events for one in [*((c, None) for c in text), ("", control)]]


def by_control(events: list[Event]) -> list[Event]:
    """All text between two control tokens at once."""
    merged: list[Event] = []
    waiting = ""
    for text, control in events:
        waiting += text
        if control is not None:
            merged.append((waiting, control))
            waiting = ""
    return [*merged, (waiting, None)]


def at_random(events: list[Event], rng: random.Random) -> list[Event]:
    """Text cut anywhere, into empty pieces too; control tokens with the text before them, or alone."""
    split: list[Event] = []
    for text, control in by_control(events):
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 4)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        split += [(piece, None) for piece in pieces[:-1]]
        split += [(pieces[-1], control)] if rng.random() < 0.5 else [(pieces[-1], None), ("", control)]
    return split


@given(documents, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_every_split_gives_the_same_result(
    events: list[Event], thinking: bool, tools: bool, seed: int
) -> None:
    parsed, deltas = run(events, thinking=thinking, tools=tools)
    for split in (by_character(events), by_control(events), at_random(events, random.Random(seed))):
        other, other_deltas = run(split, thinking=thinking, tools=tools)
        assert other == parsed
        for channel in ("answer", "thinking", "tool_call"):
            assert joined(other_deltas, channel) == joined(deltas, channel)


def plainly(events: list[Event], *, thinking: bool, tools: bool) -> tuple[str, str | None, str]:
    """Answer, reasoning and calls as spelled, of the whole text at once: what the parser is held to.

    The text is cut at the control tokens that change something; each piece is trimmed for its neighbours.
    """
    kept: dict[str, list[str]] = {"answer": [], "thinking": [], "call": []}
    where, before, thought, piece = "answer", "", False, ""
    whole = by_control(events)
    leads = ("<think>", "</think>", "<answer>", "</answer>", "<tool_call>")
    if thinking and whole[0][1] in leads and not whole[0][0].strip():
        whole[0] = ("", whole[0][1])
    for text, control in [*whole, ("", "end")]:
        piece += text
        then = {
            ("answer", "<think>"): "thinking",
            ("answer", "<tool_call>"): "call",
            ("answer", "</think>"): "answer",
            ("answer", "<answer>"): "answer",
            ("answer", "</answer>"): "answer",
            ("thinking", "</think>"): "answer",
            ("call", "</tool_call>"): "answer",
        }.get((where, control or ""))
        if where == "call":
            piece += control if control and control != "end" else ""
        elif control is not None and then is None and control != "end":
            piece = piece.lstrip("\n") if before else piece
            kept[where].append(piece)  # a marker that means nothing here
            before, piece = "" if piece else before, ""
        if then is None and control != "end":
            continue
        piece = piece.lstrip("\n") if before and where != "call" else piece
        marker_takes = where == "thinking" or (tools and where == "answer")
        kept[where].append(piece.rstrip("\n") if marker_takes and control != "end" else piece)
        thought |= then == "thinking"
        before, piece, where = control or "", "<tool_call>" if then == "call" else "", then or where
    return "".join(kept["answer"]), "".join(kept["thinking"]) if thought else None, "".join(kept["call"])


@given(documents, st.booleans(), st.booleans())
def test_the_parser_equals_the_plain_version(events: list[Event], thinking: bool, tools: bool) -> None:
    parsed, deltas = run(events, thinking=thinking, tools=tools)
    answer, thought, calls = plainly(events, thinking=thinking, tools=tools)
    assert parsed.text == answer
    assert parsed.thinking == thought
    assert joined(deltas, "tool_call") == calls


names = st.text("ab_", min_size=1, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
JSON_TYPES = {
    str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object",
    type(None): "null",
}  # fmt: skip


def spelling(call: ToolCall) -> list[Event]:
    """A call as the template writes it: text and control tokens."""
    message = {"role": "assistant", "tool_calls": [{"name": call.name, "arguments": call.arguments}]}
    written = segments([message], add_generation_prompt=False)[6:]  # behind the empty reasoning
    return [("", one.token) if isinstance(one, Control) else (one.text, None) for one in written]


@given(st.lists(st.tuples(names, st.dictionaries(names, values, max_size=3)), max_size=3), st.integers())
def test_every_call_that_is_written_is_read(made: list[tuple[str, dict]], seed: int) -> None:
    calls = [ToolCall(f"{name}{number}", arguments) for number, (name, arguments) in enumerate(made)]
    tools = [
        {
            "function": {
                "name": call.name,
                "parameters": {
                    "properties": {k: {"type": JSON_TYPES[type(v)]} for k, v in call.arguments.items()}
                },
            }
        }
        for call in calls
    ]
    parser = StreamParser(tools=tools)
    events = [event for call in calls for event in spelling(call)]
    deltas = [one for event in at_random(events, random.Random(seed)) for one in parser.push(*event)]
    assert parser.parsed().tool_calls == tuple(calls)
    assert [delta.tool_call for delta in deltas if delta.tool_call] == calls
    assert joined(deltas, "answer") == ""


@given(documents, st.booleans(), st.booleans())
def test_the_stream_joined_is_the_result(events: list[Event], thinking: bool, tools: bool) -> None:
    parsed, deltas = run(events, thinking=thinking, tools=tools)
    assert all(delta.text for delta in deltas)
    assert joined(deltas, "answer") == parsed.text
    assert joined(deltas, "thinking") == (parsed.thinking or "")
    assert tuple(delta.tool_call for delta in deltas if delta.tool_call) == parsed.tool_calls


@given(documents, st.booleans(), st.booleans())
def test_raw_holds_everything(events: list[Event], thinking: bool, tools: bool) -> None:
    parsed, _ = run(events, thinking=thinking, tools=tools)
    assert parsed.raw == "".join(text + (control or "") for text, control in events)


@given(documents, st.booleans(), st.booleans())
def test_every_character_is_streamed_but_blanks_at_markers(
    events: list[Event], thinking: bool, tools: bool
) -> None:
    events = [(re.sub("[<>]", "", text), control) for text, control in events]  # no marker in plain text
    _, deltas = run(events, thinking=thinking, tools=tools)
    streamed = re.sub(r"<[^<>]*>|\s", "", "".join(delta.text for delta in deltas))
    assert streamed == re.sub(r"\s", "", "".join(text for text, _ in events))


@given(documents, st.booleans())
def test_text_without_control_tokens_is_untouched(events: list[Event], thinking: bool) -> None:
    text = "".join(text for text, _ in events)
    parsed, _ = run([(piece, None) for piece, _ in events], thinking=thinking, tools=True)
    assert parsed == Parsed(text, None, (), text)


@given(documents, st.integers(0, 30))
def test_truncate_is_a_prefix_of_the_answer(events: list[Event], keep: int) -> None:
    whole, _ = run(events, thinking=False, tools=False)
    parser = StreamParser()
    for text, control in events:
        parser.push(text, control)
    parser.truncate(keep)
    parser.finish()
    assert parser.parsed().text == whole.text[:keep]
    assert whole.raw.startswith(parser.parsed().raw)


def first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The plain version: the stop string that ends first, the longest of those."""
    ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, None
    end, length, stop = min(ends)
    return text[: end + length], stop


@given(
    st.lists(st.text("ab\n", max_size=6), max_size=10),
    st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4),
)
def test_stop_strings_equal_a_search_of_the_whole(pieces: list[str], strings: list[str]) -> None:
    stops = StopStrings(strings)
    shown = ""
    so_far = ""
    for piece in pieces:
        shown += stops.push(piece)
        so_far += piece
        waiting = so_far[len(shown) :]
        assert stops.hit or waiting == longest_start(so_far, strings)
    shown += stops.flush()
    assert (shown, stops.hit) == first_stop("".join(pieces), strings)
    assert stops.emitted == len(shown)


def longest_start(text: str, strings: list[str]) -> str:
    """The longest end of the text that begins a stop string: exactly this has to wait."""
    starts = {stop[:n] for stop in strings for n in range(len(stop))}
    return max((start for start in starts if text.endswith(start)), key=len, default="")


@given(
    st.text("ab[](){}0123456789.,，: \n\"'-+eE", max_size=60) | st.text(),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
def test_boxes_never_raise_and_lie_in_the_picture(text: str, width: int, height: int) -> None:
    for box in parse_boxes(text, size=(width, height)):
        x1, y1, x2, y2 = box.xyxy
        assert 0 <= x1 <= x2 <= width
        assert 0 <= y1 <= y2 <= height
        assert all(0 <= value <= 1000 for value in box.normalized)


@given(
    st.lists(st.tuples(*[st.integers(0, 1000)] * 4), max_size=5),
    st.sampled_from(["[]", "()", "{}", "（）", "【】"]),
)
def test_boxes_written_are_boxes_read(boxes: list[tuple[int, ...]], brackets: str) -> None:
    text = ", ".join(brackets[0] + ", ".join(map(str, box)) + brackets[1] for box in boxes)
    marked = [(0, len(text))]
    found = [box.normalized for box in parse_boxes(text, size=(1000, 1000), marked=marked)]
    assert found == [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
