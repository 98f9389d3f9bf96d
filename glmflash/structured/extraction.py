"""What was read from a picture → a typed value, and field by field its text, confidence and box."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from glmflash.output.boxes import Box
from glmflash.output.drawing import draw
from glmflash.output.result import Result
from glmflash.structured.fields_html import to_html

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["Extraction", "Field"]

T = TypeVar("T")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value, and what it was read from.

    Args:
        value: As the schema has it; None if there is none.
        text: The words of the answer that it was read from; all of them if it could not be read.
        confidence: How likely the model found these words, 0..1: the product of its own probabilities of
            their tokens and of the token behind them, which says that they end there; before any constraint
            or sampling parameter, box markers aside. None if nothing was written.
        box: Where it is in the picture, if the answer says so or was asked.
        question: What was asked.
        problem: Why `value` is None, or the default; None if it was read.
    """

    value: object
    text: str
    confidence: float | None = None
    box: Box | None = None
    question: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Extraction(Generic[T]):
    """A value read from a picture.

    Args:
        value: Of the type that was asked for.
        fields: Its fields by name, those of a record within it as `seller.name`; `value` if it is one itself.
        results: The answers that they were read from, for usage and timings.

    Example:
        >>> total = Field(value=12.5, text="12.50", confidence=0.98)
        >>> Extraction(value={"total": 12.5}, fields={"total": total}, results=())
        <Extraction: total=12.5 (98 %)>
    """

    value: T
    fields: Mapping[str, Field]
    results: tuple[Result, ...] = ()

    def draw(self, image: "Image.Image | np.ndarray") -> "Image.Image":
        """Draw the fields that have a box on a copy of the picture, with their names."""
        boxes = [replace(one.box, label=name) for name, one in self.fields.items() if one.box is not None]
        return draw(image, boxes)

    def _repr_html_(self) -> str:
        """A table for a notebook: values, and confidences as bars."""
        return to_html(
            [(name, _cut(str(one.value)), one.confidence, one.problem) for name, one in self.fields.items()]
        )

    def __repr__(self) -> str:
        shown = (
            f"{name}={_cut(repr(one.value))}{_percent(one.confidence)}" for name, one in self.fields.items()
        )
        return f"<Extraction: {', '.join(shown)}>"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def _percent(confidence: float | None) -> str:
    return "" if confidence is None else f" ({100 * confidence:.0f} %)"
