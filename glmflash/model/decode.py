"""An INT8 model on a CPU → its decode step for a few tokens: the same steps to the same bits, most in NumPy.

A decode step reads all weights, and after each of them no cache of the processor holds anything else. What
stands between two products is then slow by the number of different functions it calls, not by their work: a
first PyTorch operator or module takes 50 to 100 microseconds, a further NumPy function 7. So here is one flat
function with few of them. `Glm4v.forward` stays what defines the model, and what this is tested against.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmflash.model.cache import Cache
from glmflash.model.glm import Glm4v
from glmflash.model.layers import DecoderNorm
from glmflash.model.text import DecoderLayer
from glmflash.ops.int8 import FEW, FewRowsWeight
from glmflash.quant import QuantizedLinear, packed_jointly

__all__ = ["DecodeStep", "decode_step"]

_Array = npt.NDArray[np.float32]


def __dir__() -> list[str]:
    return __all__


class DecodeStep:
    """Logits of a few new tokens, all of which are wanted.

    It holds what the model's layers hold now. Norms may be written to; once a layer's INT8 weight is another,
    it takes nothing any more.

    Args:
        model: Its decoder computes in float32.
        layers: Its decoder layers.
        head: Its final norm and projection.
    """

    def __init__(self, model: Glm4v, layers: Sequence["_Layer"], head: tuple["_Norm", FewRowsWeight]) -> None:
        self._rotary = model.model.language_model.rotary
        self._layers, self._head = tuple(layers), head
        self._held = [(layer, layer.packed) for layer in _quantized(model)]

    def takes(self, tokens: int) -> bool:
        """Whether it is quicker than the model for so many, and still the model's."""
        return tokens <= FEW and all(layer.packed is packed for layer, packed in self._held)

    def __call__(self, embeds: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """What `Glm4v.forward` gives, under `torch.inference_mode()`.

        Shapes:
            embeds (N, hidden_size) float32, positions (3, N) int64 -> (N, vocab_size)
        """
        turn = torch.complex(*self._rotary(positions, torch.float32))[:, None]  # (N, 1, P)
        norm, head = self._head
        with np.errstate(all="ignore"):  # what is not finite is to come out not finite
            x: _Array = embeds.numpy()
            for index, layer in enumerate(self._layers):
                x = _through(layer, x, turn, cache, index)
            return torch.from_numpy(head.few(_normed(x, norm)))


@dataclass(frozen=True, slots=True)
class _Norm:
    """An RMSNorm: its weight (C,), and epsilon."""

    weight: _Array
    eps: np.float32


@dataclass(frozen=True, slots=True)
class _Layer:
    """What a decoder layer is made of; heads of q and k, then of v, follow each other in `qkv`."""

    before_attention: _Norm
    qkv: FewRowsWeight
    bias: _Array | None
    ends: tuple[int, int]  # of the heads of q, and of those of k
    head_dim: int
    out: FewRowsWeight
    after_attention: _Norm
    before_mlp: _Norm
    gate_up: FewRowsWeight
    down: FewRowsWeight
    after_mlp: _Norm


def decode_step(model: Glm4v) -> DecodeStep | None:
    """The decode step of a model; None if the model itself has to be called.

    That is so unless all layers of the decoder are INT8 of the scheme "int8", packed by a kernel for CPUs,
    and what is between them is float32.
    """
    text, head = model.model.language_model, _few(model.lm_head)
    if head is None or model.dtype != torch.float32 or {one.scheme for one in _quantized(model)} != {"int8"}:
        return None
    found = [layer for layer in map(_layer, text.layers) if layer is not None]
    if len(found) < len(text.layers):
        return None
    return DecodeStep(model, found, (_norm(text.norm), head))


def _layer(layer: nn.Module) -> _Layer | None:
    assert isinstance(layer, DecoderLayer)
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    qkv, out = packed_jointly(projections), _few(attention.o_proj)
    gate_up, down = _few(layer.mlp.gate_up_proj), _few(layer.mlp.down_proj)
    if not isinstance(qkv, FewRowsWeight) or out is None or gate_up is None or down is None:
        return None
    queries = attention.q_proj.out_features // attention.head_dim
    biases: list[Tensor | None] = [one.bias for one in projections]
    found = [bias.detach() for bias in biases if bias is not None]
    return _Layer(
        before_attention=_norm(layer.input_layernorm),
        qkv=qkv,
        bias=torch.cat(found).numpy() if found else None,
        ends=(queries, queries + attention.k_proj.out_features // attention.head_dim),
        head_dim=attention.head_dim,
        out=out,
        after_attention=_norm(layer.post_self_attn_layernorm),
        before_mlp=_norm(layer.post_attention_layernorm),
        gate_up=gate_up,
        down=down,
        after_mlp=_norm(layer.post_mlp_layernorm),
    )


def _few(layer: nn.Module) -> FewRowsWeight | None:
    packed = layer.packed if isinstance(layer, QuantizedLinear) and layer.bias is None else None
    return packed if isinstance(packed, FewRowsWeight) else None


def _quantized(model: Glm4v) -> Iterator[QuantizedLinear]:
    """The INT8 layers of the decoder and the projection."""
    for layer in (*model.model.language_model.modules(), model.lm_head):
        if isinstance(layer, QuantizedLinear):
            yield layer


def _norm(norm: DecoderNorm) -> _Norm:
    return _Norm(norm.weight.detach().numpy(), np.float32(norm.eps))


def _through(layer: _Layer, x: _Array, turn: Tensor, cache: Cache, index: int) -> _Array:
    """`DecoderLayer.forward`. Shapes: x (N, C), turn (N, 1, P) -> (N, C)."""
    qkv = layer.qkv.few(_normed(x, layer.before_attention))
    if layer.bias is not None:
        np.add(qkv, layer.bias, out=qkv)
    heads = torch.from_numpy(qkv).view(len(x), -1, layer.head_dim)  # (N, H + 2K, D)
    q, k = layer.ends
    heads.view(torch.complex64)[:, :k, : turn.shape[-1]].mul_(turn)  # as `rotate_pairs` does
    attended = cache.attend(index, heads[:, :q], heads[:, q:k], heads[:, k:])  # (N, H, D)
    x = _add(x, layer.out.few(attended.reshape(len(x), -1).numpy()), layer.after_attention)
    gate, up = torch.from_numpy(layer.gate_up.few(_normed(x, layer.before_mlp))).chunk(2, -1)
    return _add(x, layer.down.few(F.silu(gate).mul_(up).numpy()), layer.after_mlp)


def _normed(x: _Array, norm: _Norm) -> _Array:
    """`DecoderNorm.forward`. Shapes: x (N, C) -> (N, C)."""
    out = np.multiply(x, x)
    total = np.add.reduce(out, axis=-1, keepdims=True)  # (N, 1)
    np.multiply(x, np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + norm.eps), out=out)
    return np.multiply(out, norm.weight, out=out)


def _add(x: _Array, y: _Array, norm: _Norm) -> _Array:
    """What a branch gave, normed, on top of what went into it. Shapes: x and y (N, C) -> (N, C)."""
    out = _normed(y, norm)
    return np.add(x, out, out=out)
