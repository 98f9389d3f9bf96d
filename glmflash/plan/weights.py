"""A network's configuration and what to make of it → bytes of its weights, part by part."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from glmflash.config import ModelConfig
from glmflash.errors import ParameterError
from glmflash.model import Glm4v
from glmflash.ops.int8 import choose_kernel
from glmflash.plan.parts import Part
from glmflash.quant import QuantizationConfig
from glmflash.weights.layout import build_on_meta

__all__ = ["Target", "Weights"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HEAD, _TABLE = "lm_head", "model.language_model.embed_tokens"
_PER_ROW = 8  # bytes beside each row of INT8: its scale, and the sum of it


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes of a checkpoint when it is loaded.

    Args:
        device: Where it goes. A card need not be here.
        dtype: What is computed in, and what all that is not INT8 is stored in.
        embeddings: What the token embeddings are stored in.
        quantization: Which layers become INT8; None for none.
    """

    device: torch.device
    dtype: torch.dtype
    embeddings: torch.dtype
    quantization: QuantizationConfig | None

    @classmethod
    def choose(
        cls, config: ModelConfig, *, device: str | torch.device, dtype: str | torch.dtype, quantize: object
    ) -> "Target":
        """As `load_model` understands its arguments.

        Raises:
            ParameterError: If an argument is not allowed.
        """
        place, quantization = _place(device), QuantizationConfig.of(quantize)
        auto = isinstance(dtype, str) and dtype == "auto"
        named = _computable(_DTYPES[config.dtype], place, quantization) if auto else _named(dtype)
        stored = _DTYPES[config.dtype] if auto and quantization and place.type == "cpu" else named
        return cls(place, named, stored, quantization)


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of weights.

    Args:
        parts: By tower and dtype.
        temporary: Most bytes needed beside them while they are loaded.
        int8: Names of the linear layers that become INT8.
    """

    parts: tuple[Part, ...]
    temporary: int
    int8: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(part.nbytes for part in self.parts)

    @classmethod
    def of(cls, config: ModelConfig, target: Target, *, tied: bool = False) -> "Weights":
        """Count, without reading or allocating any.

        Args:
            config: Of the network.
            target: What becomes of it.
            tied: Whether the projection to the vocabulary is the table of embeddings.
        """
        model = build_on_meta(config)
        quantization = target.quantization
        linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        int8 = quantization.choose(linear) if quantization else ()
        counter = _Counter(model, target, frozenset(int8), tied=tied)
        for name, module in model.named_modules():
            counter.add(name, module)
        parts = [Part("weights", part, dtype, size) for (part, dtype), size in counter.sizes.items() if size]
        return cls(tuple(parts), counter.temporary, int8)


class _Counter:
    def __init__(self, model: Glm4v, target: Target, int8: frozenset[str], *, tied: bool) -> None:
        self.sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.temporary = 0
        self._stored = _DTYPES[model.config.dtype].itemsize
        self._target, self._int8, self._tied = target, int8, tied
        self._beside = _beside(target) if int8 else 0

    def add(self, name: str, module: nn.Module) -> None:
        """Count a module's own parameters."""
        quantization = self._target.quantization
        for leaf, parameter in module.named_parameters(recurse=False):
            count = parameter.numel()
            table = name == _TABLE
            packed = leaf == "weight" and name in self._int8
            if name == _HEAD and self._tied and not packed:
                continue
            dtype, beside = self._target.embeddings if table else self._target.dtype, 0
            if packed or (table and quantization is not None and quantization.selects_embedding(name)):
                dtype, beside = torch.int8, self._beside if packed else 4
            size = count * dtype.itemsize + beside * (len(parameter) if beside else 0)
            self.sizes[_part(name), _spell(dtype)] += size
            # The tensor as it is read; as INT8 also its levels, beside the packed form of them.
            reading = count * (self._stored + (dtype == torch.int8))
            self.temporary = max(self.temporary, reading)


def _beside(target: Target) -> int:
    """Bytes beside each row of an INT8 weight: scale, sum, and what the kernel keeps."""
    assert target.quantization is not None
    name = target.quantization.kernel
    if target.device.type == "cuda" and not torch.cuda.is_available():
        return _PER_ROW + 4
    kernel = choose_kernel(target.device, name)
    row = kernel.pack(
        torch.zeros(64, 64, dtype=torch.int8, device=target.device), torch.ones(64, device=target.device)
    )
    return _PER_ROW + (row.nbytes - 64 * 64) // 64


def _part(name: str) -> str:
    if name.startswith("model.visual"):
        return "vision tower"
    return {_TABLE: "embeddings", _HEAD: "vocabulary head"}.get(name, "decoder")


def _spell(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _place(device: str | torch.device) -> torch.device:
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise ParameterError("device", f"is {device!r:.80}; allowed: 'auto', 'cpu', 'cuda', 'cuda:1'")
    return place


def _named(dtype: str | torch.dtype) -> torch.dtype:
    named = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if named not in _DTYPES.values():
        raise ParameterError("dtype", f"is {dtype!r:.80}; allowed: 'auto', {', '.join(map(repr, _DTYPES))}")
    assert named is not None
    return named


def _computable(
    dtype: torch.dtype, place: torch.device, quantization: QuantizationConfig | None
) -> torch.dtype:
    if place.type == "cpu":
        return torch.float32 if dtype == torch.float16 or quantization else dtype
    here = torch.cuda.is_available()
    old = here and torch.cuda.get_device_capability(place) < (8, 0)
    return torch.float32 if old and dtype == torch.bfloat16 else dtype
