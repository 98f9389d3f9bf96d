"""Patches → vision tokens: the vision tower, its learned positions, and the merger.

Pictures of any sizes stand packed along N, each row one patch, four consecutive rows one merge group;
each picture (each frame pair of a clip) attends only to itself. Module names are the checkpoint's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmflash.config import VisionConfig
from glmflash.model.interpolate import bicubic_positions, patch_coordinates
from glmflash.model.layers import GatedMlp, Linear, RMSNorm
from glmflash.ops.attention import segment_attention
from glmflash.ops.linear import linear
from glmflash.ops.rotary import inverse_frequencies, rotate_half
from glmflash.shapes import Grid

__all__ = ["VisionModel"]


def __dir__() -> list[str]:
    return __all__


class VisionModel(nn.Module):
    """The vision tower: `visual.*` of the checkpoint.

    Source: transformers glm4v, `Glm4vVisionModel`, and glm_ocr, `GlmOcrVisionModel`;
    parity in tests/parity/test_vision.py.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        if config.learned_positions:
            self.post_conv_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.embeddings = PositionEmbeddings(config)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.post_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.downsample = nn.Conv2d(
            config.hidden_size,
            config.out_hidden_size,
            kernel_size=config.spatial_merge_size,
            stride=config.spatial_merge_size,
        )
        self.merger = PatchMerger(config)

    def forward(self, rows: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Encode packed patches.

        Args:
            rows: Normalised patches of all pictures, one behind the other, in merge-group order. Stills
                give one frame per row; clips give `temporal_patch_size` frames.
            grids: Size of each picture in patches.

        Shapes:
            rows (N, C * P * P) or (N, C * T * P * P) -> (N / merge^2, out_hidden_size).
        """
        x = self.embed(rows, grids)
        x = self.encode(x, grids)
        return self.merge(x)

    def embed(self, rows: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Patch embedding, norm, then learned positions. Shapes: (N, patch) -> (N, hidden_size)."""
        x: Tensor = self.patch_embed(rows)
        if self.config.learned_positions:
            x = self.post_conv_layernorm(x)
            x = x + self.embeddings(grids).to(x.dtype)
        return x

    def encode(self, x: Tensor, grids: Sequence[Grid]) -> Tensor:
        """All blocks and the last norm. Shapes: (N, hidden_size) -> (N, hidden_size)."""
        cos, sin = self.rotary(grids)
        lengths = [grid.h * grid.w for grid in grids for _ in range(grid.t)]
        for block in self.blocks:
            x = block(x, cos, sin, lengths)
        out: Tensor = self.post_layernorm(x)
        return out

    def merge(self, x: Tensor) -> Tensor:
        """Four patches to one vision token. Shapes: (N, hidden_size) -> (N / merge^2, out_hidden_size)."""
        group = self.config.spatial_merge_size**2
        grouped = x.view(-1, group, x.shape[-1]).transpose(1, 2).flatten(1)  # (M, C * group), as the kernel
        out: Tensor = self.merger(linear(grouped, self.downsample.weight.flatten(1), self.downsample.bias))
        return out

    def rotary(self, grids: Sequence[Grid]) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the patches' rows and columns. Shapes: -> (N, head_dim / 2) float32, twice."""
        device, merge_size = self.downsample.weight.device, self.config.spatial_merge_size
        spots = torch.cat([patch_coordinates(grid, merge_size) for grid in grids])  # (N, 2)
        frequencies = inverse_frequencies(self.config.rope_theta, self.config.head_dim // 2, device=device)
        angles = (spots.to(device)[:, :, None] * frequencies).flatten(1)  # (N, D / 2): rows, then columns
        return angles.cos(), angles.sin()


class PatchEmbed(nn.Module):
    """Pixels of a patch → a vector. The 3-D kernel is applied as one matrix.

    A still picture is a clip of identical frames, so its kernel is the sum over the frames: half the
    bytes to prepare and to move, equal up to the rounding of one addition (exact in float32 parity bounds).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, kernel_size=size, stride=size)

    def forward(self, rows: Tensor) -> Tensor:
        """Shapes: (N, C * P * P) or (N, C * T * P * P) -> (N, hidden_size)."""
        kernel = self.proj.weight  # (hidden, C, T, P, P)
        if rows.shape[1] != kernel[0].numel():
            kernel = kernel.float().sum(2).to(kernel.dtype)  # (hidden, C, P, P)
        return linear(rows.to(kernel.dtype), kernel.flatten(1), self.proj.bias)


class PositionEmbeddings(nn.Module):
    """A square table of learned positions, resampled to each picture's grid."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.merge_size = config.spatial_merge_size
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, grids: Sequence[Grid]) -> Tensor:
        """Shapes: -> (N, hidden_size) float32, in merge-group order."""
        table = self.position_embedding.weight.float().view(self.side, self.side, -1)  # (side, side, C)
        return torch.cat([bicubic_positions(table, grid, merge_size=self.merge_size) for grid in grids])


class VisionBlock(nn.Module):
    """Pre-norm attention, then pre-norm gated MLP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.norm2 = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attn = VisionAttention(config)
        bias = config.qk_norm and config.attention_bias
        self.mlp = GatedMlp(config.hidden_size, config.mlp_size, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> Tensor:
        """Shapes: x (N, hidden_size) -> (N, hidden_size)."""
        x = x + self.attn(self.norm1(x), cos, sin, lengths)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionAttention(nn.Module):
    """Full attention inside each segment; glm_ocr also normalises queries and keys per head."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        bias = config.qk_norm and config.attention_bias
        self.proj = Linear(config.hidden_size, config.hidden_size, bias=bias)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> Tensor:
        """Shapes: x (N, hidden_size) -> (N, hidden_size)."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)  # (N, H, D) each
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        out = segment_attention(rotate_half(q, cos, sin), rotate_half(k, cos, sin), v, lengths)
        projected: Tensor = self.proj(out.flatten(1))
        return projected


class PatchMerger(nn.Module):
    """Vision width → text width: projection, LayerNorm, exact GELU, gated MLP."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = config.out_hidden_size
        self.proj = Linear(size, size, bias=False)
        self.post_projection_norm = nn.LayerNorm(size)  # eps 1e-5, torch's own default, is the reference's
        self.gate_proj = Linear(size, config.merger_size, bias=False)
        self.up_proj = Linear(size, config.merger_size, bias=False)
        self.down_proj = Linear(config.merger_size, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (M, out_hidden_size) -> (M, out_hidden_size)."""
        x = F.gelu(self.post_projection_norm(self.proj(x)))
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out
