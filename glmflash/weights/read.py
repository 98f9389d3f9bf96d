"""Where tensors are stored → parameters and INT8 layers, read, checked, rounded and packed one by one.

Large ones come first: what a layer takes while it is made is then never on top of a model that is all there.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from glmflash.errors import ParameterError
from glmflash.ops.int8 import PackedWeight, Packer, choose_kernel
from glmflash.quant import QuantizedEmbedding, QuantizedLinear, QuantizedRows, pack_jointly, quantize_rows
from glmflash.weights.jobs import EMBEDDINGS, Job, Parts, joined
from glmflash.weights.manifest import Manifest, checksum
from glmflash.weights.shards import StoredTensor
from glmflash.weights.trim import give_memory_back
from glmflash.weights.workers import results

__all__ = ["How", "read_into"]

Made = tuple[Job, nn.Module | nn.Parameter | None, list[str]]

_MOST_WORKERS = 4
_PART = 2**22  # elements made floating at once
_TRIM = 2**29  # bytes read from one giving back of memory to the next


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class How:
    """What holds for all jobs.

    Args:
        device: Where everything goes.
        kernel: Asked for by name; None takes the best.
        manifest: Checksums, and what is known of INT8 layers.
    """

    device: torch.device
    kernel: str | None = None
    manifest: Manifest | None = None


def read_into(
    model: nn.Module, jobs: list[Job], how: How, report: Callable[[int, int], None], problems: list[str]
) -> None:
    """Give a model on the meta device its weights.

    INT8 layers are made on up to four threads, since packing uses one processor; only what they are working
    on is in memory beside what is done. The rest is read one by one.

    Args:
        model: Changed in place.
        jobs: All of its parameters.
        how: Kernel, device, checksums.
        report: Called with bytes read and bytes in all, here in the caller's thread.
        problems: Appended to, one line for each tensor that is damaged.
    """
    groups = sorted(joined(jobs), key=lambda group: -sum(job.num_bytes for job in group))
    total, done = sum(job.num_bytes for job in jobs), 0
    threaded = how.device.type == "cpu" and any(job.scheme for job in jobs)
    workers = min(_MOST_WORKERS, torch.get_num_threads()) if threaded else 1
    if threaded:
        choose_kernel(how.device, how.kernel)  # tried out before there are threads
    # Not closed, but dropped: a worker that is left behind may be reading.
    files = {
        path: safe_open(path, framework="pt")
        for path in {stored.path for job in jobs for stored in job.stored}
    }
    read = _Reader(files, how, Packer(how.kernel)).read
    # Workers change the filters of warnings while they pack, and not one after the other.
    kept = warnings.catch_warnings() if workers > 1 else nullcontext()
    with kept, closing(results([partial(read, group) for group in groups], workers=workers)) as made:
        for job, value, found in (one for group in made for one in group):
            problems += found
            if (done + job.num_bytes) // _TRIM > done // _TRIM:
                give_memory_back()
            done += job.num_bytes
            report(done, total)
            if value is not None:
                owner, _, leaf = job.name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, value)
    give_memory_back()


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads jobs that belong together; used by several threads."""

    files: Mapping[Path, safe_open]
    how: How
    packer: Packer

    def read(self, jobs: Sequence[Job]) -> list[Made]:
        """Each job, what it gives, and what is wrong with it."""
        if jobs[0].scheme is None:
            (job,) = jobs
            problems: list[str] = []
            return [(job, self._parameter(job.weight, job.dtype, problems), problems)]
        given = [self._given(job) for job in jobs]
        whole = [rows for rows, _, _ in given if rows is not None]
        packed: Sequence[PackedWeight | None] = (None,) * len(jobs)
        kernel = self.how.kernel
        if 1 < len(jobs) == len(whole):
            packed, kernel = pack_jointly(whole, self.packer)
        return [
            (job, None if rows is None else self._layer(job, rows, bias, one, kernel), problems)
            for job, (rows, bias, problems), one in zip(jobs, given, packed, strict=True)
        ]

    def _given(self, job: Job) -> tuple[QuantizedRows | None, nn.Parameter | None, list[str]]:
        """Rows and bias of an INT8 layer, and what is wrong with them."""
        problems: list[str] = []
        scales = job.scale or (None,) * len(job.weight)
        rows = [self._rows(*pair, problems) for pair in zip(job.weight, scales, strict=True)]
        bias = self._parameter(job.bias, job.dtype, problems) if job.bias else None
        whole = [part for part in rows if part is not None]
        return None if problems else _stacked(whole), bias, problems

    def _layer(
        self,
        job: Job,
        rows: QuantizedRows,
        bias: nn.Parameter | None,
        packed: PackedWeight | None,
        kernel: str | None,
    ) -> nn.Module:
        manifest = self.how.manifest
        known = manifest.layers.get(job.name) if manifest else None
        size = sum(stored.num_bytes for stored in job.weight) if not job.scale else None
        if known is not None:
            rows, size = QuantizedRows(rows.weight, rows.scale, known.error), known.bytes_before
        if job.name == EMBEDDINGS:
            return QuantizedEmbedding(rows, source_bytes=size)
        assert job.scheme is not None
        if packed is None:
            packed, kernel = self.packer.pack(rows.weight, rows.scale)
        return QuantizedLinear(rows, bias, scheme=job.scheme, kernel=kernel, packed=packed, source_bytes=size)

    def _parameter(self, parts: Parts, dtype: torch.dtype, problems: list[str]) -> nn.Parameter | None:
        given = [self._tensor(stored, problems) for stored in parts]
        found = [tensor for tensor in given if tensor is not None]
        if len(found) < len(parts):
            return None
        if len(found) == 1 and self.how.manifest is not None:  # it is our own already
            tensor = found[0].to(self.how.device, dtype)
        else:
            height = sum(part.shape[0] for part in found)
            tensor = torch.empty((height, *found[0].shape[1:]), dtype=dtype, device=self.how.device)
            for part, rows in zip(found, tensor.chunk(len(found)), strict=True):
                rows.copy_(part)
        for stored, rows in zip(parts, tensor.chunk(len(parts)), strict=True):
            if not _finite(rows):
                problems.append(f"{stored}: holds NaN or infinity as {str(dtype).removeprefix('torch.')}")
        return nn.Parameter(tensor, requires_grad=False)

    def _rows(
        self, stored: StoredTensor, scale: StoredTensor | None, problems: list[str]
    ) -> QuantizedRows | None:
        weight = self._tensor(stored, problems)
        scales = None if scale is None else self._scales(scale, problems)
        if weight is None or (scales is None and scale is not None):
            return None
        weight = weight.to(self.how.device)
        if scales is not None:
            return QuantizedRows(weight, scales, 0.0)
        try:
            return quantize_rows(weight)
        except ParameterError:
            problems.append(f"{stored}: holds NaN or infinity as float32")
            return None

    def _scales(self, stored: StoredTensor, problems: list[str]) -> Tensor | None:
        given = self._tensor(stored, problems)
        if given is None:
            return None
        scales = given.flatten().to(self.how.device, torch.float32, copy=True)  # (O,)
        if not (scales.isfinite() & (scales > 0)).all():
            problems.append(f"{stored}: holds scales that are not above 0 and finite as float32")
        return scales

    def _tensor(self, stored: StoredTensor, problems: list[str]) -> Tensor | None:
        """A view of the file, which takes no memory; a copy where it is kept or has a checksum."""
        tensor: Tensor = self.files[stored.path].get_tensor(stored.name)  # type: ignore[no-untyped-call]  # safetensors has none
        if self.how.manifest is None:
            return tensor.clone() if tensor.dtype == torch.int8 else tensor
        own = tensor.clone()  # what is checked is what is used, whatever becomes of the file
        if checksum(own) == self.how.manifest.tensors[stored.name].crc32:
            return own
        problems.append(f"{stored}: the checksum is wrong, so it was changed or damaged")
        return None


def _stacked(parts: list[QuantizedRows]) -> QuantizedRows:
    if len(parts) == 1:
        return parts[0]
    sizes = [_square(rows) for rows in parts]
    lost = sum(size * rows.error**2 for size, rows in zip(sizes, parts, strict=True))
    error = (lost / sum(sizes)) ** 0.5 if lost else 0.0
    weight, scale = torch.cat([rows.weight for rows in parts]), torch.cat([rows.scale for rows in parts])
    return QuantizedRows(weight, scale, error)


def _square(rows: QuantizedRows) -> float:
    """Sum of the squares of a weight."""
    count = max(1, _PART // rows.weight.shape[1])
    pairs = zip(rows.weight.split(count), rows.scale.split(count), strict=True)
    total = 0.0
    for part, scale in pairs:
        total += torch.linalg.vector_norm(part.float(), dim=1).mul_(scale).double().square_().sum().item()
    return total


def _finite(tensor: Tensor) -> bool:
    low, high = tensor.aminmax()  # both are NaN if any element is; no temporary of the tensor's size
    return bool(torch.isfinite(low) & torch.isfinite(high))
