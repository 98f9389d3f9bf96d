"""A model → the same network in numbers that float16 holds, for cards that cannot compute in bfloat16.

GLM overflows float16, whose largest number is 65,504. But hardly anything in it has a scale of its own: what
a matrix gives goes into a norm, which divides by the size of what comes in. So weights are multiplied by
powers of two, which is exact, and the eps of the norm behind by their square; logits stay what they were. By
how much follows from bounds that hold for every picture and every prompt: what a norm gives, before its
weight, has a 2-norm of at most the root of its width.

Source: where GLM overflows: ggml-org/llama.cpp#12946, #13101; the symptom: vllm-project/vllm#17154.
"""

import logging

import torch
from torch import nn

from glmflash.model import Glm4v
from glmflash.model.layers import RMSNorm
from glmflash.weights.rescale.bounds import column_peaks
from glmflash.weights.rescale.norms import rows_at
from glmflash.weights.rescale.pairs import LOOSE, digits, largest, tightened
from glmflash.weights.rescale.rescaling import Bound, Rescaling, Shift
from glmflash.weights.rescale.text import rescale_text_, written
from glmflash.weights.rescale.vision import merger_pair, rescale_vision_

__all__ = ["is_rescaled", "rescale_"]

_MERGER_EPS = 1e-5  # of `nn.LayerNorm`; RMS norms have theirs from config.json
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


@torch.no_grad()
def rescale_(model: Glm4v) -> Rescaling:
    """Multiply weights by powers of two so that no number on the way overflows float16.

    The network stays the same: in exact arithmetic, logits are equal. What needs no factor is left as it is,
    to the last bit. `load_model` does it when it loads float16.

    Vision tokens and token embeddings carry a factor of the model afterwards, so they suit no other model.

    Args:
        model: Changed in place, INT8 layers too.

    Returns:
        All factors, and the bounds before and after.

    Example:
        >>> from glmflash.weights import load_model
        >>> rescale_(load_model("tiny", dtype="float32")).unmet
        ()
    """
    table, merger = rows_at(model, "model.language_model.embed_tokens"), merger_pair(model)
    if digits(largest(merger.out)) > LOOSE:
        merger = tightened(merger)
    entering = torch.maximum(column_peaks(table), merger.out)
    stream = entering + sum(written(model, index) for index in range(model.config.text.num_hidden_layers))
    lost = digits(largest(stream))
    entries = [*rescale_vision_(model, merger, lost=lost), *rescale_text_(model, entering, lost=lost)]
    rescaling = Rescaling(
        shifts=tuple(entry for entry in entries if isinstance(entry, Shift)),
        bounds=tuple(entry for entry in entries if isinstance(entry, Bound)),
    )
    _report(rescaling)
    return rescaling


def is_rescaled(model: Glm4v) -> bool:
    """Whether norms have another eps than config.json says: then the weights alone are another network.

    Example:
        >>> from glmflash.weights import load_model
        >>> is_rescaled(load_model("tiny", dtype="float32"))
        False
    """
    text, vision = model.config.text.rms_norm_eps, model.config.vision.rms_norm_eps
    expected = {
        module: vision if name.startswith("model.visual.") else text
        for name, module in model.named_modules()
        if isinstance(module, RMSNorm)
    }
    merger = model.get_submodule("model.visual.merger.post_projection_norm")
    assert isinstance(merger, nn.LayerNorm)
    return merger.eps != _MERGER_EPS or any(norm.eps != eps for norm, eps in expected.items())


def _report(rescaling: Rescaling) -> None:
    _log.info("for float16: %s", rescaling)
    for bound in rescaling.unmet:
        _log.warning("%s of %s may overflow float16: its bound is %.3g", bound.place, bound.name, bound.after)
    for shift in rescaling.lossy:
        _log.warning("%s lost %.1e of itself, times 2^%d in float16", shift.name, shift.loss, shift.exponent)
