"""A quantised model → how far its logits are from float32's, and how often the embedded model stays right."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from common import ROOT
from sides import Ours, Work
from torch import Tensor, nn

from glmflash import Pipeline
from glmflash.model import Glm4v, GrowingCache
from glmflash.quant import QuantizedLinear, QuantizedRows

sys.path.append(str(ROOT / "examples" / "tiny"))
from check import overlap, questions  # the embedded model's own test

Logits = dict[str, Tensor]  # "plain", "outliers" -> (rows, vocab_size)

#: How the embedded model is loaded. The first is what the others are compared with.
VARIANTS: dict[str, dict[str, str]] = {
    "float32": {},
    "int8": {"quantize": "int8"},
    "w8a8": {"quantize": "w8a8"},
    "kv int8": {"kv_dtype": "int8"},
    "int8, kv int8": {"quantize": "int8", "kv_dtype": "int8"},
    "w8a8, kv int8": {"quantize": "w8a8", "kv_dtype": "int8"},
}


def exact_match(*, seeds: int, count: int) -> dict[str, dict[str, float]]:
    """The embedded model on `examples/tiny/check.py`: share of right answers, and which answers changed.

    Args:
        seeds: How many sets of questions; seeds 1, 2, ...
        count: Questions of each.
    """
    asked = [pair for seed in range(1, seeds + 1) for pair in questions(seed, count)]
    items = [{"text": turn.question, "images": picture} for picture, turn in asked]
    right: dict[str, list[bool]] = {}
    for name, how in VARIANTS.items():
        how = {"dtype": "float32"} | how
        with Pipeline.from_pretrained("tiny", device="cpu", progress=False, **how) as pipe:
            results = pipe.batch(items, thinking=False, max_new_tokens=200, progress=False)
        right[name] = [
            is_right(turn, result.text.strip()) for (_, turn), result in zip(asked, results, strict=True)
        ]
    exact = right["float32"]
    return {
        name: {
            "questions": len(found),
            "right": sum(found),
            "percent": round(100 * sum(found) / len(found), 3),
            "points_below_float32": round(100 * (sum(exact) - sum(found)) / len(found), 3),
            "lost": sum(a and not b for a, b in zip(exact, found, strict=True)),
            "won": sum(b and not a for a, b in zip(exact, found, strict=True)),
        }
        for name, found in right.items()
    }


def is_right(turn: object, given: str) -> bool:
    """As check.py counts: equal, or for a box, an overlap of at least 0.7."""
    wanted = turn.answer.removeprefix("<|begin_of_box|>").removesuffix("<|end_of_box|>").strip()
    return overlap(given, wanted) >= 0.7 if turn.task == "box" else given == wanted


@torch.inference_mode()
def logits(model: Glm4v, work: Work) -> Logits:
    """Of every eighth token from the picture on, without and with outlier channels."""
    found = {"plain": _logits(model, work)}
    with outlier_channels(model):
        return found | {"outliers": _logits(model, work)}


def _logits(model: Glm4v, work: Work) -> Tensor:
    seen = Ours(model, work, steps=0).seen
    cache = GrowingCache(model.config.text.num_hidden_layers, capacity=len(work.ids))
    rows = torch.arange(len(work.ids) - 1, work.span.start - 1, -8)
    embeds = model.embed(work.ids, [seen], [work.span])
    return model(embeds, work.positions, cache, rows=rows).float()


@contextmanager
def outlier_channels(model: Glm4v, *, channels: int = 4, factor: float = 64.0) -> Iterator[None]:
    """Give the rows that enter MLPs and the last projection a few channels of large values.

    So it is in trained language models: the same few channels are tens of times larger than all others, in
    nearly every token, and what follows needs both. Here the weights of the norms before those matrices are
    multiplied in a few channels; the matrices are left. Attention is spared: with random weights its scores
    would grow by the square, and softmax would follow any rounding. The factor is a power of two, so
    dividing by it gives the old weights back exactly.
    """
    norms = [
        module.weight
        for name, module in model.named_modules()
        if name.endswith((".post_attention_layernorm", ".norm2", "language_model.norm"))
    ]
    for weight in norms:
        weight[:: len(weight) // channels].mul_(factor)
    try:
        yield
    finally:
        for weight in norms:
            weight[:: len(weight) // channels].div_(factor)


def errors(found: Logits, exact: Logits) -> dict[str, dict[str, float]]:
    """Norm of the difference over the norm; and the share of tokens whose most likely successor stays."""
    return {
        kind: {
            "relative_error": round(((found[kind] - wanted).norm() / wanted.norm()).item(), 6),
            "same_token": round((found[kind].argmax(-1) == wanted.argmax(-1)).float().mean().item(), 4),
        }
        for kind, wanted in exact.items()
    }


def replace_layers(model: nn.Module, make: Callable[[QuantizedLinear], nn.Module]) -> None:
    """Put others in the places of the INT8 layers, one after another."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, QuantizedLinear):
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, make(layer))


def weight_only(layer: QuantizedLinear) -> QuantizedLinear:
    """The same INT8 weight with activations that are not rounded at all: what "int8" comes near to."""
    rows = QuantizedRows(layer.unpack(), layer.weight_scale, layer.error)
    return QuantizedLinear(rows, layer.bias, scheme="int8", kernel="reference")


class PerTensor(nn.Module):
    """The same INT8 weight under PyTorch's dynamic quantisation: one scale for all activations of a call."""

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        zeros = torch.zeros(len(layer.weight_scale), dtype=torch.long)
        weight = torch._make_per_channel_quantized_tensor(
            layer.unpack(), layer.weight_scale.double(), zeros, 0
        )
        self.packed = torch.ops.quantized.linear_prepack(weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., I) -> (..., O)."""
        # True leaves activations 7 bits, as torch.ao does: with 8, products overflow without VNNI.
        return torch.ops.quantized.linear_dynamic(x.float(), self.packed, True).to(x.dtype)
