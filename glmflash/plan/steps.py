"""Sizes of a network → the most bytes of temporaries that a forward has alive at once.

Each function lists the moments of one layer at which much is alive, in the order of the network's code; the
largest counts. Tests run that code on PyTorch's meta device, count what is alive, and hold these sums to it.
"""

from dataclasses import dataclass

from glmflash.config import TextConfig, VisionConfig

__all__ = ["TILES", "Sizes"]

#: Rows that INT8 products take at once, by device.
TILES = {"cpu": 128, "cuda": 512}
_FLOAT = 4


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What temporaries are made of.

    Args:
        itemsize: Bytes of a number that is computed with.
        int8: Whether weights are INT8.
        tile: Rows that INT8 products take at once.
        widened: Bytes of a part of a weight that products make float32 on their way; see `ops.linear`.
    """

    itemsize: int
    int8: bool
    tile: int
    widened: int = 0

    def prompt(
        self, text: TextConfig, tokens: int, *, context: int, batch: int = 1, int8_kv: bool = False
    ) -> int:
        """Bytes for the last part of a prompt, or for choosing a token for a whole batch.

        Args:
            text: Of the decoder.
            tokens: In the part.
            context: In the whole prompt.
            batch: Sequences at once.
            int8_kv: Whether keys and values are stored in INT8.
        """
        size, n, inner = self.itemsize, tokens, text.intermediate_size
        row = size * text.hidden_size  # bytes of a token's hidden state
        queries = size * text.num_attention_heads * text.head_dim
        keys = size * text.num_key_value_heads * text.head_dim
        held = n * (2 * row + size * text.rotary_dim)  # embeddings, the layer's input, cosines and sines
        mask = n * context * size if 1 < n < context else 0
        copied = 0
        if batch > 1 or int8_kv:  # one layer's keys and values, side by side, and before as INT8
            numbers = 2 * context * text.num_key_value_heads
            copied = numbers * (text.head_dim * (size + int8_kv) + _FLOAT * int8_kv)
        moments = (
            n * (row + 3 * queries + 3 * keys),  # attended; queries and keys before and after rotation
            n * (row + 2 * queries + 2 * keys) + self._product(n, queries // size, text.hidden_size),
            n * 3 * row + self._product(n, text.hidden_size, 2 * inner),  # attended, its sum, and normed
            n * (3 * row + 3 * size * inner) + self._product(n, inner, text.hidden_size),
            n * (2 * row + 3 * _FLOAT * text.hidden_size),  # a norm, in float32
        )
        logits = batch * text.vocab_size * size
        chosen = logits + (logits // size * _FLOAT if size < _FLOAT else 0) + 16 * text.vocab_size  # sorted
        projected = batch * row + max(self._product(batch, text.hidden_size, text.vocab_size), chosen)
        return max(held + mask + copied + max(moments), n * row + 2 * mask + copied, n * row + projected)

    def picture(self, vision: VisionConfig, tokens: int) -> int:
        """Bytes for a picture of so many vision tokens on its way through the vision tower."""
        size, n = self.itemsize, tokens * vision.spatial_merge_size**2
        width, out = vision.hidden_size, vision.out_hidden_size
        row, wide = size * width, size < _FLOAT
        patch = _FLOAT * vision.in_channels * vision.patch_size**2
        held = n * (patch + 2 * row + _FLOAT * vision.head_dim)  # patches, two hidden states, angles
        # Rotation is in float32; if that is another dtype, of a copy, and what comes of it is copied back.
        rotation, normed = width * (_FLOAT * (1 + wide) + size * wide), 2 * vision.qk_norm
        rotation += 2 * _FLOAT * vision.head_dim  # cosines and sines, once for each half
        moments = (
            n * row + self._product(n, width, 3 * width),
            n * ((5 + normed) * row + rotation),  # normed, qkv, queries rotated; keys on their way
            n * (9 + normed) * row,  # both rotated, and all three copied head by head
            n * 2 * row + self._product(n, width, vision.mlp_size) + n * size * vision.mlp_size,
            n * (2 * row + size * vision.mlp_size) + self._product(n, vision.mlp_size, width),
        )
        merged = self._product(tokens, out, vision.merger_size) + 2 * tokens * size * vision.merger_size
        ends = (
            n * (patch + 2 * row + 4 * _FLOAT * width),  # learned positions, resampled in float32
            n * (patch + row) + tokens * 2 * size * out + merged,
        )
        return max(held + max(moments), *ends)

    def _product(self, rows: int, inputs: int, outputs: int) -> int:
        """Bytes that a linear layer adds to its input, with its result."""
        if not self.int8:
            exact = rows * inputs * _FLOAT if self.widened else 0
            return rows * outputs * self.itemsize + exact + self.widened
        tile = min(rows, self.tile)
        # Both parts of each row as floats and as bytes; sums in 32 bits, and as floats.
        inner = tile * (inputs * (2 * _FLOAT + 2 + _FLOAT * (self.itemsize < _FLOAT)) + 4 * outputs * _FLOAT)
        result = rows * outputs * _FLOAT if rows > self.tile else 0
        cast = rows * outputs * (_FLOAT + self.itemsize) if self.itemsize < _FLOAT else 0
        return max(result + inner, cast)
