"""A size of random checkpoint → what its engine spares when pictures come again or together, and its cost.

    nox -s bench                                  # after the model's own: 12 GB of memory, ten minutes
    nox -s bench -- --quick --out quick           # shows that it runs; the figures mean nothing

Every round brings new pictures, so that nothing is reused but what is meant to be. Both sides run in this
process on the same weight tensors, in turns. Seconds are those of the caller: from the call to its return.
"""

import argparse
import gc
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asking import Asker, Samples, fixed, in_turns, ratio, said, seconds, spoken, timed
from common import checkpoint, machine, parser, write
from overhead import Computed, counted, engine_cost
from sides import Generate, reference_on_the_same_weights

from glmflash import Pipeline


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["float32"], rounds=4, steps=16, steps_help="tokens of an answer",
    )  # fmt: skip
    described.add_argument("--requests", type=int, help="pictures asked about at once", default=8)
    described.add_argument("--batch", type=int, help="sequences decoded at once", default=16)
    chosen = described.parse_args()
    chosen.side, chosen.question, chosen.tiny_steps = 448, 24, 128
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps, chosen.side, chosen.tiny_steps = "nano", 2, 4, 112, 24
        chosen.requests, chosen.batch = 3, 4
    return chosen


def first_token(asker: Asker, generate: Generate, *, rounds: int) -> dict[str, object]:
    """Two questions about each picture, one after the other: from the call to a one-token answer."""
    pipe, same = asker.pipe, list[bool]()
    computed: dict[str, int] = {}

    def new() -> tuple[np.ndarray, str, str]:
        return asker.picture(), asker.question(), asker.question()

    def ask(name: str, text: str, picture: object) -> tuple[float, list[int]]:
        with counted() as found:
            took, result = timed(pipe, text, images=picture, **fixed(1))
        computed[name] = found.tokens
        return took, list(result.token_ids)

    def ours(picture: np.ndarray, *texts: str) -> dict[str, Any]:
        (first, one), (second, other) = (
            ask(name, text, picture) for name, text in zip(("first", "second"), texts, strict=True)
        )
        return {"first": first, "second": second, "ours": [one, other]}

    def encoded(*_: object) -> dict[str, Any]:
        encode, image = timed(pipe.encode, asker.picture())
        return {"encode": encode, "after_encode": ask("after_encode", asker.question(), image)[0]}

    def theirs(picture: np.ndarray, *texts: str) -> dict[str, Any]:
        (first, one), (second, other) = (timed(generate, text, picture, 1) for text in texts)
        return {"transformers_first": first, "transformers_second": second, "theirs": [one, other]}

    samples: Samples = {}
    for found in in_turns({"ours": ours, "encoded": encoded, "theirs": theirs}, rounds, new=new):
        same.append(found.pop("ours") == found.pop("theirs"))
        for name, took in found.items():
            samples.setdefault(name, []).append(took)
    return {
        **seconds(samples),
        "tokens_computed": computed,
        "second_over_first": ratio(samples["second"], samples["first"]),
        "after_encode_over_first": ratio(samples["after_encode"], samples["first"]),
        "transformers_over_glmflash_first": ratio(samples["transformers_first"], samples["first"]),
        "transformers_over_glmflash_second": ratio(samples["transformers_second"], samples["second"]),
        "same_token_as_transformers": statistics.fmean(same),
    }


def session(asker: Asker, *, tokens: int, rounds: int) -> dict[str, object]:
    """The third turn of a session, without and with a second picture, beside the same prompt from nothing."""
    pipe = asker.pipe
    turns: dict[str, Samples] = {"third_turn": {}, "second_picture": {}}
    counts: dict[str, dict[str, Any]] = {}
    for number in range(rounds + 1):
        pictures = [asker.picture(), asker.picture()]
        with pipe.session(temperature=0.0) as talk:
            for images in (pictures[0], None):
                last = talk.ask(asker.question(), images=images, **spoken(pipe, tokens))
            known = last.usage.prompt + last.usage.completion - 1  # its end opens the next turn
            for name, images in (("third_turn", None), ("second_picture", pictures[1])):
                text, salt = asker.question(), f"{name} {number}"
                fresh = [*talk.messages, said(text, images)]
                fresh[0] = said(fresh[0]["content"][-1]["text"], pictures[0])  # not the one that is encoded
                with counted() as part:
                    took, result = timed(talk.ask, text, images=images, **fixed(1))
                with counted() as all_of_it:
                    whole, other = timed(pipe.chat, fresh, cache_salt=salt, **fixed(1))
                talk.undo()
                counts[name] = {
                    "prompt_tokens": result.usage.prompt,
                    "new_tokens": result.usage.prompt - known,
                    "computed": computed(part),
                    "computed_from_nothing": computed(all_of_it),
                    "same_token": result.token_ids == other.token_ids,
                }
                if number:
                    for kind, value in (("seconds", took), ("whole", whole)):
                        turns[name].setdefault(kind, []).append(value)
    return {name: counts[name] | compared(samples) for name, samples in turns.items()}


def computed(found: Computed) -> dict[str, float]:
    return {
        "tokens": found.tokens,
        "patches": found.patches,
        "vision_seconds": round(found.vision_seconds, 6),
    }


