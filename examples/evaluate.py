"""Compare ways to run a model on its own benchmark, beside a system that knows nothing; write a page to look at.

python examples/evaluate.py                          every third question of the embedded model's benchmark
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


def clueless(question: Question) -> str:
    """What any function answers can be compared, an OpenAI client's answers for one."""
    return "42"


def main(page: str | None = None, *, step: int = 3) -> None:
    """Ask, print the table, judge, and write the page."""
    load = partial(Pipeline.from_pretrained, "tiny", dtype="float32", progress=False)
    systems: dict[str, evaluate.System] = {
        name: asking(partial(load, **settings), max_new_tokens=128) for name, settings in WAYS.items()
    }
    report = evaluate.run({**systems, "clueless": clueless}, evaluate.tiny_questions()[::step])
    print(report)
    print(evaluate.gate(report, max_drop=0.05, systems=["int8", "w8a8", "int8 KV"]))
    try:
        evaluate.gate(report, max_drop=0.05, systems=["clueless"])
    except RegressionError as error:
        print(error)
    if page is not None:
        print(report.save(page))


if __name__ == "__main__":
    main(*sys.argv[1:2])
