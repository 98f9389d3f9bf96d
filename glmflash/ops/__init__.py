"""Tensor → tensor: attention, rotary embedding, products of rows; nothing here knows the model."""

from glmflash.ops.attention import (
    causal_attention,
    causal_mask,
    decode_attention,
    head_attention,
    segment_attention,
)
from glmflash.ops.rotary import inverse_frequencies, rotate_half, rotate_pairs, section_angles, section_axes

__all__ = [
    "causal_attention",
    "causal_mask",
    "decode_attention",
    "head_attention",
    "inverse_frequencies",
    "rotate_half",
    "rotate_pairs",
    "section_angles",
    "section_axes",
    "segment_attention",
]


def __dir__() -> list[str]:
    return __all__
