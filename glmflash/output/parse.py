"""Generated text and control names, piece by piece → thinking, answer and tool calls, as they stream.

Only control tokens drive the parser. A marker that the model spelled out in plain text stays text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glmflash.output.result import Channel, Delta, ToolCall
from glmflash.output.tools import read_call

__all__ = ["MARKERS", "Parsed", "StreamParser", "parse_text"]

#: Control tokens that mean something in a generated text.
MARKERS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
)
_MARKER = re.compile("|".join(map(re.escape, MARKERS)))

# Outside a call: the channel after the marker. Box markers change nothing, and eat no newlines.
_NEXT: dict[tuple[Channel, str], Channel] = {
    ("answer", "<think>"): "thinking",
    ("thinking", "</think>"): "answer",
    ("answer", "</think>"): "answer",
    ("answer", "<answer>"): "answer",
    ("answer", "</answer>"): "answer",
    ("answer", "<tool_call>"): "tool_call",
}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole generated text, taken apart.

    Args:
        text: The answer, without markers.
        thinking: The reasoning; None if no `<think>` came.
        tool_calls: Complete calls. One that was cut short is only in `raw`.
        raw: Everything, markers spelled out.
        marked: Where in `text` the model put box markers: (start, end) of each pair.
    """

    text: str
    thinking: str | None
    tool_calls: tuple[ToolCall, ...]
    raw: str
    marked: tuple[tuple[int, int], ...] = ()


