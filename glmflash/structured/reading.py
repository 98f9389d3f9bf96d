"""The words of an answer → a number, a date, yes or no, a list; and expressions that such answers match."""

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

__all__ = [
    "DATE",
    "DECIMAL",
    "TRUTHS",
    "WHOLE",
    "Found",
    "day",
    "is_absent",
    "items",
    "number",
    "option",
    "truth",
]

T = TypeVar("T")

# Currency before or after, as printed: "$", "US$", "EUR", "RM", "元". Only what llguidance knows of regexes.
_UNIT = r"(?:\p{Sc}|[A-Za-z]{1,3}\p{Sc}?|元|円|圆|块)"
_DIGITS = r"[0-9]{1,3}(?:[,. '’][0-9]{3}){1,6}|[0-9]{1,18}"
#: Texts that `number` reads, for constrained answers: what the model would write anyway is let through.
DECIMAL = rf"(?:{_UNIT} ?)?[-+−]?(?:{_UNIT} ?)?(?:{_DIGITS})(?:[.,][0-9]{{1,6}})?(?: ?(?:%|{_UNIT}))?"
#: The same without decimals.
WHOLE = rf"(?:{_UNIT} ?)?[-+−]?(?:{_UNIT} ?)?(?:{_DIGITS})(?: ?(?:%|{_UNIT}))?"
#: Texts that `day` reads.
DATE = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}[/.][0-9]{1,2}[/.][0-9]{1,2}|[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日"
    r"|[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{4}|[A-Z][a-z]{2,8}\.? [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}"
    r"|[0-9]{1,2}(?:st|nd|rd|th)? [A-Z][a-z]{2,8}\.?,? [0-9]{4}"
)
#: Texts that `truth` reads, as a model may begin with any of them.
TRUTHS = ("Yes", "No", "yes", "no", "True", "False", "true", "false", "是", "否", "有", "没有")

