"""Laws of the stream parser, the box reader and the stop strings, on generated input."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.engine.stops import StopStrings
from glmflash.output.boxes import parse_boxes
from glmflash.output.parse import MARKERS, Parsed, StreamParser
from glmflash.output.result import Delta

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


@given(documents, st.booleans(), st.booleans())
def test_every_split_gives_the_same_result(events: list[Event], thinking: bool, tools: bool) -> None:
    parsed, deltas = run(events, thinking=thinking, tools=tools)
    for split in (by_character(events), by_control(events)):
        other, other_deltas = run(split, thinking=thinking, tools=tools)
        assert other == parsed
        for channel in ("answer", "thinking", "tool_call"):
            assert joined(other_deltas, channel) == joined(deltas, channel)


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
