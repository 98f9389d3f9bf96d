"""A network and a device → the parts of memory for any use of them."""

from dataclasses import dataclass

import torch

from glmflash.kv.store import block_bytes
from glmflash.ops.linear import widened_bytes
from glmflash.plan.parts import Part
from glmflash.plan.source import Source
from glmflash.plan.steps import TILES, Sizes
from glmflash.plan.weights import Target, Weights
from glmflash.quant import QuantizationConfig

__all__ = ["BLOCK_SIZE", "STEP_TOKENS", "VISION_CACHE", "Job", "Use"]

# What an engine takes when nobody says otherwise; tests hold them to engine/storage.py.
BLOCK_SIZE = 16
STEP_TOKENS = {"cpu": 512, "cuda": 2048}
VISION_CACHE = 256 * 2**20
_TOKENIZER = 1600  # bytes for each entry of the vocabulary; measured with that of GLM-4


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What is asked of a network: `plan` explains its arguments."""

    context: int
    batch: int
    kv_dtype: str
    image_tokens: int


@dataclass(frozen=True, slots=True)
class Job:
    """A network on its way to a device.

    Args:
        source: The network.
        target: What becomes of it.
        dtype: What the caller said of it.
        weights: Bytes of its weights.
        sizes: What temporaries are made of.
    """

    source: Source
    target: Target
    dtype: str | torch.dtype
    weights: Weights
    sizes: Sizes

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        device: str | torch.device,
        dtype: str | torch.dtype,
        quantize: str | QuantizationConfig | None,
    ) -> "Job":
        """Work out what does not depend on the use.

        Raises:
            ParameterError: If an argument is not allowed.
        """
        target = Target.choose(source, device=device, dtype=dtype, quantize=quantize)
        weights = Weights.of(source, target)
        tile = TILES[target.device.type]
        widened = widened_bytes(target.dtype, target.device)
        int8 = bool(target.schemes)
        sizes = Sizes(itemsize=target.dtype.itemsize, int8=int8, tile=tile, widened=widened)
        return cls(source, target, dtype, weights, sizes)

    def quantized(self, quantize: str | QuantizationConfig) -> "Job":
        """The same with INT8 weights."""
        return Job.of(self.source, device=self.target.device, dtype=self.dtype, quantize=quantize)

    def parts(self, use: Use) -> tuple[Part, ...]:
        """Everything that takes memory."""
        parts = list(self.weights.parts)
        dtype = str(self.target.dtype).removeprefix("torch.")
        if self.target.device.type == "cpu":
            size = _TOKENIZER * self.source.config.text.vocab_size
            parts.append(Part("program", "tokenizer", "", size))
        kept = "int8" if use.kv_dtype == "int8" else dtype
        parts.append(Part("cache", "keys and values", kept, self.kv(use)))
        if use.image_tokens:
            parts.append(Part("cache", "vision tokens, up to", dtype, VISION_CACHE))
        prompt, picture = self.prompt(use), self.picture(use)
        name = f"picture of {use.image_tokens} tokens" if picture > prompt else "part of a prompt"
        return (*parts, Part("step", name, dtype, max(prompt, picture)))

    def kv(self, use: Use) -> int:
        """Bytes of keys and values, in whole blocks."""
        text = self.source.config.text
        size = block_bytes(
            num_layers=text.num_hidden_layers,
            num_kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            block_size=BLOCK_SIZE,
            dtype=self.target.dtype,
            int8=use.kv_dtype == "int8",
        )
        return use.batch * -(-use.context // BLOCK_SIZE) * size

    def prompt(self, use: Use) -> int:
        """Bytes of temporaries of the last part of a prompt."""
        tokens = min(STEP_TOKENS[self.target.device.type], use.context)
        text, int8_kv = self.source.config.text, use.kv_dtype == "int8"
        return self.sizes.prompt(text, tokens, context=use.context, batch=use.batch, int8_kv=int8_kv)

    def picture(self, use: Use) -> int:
        """Bytes of temporaries of the largest picture."""
        vision = self.source.config.vision
        return self.sizes.picture(vision, use.image_tokens) if use.image_tokens else 0
