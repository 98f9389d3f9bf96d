"""The boxes of an answer and the right ones → how well they cover each other, 0 to 1."""

from collections.abc import Sequence

from glmflash.evaluate.matching import best_matching
from glmflash.output.boxes import Box

__all__ = ["MOST_BOXES", "boxes_found", "boxes_overlap", "overlap"]

MOST_BOXES = 100

_Area = Sequence[float]


def __dir__() -> list[str]:
    return __all__


def overlap(one: _Area, two: _Area) -> float:
    """Intersection over union of two rectangles (left, top, right, bottom); 0 for what has no area.

    Scaling an axis changes nothing, so that thousandths of a picture do as well as pixels.

    Source:
        The index of Jaccard 1912; for boxes Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC)
        Challenge", section 4.2.

    Example:
        >>> overlap((0, 0, 10, 10), (0, 5, 10, 15))  # 50 shared, 150 covered
        0.3333333333333333
    """
    across = min(one[2], two[2]) - max(one[0], two[0])
    down = min(one[3], two[3]) - max(one[1], two[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, two)]
    return shared / (sum(areas) - shared)


def boxes_overlap(given: Sequence[Box], right: Sequence[Box]) -> float:
    """Mean overlap of the best pairing of boxes; a box too many or too few counts as one of 0.

    Labels do not count. With one box each it is their intersection over union. Of more than 100 boxes given,
    those behind only count as too many.

    Example:
        >>> from glmflash.output import parse_boxes
        >>> one, two = (parse_boxes(text, size=(1000, 1000)) for text in ("[0,0,10,10]", "[0,5,10,15]"))
        >>> boxes_overlap(one, two), boxes_overlap((*one, *two), two)
        (0.3333333333333333, 0.5)
    """
    return _matched(given, right, least=None)


def boxes_found(given: Sequence[Box], right: Sequence[Box]) -> float:
    """As `boxes_overlap`, but a pair counts 1 if it overlaps by 0.5 or more, and 0 otherwise.

    With one box each and averaged over questions it is the accuracy at 0.5 of referring expressions.

    Source:
        Yu et al. 2016, "Modeling Context in Referring Expressions" (arXiv:1608.00272), section 5.2; the
        threshold is that of PASCAL VOC.

    Example:
        >>> from glmflash.output import parse_boxes
        >>> one, two = (parse_boxes(text, size=(1000, 1000)) for text in ("[0,0,10,10]", "[0,0,10,20]"))
        >>> boxes_found(one, two)
        1.0
    """
    return _matched(given, right, least=0.5)


def _matched(given: Sequence[Box], right: Sequence[Box], *, least: float | None) -> float:
    count = max(len(given), len(right))
    if not given or not right:
        return float(count == 0)
    fit = [
        [overlap(one.normalized, two.normalized) for two in right[:MOST_BOXES]] for one in given[:MOST_BOXES]
    ]
    if least is not None:
        fit = [[float(value >= least) for value in row] for row in fit]
    return sum(fit[row][column] for row, column in best_matching(fit)) / count
