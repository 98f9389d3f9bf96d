"""Networks that overflow float16: one large row planted in a place of a small random network, or many."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from glmflash.model import Glm4v, NoCache
from glmflash.shapes import Grid, ImageSpan
from glmflash.weights.rescale import Rescaling

VISION, TEXT = "model.visual", "model.language_model"


def plant(model: Glm4v, name: str, rows: slice | int, peak: float) -> None:
    """Make the largest magnitude of some rows (of a norm: elements) this one."""
    weight = model.get_parameter(name)[rows]
    weight.mul_(peak / weight.abs().max())


def _rows(name: str, rows: slice | int = 3) -> Callable[[Glm4v, float], None]:
    return lambda model, peak: plant(model, name, rows, peak)


def _up(model: Glm4v, peak: float) -> None:
    size = model.config.text.intermediate_size
    plant(model, f"{TEXT}.layers.1.mlp.gate_up_proj.weight", slice(size, size + 4), peak)


def _values(model: Glm4v, peak: float) -> None:
    size = 2 * model.config.vision.hidden_size
    plant(model, f"{VISION}.blocks.0.attn.qkv.weight", slice(size, size + 8), peak)


def _embeddings(model: Glm4v, peak: float) -> None:
    table = model.get_parameter(f"{TEXT}.embed_tokens.weight")
    table[:, 5:9] = peak
    for name in ("post_self_attn_layernorm", "post_mlp_layernorm"):
        model.get_parameter(f"{TEXT}.layers.0.{name}.weight")[5:9] = peak / 4


#: Place → what plants a large number there.
PLACES: dict[str, Callable[[Glm4v, float], None]] = {
    "o_proj": _rows(f"{TEXT}.layers.0.self_attn.o_proj.weight"),
    "values": _rows(f"{TEXT}.layers.1.self_attn.v_proj.weight"),
    "value biases": _rows(f"{TEXT}.layers.1.self_attn.v_proj.bias", slice(2, 5)),
    "down_proj": _rows(f"{TEXT}.layers.1.mlp.down_proj.weight"),
    "up": _up,
    "post-norm": _rows(f"{TEXT}.layers.0.post_mlp_layernorm.weight", slice(3, 4)),
    "pre-norm": _rows(f"{TEXT}.layers.1.post_attention_layernorm.weight", slice(3, 4)),
    "embeddings": _embeddings,
    "patches": _rows(f"{VISION}.patch_embed.proj.weight"),
    "positions": _rows(f"{VISION}.embeddings.position_embedding.weight", slice(None)),
    "post_conv": _rows(f"{VISION}.post_conv_layernorm.weight", slice(3, 4)),
    "vision values": _values,
    "vision proj": _rows(f"{VISION}.blocks.0.attn.proj.weight"),
    "vision up": _rows(f"{VISION}.blocks.1.mlp.up_proj.weight"),
    "vision down": _rows(f"{VISION}.blocks.1.mlp.down_proj.weight"),
    "downsample": _rows(f"{VISION}.downsample.weight"),
    "merger proj": _rows(f"{VISION}.merger.proj.weight"),
    "merger up": _rows(f"{VISION}.merger.up_proj.weight"),
    # more rows than one: where only one is large, all depends on the sign of one sum, in any dtype
    "merger down": _rows(f"{VISION}.merger.down_proj.weight", slice(16)),
}


def planted(model: Glm4v, places: Iterable[str], peak: float = 3e4) -> Glm4v:
    """A copy with large rows in these places."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for place in places:
            PLACES[place](changed, peak)
    return changed


def logits(model: Glm4v, *, cache=None) -> Tensor:
    """Of a prompt with two pictures; float32, whatever the model computes in."""
    generator = torch.Generator().manual_seed(0)
    vision = model.config.vision
    grids = [Grid(1, 4, 6), Grid(1, 2, 4)]
    patches = torch.rand(32, vision.in_channels * vision.patch_size**2, generator=generator) * 4 - 2
    ids = torch.randint(0, model.config.text.vocab_size, (20,), generator=generator)
    with torch.inference_mode():
        tokens = model.encode_images(patches, grids)
        embeds = model.embed(ids, tokens, [ImageSpan(2, 6), ImageSpan(12, 2)]).to(model.dtype)
        return model(embeds, torch.arange(20).expand(3, 20), cache or NoCache([20])).float()


def check_bounds(model: Glm4v, rescaling: Rescaling) -> None:
    """No number that appears in `logits` exceeds its bound; what float16 rounds on the way is allowed for."""
    seen = _largest(model)
    for bound in rescaling.bounds:
        assert seen[bound.name, bound.place] <= 1.01 * bound.after, bound


class Watched:
    """A cache that notes how large rotated queries and keys are."""

    def __init__(self, seen: dict[tuple[str, str], float]) -> None:
        self._seen, self._cache = seen, NoCache([20])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for part, x in (("q", q), ("k", k)):
            _note(self._seen, f"{TEXT}.layers.{layer}.self_attn.{part}_proj", "output", x)
        return self._cache.attend(layer, q, k, v)


def _largest(model: Glm4v) -> dict[tuple[str, str], float]:
    """Place → the largest magnitude there, by hooks on all modules."""
    seen: dict[tuple[str, str], float] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module, given, out, name=name):
            if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
                _note(seen, name, "input", given[0])
            if isinstance(out, Tensor):
                _note(seen, name, "output", out)
                parts = {"qkv": "qkv", "gate_up_proj": ("gate", "up")}.get(name.rpartition(".")[2], ())
                for part, x in zip(parts, out.chunk(len(parts) or 1, -1), strict=False):
                    _note(seen, f"{name}[{part}]", "output", x)

        handles.append(module.register_forward_hook(note))
    logits(model, cache=Watched(seen))
    for handle in handles:
        handle.remove()
    # two matrices that are not called as modules
    seen[f"{VISION}.patch_embed.proj", "output"] = seen[f"{VISION}.patch_embed", "output"]
    seen[f"{VISION}.downsample", "output"] = seen[f"{VISION}.merger.proj", "input"]
    return seen


def _note(seen: dict[tuple[str, str], float], name: str, place: str, x: Tensor) -> None:
    seen[name, place] = max(seen.get((name, place), 0.0), x.abs().max().item())
