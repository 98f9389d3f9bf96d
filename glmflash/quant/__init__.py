"""Linear layers → INT8 ones, in place, with a card that says what became of each."""

from glmflash.quant.card import Card, LayerCard, card
from glmflash.quant.config import QuantizationConfig
from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.linear import QuantizedLinear
from glmflash.quant.quantize import quantize_
from glmflash.quant.rows import QuantizedRows, quantize_rows

__all__ = [
    "Card",
    "LayerCard",
    "QuantizationConfig",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedRows",
    "card",
    "quantize_",
    "quantize_rows",
]


def __dir__() -> list[str]:
    return __all__
