"""The rules by which a tokenizer.json cuts text → nothing, or why they are refused before they meet any.

They are a stranger's program: a pattern may try more ways than there are atoms, and a replacement may turn a
short text into one that fills the memory. What byte-level tokenizers need can do neither.
"""

import re
from collections.abc import Iterator, Mapping

__all__ = ["check_rules"]

_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Sequence")
_PRE_TOKENIZERS = ("ByteLevel", "Digits", "Sequence", "Split")
# What stands for one character: a property, an escape, a class. And groups that only group or look ahead.
_ONE = re.compile(r"\\[pP]\{\^?\w+\}|\\[^\dgk]|\[\^?\]?(?:\\.|[^\[\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\(\?(?:[imsx]*:|[=!])")
# Where a matcher has to choose, and what may follow when it must not have chosen wrong.
_CHOICE = re.compile(r"\||[*+?]\??|\{(\d*)(,?)(\d*)\}\??")
_OPTIONAL = re.compile(r"(?:(?:\([^()]*\)|[^()])\?)*")
_MOST_CHOICES = 10  # of one alternative; as many as any published one has


def __dir__() -> list[str]:
    return __all__


def check_rules(data: Mapping[str, object]) -> str | None:
    """What is wrong with the normalizer and the pre-tokenizer of a tokenizer.json; None if nothing is.

    Example:
        >>> check_rules({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}})
        "pre_tokenizer: the pattern '(a+)+$' may take for ever; allowed: few repetitions, none of groups"
    """
    for key, kinds in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS)):
        for rule in _rules(data.get(key)):
            kind = rule.get("type")
            if kind not in kinds:
                return f"{key} is of type {kind!r:.40}; allowed: {', '.join(kinds)}"
            pattern = rule.get("pattern")
            given = pattern.get("Regex") if isinstance(pattern, Mapping) else None
            if isinstance(given, str) and not _is_quick(given):
                remedy = "allowed: few repetitions, none of groups"
                return f"{key}: the pattern {given!r:.80} may take for ever; {remedy}"
    return None


def _rules(rule: object) -> Iterator[Mapping[str, object]]:
    """A rule and those in it; all that is none is left for the library to refuse."""
    todo = [rule]
    while todo:
        rule = todo.pop()
        if isinstance(rule, Mapping):
            yield rule
            for inside in ("normalizers", "pretokenizers"):
                parts = rule.get(inside)
                todo += parts if isinstance(parts, list) else []


def _is_quick(pattern: str) -> bool:
    """Whether single characters alone are repeated, and few; else time can grow exponentially."""
    plain = _GROUP.sub("(", _ONE.sub("x", pattern))
    if re.search(r"\\|\(\?|\)[*+{]|[*+?}][*+{]|\[", plain):
        return False
    return all(map(_chooses_little, _alternatives(plain)))


def _alternatives(plain: str) -> Iterator[str]:
    """What stands between the bars that are in no group."""
    depth = start = 0
    for sign in re.finditer(r"[()|]", plain):
        depth += {"(": 1, ")": -1, "|": 0}[sign[0]]
        if sign[0] == "|" and not depth:
            yield plain[start : sign.start()]
            start = sign.end()
    yield plain[start:]


def _chooses_little(alternative: str) -> bool:
    """Whether few of its parts can match in several ways, so that few combinations have to be tried.

    Behind a second repetition without end nothing may have to match: then whatever it takes is right.
    """
    choices, endless = 0, list[int]()
    for sign in _CHOICE.finditer(alternative):
        few = _optional(sign)
        if few is None:
            endless.append(sign.end())
        else:
            choices += few
    if choices > _MOST_CHOICES or len(endless) > 2:
        return False
    return len(endless) < 2 or _OPTIONAL.fullmatch(alternative, endless[1]) is not None


def _optional(sign: re.Match[str]) -> int | None:
    """How often one of two ways has to be chosen; None if that has no end."""
    low, comma, high = sign.groups()
    if sign[0][0] in "|?" or comma == "":
        return 0 if comma == "" else 1
    if not high or max(len(low), len(high)) > 2:
        return None
    return max(0, int(high) - int(low or 0))
