"""A picture and boxes → the picture with boxes and labels drawn on it, readable at any size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmflash.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from glmflash.output.boxes import Box

__all__ = ["COLOURS", "draw", "upright"]

#: Of the first box, the second, and so on, again from the beginning; white text is readable on each.
COLOURS = ("#d7263d", "#1b73e8", "#137333", "#b06000", "#8430ce", "#00796b")

# Fonts with more than Latin letters, by the names that systems install them under.
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "Arial Unicode.ttf",
)
_Area = tuple[float, float, float, float]


def __dir__() -> list[str]:
    return __all__


def draw(
    image: "Image.Image | np.ndarray", boxes: "Sequence[Box]", *, font: str | None = None
) -> "Image.Image":
    """Draw boxes and their labels on a copy of a picture.

    Args:
        image: The picture the boxes were found in, or a resized copy: a PIL image, or a uint8 array of
            shape (H, W), (H, W, 3) or (H, W, 4).
        boxes: What to draw; a point becomes a dot.
        font: Path of a TrueType font. If not given it is Pillow's own, which has Latin letters only; labels
            in other letters take a font of the system that has them, if one is found.

    Returns:
        A new RGB picture, upright if the given one has an EXIF orientation.

    Raises:
        ImageError: If `image` is neither a PIL image nor such an array.
    """
    from PIL import ImageDraw

    canvas = upright(image)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(min(canvas.size) / 140))
    size = max(12, round(min(canvas.size) / 30))
    for index, box in enumerate(boxes):
        _outline(pen, box, _scaled(box, canvas.size), COLOURS[index % len(COLOURS)], line)
    taken: list[_Area] = []
    for index, box in enumerate(boxes):  # on top of all boxes
        if box.label:
            area = _scaled(box, canvas.size)
            if box.is_point:
                area = (area[0], area[1] - 3 * line, area[2], area[3] + 3 * line)  # clear of the dot
            colour, typeface = COLOURS[index % len(COLOURS)], _typeface(font, size, box.label)
            _label(pen, box.label, area, taken, colour, typeface)
    return canvas


def upright(image: "Image.Image | np.ndarray") -> "Image.Image":
    """A picture as a new RGB one, turned as its EXIF orientation says.

    Raises:
        ImageError: If `image` is none of what `draw` takes.
    """
    from PIL import Image, ImageOps

    try:
        if not isinstance(image, Image.Image):
            return Image.fromarray(image).convert("RGB")
        return ImageOps.exif_transpose(image).convert("RGB")
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ImageError(
            f"draw: cannot draw on a {type(image).__name__} ({type(error).__name__}); give a PIL image or "
            "a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4)"
        ) from None


def _scaled(box: "Box", size: tuple[int, int]) -> _Area:
    """Corners on a canvas of this size, the last pixel included."""
    (width, height), (left, top, right, bottom) = size, box.normalized
    return (
        left * (width - 1) / 1000,
        top * (height - 1) / 1000,
        right * (width - 1) / 1000,
        bottom * (height - 1) / 1000,
    )


def _outline(pen: "ImageDraw.ImageDraw", box: "Box", area: _Area, colour: str, line: int) -> None:
    left, top, right, bottom = area
    if box.is_point:
        for radius, fill in ((3 * line, "white"), (2 * line, colour)):  # a rim, for pictures of that colour
            pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=fill)
    else:
        pen.rectangle((left, top, right, bottom), outline=colour, width=line)


def _typeface(font: str | None, size: int, label: str) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    if font:
        return ImageFont.truetype(font, size)
    if any(ord(letter) > 0x024F and letter.isalnum() for letter in label):
        for name in _FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _label(
    pen: "ImageDraw.ImageDraw",
    label: str,
    area: _Area,
    taken: list[_Area],
    colour: str,
    font: "ImageFont.FreeTypeFont | ImageFont.ImageFont",
) -> None:
    """White on the box's colour, inside the picture, and where no other label is if it can."""
    from PIL import ImageFont

    left, top, right, bottom = area
    across, down = pen.im.size
    label = " ".join(label.split())[:60]
    if isinstance(font, ImageFont.ImageFont):  # Pillow without FreeType draws Latin-1 only
        label = label.encode("latin-1", "replace").decode("latin-1")
    x1, _, x2, _ = pen.textbbox((0, 0), label, font=font)
    _, y1, _, y2 = pen.textbbox((0, 0), f"Ag{label}", font=font)  # as high as its neighbours
    pad = max(2.0, (y2 - y1) / 4)
    width, height = x2 - x1 + 2 * pad, y2 - y1 + 2 * pad
    places = [(left, top - height), (left, bottom), (right - width, top - height), (left, top)]
    places = [(x, y) for x, y in places if y >= 0 and y + height <= down] or [(left, bottom - height)]
    inside = [(max(0.0, min(x, across - width)), max(0.0, y)) for x, y in places]
    free = [(x, y) for x, y in inside if not any(_meet((x, y, x + width, y + height), o) for o in taken)]
    x, y = (free or inside)[0]
    taken.append((x, y, x + width, y + height))
    pen.rectangle(taken[-1], fill=colour)
    pen.text((x + pad - x1, y + pad - y1), label, fill="white", font=font)


def _meet(one: _Area, other: _Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
