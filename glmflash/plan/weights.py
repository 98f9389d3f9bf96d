"""Stored tensors and what to make of them → bytes of weights, part by part, and the most while loading."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch

from glmflash.errors import ParameterError
from glmflash.ops.int8 import KERNELS, Kernel, choose_kernel
from glmflash.plan.parts import Part
from glmflash.plan.source import Source
from glmflash.quant import QuantizationConfig
from glmflash.shown import show
from glmflash.weights.jobs import EMBEDDINGS, HEAD, Job, Parts, choose, jobs, joined

__all__ = ["Target", "Weights"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_Group = tuple[Job, ...]

_PER_ROW = 8  # bytes beside each row of an INT8 layer: its scale, and its sum
_WORKERS = 4  # layers made INT8 at once, at most


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes of a checkpoint when it is loaded.

    Args:
        device: Where it goes. A card need not be here.
        dtype: What is computed in.
        quantization: What the caller wants; None is what is stored.
        schemes: INT8 layer → scheme.
    """

    device: torch.device
    dtype: torch.dtype
    quantization: QuantizationConfig | None
    schemes: dict[str, str]

    @classmethod
    def choose(
        cls, source: Source, *, device: str | torch.device, dtype: str | torch.dtype, quantize: object
    ) -> "Target":
        """As `load_model` understands its arguments.

        Raises:
            ParameterError: If an argument is not allowed.
        """
        stored = source.stored
        place, wanted = _place(device), QuantizationConfig.of(quantize)
        schemes = choose(wanted, stored.linear, stored=stored.schemes, integer=stored.integer)
        auto = isinstance(dtype, str) and dtype == "auto"
        named = _auto(_DTYPES[source.config.dtype], place, int8=bool(schemes)) if auto else _named(dtype)
        return cls(place, named, wanted, schemes)

    @property
    def scheme(self) -> str | None:
        """The scheme of most INT8 layers; None if there is none."""
        found = [scheme for name, scheme in self.schemes.items() if name != EMBEDDINGS]
        return max(sorted(set(found)), key=found.count, default=None)


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of weights.

    Args:
        parts: By tower and dtype.
        peak: Most bytes at once while they are loaded.
    """

    parts: tuple[Part, ...]
    peak: int

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(part.nbytes for part in self.parts)

    @classmethod
    def of(cls, source: Source, target: Target) -> "Weights":
        """Count, without reading or allocating any."""
        work = jobs(source.stored.parts, target.schemes, dtype=target.dtype, tied=source.stored.tied)
        groups = joined(work)
        sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
        for group in groups:
            for dtype, size in _sizes(group, target):
                sizes[_part(group[0].name), str(dtype).removeprefix("torch.")] += size
        parts = [Part("weights", name, dtype, size) for (name, dtype), size in sizes.items()]
        order = ("vision tower", "embeddings", "decoder", "vocabulary head")
        parts.sort(key=lambda part: (order.index(part.name), -part.nbytes))
        return cls(tuple(parts), _peak(groups, target))


def _sizes(group: _Group, target: Target) -> Iterable[tuple[torch.dtype, int]]:
    """What jobs leave that are read together, by dtype; those that are INT8 are packed as one weight."""
    first = group[0]
    if first.scheme is None:
        yield first.dtype, _numbers(first.weight) * first.dtype.itemsize
        return
    rows = sum(part.shape[0] for job in group for part in job.weight)
    if first.name == EMBEDDINGS:
        yield torch.int8, _numbers(first.weight) + 4 * rows
    else:
        yield torch.int8, _kernel(target).nbytes(rows, first.weight[0].shape[1]) + _PER_ROW * rows
    for job in group:
        if job.bias:
            yield job.dtype, _numbers(job.bias) * job.dtype.itemsize


def _peak(groups: list[_Group], target: Target) -> int:
    """As `weights.read` goes about it: large tensors first, INT8 layers on several threads on a CPU."""
    groups = sorted(groups, key=lambda group: -sum(job.num_bytes for job in group))
    threads = min(_WORKERS, torch.get_num_threads()) if target.device.type == "cpu" and target.schemes else 1
    final = [sum(size for _, size in _sizes(group, target)) for group in groups]
    spare = [_spare(group, target) for group in groups]
    done = most = 0
    for index, size in enumerate(final):
        under_way = slice(index, index + threads)
        most = max(most, done + sum(final[under_way]) + sum(spare[under_way]))
        done += size
    return max(most, done)


def _spare(group: _Group, target: Target) -> int:
    """Bytes of what is read or made on the way, and dropped. On a CPU what is read is a view of the file."""
    card, first, stored = target.device.type == "cuda", group[0], sum(job.num_bytes for job in group)
    if first.scheme is None:
        kept = _numbers(first.weight) * first.dtype.itemsize
        same = len(first.weight) == 1 and first.weight[0].num_bytes == kept
        return stored if card and not same else 0
    if first.name == EMBEDDINGS:
        return stored if card else 0
    numbers = sum(_numbers(job.weight) for job in group)
    stacked = numbers if len(group) > 1 or len(first.weight) > 1 else 0
    return stacked + (stored if card else 2 * numbers)  # levels, and again as the kernel is given them


def _numbers(parts: Parts) -> int:
    return sum(prod(part.shape) for part in parts)


def _kernel(target: Target) -> Kernel:
    """What will multiply, or keeps as much. Both kernels of a card, which need not be here, keep the same."""
    wanted = target.quantization
    if target.device.type == "cuda" and not torch.cuda.is_available():
        return next(kernel for kernel in KERNELS if kernel.name == "cublas")
    return choose_kernel(target.device, wanted.kernel if wanted else None)


def _part(name: str) -> str:
    if name.startswith("model.visual"):
        return "vision tower"
    if name.startswith(HEAD):
        return "vocabulary head"
    return "embeddings" if name.startswith(EMBEDDINGS) else "decoder"


def _place(device: str | torch.device) -> torch.device:
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise ParameterError("device", f"is {show(device)}; allowed: 'auto', 'cpu', 'cuda', 'cuda:1'")
    return place


def _named(dtype: str | torch.dtype) -> torch.dtype:
    named = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if named is None or named not in _DTYPES.values():
        raise ParameterError("dtype", f"is {show(dtype)}; allowed: 'auto', {', '.join(map(repr, _DTYPES))}")
    return named


def _auto(stored: torch.dtype, place: torch.device, *, int8: bool) -> torch.dtype:
    if place.type == "cpu":
        return torch.float32 if int8 or stored == torch.float16 else stored
    old = torch.cuda.is_available() and torch.cuda.get_device_capability(place) < (8, 0)
    return torch.float16 if old and stored == torch.bfloat16 else stored
