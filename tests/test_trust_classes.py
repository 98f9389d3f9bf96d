"""Trust, process: each class of attack and fault has tests named after it."""

import re
from pathlib import Path

CLASSES = {"a": 7, "b": 3, "c": 4, "d": 4, "e": 5, "f": 4}
WANTED = {f"{letter}{number}" for letter, most in CLASSES.items() for number in range(1, most + 1)}
NAME = re.compile(r"^(?:async )?def test_((?:[a-f]\d_(?:to_)?)+)", re.MULTILINE)


def classes(name: str) -> set[str]:
    """Those that the beginning of a test's name tells: `a1_`, `a2_a3_`, `a1_to_a6_`."""
    found: set[str] = set()
    for first, last in re.findall(r"([a-f]\d)_(?:to_([a-f]\d)_)?", name):
        numbers = range(int(first[1]), int((last or first)[1]) + 1)
        found |= {f"{first[0]}{number}" for number in numbers}
    return found


def test_names_are_read() -> None:
    assert classes("a1_to_a3_") == {"a1", "a2", "a3"}
    assert classes("d4_f1_") == {"d4", "f1"}


def test_every_class_has_a_test() -> None:
    sources = [path.read_text() for path in Path(__file__).parent.rglob("test_*.py")]
    found = set().union(*(classes(name) for source in sources for name in NAME.findall(source)))
    assert WANTED - found == set()
