"""Results as HTML, and beside their pictures; labels in their places; and no text becomes markup."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glmflash import Box, ImageError, Result, ToolCall
from glmflash.markup import facts, table
from glmflash.output import View, draw

EVIL = "<script>alert('&')</script>"
FONT = Path(__file__).parents[1] / "examples" / "tiny" / "fonts" / "DroidSansFallback.ttf"
BOXES = (
    Box(EVIL, (1.0, 2.0, 30.0, 40.0), (100, 100, 300, 400)),
    Box("", (5.0, 6.0, 5.0, 6.0), (500, 600, 500, 600)),
)
FULL = Result(text=EVIL, thinking=EVIL, boxes=BOXES, tool_calls=(ToolCall(EVIL, {EVIL: EVIL}),))


def test_everything_is_there_and_escaped() -> None:
    for html in (FULL._repr_html_(), FULL.view(Image.new("RGB", (40, 30)))._repr_html_()):
        assert "<script" not in html
        assert html.count("&lt;script&gt;") >= 5
        assert "<details>" in html
        assert "1, 2, 30, 40</code>" in html
        assert "5, 6</code>" in html
        assert FULL.summary in html


@pytest.mark.property
@given(st.text("<>&'\"/!aé |\n-", max_size=30))
def test_no_text_becomes_markup(text: str) -> None:
    tags = re.compile(r"<[a-zA-Z/!?]")
    plain = Result(text="x", thinking="x", boxes=(Box("x", (0, 0, 1, 1), (0, 0, 1, 1)),))
    said = Result(text=text or "x", thinking=text or "x", boxes=(Box(text, (0, 0, 1, 1), (0, 0, 1, 1)),))
    if not said.tables:
        assert len(tags.findall(said._repr_html_())) == len(tags.findall(plain._repr_html_()))
    assert len(tags.findall(facts([(text, text)]))) == len(tags.findall(facts([("", "")])))
    assert len(tags.findall(table([text], [[text]]))) == len(tags.findall(table([""], [[""]])))


@pytest.mark.parametrize("size", [(1, 1), (140, 140), (4000, 100), (100, 4000), (3000, 2000)])
def test_a_view_is_of_a_size_for_looking_at(size) -> None:
    view = FULL.view(Image.new("RGB", size, "white"))
    assert isinstance(view, View)
    assert max(view.picture.width / 840, view.picture.height / 1120) == pytest.approx(1, abs=0.01)
    data = re.search(r"base64,([^']+)'", view._repr_html_())[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == view.picture.size
    assert repr(view).startswith("<View: <Result")


def test_a_view_of_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="give a PIL image"):
        FULL.view("a.png")


def test_tables_of_an_answer_are_tables() -> None:
    html = Result(text="| a | b |\n|---|---|\n| 1 & 2 | 3 |")._repr_html_()
    assert "<td>1 &amp; 2</td>" in html


def test_one_box_draws_itself() -> None:
    picture = Image.new("RGB", (100, 100), "white")
    assert np.array_equal(BOXES[0].draw(picture), draw(picture, BOXES[:1]))


def test_labels_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    place = (300, 300, 700, 700)
    picture = Image.new("RGB", (400, 400), "white")
    one = np.asarray(draw(picture, [Box("", (0, 0, 0, 0), place), Box("second", (0, 0, 0, 0), place)]))
    both = np.asarray(draw(picture, [Box("first", (0, 0, 0, 0), place), Box("second", (0, 0, 0, 0), place)]))
    first = np.asarray(draw(picture, [Box("first", (0, 0, 0, 0), place), Box("", (0, 0, 0, 0), place)]))
    above = slice(0, 119)  # where a label stands by itself
    assert np.array_equal(both[above], first[above])
    assert not np.array_equal(both[above], one[above])
    below = slice(282, 400)
    assert (both[below] != 255).any()


def test_labels_in_other_letters_find_a_font_of_the_system(tmp_path, monkeypatch) -> None:
    box = [Box("取消", (0, 0, 0, 0), (200, 400, 800, 800))]
    picture = Image.new("RGB", (400, 400), "white")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    without = np.asarray(draw(picture, box))
    (tmp_path / "fonts").mkdir()
    shutil.copy(FONT, tmp_path / "fonts" / "DroidSansFallback.ttf")
    assert np.array_equal(draw(picture, box), draw(picture, box, font=str(FONT)))
    assert not np.array_equal(draw(picture, box), without)
    latin = [Box("Save", (0, 0, 0, 0), (200, 400, 800, 800))]
    assert not np.array_equal(draw(picture, latin), draw(picture, latin, font=str(FONT)))  # Pillow's own