_NUMBER = re.compile(
    r"(?<![\w.,])(?P<open>\()?(?P<sign>[-+−–])?\s?[^\W\d_]{0,3}[^\w\s+−–-]?\s?(?P<inner>[-+−–])?"
    r"(?P<digits>[0-9]+(?:[,.'’][0-9]+|[ ][0-9]{3}(?![0-9]))*)\s?(?P<scale>[万萬亿億])?"
)
_SCALES = {"万": 4, "萬": 4, "亿": 8, "億": 8}
_TRUTH = {word.lower(): word.lower() in ("yes", "true", "是", "有") for word in TRUTHS}
_ABSENT = re.compile(
    r"(?:none|null|nil|n/?a|no|nothing|unknown|missing|empty|-+|—+|–+|无|没有|不存在|未知|空)?[.。]?"
    r"|(?:it is |it's )?not (?:there|given|shown|found|present|available|applicable|visible|stated)[.。]?",
    re.IGNORECASE,
)
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})\s?[-/.年]\s?(\d{1,2})\s?[-/.月]\s?(\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})\s?([-/.])\s?(\d{1,2})\s?\2\s?(\d{4})(?!\d)")
_MONTH_FIRST = re.compile(r"\b([A-Za-z]{3})[a-z]{0,6}\.?\s(\d{1,2})(?:st|nd|rd|th)?,?\s(\d{4})(?!\d)")
_DAY_FIRST = re.compile(
    r"(?<!\d)(\d{1,2})(?:st|nd|rd|th)?\s(?:of\s)?([A-Za-z]{3})[a-z]{0,6}\.?,?\s(\d{4})(?!\d)"
)
_BULLET = re.compile(r"^\s*(?:[-*•]|[0-9]{1,3}[.)、])\s+")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and where in the text it is written."""

    value: object
    start: int
    end: int


def number(text: str) -> Found:
    """The one number of a text, as a `Decimal` with the digits it is written in.

    Read over: a currency before or behind it, blanks, commas and apostrophes between thousands, full-width
    digits, `%` (12 % is 12), brackets around a negative amount; 万 and 亿 count. A comma or point with one,
    two or more than three digits behind it is the decimal one; `1,234` is a thousand, `1.234` is not.

    Raises:
        ValueError: If there is none, or several that differ.

    Example:
        >>> number("Total: ¥1,234.50").value, number("12,50 €").value
        (Decimal('1234.50'), Decimal('12.50'))
    """
    plain = _narrow(text)
    found = [_found(match) for match in _NUMBER.finditer(plain)]
    if not found:
        raise ValueError("is no number")
    if any(one.value != found[0].value for one in found):
        raise ValueError("has several numbers")
    return found[0]


def day(text: str) -> Found:
    """The one date of a text.

    Raises:
        ValueError: If there is none, or if day and month cannot be told apart, as in 03/04/2026.

    Example:
        >>> day("28 Nov 2026").value, day("2026年11月28日").value
        (datetime.date(2026, 11, 28), datetime.date(2026, 11, 28))
    """
    plain = _narrow(text)
    for pattern, order in ((_YEAR_FIRST, "ymd"), (_MONTH_FIRST, "mdy"), (_DAY_FIRST, "dmy")):
        match = pattern.search(plain)
        if match:
            parts = dict(zip(order, match.groups(), strict=True))
            return Found(_date(parts["y"], parts["m"], parts["d"]), *match.span())
    match = _YEAR_LAST.search(plain)
    if match is None:
        raise ValueError("is no date")
    first, dot, second, year = match.groups()
    if dot == "." or int(first) > 12 or first == second:
        return Found(_date(year, second, first), *match.span())
    if int(second) > 12:
        return Found(_date(year, first, second), *match.span())
    raise ValueError("may be two dates: ask for it as YYYY-MM-DD")


def truth(text: str) -> Found:
    """Yes or no, by the first word.

    Raises:
        ValueError: If it is neither.
    """
    match = re.match(r"\s*(没有|[是否有]|[A-Za-z]+)", text)
    if match is None or match[1].lower() not in _TRUTH:
        raise ValueError("is neither yes nor no")
    return Found(_TRUTH[match[1].lower()], *match.span(1))


def option(text: str, options: tuple[tuple[str, object], ...]) -> Found:
    """The one of several texts that the answer is, whatever the case, or that it names.

    Raises:
        ValueError: If it names none of them, or several.
    """
    bare = _narrow(text).strip(" \t\n.。\"'“”").casefold()
    for name, value in options:
        if _narrow(name).casefold() == bare:
            return _whole(text, value)
    named = [one for one in options if re.search(rf"(?<!\w){re.escape(one[0])}(?!\w)", text, re.IGNORECASE)]
    if len(named) != 1:
        raise ValueError("is none of the values allowed")
    match = re.search(re.escape(named[0][0]), text, re.IGNORECASE)
    assert match is not None
    return Found(named[0][1], *match.span())


def items(text: str) -> list[object]:
    r"""A list: JSON, also in a fence; else one item a line; else what stands between commas.

    Example:
        >>> items("- Coffee\n- Bread"), items("Coffee, Bread"), items('["a", 1]')
        (['Coffee', 'Bread'], ['Coffee', 'Bread'], ['a', 1])
    """
    start = text.find("[")
    if start >= 0:
        try:
            return list(json.JSONDecoder().raw_decode(text, start)[0])
        except (ValueError, RecursionError):
            pass
    lines = [_BULLET.sub("", line).strip() for line in text.strip().splitlines()]
    parts: list[str] = lines if len(lines) > 1 else re.split(r"[,，、;；]\s*", "".join(lines))
    return [part for part in parts if part]


def is_absent(text: str) -> bool:
    """Whether an answer says that there is nothing to say."""
    return _ABSENT.fullmatch(text.strip()) is not None


def _narrow(text: str) -> str:
    """Full-width digits and signs made ordinary; of the same length."""
    return "".join(narrow if len(narrow := unicodedata.normalize("NFKC", one)) == 1 else one for one in text)


def _whole(text: str, value: object) -> Found:
    start = len(text) - len(text.lstrip())
    return Found(value, start, max(start, len(text.rstrip())))


def _found(match: re.Match[str]) -> Found:
    value = _decimal(re.sub(r"[ '’]", "", match["digits"]))
    if match["scale"]:
        value *= 10 ** _SCALES[match["scale"]]
    closed = match["open"] and match.string[match.end() : match.end() + 1] == ")"
    negative = closed or (match["sign"] or match["inner"]) in ("-", "−", "–")
    return Found(value.copy_negate() if negative else value, match.start(), match.end())


def _decimal(digits: str) -> Decimal:
    """Digits, commas and points: of two kinds of marks the last is the decimal one."""
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return Decimal(digits)
    whole, mark, behind = digits[:last], digits[last], digits[last + 1 :]
    thousands = mark in whole or (mark == "," and len(behind) == 3 and digits[0] != "0")
    groups = re.split(r"[,.]", digits if thousands else whole)
    marks = set(re.findall(r"[,.]", whole)) | ({mark} if thousands else set())
    if (
        len(marks) > 1
        or not all(2 <= len(one) <= 3 for one in groups[1:])
        or (thousands and len(behind) != 3)
    ):
        raise ValueError("is no number")  # a version, a date with points
    return Decimal("".join(groups) if thousands else f"{''.join(groups)}.{behind}")


def _date(year: str, month: str, day: str) -> date:
    number = _MONTHS.index(month.lower()) + 1 if month.lower() in _MONTHS else 0
    try:
        return date(int(year), number or int(month), int(day))
    except ValueError:
        raise ValueError("is no date") from None
