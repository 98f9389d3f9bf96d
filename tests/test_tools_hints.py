"""Functions → tool objects; arguments of a call → values of the parameters' types, or what is wrong."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, Optional

import pytest

from glmflash import ParameterError
from glmflash.tools import tool
from glmflash.tools.describe import understand_all
from glmflash.tools.hints import understand


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    city: str
    zip: int = 0
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.city:
            raise ValueError("a place needs a city")


@dataclass
class Knot:
    next: "Knot | None" = None


READ = [
    (str, "x", "x"),
    (str, "", ""),
    (int, 3, 3),
    (int, 3.0, 3),
    (float, 3, 3.0),
    (float, 2.5, 2.5),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (object, None, None),
    (int | None, None, None),
    (Optional[int], 4, 4),  # noqa: UP045 - people write it
    (int | str, "4", "4"),
    (int | str, 4, 4),
    (Literal["a", "b"], " b\n", "b"),
    (Literal[1, 2], 2, 2),
    (Literal["a", 1, None], None, None),
    (Colour, "green", Colour.GREEN),
    (Level, 2, Level.HIGH),
    (list, [1, "a"], [1, "a"]),
    (list[int], [1, 2], [1, 2]),
    (Sequence[float], [1], [1.0]),
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (Mapping[str, list[bool]], {"a": [True]}, {"a": [True]}),
    (Annotated[int, "how many"], 1, 1),
    (Place, {"city": "Bonn"}, Place("Bonn")),
    (list[Place], [{"city": "Bonn", "zip": 5, "tags": ["x"]}], [Place("Bonn", 5, ["x"])]),
]


@pytest.mark.parametrize(("hint", "value", "expected"), READ, ids=str)
def test_a_value_of_the_type_is_read(hint, value, expected) -> None:
    got = understand(hint, "a").read(value, "a")
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (str, 3, "a: is a whole number; allowed: a string"),
        (int, "3", "a: is a string; allowed: a whole number"),
        (int, True, "a: is true or false; allowed: a whole number"),
        (int, 2.5, "a: is a number with a fraction; allowed: a whole number"),
        (float, True, "a: is true or false; allowed: a number"),
        (float, 10**400, "a: is a whole number; allowed: a number"),
        (bool, 1, "a: is a whole number; allowed: true or false"),
        (None, 0, "a: is a whole number; allowed: null"),
        (int | None, "x", "a: is a string; allowed: a whole number or null"),
        (list[int] | None, [1, "x"], "a[1]: is a string; allowed: a whole number"),
        (Literal["a", "b"], "c", "a: is a string; allowed: 'a', 'b'"),
        (Literal[1, 2], True, "a: is true or false; allowed: 1, 2"),
        (Colour, "RED", "a: is a string; allowed: 'red', 'green'"),
        (list[str], "x", "a: is a string; allowed: a list, each item a string"),
        (list[list[int]], [[1], [None]], "a[1][0]: is null; allowed: a whole number"),
        (dict[str, int], [], "a: is a list; allowed: an object, each value a whole number"),
        (dict[str, int], {"k": None}, "a.k: is null; allowed: a whole number"),
        (Place, {}, "a.city: is missing; give a string"),
        (Place, {"city": "x", "b": 1}, "a.b: is unknown; allowed: city, zip, tags"),
        (Place, {"city": ""}, "a: is refused: a place needs a city"),
        (Place, "Bonn", "a: is a string; allowed: an object with city, zip, tags"),
    ],
    ids=str,
)
def test_any_other_value_is_refused_with_what_is_allowed(hint, value, message) -> None:
    with pytest.raises(ParameterError) as caught:
        understand(hint, "a").read(value, "a")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (list, {"type": "array"}),
        (list[float], {"type": "array", "items": {"type": "number"}}),
        (dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (Any, {}),
        (
            Place,
            {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "zip": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            },
        ),
    ],
    ids=str,
)
def test_schemas(hint, schema) -> None:
    assert understand(hint, "a").schema == schema


@pytest.mark.parametrize(
    "hint", [bytes, set[int], tuple[int, int], dict[int, str], complex, Literal[b"x"], Knot, list["Colour"]]
)
def test_a_type_without_json_is_refused(hint) -> None:
    with pytest.raises(ParameterError, match=r"^f\(a\).*allowed: "):
        understand(hint, "f(a)")


def search(
    query: str,
    *,
    limit: int = 5,
    where: Annotated[str | None, "A folder."] = None,
    sort: Literal["new", "old"],
) -> list[str]:
    """Search the files,
    in any folder.

    A second paragraph.

    Args:
        query: What to look for,
            word by word.
        limit (int): Most files.
        where: Not this, but the note.

    Returns:
        Names: of files.

    Raises:
        OSError: If not.
    """


SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search the files, in any folder. A second paragraph.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to look for, word by word."},
                "limit": {"type": "integer", "description": "Most files.", "default": 5},
                "where": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "A folder."},
                "sort": {"type": "string", "enum": ["new", "old"]},
            },
            "required": ["query", "sort"],
        },
    },
}


def test_a_function_is_described_by_signature_and_docstring() -> None:
    assert tool(search) == SEARCH
    assert json.loads(json.dumps(tool(search))) == SEARCH


def test_the_docstrings_of_sphinx_are_read_too() -> None:
    def add(a: int, b: int = 1) -> int:
        """Add.

        :param a: The first,
            of two.
        :param int b: The second.
        :returns: The sum.
        """

    described = tool(add)["function"]
    assert described["description"] == "Add."
    assert [one.get("description") for one in described["parameters"]["properties"].values()] == [
        "The first, of two.",
        "The second.",
    ]


def test_methods_decorated_and_bare_functions() -> None:
    class Shop:
        def price(self, item: str) -> float: ...

    @functools.cache
    def cached(a: int) -> int: ...

    def bare(a, b=None): ...

    assert [*tool(Shop().price)["function"]["parameters"]["properties"]] == ["item"]
    assert tool(cached)["function"]["parameters"]["properties"] == {"a": {"type": "integer"}}
    assert tool(bare)["function"] == {
        "name": "bare",
        "parameters": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]},
    }


def test_a_function_without_parameters() -> None:
    def now() -> str: ...

    assert tool(now)["function"]["parameters"] == {"type": "object", "properties": {}}
    with pytest.raises(ParameterError, match="a: is unknown; allowed: none at all"):
        understand_all([now])["now"].read({"a": 1})


async def later() -> None: ...


def positional(a: int, /) -> None: ...


def several(*names: str) -> None: ...


def anything(**names: str) -> None: ...


def unknown(a: "Nowhere") -> None: ...  # noqa: F821 - on purpose


def raw(a: bytes) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (later, "later: is a coroutine"),
        (positional, r"positional\(a\): cannot be given by name"),
        (several, r"several\(names\): cannot be given by name"),
        (anything, r"anything\(names\): cannot be given by name"),
        (unknown, "unknown: has no signature that can be read .*Nowhere"),
        (raw, r"raw\(a\): has the type bytes"),
        (lambda: 1, "functions: holds <lambda>; give it a name"),
        (functools.partial(search, "x"), "functions: holds a partial; allowed: functions"),
        (Place, "functions: holds a type; allowed"),
        (3, "functions: holds a int; allowed"),
        (len, r"len\(obj\): cannot be given by name"),
        ("search", "functions: holds a str; allowed"),
    ],
)
def test_what_cannot_be_described_is_refused(function, message) -> None:
    with pytest.raises(ParameterError, match=f"^{message}"):
        tool(function)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([], "is empty; allowed"),
        (search, "is a function; allowed: a list"),
        ("search", "is a str; allowed: a list"),
        ([search, search], "has a name twice: search, search"),
        ([search, None], "holds a NoneType"),
    ],
)
def test_functions_are_a_list_with_names_of_their_own(functions, message) -> None:
    with pytest.raises(ParameterError, match=f"^functions: {message}"):
        understand_all(functions)
