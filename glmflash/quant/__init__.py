"""Linear layers → INT8 ones, in place, with a card that says what became of each."""

from glmflash.quant.card import Card, card
from glmflash.quant.card_parts import Group, KeptCard, LayerCard, Measured
from glmflash.quant.config import QuantizationConfig
from glmflash.quant.embedding import QuantizedEmbedding
from glmflash.quant.joint import JOINT, outputs, pack_jointly, packed_jointly
from glmflash.quant.linear import QuantizedLinear
from glmflash.quant.quantize import quantize_
from glmflash.quant.rows import QuantizedRows, quantize_rows

__all__ = [
    "JOINT",
    "Card",
    "Group",
    "KeptCard",
    "LayerCard",
    "Measured",
    "QuantizationConfig",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedRows",
    "card",
    "outputs",
    "pack_jointly",
    "packed_jointly",
    "quantize_",
    "quantize_rows",
]


def __dir__() -> list[str]:
    return __all__
