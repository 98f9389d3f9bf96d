"""A metric and a right answer → what makes the answer useless to measure by, if anything."""

from glmflash.evaluate.overlap import MOST_BOXES, overlap
from glmflash.evaluate.table_tree import MOST_NODES, MOST_TOKENS, comparable, table_tree
from glmflash.output.boxes import parse_boxes

__all__ = ["problem"]


def __dir__() -> list[str]:
    return __all__


def problem(metric: str, right: str) -> str | None:
    """Say what is wrong, or nothing: found when a question is made, not after hours of asking.

    Example:
        >>> problem("letter", "Beta")
        'not one of the letters A to H, which the metric letter compares'
    """
    if metric == "letter" and right.strip().upper() not in tuple("ABCDEFGH"):
        return "not one of the letters A to H, which the metric letter compares"
    if metric in ("iou", "iou_50"):
        boxes = [box.normalized for box in parse_boxes(right, size=(1000, 1000))]
        if not 1 <= len(boxes) <= MOST_BOXES or not all(overlap(box, box) for box in boxes):
            return (
                f"not 1 to {MOST_BOXES} boxes [x1,y1,x2,y2] with an area, which the metric {metric} compares"
            )
    if metric in ("teds", "teds_structure") and not comparable(table_tree(right)):
        return (
            f"not a table in HTML or Markdown of at most {MOST_NODES} rows and cells and {MOST_TOKENS} "
            f"characters, which the metric {metric} compares"
        )
    return None
