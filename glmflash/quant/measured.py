"""A quantised module → the figures of accuracy that were measured with the very same weights, if any."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from torch import nn

from glmflash.quant.card_parts import Measured
from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.linear import QuantizedLinear

__all__ = ["layers_digest", "shipped"]

_FILE = "measured.json"


def __dir__() -> list[str]:
    return __all__


def shipped(module: nn.Module) -> tuple[Measured, ...]:
    """Figures that come with the package: those of the embedded model.

    They are for exactly the INT8 layers, schemes and kernels that they were measured with; for any other
    model, or on a processor with other kernels, there are none.
    """
    count = sum(isinstance(layer, QuantizedLinear | QuantizedEmbedding) for layer in module.modules())
    known = [entry for entry in _entries() if count and entry["layers"] == count]
    if not known:  # so a large model is not read for its digest
        return ()
    digest = layers_digest(module)
    return tuple(
        Measured(**figure) for entry in known if entry["digest"] == digest for figure in entry["figures"]
    )


def layers_digest(module: nn.Module) -> str:
    """Name a module's INT8 layers: SHA-256 of their names, schemes, kernels, scales and row sums.

    Example:
        >>> len(layers_digest(nn.Linear(2, 2)))
        32
    """
    state = hashlib.sha256(b"glmflash-int8-layers-1")
    for name, layer in module.named_modules():
        if isinstance(layer, QuantizedLinear | QuantizedEmbedding):
            state.update(f"|{name}|{layer.shape}|{layer.scheme}|{layer.kernel}|".encode())
            held = [
                layer.weight_scale,
                layer.weight_sum if isinstance(layer, QuantizedLinear) else layer.weight,
            ]
            for tensor in held:
                state.update(tensor.cpu().numpy().data)
    return state.hexdigest()[:32]


@cache
def _entries() -> list[dict[str, Any]]:
    text = files("glmflash.quant").joinpath(_FILE).read_text("utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return entries
