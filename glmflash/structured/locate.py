"""The name of a thing, and a picture → the boxes where it is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack, cast

from glmflash.asks import Asks
from glmflash.bounds import MAX_CHARACTERS
from glmflash.engine.request import Options
from glmflash.errors import ParameterError
from glmflash.output.boxes import Box
from glmflash.prompt.messages import question

__all__ = ["LOCATE", "locate", "locate_each"]

#: What is asked; `{}` stands for the thing. The embedded model knows the question, larger ones the form.
LOCATE = "Answer with its bounding box [[x1,y1,x2,y2]]. Where is {}?"


def __dir__() -> list[str]:
    return __all__


def locate(
    self: Asks, what: str, images: object, *, template: str = LOCATE, **options: Unpack[Options]
) -> tuple[Box, ...]:
    """Find a thing in a picture.

    Args:
        self: The pipeline.
        what: The thing, as one would name it to a person: "the Save button".
        images: As for a call. With several, boxes are those of the last.
        template: The question, with `{}` for the thing.
        options: As for a call; greedy unless `temperature` is given.

    Returns:
        Its boxes, in pixels of the picture given, labelled with `what`; none if the answer has none.

    Raises:
        ParameterError: If `template` has no `{}`; and what a call raises.
    """
    asked = cast(Options, {"temperature": 0.0, **options})
    result = self.chat(question(_filled(template, what), images=images), **asked)
    return tuple(replace(box, label=what) for box in result.boxes)


def locate_each(
    self: Asks, things: Sequence[str], image: object, *, template: str, options: Options
) -> list[Box | None]:
    """The first box of each of several things, asked together.

    Args:
        self: The pipeline.
        things: As for `locate`.
        image: One picture.
        template: As for `locate`.
        options: Of every question.
    """
    items = [{"text": _filled(template, one), "images": image} for one in things]
    results = self.batch(items, progress=False, **options)
    return [
        replace(result.boxes[0], label=thing) if result.boxes else None
        for thing, result in zip(things, results, strict=True)
    ]


def _filled(template: object, what: object) -> str:
    if not isinstance(template, str) or "{}" not in template:
        raise ParameterError("template", "has no place for the thing; write {} where it goes")
    if not isinstance(what, str) or not what.strip():
        raise ParameterError("what", "is empty or no text; give a few words, such as 'the Save button'")
    if len(template) + template.count("{}") * len(what) > MAX_CHARACTERS:
        raise ParameterError(
            "what", f"is too long for the template; allowed: {MAX_CHARACTERS:,} characters in all"
        )
    return template.replace("{}", what)
