"""A seed → one line of JSON: how often the embedded model is exactly right, on pictures never trained on.

    python examples/tiny/check.py --seed 1 --count 500
    python examples/tiny/check.py --seed 1 --count 500 --quantize w8a8 --kv-dtype int8

Each question is the first and only one about its own picture, put through `glmflash.Pipeline` with thinking
off. An answer counts if it equals the one right string after stripping blanks; a box counts if its overlap
with the button (intersection over union) is at least 0.7, and its exact match is given beside.
"""

import argparse
import json
from random import Random

from draw import paint
from PIL import Image
from scenes import KINDS, Scene, held_out
from tasks import TASKS, Turn, turns

from glmflash import Pipeline

__all__ = ["main", "overlap", "questions"]

_KINDS = {
    "transcribe": ("receipt", "screen", "chart"),
    "corner": ("screen",),
    "box": ("screen",),
    "highest": ("chart",),
}


def __dir__() -> list[str]:
    return __all__


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedded model.")
    parser.add_argument("--model", default="tiny", help='a folder, or "tiny"')
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=500, help="questions, the tasks in turn")
    parser.add_argument("--thinking", action="store_true", help="let the model transcribe before it answers")
    parser.add_argument("--quantize", choices=["int8", "w8a8"], help="make the weights INT8")
    parser.add_argument("--kv-dtype", choices=["auto", "int8"], default="auto", help="of keys and values")
    parser.add_argument("--show", action="store_true", help="print the wrong answers too")
    arguments = parser.parse_args()
    scores: dict[str, list[float]] = {task: [] for task in TASKS}
    overlaps: list[float] = []
    exact_boxes = 0
    settings = {"quantize": arguments.quantize, "kv_dtype": arguments.kv_dtype}
    with Pipeline.from_pretrained(arguments.model, dtype="float32", **settings) as pipe:
        for picture, turn in questions(arguments.seed, arguments.count):
            given = _ask(pipe, picture, turn, thinking=arguments.thinking)
            right = float(given == _bare(turn.answer))
            if turn.task == "box":
                overlaps.append(overlap(given, _bare(turn.answer)))
                exact_boxes += int(right)
                right = float(overlaps[-1] >= 0.7)
            scores[turn.task].append(right)
            if arguments.show and not right:
                wrong = {"question": turn.question, "right": turn.answer, "given": given}
                print(json.dumps(wrong, ensure_ascii=False))
    report: dict[str, float] = {task: _mean(right) for task, right in scores.items() if task != "box"}
    report |= {"box_iou_0.7": _mean(scores["box"]), "box_mean_iou": _mean(overlaps)}
    report |= {"box_exact": round(exact_boxes / max(1, len(overlaps)), 4)}
    everything = [right for task in scores.values() for right in task]
    report |= {"count": len(everything), "seed": arguments.seed}
    print(json.dumps({"overall": _mean(everything), **report, **settings}))


def questions(seed: int, count: int) -> list[tuple[Image.Image, Turn]]:
    """`count` pictures never trained on, each with one question; the tasks take turns."""
    found = []
    for number in range(count):
        task = TASKS[number % len(TASKS)]
        rng = Random(f"check:{seed}:{number}")
        scene = _scene(rng, rng.choice(_KINDS.get(task, ("receipt",))))
        fitting = [turn for turn in turns(scene.facts, scene.size, rng) if turn.task == task]
        found.append((Image.fromarray(paint(scene, rng.getrandbits(32))), rng.choice(fitting)))
    return found


def overlap(given: str, right: str) -> float:
    """Intersection over union of two boxes written as [[x1,y1,x2,y2]]; 0 for what is not a box."""
    try:
        [[ax, ay, bx, by]], [[cx, cy, dx, dy]] = json.loads(given), json.loads(right)
        shared = max(0, min(bx, dx) - max(ax, cx)) * max(0, min(by, dy) - max(ay, cy))
        return float(shared / ((bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared))
    except (ValueError, TypeError, ZeroDivisionError):
        return 0.0


def _scene(rng: Random, kind: str) -> Scene:
    while True:
        scene = KINDS[kind](rng)
        if held_out(scene.facts):
            return scene


def _ask(pipe: Pipeline, picture: Image.Image, turn: Turn, *, thinking: bool) -> str:
    result = pipe(turn.question, images=picture, thinking=thinking, max_new_tokens=200)
    return result.text.strip()


def _bare(answer: str) -> str:
    """The answer as it is shown: without the box markers, which the parser takes away."""
    return answer.removeprefix("<|begin_of_box|>").removesuffix("<|end_of_box|>").strip()


def _mean(values: list[float]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


if __name__ == "__main__":
    main()
