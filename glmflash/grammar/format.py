"""What an answer has to look like, as OpenAI's `response_format` says it → a frozen, checked value."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from glmflash.bounds import check_tree
from glmflash.errors import ContextLengthError, MessageError, ParameterError
from glmflash.grammar import guidance

__all__ = ["Kind", "ResponseFormat"]

Kind = Literal["json_object", "json_schema", "regex", "choice"]

_FORMS = (
    '{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {...}}},'
    ' {"type": "regex", "regex": "..."}, {"type": "choice", "choice": [...]}, or a ResponseFormat'
)
_MOST_CHOICES, _MOST_CHARACTERS = 10_000, 1_000_000


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    r"""What the text of an answer has to be.

    Args:
        kind: "json_object" is any JSON object; "json_schema" JSON that a schema allows; "regex" text that a
            regular expression matches from beginning to end; "choice" one of several texts.
        rule: The schema as JSON text; the expression, in the syntax of Rust's `regex` crate; or the texts.

    Raises:
        ParameterError: If it is malformed, holds what cannot be enforced, or needs the extra `grammar`.

    Example:
        >>> ResponseFormat("choice", ("yes", "no")).kind
        'choice'
    """

    kind: Kind
    rule: str | tuple[str, ...] = ""

    def __post_init__(self) -> None:
        kind: object = self.kind
        if not isinstance(kind, str) or kind not in get_args(Kind):
            raise _refusal("is of no known kind")
        if self.kind == "choice":
            _check_choices(self.rule)
        elif not isinstance(self.rule, str):
            raise _refusal(f"has a {self.kind} that is a {type(self.rule).__name__}", "allowed: a string")
        elif len(self.rule) > _MOST_CHARACTERS:
            raise _refusal(f"has {len(self.rule):,} characters", f"allowed: at most {_MOST_CHARACTERS:,}")
        elif self.kind != "json_object":
            guidance.check(self.kind, self.rule)

    @classmethod
    def read(cls, value: object) -> "ResponseFormat | None":
        """Read what a caller gave as `response_format`; None if any text will do.

        Raises:
            ParameterError: As for making one.

        Example:
            >>> ResponseFormat.read({"type": "choice", "choice": ["yes", "no"]})
            ResponseFormat(kind='choice', rule=('yes', 'no'))
            >>> ResponseFormat.read({"type": "text"}) is None
            True
        """
        if isinstance(value, Mapping) and not isinstance(value.get("type"), str):
            raise _refusal("has a type that is no string")
        match value:
            case ResponseFormat():
                return value
            case None | {"type": "text"}:
                return None
            case {"type": "json_object"}:
                return cls("json_object")
            case {"type": "json_schema", "json_schema": {"schema": schema}}:
                return cls.schema(schema)
            case {"type": "regex", "regex": str(pattern)}:
                return cls("regex", pattern)
            case {"type": "choice", "choice": choices}:
                return cls.choices(choices)
            case {"type": str(kind)}:
                raise _refusal(f"of type {kind[:40]!r} is not understood, or lacks a part")
            case _:
                raise _refusal(f"is a {type(value).__name__}")

    @classmethod
    def schema(cls, schema: object) -> "ResponseFormat":
        """JSON that a schema allows; the schema as an object."""
        try:
            check_tree(schema, "has a schema that")
        except (ContextLengthError, MessageError) as error:
            raise ParameterError("response_format", str(error)) from None
        try:
            text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"has a schema that is no JSON ({type(error).__name__})"
            raise _refusal(problem, "give plain dicts and lists") from None
        return cls("json_schema", text)

    @classmethod
    def choices(cls, choices: object) -> "ResponseFormat":
        """One of several texts."""
        listed = isinstance(choices, Sequence) and not isinstance(choices, (str, bytes))
        return cls("choice", tuple(choices) if listed else choices)  # type: ignore[arg-type]  # checked there


def _check_choices(choices: object) -> None:
    allowed = f"allowed: a list of 1 to {_MOST_CHOICES:,} different strings, none empty"
    if not isinstance(choices, tuple) or not 0 < len(choices) <= _MOST_CHOICES:
        raise _refusal("has no usable list of choices", allowed)
    if not all(isinstance(one, str) and one for one in choices) or len(set(choices)) < len(choices):
        raise _refusal("has a choice that is empty, there twice, or no string", allowed)
    if sum(map(len, choices)) > _MOST_CHARACTERS:
        raise _refusal("has too many characters in its choices", f"allowed: {_MOST_CHARACTERS:,} in all")
    if any("\ud800" <= character <= "\udfff" for one in choices for character in one):
        raise _refusal("has a choice with half of a surrogate pair", "allowed: valid Unicode")


def _refusal(problem: str, allowed: str = f"allowed: {_FORMS}") -> ParameterError:
    return ParameterError("response_format", f"{problem}; {allowed}")
