"""A module → the same with INT8 layers, in place, and its card."""

from torch import nn

from glmflash.errors import ParameterError
from glmflash.ops.int8 import Packer
from glmflash.quant.card import Card, card
from glmflash.quant.config import QuantizationConfig
from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.joint import join_
from glmflash.quant.linear import QuantizedLinear
from glmflash.quant.rows import quantize_rows

__all__ = ["quantize_"]


def __dir__() -> list[str]:
    return __all__


def quantize_(
    module: nn.Module,
    scheme: str = "int8",
    *,
    match: str | None = None,
    embeddings: str = "auto",
    kernel: str | None = None,
) -> Card:
    """Replace linear layers by INT8 ones, one after another; each old weight is freed before the next.

    `load_model(quantize=...)` does the same while it reads, and never holds the model whole. Layers that are
    INT8 already stay as they are, so calls with different schemes and matches may follow each other.

    Args:
        module: Changed in place. Its own `forward` stays; only its linear children change.
        scheme: See `QuantizationConfig`, also for what follows.
        match: Which layers; None is all.
        embeddings: "int8" rounds `nn.Embedding` tables called `embed_tokens` too.
        kernel: None takes the best.

    Returns:
        What became of each layer.

    Raises:
        ParameterError: If an argument is not allowed, a weight is not finite, or nothing is left to quantise.

    Example:
        >>> tower = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> quantize_(tower, "w8a8", match="0").layers[0].name
        '0'
    """
    config = QuantizationConfig(scheme=scheme, match=match, embeddings=embeddings, kernel=kernel)
    packer = Packer(config.kernel)
    for places in _places(module, config):
        quantized = _quantized(module.get_submodule(places[0]), config, packer)
        for name in places:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, quantized)
    join_(module)
    return card(module)


def _places(module: nn.Module, config: QuantizationConfig) -> list[list[str]]:
    """Names of each layer to be replaced, by which one that stands in several places has several.

    Names only: whoever holds the layers keeps their weights from being freed.
    """
    linear: dict[int, list[str]] = {}
    tables: dict[int, list[str]] = {}
    for name, layer in module.named_modules(remove_duplicate=False):
        if name and isinstance(layer, nn.Linear):
            linear.setdefault(id(layer), []).append(name)
        if isinstance(layer, nn.Embedding) and config.selects_embedding(name):
            tables.setdefault(id(layer), []).append(name)
    chosen = set(config.choose(name for names in linear.values() for name in names))
    found = [names for names in linear.values() if chosen.intersection(names)] + list(tables.values())
    if not found:
        raise ParameterError("module", "has nothing to quantise: its children hold no nn.Linear (any more)")
    return found


def _quantized(layer: nn.Module, config: QuantizationConfig, packer: Packer) -> nn.Module:
    assert isinstance(layer, nn.Linear | nn.Embedding)
    weight = layer.weight.detach()
    rows, size = quantize_rows(weight), weight.nbytes
    if isinstance(layer, nn.Embedding):
        return QuantizedEmbedding(rows, source_bytes=size)
    packed, kernel = packer.pack(rows.weight, rows.scale)
    return QuantizedLinear(
        rows, layer.bias, scheme=config.scheme, kernel=kernel, packed=packed, source_bytes=size
    )
