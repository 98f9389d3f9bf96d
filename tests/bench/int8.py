"""A size of random checkpoint → what INT8 brings beside transformers, and what it costs in accuracy.

    nox -s bench                                  # after the others: 16 GB of memory, twenty minutes
    nox -s bench -- --quick --out quick           # shows that it runs; the figures mean nothing
    python tests/bench/int8.py --gguf model-q8_0.gguf --mmproj mmproj.gguf    # llama.cpp beside it

All runs in this process, in turns. Memory does not hold all models at once, so they meet in blocks, each
time with transformers beside them, and every ratio is one of a single block.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama
import torch
from accuracy import Logits, PerTensor, errors, exact_match, logits, replace_layers, weight_only
from asking import Asker
from bandwidth import Memory
from common import checkpoint, machine, parser, write
from contenders import Contender, Glmflash, Transformers, asker
from int8_table import tables, verdicts
from rounds import measure, together
from sides import Work, reference_on_the_same_weights

from glmflash import Pipeline

SCHEMES = ("int8", "w8a8")


@dataclass(frozen=True, slots=True)
class Block:
    """Who is measured in turns: transformers in these dtypes, ours in these dtypes or schemes."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.theirs + self.ours))


# Neighbours share a model, so that little is loaded twice; no block holds more than 16 GB of flash-4+4.
BLOCKS = {
    "float32 and int8": Block(("float32",), ("float32", "int8")),
    "float32 and w8a8": Block(("float32",), ("w8a8",)),
    "float32 and bfloat16": Block(("float32", "bfloat16"), ("bfloat16",)),
    "bfloat16 and INT8": Block(("bfloat16",), SCHEMES),
}


def options() -> argparse.Namespace:
    described = parser(
        __doc__.splitlines()[0],
        dtypes=["float32", "bfloat16"], rounds=5, steps=24, steps_help="tokens decoded in a round",
    )  # fmt: skip
    described.add_argument("--requests", type=int, help="requests computed together", default=8)
    described.add_argument("--answer", type=int, help="tokens that each is answered with", default=16)
    described.add_argument("--gguf", type=Path, help="a language model for llama.cpp")
    described.add_argument("--mmproj", type=Path, help="its vision tower")
    chosen = described.parse_args()
    chosen.side, chosen.prompt, chosen.buffer = 448, 288, 2**29
    chosen.seeds, chosen.questions = 3, 250
    if chosen.quick:
        chosen.size, chosen.rounds, chosen.steps, chosen.side, chosen.prompt = "nano", 2, 4, 112, 48
        chosen.requests, chosen.answer, chosen.buffer = 3, 6, 2**25
        chosen.seeds, chosen.questions = 1, 5
    return chosen


class Models:
    """The pipelines that are in memory.

    Args:
        folder: The checkpoint of them all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipes: dict[str, Pipeline] = {}

    def hold(self, names: Sequence[str]) -> None:
        """Close all others, then load what is missing."""
        for name in [name for name in self.pipes if name not in names]:
            self.pipes.pop(name).close()
        gc.collect()
        for name in names:
            if name not in self.pipes:
                how = {"quantize": name} if name in SCHEMES else {"dtype": name}
                self.pipes[name] = Pipeline.from_pretrained(
                    self.folder, device="cpu", kv_memory="1 GiB", progress=False, **how
                )

    def contenders(self, block: Block, chosen: argparse.Namespace) -> dict[str, Contender]:
        """The sides of a block by name, "transformers float32" for one."""
        sides: dict[str, Contender] = {}
        for name in block.theirs:
            pipe = self.pipes[name]
            reference = reference_on_the_same_weights(pipe.engine.model, self.folder)
            sides[f"transformers {name}"] = Transformers(
                reference, pipe, self.work(name, chosen), chosen.steps
            )
        for name in block.ours:
            pipe = self.pipes[name]
            sides[f"glmflash {name}"] = Glmflash(pipe, self.work(name, chosen), chosen.steps)
        return sides

    def work(self, name: str, chosen: argparse.Namespace) -> Work:
        """The same picture and prompt for all."""
        return Work(self.pipes[name], side=chosen.side, length=chosen.prompt)


def decoded_bytes(pipe: Pipeline) -> int:
    """Bytes of INT8 weights that a decode step reads: the decoder's layers and the projection."""
    read = ("lm_head", "model.language_model.layers.")
    return sum(layer.bytes_after for layer in pipe.card.layers if layer.name.startswith(read))


