"""Questions, rows and reports made by hand, for the tests of glmflash.evaluate."""

from random import Random

from PIL import Image

from glmflash.evaluate import Answer, Asked, Question, Report, Row

SCARLET = Image.new("RGB", (60, 40), "#c81e1e")


def questions(count: int, **fields) -> tuple[Question, ...]:
    """Sums, which any function can answer."""
    return tuple(
        Question(
            id=f"q{at}", text=f"{at} + 1?", answers=(str(at + 1),), kind=("even", "odd")[at % 2], **fields
        )
        for at in range(count)
    )


def right(question: Question) -> str:
    """Always knows."""
    return question.answers[0]


def wrong(question: Question) -> str:
    """Never does."""
    return "no idea"


def report(
    scores: dict[str, list[float]], *, pictures=None, texts=None, seconds=0.5, shown=None, **fields
) -> Report:
    """A report with these scores, one question for each."""
    count = len(next(iter(scores.values())))
    asked = tuple(
        Asked(
            id=f"q{at}", text=f"question {at}", answers=("yes",), kind=("even", "odd")[at % 2],
            metric="exact", pictures=() if pictures is None else (pictures[at],),
        )
        for at in range(count)
    )  # fmt: skip
    rows = {
        name: tuple(
            Row(
                system=name, question=f"q{at}", score=score, seconds=seconds, began=float(at),
                answer=Answer(texts or "yes", completion_tokens=3),
            )
            for at, score in enumerate(of_one)
        )
        for name, of_one in scores.items()
    }  # fmt: skip
    return Report(baseline=next(iter(scores)), questions=asked, rows=rows, pictures=shown or {}, **fields)


def coins(share: float, count: int, *, seed: int) -> list[float]:
    """1 about as often as said, else 0."""
    random = Random(seed)
    return [float(random.random() < share) for _ in range(count)]