def compared(samples: Samples) -> dict[str, object]:
    whole = {"seconds_from_nothing": samples["whole"]}
    part = {"first_token": samples["seconds"]}
    return {**seconds(part | whole), "over_whole": ratio(samples["seconds"], samples["whole"])}


def together(asker: Asker, generate: Generate, *, requests: int, tokens: int) -> dict[str, object]:
    """As many requests, each about a picture of its own: all at once, and one after another."""
    pipe = asker.pipe

    def new() -> tuple[list[dict[str, Any]], ...]:
        several = [{"text": asker.question(), "images": asker.picture()} for _ in range(2 * requests)]
        return several[::2], several[1::2]

    def at_once(one: list[dict[str, Any]], _: object) -> dict[str, Any]:
        return {"together": timed(pipe.batch, one, progress=False, **fixed(tokens))[0]}

    def in_line(_: object, other: list[dict[str, Any]]) -> dict[str, Any]:
        return {"one_by_one": timed(lambda: [pipe(**asked, **fixed(tokens)) for asked in other])[0]}

    def theirs(one: list[dict[str, Any]], _: object) -> dict[str, Any]:
        return {"transformers": timed(lambda: [generate(*asked.values(), tokens) for asked in one])[0]}

    samples: Samples = {"together": [], "one_by_one": [], "transformers": []}
    sides = {"at_once": at_once, "in_line": in_line, "theirs": theirs}
    for found in in_turns(sides, 2, new=new, warm=True):
        for name, took in found.items():
            samples[name].append(took)
    speeds = {
        name: cell | {"tokens_per_second": round(requests * tokens / cell["seconds"], 3)}
        for name, cell in seconds(samples).items()
    }
    return {
        **speeds,
        "one_by_one_over_together": ratio(samples["one_by_one"], samples["together"]),
        "transformers_over_together": ratio(samples["transformers"], samples["together"]),
    }


@torch.inference_mode()
def run(folder: Path, dtype: str, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of one dtype."""
    with Pipeline.from_pretrained(folder, dtype=dtype, device="cpu", progress=False) as pipe:
        generate = Generate(reference_on_the_same_weights(pipe.engine.model, folder), pipe)
        asker = Asker(pipe, side=chosen.side, tokens=chosen.question)
        return {
            "first_token": first_token(asker, generate, rounds=chosen.rounds),
            "session": session(asker, tokens=chosen.steps, rounds=chosen.rounds // 2 + 1),
            "together": together(asker, generate, requests=chosen.requests, tokens=chosen.steps),
            "engine_cost": engine_cost(asker, batch=chosen.batch, tokens=2 * chosen.steps, rounds=2),
        }


def table(report: dict) -> str:
    """What to look at first."""
    lines = []
    for dtype, cells in report["results"].items():
        first, talk, many = cells["first_token"], cells["session"], cells["together"]
        lines += [
            f"{dtype:9} first token, {name:20}{first[name]['seconds'] * 1e3:>12,.1f} ms"
            for name in ("first", "second", "after_encode", "transformers_first", "transformers_second")
        ]
        lines.append(f"{dtype:9} second over first {first['second_over_first']['ratio']:24.4f}")
        for name, cell in talk.items():
            new, found, whole = cell["new_tokens"], cell["computed"], cell["computed_from_nothing"]
            lines.append(
                f"{dtype:9} {name:15} {new} new, {found['tokens']} computed, {whole['tokens']} from nothing;"
                f" patches {found['patches']} of {whole['patches']}; time {cell['over_whole']['ratio']:.4f}"
            )
        for name in ("together", "one_by_one", "transformers"):
            cell = many[name]
            speed = cell["tokens_per_second"]
            lines.append(f"{dtype:9} requests, {name:24}{cell['seconds']:>12.2f} s{speed:>8.2f} tokens/s")
    costs = {"tiny": report["tiny"]} | {
        name: cells["engine_cost"] for name, cells in report["results"].items()
    }
    for name, sizes in costs.items():
        for size, cell in sizes.items():
            step, engine, share = cell["step_ms"], cell["engine_ms"], cell["engine_share"]
            lines.append(f"{name:9} batch {size:>2}: step {step:.3f} ms, engine {engine:.3f} ms, {share:.2%}")
    return "\n".join(lines)


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    with Pipeline.from_pretrained("tiny", device="cpu", progress=False) as pipe:
        asker = Asker(pipe, side=chosen.side, tokens=chosen.question)
        tiny = engine_cost(asker, batch=chosen.batch, tokens=chosen.tiny_steps, rounds=4)
    results = {}
    with checkpoint(chosen) as folder:
        for dtype in chosen.dtypes:
            results[dtype] = run(folder, dtype, chosen)
            gc.collect()  # one copy of the weights at a time
    report = {
        "machine": machine(),
        "work": {
            "size": chosen.size,
            "picture": [chosen.side, chosen.side],
            "question_tokens": chosen.question,
            "answer_tokens": chosen.steps,
            "requests": chosen.requests,
            "batch": chosen.batch,
            "rounds": chosen.rounds,
        },
        "tiny": tiny,
        "results": results,
    }
    write(report, chosen.out / "engine-cpu.json")
    print(table(report))


if __name__ == "__main__":
    main()