class StreamParser:
    r"""Takes a generated text apart while it is being generated.

    Newlines that touch a marker belong to the marker: those after `<think>`, `</think>`, `<answer>`,
    `</answer>` and `</tool_call>`, those before `</think>` and, if tools were offered, those before
    `<tool_call>`. To know the latter, newlines at the end of such a text wait for what follows.

    Reasoning that is cut off before `</think>` is all reasoning, and the answer is empty. Inside reasoning
    only `</think>` counts: a call that the model merely considers is not made. A control token that means
    nothing where it stands is left out of the text and kept in `raw`.

    Args:
        thinking: True if the model is to open its own `<think>`: blank text before it, or before whatever
            marker comes first, is dropped. If it does not open one, its text is the answer.
        tools: OpenAI-style tool objects that were offered; their schemas tell strings from JSON.

    Example:
        >>> parser = StreamParser(thinking=True)
        >>> deltas = parser.push("", "<think>") + parser.push("Two") + parser.push(" two.\n", "</think>")
        >>> deltas += parser.push("\nIt is ", "<|begin_of_box|>") + parser.push("4", "<|end_of_box|>")
        >>> [(delta.text, delta.channel) for delta in deltas]
        [('Two', 'thinking'), (' two.', 'thinking'), ('It is ', 'answer'), ('4', 'answer')]
        >>> parser.parsed().text
        'It is 4'
    """

    def __init__(self, *, thinking: bool = False, tools: Sequence[Mapping[str, object]] = ()) -> None:
        self._tools = tuple(tools)
        self._channel: Channel = "answer"
        self._pieces: list[tuple[str, Channel | None]] = []  # all text in order; None: only in `raw`
        self._held: list[str] = []  # waits: a marker may follow that it belongs to
        self._opening = thinking  # nothing but blank text so far, and `<think>` may come
        self._after_marker = False  # newlines here belong to the marker just seen
        self._thought = False
        self._call: list[tuple[str, bool]] = []
        self._tool_calls: list[ToolCall] = []

    @property
    def channel(self) -> Channel:
        """Where text goes that comes now."""
        return self._channel

    def push(self, text: str, control: str | None = None) -> list[Delta]:
        """Add text, then a control token that follows it; returns what can be shown now."""
        deltas = self._text(text) if text else []
        return deltas if control is None else deltas + self._control(control)

    def finish(self) -> list[Delta]:
        """End the text; returns what was still waiting."""
        return self._show(self._release())

    def truncate(self, keep: int) -> None:
        """Forget all but the first `keep` characters of the answer, and what came after them."""
        self._held = []
        for index, (text, channel) in enumerate(self._pieces):
            if channel == "answer" and len(text) > keep:
                self._pieces[index:] = [(text[:keep], channel)] if keep else []
                return
            keep -= len(text) if channel == "answer" else 0

    def parsed(self) -> Parsed:
        """All so far; complete after `finish`."""
        thinking = self._join("thinking") if self._thought else None
        raw = "".join(text for text, _ in self._pieces)
        return Parsed(self._join("answer"), thinking, tuple(self._tool_calls), raw, self._marked())

    def _marked(self) -> tuple[tuple[int, int], ...]:
        spans: list[tuple[int, int]] = []
        start, at = None, 0
        for text, channel in self._pieces:
            at += len(text) if channel == "answer" else 0
            if channel is None and text == "<|begin_of_box|>":
                start = at
            elif channel is None and text == "<|end_of_box|>" and start is not None:
                spans.append((start, at))
                start = None
        return tuple(spans) if start is None else (*spans, (start, at))

    def _join(self, channel: Channel) -> str:
        return "".join(text for text, where in self._pieces if where == channel)

    def _show(self, text: str, call: ToolCall | None = None) -> list[Delta]:
        if not text:
            return []
        self._pieces.append((text, self._channel))
        return [Delta(text, self._channel, call)]

    def _hide(self, text: str) -> None:
        if text:
            self._pieces.append((text, None))

    def _release(self) -> str:
        held, self._held = "".join(self._held), []
        return held

    def _text(self, text: str) -> list[Delta]:
        if self._channel == "tool_call":
            self._call.append((text, False))
            return self._show(text)
        if self._after_marker:
            rest = text.lstrip("\n")
            self._hide(text[: len(text) - len(rest)])
            self._after_marker, text = not rest, rest
        if self._opening:
            self._opening = not text.strip()
        waits = self._channel == "thinking" or bool(self._tools)
        ready = "" if self._opening else text.rstrip("\n") if waits else text
        rest = text[len(ready) :]
        shown = self._show(self._release() + ready) if ready else []
        self._held += [rest] if rest else []
        return shown

    def _control(self, name: str) -> list[Delta]:
        if self._channel == "tool_call":
            return self._control_in_call(name)
        channel = _NEXT.get((self._channel, name))
        deltas: list[Delta] = []
        if channel is None:
            deltas = self.finish()
            self._hide(name)
        else:
            self._hide(self._release())
            self._enter(channel, name, deltas)
        self._opening = False
        return deltas

    def _enter(self, channel: Channel, name: str, deltas: list[Delta]) -> None:
        self._channel = channel
        self._after_marker = channel != "tool_call"
        self._thought |= channel == "thinking"
        if channel == "tool_call":
            self._call = []
            deltas += self._show(name)
        else:
            self._hide(name)

    def _control_in_call(self, name: str) -> list[Delta]:
        call = None
        if name == "</tool_call>":
            call = read_call(self._call, self._tools)
            self._tool_calls += [call] if call else []
        elif name == "<tool_call>":  # the one before was never closed
            self._call = []
        else:
            self._call.append((name, True))
        deltas = self._show(name, call)
        if name == "</tool_call>":
            self._channel, self._after_marker = "answer", True
        return deltas


def parse_text(text: str, *, thinking: bool = False, tools: Sequence[Mapping[str, object]] = ()) -> Parsed:
    r"""Take a whole text apart in which every spelled-out marker counts as a control token.

    For text that is known to be the model's own, such as a stored `Result.raw`; in text from elsewhere a
    spelled-out marker may be a forgery.

    Example:
        >>> parse_text("<think>hm</think>\n<|begin_of_box|>7<|end_of_box|>").text
        '7'
    """
    parser = StreamParser(thinking=thinking, tools=tools)
    start = 0
    for match in _MARKER.finditer(text):
        parser.push(text[start : match.start()], match[0])
        start = match.end()
    parser.push(text[start:])
    parser.finish()
    return parser.parsed()
