"""Compare ways to run a model on its benchmark, beside one that sees too little; write a page to look at.

python examples/evaluate.py                          every fourth question of the embedded model's benchmark
python examples/evaluate.py report.html              the same, and the page
"""

import sys
from functools import partial

from glmflash import Pipeline, RegressionError, evaluate
from glmflash.evaluate import Question, asking

WAYS = {
    "float32": {},
    "int8": {"quantize": "int8"},
    "w8a8": {"quantize": "w8a8"},
    "int8 KV": {"kv_dtype": "int8"},
}


def guess(question: Question) -> str:
    """Any function is a system, one that calls an OpenAI client for instance. This one knows nothing."""
    return "[[400,400,600,600]]" if question.kind == "box" else "42"


def main(page: str | None = None, *, step: int = 4) -> None:
    """Ask, print the table, judge, and write the page."""
    load = partial(Pipeline.from_pretrained, "tiny", dtype="float32", progress=False)
    systems: dict[str, evaluate.System] = {
        name: asking(partial(load, **settings), max_new_tokens=128) for name, settings in WAYS.items()
    }
    coarse = asking(load, max_new_tokens=128, max_image_tokens=16)
    report = evaluate.run(
        {**systems, "few pixels": coarse, "guess": guess}, evaluate.tiny_questions()[::step]
    )
    print(report)
    print(evaluate.gate(report, max_drop=0.05, systems=list(WAYS)[1:]))
    try:
        evaluate.gate(report, max_drop=0.05, systems=["few pixels", "guess"])
    except RegressionError as error:
        print(error)
    if page is not None:
        print(report.save(page))


if __name__ == "__main__":
    main(*sys.argv[1:2])
