"""Embeddings and positions → hidden states: the decoder, over packed tokens and any cache."""

import torch
from torch import Tensor, nn

from glmflash.config import TextConfig
from glmflash.model.cache import Cache
from glmflash.model.layers import DecoderNorm, FusedGatedMlp, Linear
from glmflash.ops.rotary import inverse_frequencies, rotate_pairs, section_angles, section_axes
from glmflash.quant import outputs

__all__ = ["TextModel"]


def __dir__() -> list[str]:
    return __all__


class TextModel(nn.Module):
    """The decoder: `language_model.*` of the checkpoint.

    Source: transformers glm4v, `Glm4vTextModel`; parity in tests/parity/test_text.py.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = DecoderNorm(config.hidden_size, eps=config.rms_norm_eps)
        self._series: dict[torch.device, tuple[Tensor, Tensor]] = {}  # frequencies and their axes

    def forward(
        self, embeds: Tensor, positions: Tensor, cache: Cache, *, rows: Tensor | None = None
    ) -> Tensor:
        """Run the new tokens of any number of sequences, packed one behind the other.

        Args:
            embeds: Embeddings of the new tokens; vision tokens already in place.
            positions: Time, height and width position of each token.
            cache: Knows which tokens belong together and what each may see.
            rows: Indices of the tokens wanted; all by default. The others still leave keys and values in
                the cache, but nothing reads what the last layer would make of them after that.

        Shapes:
            embeds (N, hidden_size), positions (3, N), rows (R,) -> (N or R, hidden_size), not yet normed.
        """
        cos, sin = self.rotary(positions, embeds.dtype)
        x = embeds
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, cache, index, rows=rows if index == last else None)
        return x

    def rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines, made in float32. Shapes: (3, N) -> (N, rotary_dim / 2), twice."""
        device = positions.device
        if device not in self._series:  # what they are made from is the same in every step
            self._series[device] = self._make_series(device)
        angles = section_angles(positions, *self._series[device])
        return angles.cos().to(dtype), angles.sin().to(dtype)

    @torch.inference_mode(mode=False)  # what is made in that mode cannot be used for a gradient
    def _make_series(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.config
        return (
            inverse_frequencies(config.rope_theta, config.rotary_dim, device=device),
            section_axes(config.mrope_section, device=device),
        )


class DecoderLayer(nn.Module):
    """Attention and MLP, each between two norms: one before, one on the output before it is added."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config)
        self.mlp = FusedGatedMlp(size, config.intermediate_size)
        self.input_layernorm = DecoderNorm(size, eps=eps)
        self.post_self_attn_layernorm = DecoderNorm(size, eps=eps)
        self.post_attention_layernorm = DecoderNorm(size, eps=eps)  # historical name: stands before the MLP
        self.post_mlp_layernorm = DecoderNorm(size, eps=eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache, index: int, *, rows: Tensor | None = None
    ) -> Tensor:
        """Shapes: x (N, hidden_size), rows (R,) -> (N or R, hidden_size)."""
        attended = self.self_attn(self.input_layernorm(x), cos, sin, cache, index)
        if rows is not None:
            x, attended = x[rows], attended[rows]
        x = x + self.post_self_attn_layernorm(attended)
        out: Tensor = x + self.post_mlp_layernorm(self.mlp(self.post_attention_layernorm(x)))
        return out


class Attention(nn.Module):
    """Grouped-query attention with biased q, k and v and an unbiased output (glm_ocr: no bias at all)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        )
        self.q_proj = Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache, index: int) -> Tensor:
        """Shapes: x (N, hidden_size) -> (N, hidden_size)."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (out.view(len(x), -1, self.head_dim) for out in outputs(projections, x))
        out = cache.attend(index, rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin), v)  # (N, H, D)
        projected: Tensor = self.o_proj(out.flatten(1))
        return projected
