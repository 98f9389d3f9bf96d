"""A result → HTML for a notebook: the answer, its thinking folded, its calls, its boxes in their colours."""

import json
from html import escape
from typing import TYPE_CHECKING

from glmflash.markup import block, box, note
from glmflash.output.boxes import Box
from glmflash.output.drawing import COLOURS

if TYPE_CHECKING:
    from glmflash.output.result import Result

__all__ = ["answering", "failed", "folded", "to_html"]

_SQUARE = "display: inline-block; width: .8em; height: .8em; margin-right: 6px"


def __dir__() -> list[str]:
    return __all__


def to_html(result: "Result", *, summary: str, picture: str = "") -> str:
    """All that a person wants to see of a result; everything the model wrote is escaped.

    Args:
        result: What to show.
        summary: The last line.
        picture: HTML to stand beside it.
    """
    parts = [folded(result.thinking)] if result.thinking else []
    parts += [block(result.text)] if result.text else []
    parts += [f"<div style='overflow-x: auto; margin: 6px 0'>{one.html()}</div>" for one in result.tables]
    parts += [_call(call.name, call.arguments) for call in result.tool_calls]
    parts += [_boxes(result.boxes)] if result.boxes else []
    parts += [note(summary)]
    if not picture:
        return box(*parts)
    columns = "display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start"
    answer = f"<div style='flex: 1 1 280px; min-width: 0'>{''.join(parts)}</div>"
    return box(f"<div style='{columns}'><div style='flex: 0 1 auto'>{picture}</div>{answer}</div>")


def answering(*, thinking: str, text: str, call: str) -> str:
    """The same of an answer that is still on its way: what there is so far."""
    parts = [folded(thinking, opened=not text)] if thinking else []
    parts += [block(text)] if text else []
    parts += [f"<pre style='margin: 4px 0'>{escape(call)}</pre>"] if call else []
    return box(*parts, note("…"))


def failed(problem: str) -> str:
    """What became of an answer that never came."""
    return box(f"<div style='border-left: 3px solid #d7263d; padding-left: 8px'>{block(problem)}</div>")


def folded(thinking: str, *, opened: bool = False) -> str:
    """Reasoning, to be unfolded."""
    return (
        f"<details{' open' * opened}><summary style='cursor: pointer; opacity: .7'>thinking</summary>"
        f"<div style='border-left: 3px solid #8a8f98; padding-left: 8px; opacity: .8'>{block(thinking)}</div>"
        "</details>"
    )


def _call(name: str, arguments: dict[str, object]) -> str:
    said = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
    return f"<pre style='margin: 4px 0; white-space: pre-wrap'>{escape(f'{name}({said})')}</pre>"


def _boxes(boxes: tuple[Box, ...]) -> str:
    rows = []
    for index, one in enumerate(boxes):
        colour, shape = COLOURS[index % len(COLOURS)], "50%" if one.is_point else "2px"
        edges = one.xyxy[:2] if one.is_point else one.xyxy
        place = ", ".join(f"{edge:.0f}" for edge in edges)
        rows.append(
            f"<div><span style='{_SQUARE}; border-radius: {shape}; background: {colour}'></span>"
            f"{escape(one.label)} <code style='opacity: .75'>{place}</code></div>"
        )
    return f"<div style='margin-top: 4px'>{''.join(rows)}</div>"
