"""The page on security: every test that it names is there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "SECURITY.md"
NAMED = sorted(
    set(re.findall(r"`((?:property/)?test_[a-z0-9_]+\.py)(?:::(test_[a-z0-9_]+))?`", PAGE.read_text()))
)


def test_many_are_named() -> None:
    assert len(NAMED) > 80


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_it_is_there(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not name or name in names
