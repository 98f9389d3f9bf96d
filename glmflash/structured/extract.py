"""A picture and a type → a value of that type, and how sure the model was of each field."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from glmflash.asks import Asks
from glmflash.engine.encoded import EncodedImage, encode
from glmflash.engine.request import Options
from glmflash.errors import ExtractionError, ParameterError
from glmflash.output.result import Result
from glmflash.prompt.messages import question
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
    _check(by, on_error, options)
    kind = read_schema(schema)
    picture = encode(
        self.engine,
        image,
        max_image_tokens=options.get("max_image_tokens"),
        cache_salt=options.get("cache_salt"),
    )
    asked = cast(
        Options, {"temperature": 0.0, **options, "logprobs": options.get("logprobs") or 0, "tools": None}
    )
    ask = _by_field if by == "field" else _by_object
    read, results = ask(self, picture, kind, constrain, instruction, asked)
    if boxes:
        read = _with_boxes(self, picture, read, cast(Options, {**options, "logprobs": None}))
    if on_error == "raise":
        for leaf, field in read:
            if leaf.needed and field.problem is not None:
                raise ExtractionError(leaf.name, f"the answer {field.problem}; {_REMEDY}", field.text)
    try:
        value = assemble(kind, {leaf.path: field for leaf, field in read})
    except ValueError as error:
        raise ExtractionError("schema", f"what was read {error}; {_REMEDY}") from error
    return Extraction(value=value, fields={leaf.name: field for leaf, field in read}, results=tuple(results))


_REMEDY = "make it optional, describe it by a clearer question, or pass on_error='none'"
_Read = list[tuple[Leaf, Field]]


def _check(by: object, on_error: object, options: Mapping[str, object]) -> None:
    if by not in ("field", "object"):
        raise ParameterError("by", f"is {by!r:.80}; allowed: 'field' or 'object'")
    if on_error not in ("raise", "none"):
        raise ParameterError("on_error", f"is {on_error!r:.80}; allowed: 'raise' or 'none'")
    for name in _OURS:
        if options.get(name) is not None:
            raise ParameterError(name, "cannot be given to extract: the schema says what an answer is")


def _by_field(
    self: Asks, picture: EncodedImage, kind: Kind, constrain: bool, instruction: str | None, options: Options
) -> tuple[_Read, list[Result]]:
    wanted = leaves(kind)
    items = [
        {"text": leaf.ask(instruction), "images": picture, "response_format": _form(leaf, constrain)}
        for leaf in wanted
    ]
    results = self.batch(items, progress=False, **{"max_new_tokens": 256, **options})
    tokenizer = self.engine.tokenizer
    read = [
        (leaf, word_field(leaf, result, tokenizer, leaf.question))
        for leaf, result in zip(wanted, results, strict=True)
    ]
    return read, results


def _by_object(
    self: Asks, picture: EncodedImage, kind: Kind, constrain: bool, instruction: str | None, options: Options
) -> tuple[_Read, list[Result]]:
    if not kind.parts:
        raise ParameterError("by", "'object' needs a schema with fields; leave it out for a plain type")
    wanted = leaves(kind)
    schema = json.dumps(kind.schema, ensure_ascii=False)
    text = f"Answer with JSON of this schema: {schema}. What does the picture say?"
    text = text if instruction is None else f"{instruction} {schema}"
    form = (kind.form if _has_grammar() else {"type": "json_object"}) if constrain else None
    asked = cast(Options, {**options, "response_format": form})
    result = self.chat(question(text, images=picture), **asked)
    fields = object_fields(wanted, result, self.engine.tokenizer, text)
    return list(zip(wanted, fields, strict=True)), [result]


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
    options = cast(Options, {"temperature": 0.0, "max_new_tokens": 64, **options})
    found = locate_each(self, things, picture, template=LOCATE, options=options)
    boxed = list(read)
    for number, box in zip(places, found, strict=True):
        leaf, field = read[number]
        boxed[number] = (leaf, replace(field, box=box))
    return boxed
