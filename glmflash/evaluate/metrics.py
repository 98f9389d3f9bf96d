"""An answer and what is right, both as text → how right it is, 0 to 1, by the definitions of the field.

Each takes the answer first, then what is right. What stands in boxes is judged in `overlap`, what stands in
tables in `teds`.
"""

import math
import re

from glmflash.evaluate.levenshtein import levenshtein

__all__ = ["anls", "contains", "contains_formula", "exact", "letter", "relaxed"]

_MARKS = " \t\r\n.,:;!()[]{}*#\"'`$，。：；！（）【】"
# ASCII neighbours only: Chinese is written without blanks.
_OPTION = re.compile(
    r"(?<![A-Za-z0-9'’°])([A-H])(?![A-Za-z0-9'’])(?!(?<=A) +(?!(?:is|or|and|because)\b)[a-z])"
)


def __dir__() -> list[str]:
    return __all__


def exact(given: str, right: str) -> float:
    r"""1 if both are the same text; blanks around it do not count, everything else does.

    Example:
        >>> exact(" 5.75\n", "5.75"), exact("$5.75", "5.75")
        (1.0, 0.0)
    """
    return float(given.strip() == right.strip())


def anls(given: str, right: str) -> float:
    """Average normalised Levenshtein similarity of one answer, of DocVQA and its relatives.

    `1 - distance / length of the longer`, and 0 where that is below 0.5. Case does not count; blanks around
    the text do not, and others as one. The average is taken over questions.

    Source:
        Biten et al. 2019, "Scene Text Visual Question Answering" (arXiv:1905.13648), equation 1, with the
        threshold of 0.5; case and blanks as in the evaluation script of DocVQA (rrc.cvc.uab.es, challenge
        17). The script divides by the lengths before blanks are removed; here blanks earn nothing.

    Example:
        >>> anls("Corner Café", "corner cafe")  # 1 of 11 letters
        0.9090909090909091
        >>> anls("5.75", "12.80")
        0.0
    """
    given, right = (" ".join(text.lower().split()) for text in (given, right))
    longer, shorter = max(len(given), len(right)), min(len(given), len(right))
    if longer == 0:
        return 1.0
    if 2 * shorter < longer:  # the distance is at least the difference
        return 0.0
    similarity = 1 - levenshtein(given, right) / longer
    return similarity if similarity >= 0.5 else 0.0


def relaxed(given: str, right: str) -> float:
    """Relaxed accuracy of ChartQA: a number within 5 % of the right one, or else the same text.

    `7%` is 0.07. Where the right answer is 0 or no number, the text has to be the same; case does not count.

    Source:
        Masry et al. 2022, "ChartQA" (arXiv:2203.10244), section 5.1, after Methani et al. 2020; percent signs
        and zero as in `relaxed_correctness` of google-research/pix2struct. Blanks around it do not count.

    Example:
        >>> relaxed("95", "100"), relaxed("94.9", "100"), relaxed("Yes", "yes"), relaxed("7%", "0.07")
        (1.0, 0.0, 1.0, 1.0)
    """
    given, right = given.strip(), right.strip()
    number, target = _number(given), _number(right)
    if number is not None and target:
        return float(abs(number - target) / abs(target) <= 0.05)
    return float(given.lower() == right.lower())


def _number(text: str) -> float | None:
    try:
        number = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def contains(given: str, right: str) -> float:
    """1 if what is right stands in the answer; case and line breaks do not count. OCRBench's rule.

    Source:
        Liu et al. 2024, "OCRBench" (arXiv:2305.07895); `OCRBench/example.py` of Yuliang-Liu/MultimodalOCR.

    Example:
        >>> contains("It says CENTRE.", "centre"), contains("cent re", "centre")
        (1.0, 0.0)
    """
    given, right = (text.lower().strip().replace("\n", " ") for text in (given, right))
    return float(right in given)


def contains_formula(given: str, right: str) -> float:
    r"""1 if what is right stands in the answer without any blanks; case counts. For formulas in LaTeX.

    Source:
        That of `contains`, where the data set is HME100k.

    Example:
        >>> contains_formula(r"\frac { a } { b }", r"\frac{a}{b}"), contains_formula("X", "x")
        (1.0, 0.0)
    """
    given, right = (text.strip().replace("\n", " ").replace(" ", "") for text in (given, right))
    return float(right in given)


def letter(given: str, right: str) -> float:
    """1 if the answer names the right option of a multiple choice by its letter, A to H, and no other.

    A letter counts where it stands alone: in brackets, beside punctuation or blanks. An `A` before a word is
    the article, unless that word is "is", "or", "and" or "because". Small letters count if there is nothing
    else.

    Source:
        After `can_infer_option` of VLMEvalKit (open-compass/VLMEvalKit), which leaves what it cannot tell to
        another model; here that is wrong.

    Example:
        >>> letter("(B) a bill", "B"), letter("The answer is A.", "A"), letter("A or B", "B")
        (1.0, 1.0, 0.0)
    """
    alone = given.strip(_MARKS)
    named = {alone.upper()} if len(alone) == 1 else set(_OPTION.findall(given))
    return float(named == {right.strip().upper()})