def weights(pipe: Pipeline) -> dict[str, object]:
    """What the card says, in sum."""
    layers = pipe.card.layers
    return {
        "layers": len(layers),
        "kernels": sorted({layer.kernel for layer in layers}),
        "bytes_before": sum(layer.bytes_before for layer in layers),
        "bytes_after": sum(layer.bytes_after for layer in layers),
        "bytes_read_by_a_decode_step": decoded_bytes(pipe),
    }


@torch.inference_mode()
def run(folder: Path, memory: Memory, chosen: argparse.Namespace) -> dict[str, object]:
    """All figures of the random checkpoint."""
    models, exact = Models(folder), Logits()
    report: dict[str, dict] = {"blocks": {}, "together": {}, "weights": {}, "logits": {}}

    def look(name: str) -> None:  # at a model that was not here before
        found = logits(models.pipes[name].engine.model, models.work(name, chosen))
        if name == "float32":
            exact.update(found)
        elif exact:
            report["logits"][name] = errors(found, exact)
        if name in SCHEMES:
            report["weights"][name] = weights(models.pipes[name])

    seen: set[str] = set()
    for title, block in BLOCKS.items():
        if not set(block.models) <= {*chosen.dtypes, *SCHEMES}:
            continue
        print(title, file=sys.stderr, flush=True)  # it takes minutes
        models.hold(block.models)
        for name in [name for name in block.models if name not in seen]:
            seen.add(name)
            look(name)
        memory.read()
        sides = models.contenders(block, chosen)
        read = {
            f"glmflash {name}": decoded_bytes(models.pipes[name]) for name in block.ours if name in SCHEMES
        }
        ask = asker(models.pipes[block.models[0]], side=chosen.side, prompt=chosen.prompt)
        report["blocks"][title] = measure(sides, ask, memory, read, chosen.rounds)
        del sides  # transformers' side holds our weights
        for name in [name for name in block.ours if name in SCHEMES and name not in report["together"]]:
            ask = asker(models.pipes[name], side=chosen.side, prompt=chosen.prompt)
            report["together"][name] = together(
                ask, requests=chosen.requests, tokens=chosen.answer, rounds=min(3, chosen.rounds)
            )
    if exact:
        report["logits"] |= compared(models, exact, chosen)
    models.hold(())
    return report


def compared(models: Models, exact: Logits, chosen: argparse.Namespace) -> dict[str, object]:
    """The same INT8 weights with activations left alone, and with one scale for all of them."""
    models.hold(("int8",))
    model, found = models.pipes["int8"].engine.model, {}
    for name, make in (("weights only", weight_only), ("one scale for all activations", PerTensor)):
        replace_layers(model, make)
        found[name] = errors(logits(model, models.work("int8", chosen)), exact)
    return found


def main() -> None:
    chosen = options()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    memory = Memory(nbytes=chosen.buffer)
    with checkpoint(chosen) as folder:
        results = run(folder, memory, chosen)
    with Pipeline.from_pretrained("tiny", device="cpu", progress=False) as pipe:
        ask = Asker(pipe, side=chosen.side, tokens=24)
        beside = llama.measure(
            gguf=chosen.gguf, mmproj=chosen.mmproj, picture=ask.picture(), text=ask.question(),
            prompt=chosen.prompt, steps=chosen.steps, threads=torch.get_num_threads(), rounds=chosen.rounds,
        )  # fmt: skip
    report = {
        "machine": machine(),
        "work": {
            "size": chosen.size,
            "picture": [chosen.side, chosen.side],
            "prompt_tokens": chosen.prompt,
            "decode_steps": chosen.steps,
            "rounds": chosen.rounds,
        },
        "memory": memory.summary(),
        **results,
        "llama.cpp": beside,
        "tiny": exact_match(seeds=chosen.seeds, count=chosen.questions),
    }
    report["bars"] = verdicts(report)
    write(report, chosen.out / "int8-cpu.json")
    (chosen.out / "int8-cpu.txt").write_text(tables(report))
    print(tables(report))


if __name__ == "__main__":
    main()
