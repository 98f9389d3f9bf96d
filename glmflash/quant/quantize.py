"""A module → the same with INT8 layers, in place, and its card."""

from torch import nn

from glmflash.quant.card import Card, card
from glmflash.quant.config import QuantizationConfig
from glmflash.quant.embedding import QuantizedEmbedding
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

    `load_model(quantize=...)` does the same while it reads, and never holds the model whole.

    Args:
        module: Changed in place. Its own `forward` stays; only its linear children change.
        scheme: See `QuantizationConfig`, also for what follows.
        match: Which layers; None is all.
        embeddings: "int8" rounds `nn.Embedding` tables too.
        kernel: None takes the best.

    Returns:
        What became of each layer.

    Raises:
        ParameterError: If an argument is not allowed.

    Example:
        >>> tower = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> quantize_(tower, "w8a8", match="0").layers[0].name
        '0'
    """
    config = QuantizationConfig(scheme=scheme, match=match, embeddings=embeddings, kernel=kernel)
    for name, layer in list(module.named_modules()):
        owner, _, leaf = name.rpartition(".")
        if not name or not isinstance(layer, nn.Linear | nn.Embedding):
            continue
        rows = layer.weight.detach()
        if isinstance(layer, nn.Linear) and config.selects(name):
            quantized: nn.Module = QuantizedLinear(
                quantize_rows(rows), layer.bias, scheme=scheme, kernel=kernel, source_bytes=rows.nbytes
            )
        elif isinstance(layer, nn.Embedding) and config.embeddings == "int8":
            quantized = QuantizedEmbedding(quantize_rows(rows), source_bytes=rows.nbytes)
        else:
            continue
        setattr(module.get_submodule(owner), leaf, quantized)
    return card(module)
