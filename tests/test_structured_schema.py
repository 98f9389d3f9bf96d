"""Types and JSON schemas → what is asked for; what cannot be asked for is named."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest

from glmflash.errors import ParameterError
from glmflash.structured.leaves import leaves
from glmflash.structured.schema import read_schema


class Currency(enum.Enum):
    EUR = "€"
    USD = "$"


class Level(enum.IntEnum):
    LOW = 1


class Mark(enum.Enum):
    POINT = (1, 2)


@dataclass(frozen=True, slots=True)
class Seller:
    name: Annotated[str, "Who is the vendor?"]
    tax_number: int | None


@dataclass
class Item:
    name: str
    price: Decimal


class Extra(TypedDict):
    paid: bool
    by: NotRequired[Annotated[Literal["card", "cash"], "the means of payment"]]


@dataclass
class Receipt:
    seller: Seller
    totalPrice: float  # noqa: N815 - names of others' making
    day: Annotated[date, "When was it bought?"]
    items: list[Item]
    box: tuple[int, int]
    tags: tuple[str, ...] = ()
    currency: Currency = Currency.EUR
    extra: Optional[Extra] = None  # noqa: UP045 - the old spelling is read too
    note: str = field(default="", metadata={"description": "a note in pen"})
    kept: int = field(default=0, init=False)


def test_fields_are_those_of_records_within_and_have_questions():
    found = {leaf.name: leaf for leaf in leaves(read_schema(Receipt))}
    assert list(found) == [
        "seller.name",
        "seller.tax_number",
        "totalPrice",
        "day",
        "items",
        "box",
        "tags",
        "currency",
        "extra.paid",
        "extra.by",
        "note",
    ]
    assert found["seller.name"].question == "Who is the vendor?"
    assert found["seller.tax_number"].question == "What is the tax number of the seller?"
    assert found["totalPrice"].question == "What is the total Price?"
    assert found["note"].question == "What is the note (a note in pen)?"
    assert found["extra.by"].question == "What is the by of the extra (the means of payment)?"
    assert [name for name, leaf in found.items() if leaf.needed] == [
        "seller.name", "totalPrice", "day", "items", "box"
    ]  # fmt: skip


def test_instructions_say_what_form_the_answer_has():
    found = {leaf.name: leaf for leaf in leaves(read_schema(Receipt))}
    assert found["day"].ask(None) == "Answer with the date only, as YYYY-MM-DD. When was it bought?"
    assert (
        found["currency"].ask(None).startswith('Answer with one of: €, $, or "none" if it is not there. What')
    )
    assert found["day"].ask("") == "When was it bought?"
    assert found["day"].ask("Be brief.") == "Be brief. When was it bought?"


def test_the_json_schema_and_a_value_of_it():
    kind = read_schema(Receipt)
    assert kind.schema["properties"]["items"] == {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
            "required": ["name", "price"],
            "additionalProperties": False,
        },
    }
    assert kind.schema["required"] == ["seller", "totalPrice", "day", "items", "box"]
    value = {
        "seller": {"name": "Old Mill", "tax_number": None},
        "totalPrice": 12.5,
        "day": "2026-11-28",
        "items": [{"name": "Tea", "price": 3.1}],
        "box": [1, 2],
        "tags": ["a"],
        "currency": "$",
        "extra": {"paid": True},
    }
    assert kind.build(value) == Receipt(
        Seller("Old Mill", None), 12.5, date(2026, 11, 28), [Item("Tea", Decimal("3.1"))], (1, 2), ("a",),
        Currency.USD, {"paid": True},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "words", "value"),
    [
        (str, " Old Mill ", "Old Mill"),
        (int, "1,234", 1234),
        (float, "12,5 %", 12.5),
        (Decimal, "$3.10", Decimal("3.10")),
        (bool, "Yes, it is", True),
        (date, "1 May 2026", date(2026, 5, 1)),
        (Literal["a", 2], "2", 2),
        (Currency, "€", Currency.EUR),
        (Level, "1", Level.LOW),
        (Mark, "POINT", Mark.POINT),
        (Sequence[int], "1, 2", [1, 2]),
        (tuple[str, ...], "a\nb", ("a", "b")),
        (tuple[str, int], '["a", 1]', ("a", 1)),
        (list[Item], '[{"name": "Tea", "price": "3.10"}]', [Item("Tea", Decimal("3.10"))]),
        (Annotated[int | None, "x"], "7", 7),
        (list[date], "2026-01-02", [date(2026, 1, 2)]),
    ],
)
def test_words_become_values_of_every_type(schema, words, value):
    read = read_schema(schema).read(words).value
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (int, "12.50"),
        (int, "x"),
        (Currency, "£"),
        (tuple[int, int], "1"),
        (str, "  "),
        (Item, "no object"),
        (Item, "{"),
        (list[int], "a, b"),
        (bool, "perhaps"),
        (Item, '{"name": "Tea"}'),
    ],
)
def test_words_that_are_no_such_value_are_refused(schema, words):
    with pytest.raises(ValueError, match=r"^(is|lacks|has) "):
        read_schema(schema).read(words)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (int, True),
        (int, 1.5),
        (float, "x"),
        (float, None),
        (float, float("nan")),
        (str, 1),
        (bool, 1),
        (date, "x"),
        (date, 1),
        (Literal[1], True),
        (list[int], 1),
        (tuple[int], [1, 2]),
        (Item, []),
        (Item, {"name": "x"}),
        (Currency, "EUR"),
        (float, "1e999"),
        (Decimal, "1e-999"),
    ],
)
def test_json_that_is_no_such_value_is_refused(schema, value):
    with pytest.raises(ValueError, match=r"^(is|lacks|has) "):
        read_schema(schema).build(value)


@pytest.mark.parametrize("written", ["1e999999999", "-1E+999999999", "0e999999999", "9" * 400])
def test_numbers_of_a_billion_digits_are_not_made(written):
    with pytest.raises(ValueError, match="is no number"):
        read_schema(int).build(written)


@dataclass
class Picky:
    price: float

    def __post_init__(self) -> None:
        if self.price > 100:
            raise ValueError("a secret of 9999 was given")


def test_what_the_callers_class_refuses_is_not_quoted():
    with pytest.raises(ValueError, match=r"refused by the caller's class \(ValueError\)$"):
        read_schema(Picky).build({"price": 9999})


@dataclass
class Loop:
    inner: "Loop | None"


@dataclass
class Lost:
    x: "Nowhere"  # noqa: F821


@dataclass
class Empty:
    pass


@dataclass
class Deep:
    seller: "Bad"


@dataclass
class Bad:
    things: list[set[int]]


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (Loop, "inner"),
        (Lost, "schema"),
        (Empty, "schema"),
        (Deep, r"seller\.things\[\]"),
        (int | str, "schema"),
        (list, "schema"),
        (dict[str, int], "schema"),
        (Any, "schema"),
        (object(), "schema"),
        (complex, "schema"),
        ("str", "schema"),
        (None, "schema"),
    ],
)
def test_what_cannot_be_asked_for_is_named(schema, named):
    with pytest.raises(ParameterError, match=f"^{named}: "):
        read_schema(schema)


@pytest.mark.parametrize("schema", [object(), dict[str, Annotated[int, object()]], {"enum": [object()]}])
def test_errors_hold_no_addresses(schema):
    with pytest.raises(ParameterError) as caught:
        read_schema(schema)
    assert "0x" not in str(caught.value)


REFERRED = {
    "$defs": {"Item": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    "type": "object",
    "properties": {
        "total": {"type": "number", "description": "What is the total?", "minimum": 0},
        "paid": {"type": ["boolean", "null"]},
        "day": {"type": "string", "format": "date"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "kind": {"enum": ["a", 1, None]},
        "always": {"const": "x"},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
        "one": {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "null"}]},
    },
    "required": ["total", "paid"],
}


def test_a_json_schema_gives_plain_values():
    kind = read_schema(REFERRED)
    value = {
        "total": 1.5, "paid": None, "day": "2026-01-02", "items": [{"name": "Tea"}], "kind": 1, "always": "x",
        "pair": ["a", 1], "one": None,
    }  # fmt: skip
    assert kind.build(value) == value
    assert {leaf.name: leaf.needed for leaf in leaves(kind)}["total"]
    assert kind.schema["properties"]["total"]["minimum"] == 0
    assert kind.schema["properties"]["day"] == {"type": "string", "format": "date"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "thing"},
        {"type": "object"},
        {"type": "array"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#"},
        {"$ref": 1},
        {"$ref": "http://x"},
        {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
        {"type": "object", "properties": {"a": 1}},
        {"type": ["string", "integer"]},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {
            "$defs": {
                "a": {
                    "type": "object",
                    "properties": {"l": {"$ref": "#/$defs/a"}, "r": {"$ref": "#/$defs/a"}},
                }
            },
            "$ref": "#/$defs/a",
        },
    ],
)
def test_a_json_schema_that_cannot_be_asked_for(schema):
    with pytest.raises(ParameterError):
        read_schema(schema)


@pytest.mark.extras
def test_pydantic_models_are_made_without_importing_it_here():
    pydantic = pytest.importorskip("pydantic")

    class Line(pydantic.BaseModel):
        name: str
        price: Decimal

    class Bill(pydantic.BaseModel):
        total: Decimal = pydantic.Field(description="What is the total?")
        day: date
        lines: list[Line] = pydantic.Field(default_factory=list)
        note: str | None = None

    kind = read_schema(Bill)
    assert leaves(kind)[0].question == "What is the total?"
    built = kind.build({"total": "12.50", "day": "2026-01-02", "lines": [{"name": "Tea", "price": 3.1}]})
    assert built == Bill(total=Decimal("12.50"), day=date(2026, 1, 2), lines=[Line(name="Tea", price="3.1")])
    with pytest.raises(ValueError, match="refused"):
        kind.make({"total": "12.50", "day": "never"})
    assert read_schema(list[Line]).build([{"name": "Tea", "price": 1}]) == [Line(name="Tea", price=1)]
