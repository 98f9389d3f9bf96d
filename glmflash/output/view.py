"""A result and its picture → one value that a notebook shows side by side, boxes drawn."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmflash.markup import image
from glmflash.output.drawing import draw, upright
from glmflash.output.result_html import to_html

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from glmflash.output.result import Result

__all__ = ["View", "view"]

_WIDE, _HIGH = 420, 560  # most pixels of the page; the picture has twice as many, for sharp screens


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, repr=False)
class View:
    """A result beside its picture; a notebook shows both. Made by `Result.view`.

    Args:
        result: The answer.
        picture: The picture with boxes drawn, in a size for looking at.
    """

    result: "Result"
    picture: "Image.Image"

    def __repr__(self) -> str:
        return f"<View: {self.result!r}>"

    def _repr_html_(self) -> str:
        shown = image(self.picture, width=self.picture.width // 2, alt="the picture, boxes drawn")
        return to_html(self.result, summary=self.result.summary, picture=shown)


def view(result: "Result", picture: "Image.Image | np.ndarray", *, font: str | None = None) -> View:
    """Put a picture beside a result.

    Args:
        result: The answer.
        picture: The picture that was asked about, as for `draw`.
        font: As for `draw`.

    Raises:
        ImageError: As `draw`.
    """
    canvas = upright(picture)
    factor = 2 * min(
        _WIDE / canvas.width, _HIGH / canvas.height
    )  # drawn after that: lines and labels are sharp
    size = (max(1, round(canvas.width * factor)), max(1, round(canvas.height * factor)))
    return View(result, draw(canvas.resize(size), result.boxes, font=font))
