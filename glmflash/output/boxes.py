"""An answer's text → boxes in pixels of the picture given."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmflash.output.drawing import draw

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["Box", "parse_boxes"]

_NUMBER = r"[-+]?[0-9]{1,6}(?:\.[0-9]{1,6})?"
_COMMA = r"(?:\s*[,，、]\s*|\s+)"
# Four numbers in any brackets are a box; two are a point only in square ones, for "(1, 2)" is common prose.
_BRACKET = re.compile(
    rf"[\[({{（【]\s*({_NUMBER}(?:{_COMMA}{_NUMBER}){{3}})\s*[\])}}）】]|\[\s*({_NUMBER}{_COMMA}{_NUMBER})\s*\]"
)
_NUMBERS = re.compile(_NUMBER)
_STRING = r'"((?:[^"\\]|\\.){0,200})"'
_LABEL = re.compile(rf'"(?:label|name|text|object|element|class|category)"\s*:\s*{_STRING}', re.IGNORECASE)
_KEY = re.compile(rf"{_STRING}\s*:[\s\[]*$")
_COORDINATES = re.compile(r"(?:b?box|bounding|point|coord|position|location|region|xy)", re.IGNORECASE)
_SENTENCE = re.compile(r"[\n。；;！？!?]|\.\s")
_BULLET = re.compile(r"^\s*(?:[-*•]|[0-9]{1,3}[.)、])\s+")
_PUNCTUATION = " \t\r\n:：,，、.。;；=-–—→>*`#\"'“”‘’「」[](){}（）【】|"


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, or a point, in a picture.

    Args:
        label: What the answer calls it; may be empty.
        xyxy: Left, top, right, bottom, in pixels of the picture given. A point has no area.
        normalized: The same as the model wrote it, in 0..1000 of width and height.
        image: Which of the request's pictures.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    normalized: tuple[int, int, int, int]
    image: int = 0

    @property
    def is_point(self) -> bool:
        """Whether this is a single point."""
        return self.normalized[:2] == self.normalized[2:]

    def draw(self, image: "Image.Image | np.ndarray", *, font: str | None = None) -> "Image.Image":
        """Draw this one on a copy of the picture it was found in; see `glmflash.output.draw`."""
        return draw(image, [self], font=font)


def parse_boxes(
    text: str, *, size: tuple[int, int], image: int = 0, marked: Sequence[tuple[int, int]] = ()
) -> tuple[Box, ...]:
    """Find the boxes and points in an answer. Never raises on any text.

    Where the model set box markers, only what stands between them counts: `[x1, y1, x2, y2]` (also nested,
    or in `{}`, `()`, `（）`, `【】`) is a box and `[x, y]` a point, a box without area; values outside
    0..1000 are moved to the nearest end. Without markers numbers in brackets may as well be prose or data,
    so a box needs four numbers of 0..1000 in square or curly brackets, a point a JSON key such as "point".

    Corners are put in order. The label is the `"label"` (or `"name"`, ...) beside a box or its own key in
    JSON, else the text before it.

    Args:
        text: The answer, without box markers.
        size: Width and height of the picture, in pixels.
        image: Which of the request's pictures the answer is about.
        marked: Where in the text box markers stood, as (start, end); see `Parsed.marked`.

    Example:
        >>> parse_boxes("Save: [[100, 200, 300, 400]]", size=(500, 1000))
        (Box(label='Save', xyxy=(50.0, 200.0, 150.0, 400.0), normalized=(100, 200, 300, 400), image=0),)
    """
    matches = [match for match in _BRACKET.finditer(text) if _counts(match, text, marked)]
    boxes: list[Box] = []
    for index, match in enumerate(matches):
        start = matches[index - 1].end() if index else 0
        end = matches[index + 1].start() if index + 1 < len(matches) else len(text)
        before, after = text[start : match.start()], text[match.end() : end]
        if boxes and "," in before and not before.strip(" ,[]()\n\t"):
            label = boxes[-1].label  # one of a list: [[...], [...]]
        else:
            label = _label(before, after)
        values = [min(1000, max(0, round(float(one)))) for one in _NUMBERS.findall(match[1] or match[2])]
        boxes.append(_box(label, values, size, image))
    return tuple(boxes)


def _counts(match: re.Match[str], text: str, marked: Sequence[tuple[int, int]]) -> bool:
    if marked:
        return any(start <= match.start() and match.end() <= end for start, end in marked)
    if not all(0 <= float(one) <= 1000 for one in _NUMBERS.findall(match[1] or match[2])):
        return False
    if match[1]:
        return match[0][0] in "[{【"
    key = _KEY.search(text[max(0, match.start() - 300) : match.start()])
    return key is not None and _COORDINATES.search(key[1]) is not None


def _box(label: str, values: Sequence[int], size: tuple[int, int], image: int) -> Box:
    xs, ys = sorted(values[::2]), sorted(values[1::2])
    left, top, right, bottom = xs[0], ys[0], xs[-1], ys[-1]
    width, height = size
    xyxy = (left * width / 1000, top * height / 1000, right * width / 1000, bottom * height / 1000)
    return Box(label, xyxy, (left, top, right, bottom), image)


def _label(before: str, after: str) -> str:
    """What names a box, given the text up to the previous box and that up to the next."""
    found = _LABEL.findall(before.rpartition("}")[2]) or _LABEL.findall(after.partition("}")[0])
    if found:
        return _unescape(found[-1])
    key = _KEY.search(before[-300:])
    if key:
        return "" if _COORDINATES.search(key[1]) else _unescape(key[1])
    sentence = _SENTENCE.split(before.rstrip(_PUNCTUATION)[-300:])[-1]
    return _BULLET.sub("", sentence).strip(_PUNCTUATION)


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
