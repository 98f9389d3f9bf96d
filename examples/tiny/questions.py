"""A seed → the embedded model's own benchmark: pictures never trained on, and every question about them.

    python examples/tiny/questions.py --out glmflash/evaluate/tiny

36 pictures, a third of them Chinese, with 144 questions; tasks and languages are evened out. The folder holds
`questions.jsonl` and PNG pictures, which are drawn without noise to be small.
"""

import argparse
from collections import Counter
from pathlib import Path
from random import Random

from draw import paint
from PIL import Image
from scenes import KINDS, Scene, held_out
from tasks import Turn, turns

from glmflash.evaluate import Metric, Question, write_questions

__all__ = ["benchmark", "main"]

_PICTURES = {"receipt": 16, "screen": 12, "chart": 8}
_QUESTIONS = {"receipt": 5, "screen": 4, "chart": 2}  # of each picture


def __dir__() -> list[str]:
    return __all__


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the benchmark of the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="a folder; its pictures are written over")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    questions = benchmark(arguments.out, arguments.seed)
    write_questions(questions, arguments.out / "questions.jsonl")
    size = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(f"{len(questions)} questions, {size} bytes", dict(Counter(one.kind for one in questions)))


def benchmark(folder: Path, seed: int) -> list[Question]:
    """Draw the pictures into a folder, and give the questions about them."""
    asked: Counter[tuple[str, str]] = Counter()
    questions = []
    for kind, count in _PICTURES.items():
        for number in range(count):
            name = f"{kind}-{number + 1:02d}"
            rng = Random(f"benchmark:{seed}:{name}")
            scene = _scene(rng, kind, "zh" if number % 3 == 2 else "en")
            path = folder / f"{name}.png"
            Image.fromarray(paint(scene, rng.getrandbits(32))).save(path, optimize=True)
            for turn in _chosen(scene, rng, asked):
                asked[turn.task, turn.language] += 1
                questions.append(_question(turn, path, f"{name}-{turn.task}-{turn.language}"))
    return questions


def _scene(rng: Random, kind: str, language: str) -> Scene:
    """One that training never saw, without the noise that would make its file ten times as large."""
    while True:
        scene = KINDS[kind](rng, language=language)
        if held_out(scene.facts) and scene.noise == 0:
            return scene


def _chosen(scene: Scene, rng: Random, asked: Counter[tuple[str, str]]) -> list[Turn]:
    """The questions whose task and language were asked least so far, one of each task and language."""
    every = [turn for _ in range(16) for turn in turns(scene.facts, scene.size, rng)]
    chosen: dict[tuple[str, str], Turn] = {}
    while len(chosen) < _QUESTIONS[scene.facts.kind]:
        left = [turn for turn in every if (turn.task, turn.language) not in chosen]
        turn = min(
            left, key=lambda one: asked[one.task, one.language] + sum(one.task == t for t, _ in chosen)
        )
        chosen[turn.task, turn.language] = turn
    return list(chosen.values())


def _question(turn: Turn, path: Path, name: str) -> Question:
    answer = turn.answer.removeprefix("<|begin_of_box|>").removesuffix("<|end_of_box|>").strip()
    metric: Metric = "iou" if turn.task == "box" else "exact"
    return Question(
        id=name, text=turn.question, images=(path,), answers=(answer,), kind=turn.task, metric=metric
    )


if __name__ == "__main__":
    main()
