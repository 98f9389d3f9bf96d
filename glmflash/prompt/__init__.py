"""Chat messages → token ids, cache keys and positions; user text can never become a control token.

In the order of the data:

    messages    dictionaries → frozen messages, and the picture sources they name
    template    messages → segments: control tokens, text, places for pictures
    tokenizer   text → ids that are never control tokens, and back
    positions   spans and grids → three rotary positions per token
    build       segments and picture sizes → a `Prompt`
"""

from glmflash.prompt.build import ClipLayout, Key, Prompt
from glmflash.prompt.messages import Image, ImageUrl, Message, Part, Text, ToolCall, Video, parse
from glmflash.prompt.template import Control, Segment, TemplateStyle, join, render, segments
from glmflash.prompt.tokenizer import Tokenizer

# `build` and `positions` stay the modules of that name; their functions are imported from there.
__all__ = [
    "parse", "Message", "Part", "Text", "Image", "Video", "ToolCall", "ImageUrl", "segments", "render",
    "join", "Control", "Segment", "TemplateStyle", "Tokenizer", "Prompt", "Key",
    "ClipLayout",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
