"""A picture and a type → a value of that type, and how sure the model was of each field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from glmflash.asks import Asks
from glmflash.engine.encoded import EncodedImage, encode
from glmflash.engine.request import Options
from glmflash.errors import ExtractionError, ParameterError
from glmflash.output.result import Result
from glmflash.prompt.messages import question
from glmflash.shown import show
from glmflash.structured.answers import object_fields, word_field
from glmflash.structured.extraction import Extraction, Field
from glmflash.structured.kinds import Kind
from glmflash.structured.leaves import Leaf, assemble, leaves
from glmflash.structured.locate import LOCATE, locate_each
from glmflash.structured.schema import read_schema

__all__ = ["By", "OnProblem", "extract"]

T = TypeVar("T")

#: One question for each field, or one for a JSON object of all.
By = Literal["field", "object"]
#: What becomes of a field that is needed and could not be read: an error, or None.
OnProblem = Literal["raise", "none"]

_BEST = 4  # of the likeliest tokens, to find box markers among
_OURS = ("response_format", "regex", "choice", "tools", "tool_choice", "answer_prefix")


def __dir__() -> list[str]:
    return __all__


@overload
def extract(
    self: Asks,
    image: object,
    schema: type[T],
    *,
    by: By = "field",
    boxes: bool = False,
    constrain: bool = True,
    instruction: str | None = None,
    on_error: OnProblem = "raise",
    **options: Unpack[Options],
) -> Extraction[T]: ...


@overload
def extract(
    self: Asks,
    image: object,
    schema: Mapping[str, object],
    *,
    by: By = "field",
    boxes: bool = False,
    constrain: bool = True,
    instruction: str | None = None,
    on_error: OnProblem = "raise",
    **options: Unpack[Options],
) -> Extraction[Any]: ...


def extract(
    self: Asks,
    image: object,
    schema: object,
    *,
    by: By = "field",
    boxes: bool = False,
    constrain: bool = True,
    instruction: str | None = None,
    on_error: OnProblem = "raise",
    **options: Unpack[Options],
) -> Extraction[Any]:
    """Read a typed value from a picture.

    Args:
        self: The pipeline.
        image: One picture, of any kind that a call takes. It is encoded once.
        schema: A dataclass, TypedDict or pydantic model, a JSON schema as a dictionary, or a plain type such
            as `list[str]`. A field's description is its question if it ends with a question mark; else the
            question is made of its name: "What is the total price?".
        by: "field" asks for each field by itself, all at once; "object" asks once for a JSON object.
        boxes: Whether to ask where each value is, too: one more question for each.
        constrain: Whether answers can only be of their field's form, which needs the extra `grammar` except
            for choices; without it, answers are free, and read leniently.
        instruction: What stands before each question; by default "Answer with the value only." or the like.
        on_error: What to do if a field cannot be read that has to be there: "raise", or "none".
        options: As for a call; greedy unless `temperature` is given.

    Raises:
        ExtractionError: If a field could not be read.
        ParameterError: If the schema cannot be asked for, or an option is wrong; and what a call raises.
    """
    _check(by, on_error, instruction, options)
    kind = read_schema(schema)
    read, results = _answers(self, image, kind, _Way(by, boxes, constrain, instruction), options)
    if on_error == "raise":
        _require(read)
    fields = {leaf.name: field for leaf, field in read}
    return Extraction(value=_value(kind, read), fields=fields, results=tuple(results))


_REMEDY = "make it optional, describe it by a clearer question, or pass on_error='none'"
_Read = list[tuple[Leaf, Field]]


@dataclass(frozen=True, slots=True)
class _Way:
    """How fields are asked for; see `extract`."""

    by: By
    boxes: bool
    constrain: bool
    instruction: str | None


def _check(by: object, on_error: object, instruction: object, options: Mapping[str, object]) -> None:
    if not isinstance(instruction, str | None):
        raise ParameterError("instruction", f"is {show(instruction)}; allowed: a string, or None")
    if not isinstance(by, str) or by not in ("field", "object"):
        raise ParameterError("by", f"is {show(by)}; allowed: 'field' or 'object'")
    if not isinstance(on_error, str) or on_error not in ("raise", "none"):
        raise ParameterError("on_error", f"is {show(on_error)}; allowed: 'raise' or 'none'")
    for name in _OURS:
        if options.get(name) is not None:
            raise ParameterError(name, "cannot be given to extract: the schema says what an answer is")


def _answers(
    self: Asks, image: object, kind: Kind, way: _Way, options: Options
) -> tuple[_Read, list[Result]]:
    """Encode the picture, ask, and read the answers."""
    limit, salt = options.get("max_image_tokens"), options.get("cache_salt")
    picture = encode(self.engine, image, max_image_tokens=limit, cache_salt=salt)
    always: Options = {"logprobs": max(options.get("logprobs") or 0, _BEST), "tools": None}
    asked = cast(Options, {"temperature": 0.0, **options, **always})
    ask = _by_field if way.by == "field" else _by_object
    read, results = ask(self, picture, kind, way, asked)
    return (_with_boxes(self, picture, read, options) if way.boxes else read), results


def _by_field(
    self: Asks, picture: EncodedImage, kind: Kind, way: _Way, options: Options
) -> tuple[_Read, list[Result]]:
    wanted, tokenizer = leaves(kind), self.engine.tokenizer
    items = [
        {"text": leaf.ask(way.instruction), "images": picture, "response_format": _form(leaf, way.constrain)}
        for leaf in wanted
    ]
    results = self.batch(items, progress=False, **cast(Options, {"max_new_tokens": 256, **options}))
    answered = zip(wanted, results, strict=True)
    return [(leaf, word_field(leaf, one, tokenizer, leaf.question)) for leaf, one in answered], results


def _by_object(
    self: Asks, picture: EncodedImage, kind: Kind, way: _Way, options: Options
) -> tuple[_Read, list[Result]]:
    if not kind.parts:
        raise ParameterError("by", "'object' needs a schema with fields; leave it out for a plain type")
    wanted = leaves(kind)
    schema = json.dumps(kind.schema, ensure_ascii=False)
    text = f"Answer with JSON of this schema: {schema}. What does the picture say?"
    text = text if way.instruction is None else f"{way.instruction} {schema}"
    form = (kind.form if _has_grammar() else {"type": "json_object"}) if way.constrain else None
    result = self.chat(question(text, images=picture), **cast(Options, {**options, "response_format": form}))
    fields = object_fields(wanted, result, self.engine.tokenizer, text)
    return list(zip(wanted, fields, strict=True)), [result]


def _require(read: _Read) -> None:
    """Raise if a field that has to be there is not."""
    for leaf, field in read:
        if leaf.needed and field.problem is not None:
            raise ExtractionError(leaf.name, f"the answer {field.problem}; {_REMEDY}", field.text)


def _value(kind: Kind, read: _Read) -> object:
    try:
        return assemble(kind, {leaf.path: field for leaf, field in read})
    except ValueError as error:
        raise ExtractionError("schema", f"what was read {error}; {_REMEDY}") from error


def _form(leaf: Leaf, constrain: bool) -> Mapping[str, object] | None:
    form = leaf.form() if constrain else {}
    return form if form and (form["type"] == "choice" or _has_grammar()) else None


def _has_grammar() -> bool:
    return find_spec("llguidance") is not None


def _with_boxes(self: Asks, picture: EncodedImage, read: _Read, options: Options) -> _Read:
    """The same, with a box for each value that has none, if the model gives one."""
    places = [
        number
        for number, (leaf, field) in enumerate(read)
        if field.box is None and field.problem is None and leaf.scalar and field.text
    ]
    things = [f'"{read[number][1].text[:200]}"' for number in places]
    options = cast(Options, {"temperature": 0.0, "max_new_tokens": 64, **options, "logprobs": None})
    found = locate_each(self, things, picture, template=LOCATE, options=options)
    boxed = list(read)
    for number, box in zip(places, found, strict=True):
        leaf, field = read[number]
        boxed[number] = (leaf, replace(field, box=replace(box, label=field.text) if box else None))
    return boxed
