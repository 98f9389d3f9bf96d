"""An answer, and what was asked → the field: value, words, confidence, box, or what is wrong with it."""

import re
from collections.abc import Iterator

from glmflash.output.result import Result
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.structured.extraction import Field
from glmflash.structured.json_spans import json_spans
from glmflash.structured.leaves import Leaf
from glmflash.structured.reading import is_absent
from glmflash.structured.spelling import Spelling, spell

__all__ = ["ABSENT", "object_fields", "word_field"]

#: The problem of what the picture does not hold.
ABSENT = "is not there"

_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,6})?"
_BOX = re.compile(
    rf"[\[({{【（]{{1,2}}\s?{_NUMBER}(?:(?:\s?[,，、]\s?|\s){_NUMBER}){{3}}\s?[\])}}】）]{{1,2}}"
)


def __dir__() -> list[str]:
    return __all__


def word_field(leaf: Leaf, result: Result, tokenizer: Tokenizer, question: str) -> Field:
    """Read the answer to the question about one field.

    What stands between box markers is read first: larger models put their answer there. A box in the answer
    is the field's, and no part of its words.
    """
    spelling, text, box = spell(result, tokenizer), result.text, None
    if leaf.scalar and result.boxes:
        text, box = _BOX.sub(lambda match: " " * len(match[0]), text), result.boxes[0]
    shift = max(0, spelling.text.find(result.text))
    problem = ABSENT
    for start, end in () if _says_absent(leaf, text) else _places(text, spelling, shift):
        try:
            found = leaf.kind.read(text[start:end])
        except (ValueError, ArithmeticError, RecursionError) as error:
            problem = str(error)
            continue
        if result.finish_reason != "stop":
            problem = f"ended early ({result.finish_reason})"
            break
        first, last = start + found.start, start + found.end
        confidence = spelling.probability(shift + first, shift + last)
        words = text[first:last].strip()
        return Field(value=found.value, text=words, confidence=confidence, box=box, question=question)
    confidence = spelling.probability(0, len(spelling.text))
    return Field(
        value=None, text=result.text.strip(), confidence=confidence, question=question, problem=problem
    )


def object_fields(leaves: list[Leaf], result: Result, tokenizer: Tokenizer, question: str) -> list[Field]:
    """Read all fields out of one JSON object."""
    spelling = spell(result, tokenizer)
    spans = {path: (value, start, end) for path, value, start, end in json_spans(spelling.text)}
    fields = []
    for leaf in leaves:
        value, start, end = spans.get(leaf.path, (None, 0, 0))
        text, confidence, made = spelling.text[start:end], spelling.probability(start, end), None
        problem = None if value is not None else ABSENT
        if value is not None:
            try:
                made = leaf.kind.build(value)
            except (ValueError, ArithmeticError, RecursionError) as error:
                problem = str(error)
        fields.append(Field(value=made, text=text, confidence=confidence, question=question, problem=problem))
    return fields


def _says_absent(leaf: Leaf, text: str) -> bool:
    may_be_said = leaf.kind.form.get("type") == "choice"  # "no" and "none" may be values
    return not leaf.needed and not may_be_said and is_absent(text)


def _places(text: str, spelling: Spelling, shift: int) -> Iterator[tuple[int, int]]:
    """Where in the text to read: between markers, if there is one pair with words, then everywhere."""
    marked = [(start - shift, end - shift) for start, end in spelling.marked]
    words = [(start, end) for start, end in marked if start >= 0 and text[start:end].strip()]
    if len(words) == 1:
        yield words[0]
    yield 0, len(text)
