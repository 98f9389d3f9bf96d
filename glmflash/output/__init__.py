"""Token ids and control names → text, channels, tool calls, boxes, and the result that holds them."""

from glmflash.output.boxes import Box, parse_boxes
from glmflash.output.drawing import draw
from glmflash.output.parse import Parsed, StreamParser, parse_text
from glmflash.output.result import Delta, Result, Timings, TokenLogprob, ToolCall, Usage
from glmflash.output.table import Table, parse_tables
from glmflash.output.text import Detokenizer
from glmflash.output.view import View

__all__ = [
    "Box",
    "Delta",
    "Detokenizer",
    "Parsed",
    "Result",
    "StreamParser",
    "Table",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "Usage",
    "View",
    "draw",
    "parse_boxes",
    "parse_tables",
    "parse_text",
]


def __dir__() -> list[str]:
    return __all__
