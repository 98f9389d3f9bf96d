"""What systems said wrong → HTML: each picture once, beside all that was asked and said about it.

Every text is escaped: answers come from models, questions and ids from files of strangers.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from glmflash.evaluate.pictures import Thumbnail
from glmflash.evaluate.row import Row
from glmflash.evaluate.summary import Asked
from glmflash.output.boxes import parse_boxes

if TYPE_CHECKING:
    from glmflash.evaluate.report import Report

__all__ = ["wrong_html"]

_AS_ABOVE = "as above"
_MOST = 600  # characters of an answer


def __dir__() -> list[str]:
    return __all__


def wrong_html(report: "Report", *, most: int) -> str:
    """Questions that a system has a wrong answer to: those first that most systems fail at."""
    asked: list[tuple[Asked, list[Row]]] = [
        (one, [rows[at] for rows in report.rows.values()]) for at, one in enumerate(report.questions)
    ]
    wrong = [(one, rows) for one, rows in asked if not all(row.right for row in rows)]
    wrong.sort(key=lambda pair: sum(row.right for row in pair[1]))  # stable: then in the questions' order
    if not wrong:
        return ""
    shown: dict[tuple[str, ...], list[tuple[Asked, list[Row]]]] = {}
    for one, rows in wrong[:most]:
        shown.setdefault(one.cluster, []).append((one, rows))
    cards = "".join(_card(pairs, report.pictures) for pairs in shown.values())
    left = len(wrong) - most
    rest = f" {left} more are in the report’s JSON." if left > 0 else ""
    return (
        "<section><h2>Wrong answers</h2><p class='soft small'>Questions with an answer worth less than half, "
        f"those first that most systems fail at. Boxes: green is right, red was answered.{rest}</p>"
        f"{cards}</section>"
    )


def _card(pairs: Sequence[tuple[Asked, Sequence[Row]]], pictures: Mapping[str, Thumbnail]) -> str:
    marks = "".join(_marks(one, rows) for one, rows in pairs)
    seen = "".join(_picture(pictures.get(name), marks) for name in pairs[0][0].pictures)
    asked = "".join(_asked(one, rows) for one, rows in pairs)
    none = "<p class='none soft small'>no picture</p>"
    return f"<article><div>{seen or none}</div><div>{asked}</div></article>"


def _picture(one: Thumbnail | None, marks: str) -> str:
    if one is None:
        return "<p class='none soft small'>picture not kept, or not readable</p>"
    data = base64.b64encode(one.data).decode()
    kind = "jpeg" if one.kind == "jpeg" else "png"
    width, height = one.size
    drawn = f"<svg viewBox='0 0 1000 1000' preserveAspectRatio='none' aria-hidden='true'>{marks}</svg>"
    return (
        f"<div class='picture'><img alt='the picture asked about' width='{_half(width)}' "
        f"style='aspect-ratio: {width} / {height}' src='data:image/{kind};base64,{data}'>"
        f"{drawn if marks else ''}</div>"
    )


def _half(width: int) -> int:
    """Pixels of the page: a thumbnail has twice as many, but small pictures are shown larger."""
    return max(width // 2, min(width, 228), 200)


def _marks(one: Asked, rows: Iterable[Row]) -> str:
    """Boxes of a question that asks for one."""
    if not one.metric.startswith("iou"):
        return ""
    right = [box.normalized for text in one.answers for box in parse_boxes(text, size=(1000, 1000))]
    said = {box.normalized for row in rows if not row.right for box in row.answer.boxes}
    return "".join(_mark(box, "good") for box in right) + "".join(_mark(box, "bad") for box in sorted(said))


def _mark(box: tuple[int, int, int, int], colour: str) -> str:
    left, top, right, bottom = box
    return (
        f"<rect x='{left}' y='{top}' width='{right - left}' height='{bottom - top}' fill='none' "
        f"stroke='var(--{colour})' stroke-width='2' vector-effect='non-scaling-stroke'/>"
    )


def _asked(one: Asked, rows: Iterable[Row]) -> str:
    """The question, what is right, and what was said: systems that said the same stand together."""
    answers = {answer.strip() for answer in one.answers if len(one.answers) == 1}
    same: dict[tuple[str, bool], list[str]] = {}
    for row in rows:
        said = row.answer.text if row.error is None else f"error: {row.error}"
        said = _AS_ABOVE if row.right and said.strip() in answers else said
        same.setdefault((said, row.right), []).append(row.system)
    lines = [f"<dt>right</dt><dd>{_text(' · '.join(one.answers))}</dd>"]
    for (said, right), names in same.items():
        lines.append(
            f"<dt>{escape(', '.join(names))}</dt><dd class='{'good' if right else 'bad'}'>{_text(said)}</dd>"
        )
    return (
        f"<div class='ask'><b>{_text(one.text)}</b><span class='tag' title='{escape(one.id)}'>"
        f"{escape(one.kind)}</span><dl>{''.join(lines)}</dl></div>"
    )


def _text(text: str) -> str:
    short = text if len(text) <= _MOST else f"{text[:_MOST]}…"
    return escape(short) if short.strip() else "<span class='soft'>(empty)</span>"
