"""Docstrings and pages are tests: every example in them is run, with a few pictures at hand."""

import logging
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import SkipParser
from sybil.parsers.myst import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

FIXTURES = ("among_pictures",)
TINY = Path(__file__).parent / "examples" / "tiny"

docstrings = Sybil(
    parsers=[DocTestParser(optionflags=ELLIPSIS)],
    patterns=["glmflash/**/*.py", "glmflash/*.py"],
    fixtures=FIXTURES,
)
pages = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    patterns=["docs/*.md", "docs/**/*.md"],
    filenames=["README.md"],
    excludes=["tests/**", ".venv*/**"],
    fixtures=FIXTURES,
)
pytest_collect_file = (docstrings + pages).pytest()


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures that the pages talk about."""
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("pictures")
    for name, lines in {
        "receipt.png": ("Corner Cafe", "Coffee 3.50", "Bread 2.25", "Total 5.75"),
        "screenshot.png": ("Save      Open", "", "", "Close     Help"),
        "chart.png": ("Sales", "Mon 4", "Tue 7", "Wed 2"),
        "page.png": ("Minutes", "We met.", "We ate.", "We left."),
    }.items():
        picture = Image.new("RGB", (168, 112), "white")
        for row, line in enumerate(lines):
            ImageDraw.Draw(picture).text((12, 10 + 24 * row), line, fill="black")
        picture.save(folder / name)
        picture.save(folder / name.replace(".png", ".jpg"))
    return folder


@pytest.fixture
def among_pictures(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Examples run in that folder, can draw, and what they log or leave behind stays there."""
    monkeypatch.chdir(picture_folder)
    monkeypatch.setattr(sys, "path", [str(TINY), *sys.path])
    level = logging.root.level
    yield
    logging.root.setLevel(level)
