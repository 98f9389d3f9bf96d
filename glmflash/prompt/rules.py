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


def __dir__() -> list[str]:
    return __all__


def check_rules(data: Mapping[str, object]) -> str | None:
    """What is wrong with the normalizer and the pre-tokenizer of a tokenizer.json; None if nothing is.

    Example:
        >>> check_rules({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}}})
        "pre_tokenizer: the pattern '(a+)+$' may take for ever; allowed: patterns that repeat no groups"
    """
    for key, kinds in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS)):
        for rule in _rules(data.get(key)):
            kind = rule.get("type")
            if kind not in kinds:
                return f"{key} is of type {kind!r:.40}; allowed: {', '.join(kinds)}"
            pattern = rule.get("pattern")
            given = pattern.get("Regex") if isinstance(pattern, Mapping) else None
            if isinstance(given, str) and not _is_quick(given):
                remedy = "allowed: patterns that repeat no groups"
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
    """Whether nothing but single characters is repeated; of groups, time can grow exponentially."""
    plain = _GROUP.sub("(", _ONE.sub("x", pattern))
    return not re.search(r"\\|\(\?|\)[*+{]|[*+?}][*+{]|\[", plain)
