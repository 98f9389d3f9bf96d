"""A kind of value → the fields that are asked for; their values → the value."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glmflash.structured.extraction import Field
from glmflash.structured.kinds import Json, Kind, Part

__all__ = ["Leaf", "assemble", "leaves"]

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-\s]+")
_LONE = "value"  # the name of what is no record


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that is asked for.

    Args:
        path: Names from the outermost record to it.
        kind: What it holds.
        description: What is known of it.
        needed: Whether there is no value without it.
    """

    path: tuple[str, ...]
    kind: Kind
    description: str
    needed: bool

    @property
    def name(self) -> str:
        """The path with points."""
        return ".".join(self.path)

    @property
    def scalar(self) -> bool:
        """Whether it is one thing in the picture, and can have one box."""
        return self.kind.form.get("type") != "json_schema"

    @property
    def question(self) -> str:
        """The description, if it is a question; else one made of the names."""
        about = self.description.strip()
        if about.endswith(("?", "？")):
            return about
        words = " of the ".join(" ".join(_WORDS.split(name)).strip() for name in reversed(self.path))
        return f"What is the {words}{f' ({about})' if about else ''}?"

    def ask(self, instruction: str | None) -> str:
        """The whole question.

        Args:
            instruction: What stands before the question; None is a sentence made of the kind.
        """
        if instruction is None:
            absent = "" if self.needed else ', or "none" if it is not there'
            instruction = f"Answer with {self.kind.hint}{absent}."
        return f"{instruction} {self.question}".strip()

    def form(self) -> Json:
        """`response_format` of the answer; empty if any text will do. It can be "none" if that will do."""
        match self.kind.form if not self.needed else {}:
            case {"type": "regex", "regex": regex}:
                return {"type": "regex", "regex": f"(?:{regex})|none"}
            case {"type": "choice", "choice": list(options)}:
                return {"type": "choice", "choice": [*options, *({"none"} - set(options))]}
            case {"type": "json_schema", "json_schema": {"schema": schema}}:
                schema = {"anyOf": [schema, {"type": "null"}]}
                return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        return self.kind.form


def leaves(kind: Kind) -> list[Leaf]:
    """All fields, those of records within the record too; what is no record is one field, `value`."""
    if not kind.parts:
        return [Leaf((_LONE,), kind, "", not kind.optional)]
    return list(_leaves(kind, (), needed=True))


def _leaves(kind: Kind, path: tuple[str, ...], *, needed: bool) -> Iterator[Leaf]:
    for part in kind.parts:
        here, must = (*path, part.name), needed and _is_needed(part)
        if part.kind.parts:
            yield from _leaves(part.kind, here, needed=must)
        else:
            yield Leaf(here, part.kind, part.description, must)


def assemble(kind: Kind, fields: Mapping[tuple[str, ...], Field]) -> object:
    """Make the value of its fields.

    A record that need not be there is not if a field that it needs is not. What could not be read is the
    default, else None.

    Raises:
        ValueError: If the caller's own class refuses the values.
    """
    return _record(kind, fields, ()) if kind.parts else fields[(_LONE,)].value


def _record(kind: Kind, fields: Mapping[tuple[str, ...], Field], path: tuple[str, ...]) -> object:
    values: dict[str, object] = {}
    for part in kind.parts:
        here = (*path, part.name)
        if part.kind.parts:
            missing = not _is_needed(part) and _is_missing(part.kind, fields, here)
            if not missing:
                values[part.name] = _record(part.kind, fields, here)
        else:
            missing = fields[here].problem is not None
            values |= {} if missing else {part.name: fields[here].value}
        if missing and part.required:
            values[part.name] = None
    return kind.make(values)


def _is_needed(part: Part) -> bool:
    return part.required and not part.kind.optional


def _is_missing(kind: Kind, fields: Mapping[tuple[str, ...], Field], path: tuple[str, ...]) -> bool:
    inner = list(_leaves(kind, path, needed=True))
    problems = [fields[leaf.path].problem is not None for leaf in inner]
    lacking = [leaf.needed for leaf, problem in zip(inner, problems, strict=True) if problem]
    return any(lacking) or all(problems)
