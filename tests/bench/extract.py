"""Receipts never trained on, clean and spoiled → what `extract` reads, beside plain answers, and how sure.

    python tests/bench/extract.py                        prints one line for each condition
    python tests/bench/extract.py --out docs/benchmarks  and writes extract.json there

Each receipt is asked for its vendor, its total and one price, once by `extract` and once by the questions
that the embedded model was trained on. A field is right if it is exactly what is printed. The area under the
curve (AUC) is the chance that a right field has a higher confidence than a wrong one: 0.5 would be no use.
"""

import argparse
import io
import json
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tiny"))
import scenes
from draw import paint

import glmflash

EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="receipts in each condition")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder")
    arguments = parser.parse_args()
    report = {
        "what": "fields of drawn receipts, read by the embedded model",
        "receipts": arguments.count,
        "seed": arguments.seed,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "grammar": find_spec("llguidance") is not None,
        "conditions": {},
    }
    pooled: dict[str, list[tuple[bool, bool, float]]] = {}
    with glmflash.Pipeline.from_pretrained("tiny", dtype="float32") as pipe:
        for name, spoil in CONDITIONS.items():
            drawn = receipts(arguments.seed, arguments.count)
            pictures = [spoil(picture, number) for number, (picture, _) in enumerate(drawn)]
            facts = [facts for _, facts in drawn]
            asked = plain(pipe, pictures, facts)
            for constrain in (True, False) if report["grammar"] else (False,):
                read = extracted(pipe, pictures, facts, constrain)
                way = "constrained" if constrain else "free"
                pooled[way] = pooled.get(way, []) + read
                label = f"{name}, {way}"
                report["conditions"][label] = summary(read) | {"plain_right": share(asked)}
                print(label, json.dumps(report["conditions"][label]), flush=True)
    for way, read in pooled.items():
        report["conditions"][f"all, {way}"] = summary(read)
        print(f"all, {way}", json.dumps(report["conditions"][f"all, {way}"]))
    if arguments.out:
        (arguments.out / "extract.json").write_text(json.dumps(report, indent=1) + "\n")


def receipts(seed: int, count: int) -> list[tuple[Image.Image, scenes.Facts]]:
    """Pictures whose text was never trained on."""
    found = []
    rng = Random(f"extract:{seed}")
    while len(found) < count:
        scene = scenes.receipt(rng)
        if scenes.held_out(scene.facts):
            found.append((Image.fromarray(paint(scene, rng.getrandbits(32))), scene.facts))
    return found


def questions(facts: scenes.Facts) -> dict[str, tuple[str, str]]:
    """Field -> a question of the kind that was trained on, and what is printed."""
    item = next(iter(facts.prices))
    return {
        "vendor": ("Who is the vendor?", facts.vendor),
        "total": ("What is the total?", facts.total),
        item: (f"What is the price of {item}?", facts.prices[item]),
    }


def plain(pipe: glmflash.Pipeline, pictures: list[Image.Image], facts: list[scenes.Facts]) -> list[bool]:
    """Whether each plain answer is what is printed, to the letter."""
    asked = [
        (question, right, picture)
        for picture, one in zip(pictures, facts, strict=True)
        for question, right in questions(one).values()
    ]
    items = [{"text": question, "images": picture} for question, _, picture in asked]
    results = pipe.batch(items, max_new_tokens=64, temperature=0, progress=False)
    return [result.text.strip() == right for result, (_, right, _) in zip(results, asked, strict=True)]


def extracted(
    pipe: glmflash.Pipeline, pictures: list[Image.Image], facts: list[scenes.Facts], constrain: bool
) -> list[tuple[bool, bool, float]]:
    """For each field: whether it parsed, whether it is what is printed, and its confidence."""

    def read(job: tuple[Image.Image, scenes.Facts]) -> list[tuple[bool, bool, float]]:
        picture, wanted = job[0], questions(job[1])
        described = {
            name: {"type": "string" if name == "vendor" else "number", "description": question}
            for name, (question, _) in wanted.items()
        }
        schema = {"type": "object", "properties": described, "required": list(described)}
        found = pipe.extract(picture, schema, constrain=constrain, on_error="none")
        rows = []
        for name, field in found.fields.items():
            printed = wanted[name][1]
            right = field.value == (printed if name == "vendor" else float(Decimal(printed)))
            rows.append((field.problem is None, right, field.confidence or 0.0))
        return rows

    with ThreadPoolExecutor(8) as threads:  # computed together, as a server would
        return [row for rows in threads.map(read, zip(pictures, facts, strict=True)) for row in rows]


def summary(read: list[tuple[bool, bool, float]]) -> dict[str, object]:
    """Shares, the AUC, and how many fields of each range of confidence are wrong."""
    bins = []
    for low, high in pairwise(EDGES):
        inside = [right for _, right, sure in read if low <= sure < high or sure == high == 1]
        bins.append({"from": low, "to": high, "fields": len(inside), "wrong": inside.count(False)})
    return {
        "fields": len(read),
        "parsed": share([parsed for parsed, _, _ in read]),
        "right": share([right for _, right, _ in read]),
        "auc": auc(read),
        "by_confidence": bins,
    }


def auc(read: list[tuple[bool, bool, float]]) -> float | None:
    """The chance that a right field is surer than a wrong one; ties count half."""
    good = np.array([sure for _, right, sure in read if right])
    bad = np.array([sure for _, right, sure in read if not right])
    if not len(good) or not len(bad):
        return None
    above = (good[:, None] > bad[None]).mean() + 0.5 * (good[:, None] == bad[None]).mean()
    return round(float(above), 4)


def share(values: list[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


def noisy(picture: Image.Image, number: int) -> Image.Image:
    grain = np.random.default_rng(number).normal(0, 45, (picture.height, picture.width, 1))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def blurred(picture: Image.Image, number: int) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def compressed(picture: Image.Image, number: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=15)
    return Image.open(file).convert("RGB")


CONDITIONS = {
    "clean": lambda picture, number: picture,
    "noise": noisy,
    "blur": blurred,
    "jpeg": compressed,
}


if __name__ == "__main__":
    main()
