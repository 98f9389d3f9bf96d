"""The network's own code, run without memory → the most bytes that were alive at once."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glmflash.config import ModelConfig
from glmflash.kv import BlockStore, BlockTable, KVCache
from glmflash.model import Glm4v
from glmflash.ops.int8 import by_levels
from glmflash.shapes import Grid
from glmflash.weights.layout import build_on_meta

_LAYERS = 2  # the others are like the second


class CountLive(TorchFunctionMode):
    """Counts the bytes of tensors that are made while it is active, as long as they live.

    Of attention only the result is counted: its kernels keep no scores of all tokens with all.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is F.scaled_dot_product_attention:
            made: object = torch.empty_like(args[0])  # type: ignore[call-overload]  # queries
        else:
            made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            weakref.finalize(storage, self._remove, key, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _remove(self, key: int, size: int) -> None:
        self._alive.remove(key)
        self.now -= size


class Int8Linear(nn.Module):
    """What a product with INT8 weights makes on its way; see `QuantizedLinear`."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        out = by_levels(
            x.reshape(-1, self.in_features), self._multiply, self.out_features, levels=127, split=0
        )
        return out.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def _multiply(self, rows: Tensor) -> Tensor:
        held = torch.empty(rows.shape, dtype=torch.uint8), torch.empty(len(rows), self.out_features)
        out = torch.empty(len(rows), self.out_features)  # (M, O)
        del held  # activations as bytes, and sums in 32 bits
        return out


def network(config: ModelConfig, dtype: torch.dtype, *, int8: bool) -> Glm4v:
    """Two layers of each tower on the meta device."""
    text, vision = replace(config.text, num_hidden_layers=_LAYERS), replace(config.vision, depth=_LAYERS)
    model = build_on_meta(replace(config, text=text, vision=vision)).to(dtype).requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if int8 and isinstance(layer, nn.Linear):
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, Int8Linear(layer))
    return model


def prompt_peak(model: Glm4v, tokens: int, *, context: int, batch: int = 1, int8_kv: bool = False) -> int:
    """Of the last part of a prompt, and of the scores of a batch."""
    text, blocks = model.config.text, list(range(-(-context // 16)))
    store = BlockStore(
        num_layers=_LAYERS, num_kv_heads=text.num_key_value_heads, head_dim=text.head_dim,
        num_blocks=len(blocks), dtype=model.dtype, device="meta", int8=int8_kv,
    )  # fmt: skip
    store.ensure(len(blocks))
    planes = [plane for layer in range(_LAYERS) for plane in store.layers[layer].planes]
    # Of several sequences none has all its blocks side by side; they are copied together.
    table = BlockTable(16, blocks if batch == 1 else blocks[::-1], context - tokens)
    with _counting(model, planes) as live:
        cache = KVCache(store, [table], [tokens])
        embeds = torch.empty(tokens, text.hidden_size, dtype=model.dtype)
        angles = torch.empty(2, tokens, text.rotary_dim // 2, dtype=model.dtype)
        x = embeds
        for index, layer in enumerate(model.model.language_model.layers):
            x = layer(x, *angles, cache, index)
        del x, angles, cache
        logits = model.lm_head(torch.empty(batch, text.hidden_size, dtype=model.dtype))
        torch.sort(logits.float()[0].clone())
    return live.peak


def picture_peak(model: Glm4v, tokens: int) -> int:
    """Of a picture on its way through the vision tower."""
    side, merge = math.isqrt(tokens), model.config.vision.spatial_merge_size
    assert side**2 == tokens
    vision = model.config.vision
    with _counting(model, []) as live:
        rows = torch.empty((side * merge) ** 2, vision.in_channels * vision.patch_size**2)
        model.encode_images(rows, [Grid(1, merge * side, merge * side)])
    return live.peak


@contextmanager
def _counting(model: Glm4v, known: list[Tensor]) -> Iterator[CountLive]:
    with torch.inference_mode(), torch.device("meta"), CountLive([*model.parameters(), *known]) as live:
        yield live
