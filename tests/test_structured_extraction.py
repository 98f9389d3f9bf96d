"""What was read → the caller's value, HTML and a picture."""

import pickle
from dataclasses import dataclass

import pytest
from PIL import Image

from glmflash import Box, ExtractionError
from glmflash.structured import Extraction, Field
from glmflash.structured.leaves import assemble, leaves
from glmflash.structured.schema import read_schema

BOX = Box("x", (10, 10, 60, 40), (100, 100, 600, 400))


@dataclass
class Seller:
    name: str
    city: str | None


@dataclass
class Bill:
    total: float
    seller: Seller | None
    currency: str = "EUR"
    note: str | None = None


def fields(**given):
    missing = Field(value=None, text="", problem="is not there")
    read = {name.replace("__", "."): Field(value=value, text=str(value)) for name, value in given.items()}
    return {one.path: read.get(one.name, missing) for one in leaves(read_schema(Bill))}


def test_what_was_not_read_is_the_default_else_none():
    made = assemble(read_schema(Bill), fields(total=1.5, seller__name="Old Mill"))
    assert made == Bill(1.5, Seller("Old Mill", None), "EUR", None)


def test_a_record_is_none_if_what_it_needs_is_missing():
    assert assemble(read_schema(Bill), fields(total=1.5, seller__city="Rome")) == Bill(1.5, None)
    assert assemble(read_schema(Bill), fields(seller__name="Old Mill")).total is None
    assert assemble(read_schema(Bill | None), fields()) == Bill(None, None)


def test_a_plain_type_is_its_own_value():
    field = Field(value=[1], text="1")
    assert assemble(read_schema(list[int]), {("value",): field}) == [1]


def extraction(**more):
    read = {
        "total": Field(value=12.5, text="12.50", confidence=0.98, box=BOX),
        "<vendor>": Field(value="<script>x</script>", text="", confidence=0.2, **more),
        "note": Field(value=None, text="", problem="is <not> there"),
    }
    return Extraction(value={"total": 12.5}, fields=read)


def test_html_has_a_bar_for_each_confidence_and_escapes_everything():
    html = extraction()._repr_html_()
    assert "width: 98px" in html
    assert "width: 20px" in html
    assert "98.0 %" in html
    for forbidden in ("<script", "<vendor>", "<not>"):
        assert forbidden not in html
    assert "is &lt;not&gt; there" in html


def test_repr_is_short():
    assert (
        repr(extraction())
        == "<Extraction: total=12.5 (98 %), <vendor>='<script>x</script>' (20 %), note=None>"
    )
    long = Extraction(value="", fields={"x": Field(value="a" * 9999, text="")})
    assert len(repr(long)) < 300


def test_boxes_are_drawn_with_the_names_of_their_fields():
    picture = Image.new("RGB", (100, 100), "white")
    drawn = extraction().draw(picture)
    assert drawn.size == picture.size
    assert drawn.tobytes() != picture.tobytes()
    assert Extraction(value=1, fields={}).draw(picture).tobytes() == picture.tobytes()


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        extraction().value = 1
    with pytest.raises(AttributeError):
        Field(value=1, text="").value = 2


def test_the_error_names_the_field_keeps_the_answer_and_can_be_pickled():
    error = pickle.loads(pickle.dumps(ExtractionError("total", "the answer is no number", "secret words")))
    assert (error.field, error.text, error.code) == ("total", "secret words", "extraction_error")
    assert str(error) == "total: the answer is no number"
    assert isinstance(error, ValueError)
