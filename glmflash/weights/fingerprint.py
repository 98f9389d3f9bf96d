"""A loaded model → a short hex string that tells its weights, dtypes and layout from those of others."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glmflash.ops.int8 import choose_kernel
from glmflash.quant import QuantizedLinear
from glmflash.quant.config import SCHEMES

__all__ = ["fingerprint"]

_WINDOWS = 16
_WINDOW = 4096  # elements
_CHARACTERS = 32


def __dir__() -> list[str]:
    return __all__


def fingerprint(model: nn.Module, *settings: object) -> str:
    """Name a model by what it computes with.

    What was derived from one model, such as cached keys and values, must not be used with another. Names,
    shapes and dtypes of all parameters and buffers count, and of their contents everything that is small;
    of a large tensor 16 evenly spaced windows, the first and the last elements among them. So another
    checkpoint, dtype or quantisation shows, and so does any training, which moves every weight; a change
    made by hand between two windows does not. It detects a mix-up, not a forgery.

    Of an INT8 layer its scales and the sums of its rows count, and how it computes: scheme, kernel, and what
    the kernel makes of a small product here, since kernels round to fewer levels on older processors.

    Args:
        model: On any device. Its buffers count too, also those that are not saved.
        settings: What else the results depend on, such as configs; their `repr` counts.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = fingerprint(layer)
        >>> fingerprint(layer.bfloat16()) == before
        False
    """
    state = hashlib.sha256(b"glmflash-model-1")
    for setting in settings:
        state.update(f"|{setting!r}".encode())
    for name, tensor in _tensors(model):
        state.update(f"|{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        state.update(_sample(tensor.detach()).numpy().data)
    for line in _kernels(model):
        state.update(line.encode())
    return state.hexdigest()[:_CHARACTERS]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _kernels(model: nn.Module) -> Iterator[str]:
    probes: dict[tuple[str, torch.device], str] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLinear):
            kind = (layer.kernel, layer.weight_scale.device)
            if kind not in probes:
                probes[kind] = _probe(*kind)
            yield f"|{name}|{layer.scheme}|{SCHEMES[layer.scheme]}|{layer.kernel}|{probes[kind]}"


def _probe(kernel: str, device: torch.device) -> str:
    """What a kernel makes of one row; exact where nothing is rounded, whatever the order of the sums."""
    levels = torch.arange(-64, 64, dtype=torch.int8, device=device).view(8, 16)
    packed = choose_kernel(device, kernel).pack(levels, torch.ones(8, device=device))
    row = torch.arange(1, 17, device=device)[None] / 64  # (1, 16)
    out: list[float] = packed.linear(row, split=16.0)[0].tolist()
    return repr(out)


def _sample(tensor: Tensor) -> Tensor:
    """The bytes that count, on the CPU; gathered where the tensor is, so that little has to be moved.

    Shapes:
        tensor any -> (B,) uint8
    """
    if tensor.is_contiguous():
        flat = tensor.reshape(-1)  # (E,)
        starts = _starts(len(flat))
        sample = torch.cat([flat[start : start + _WINDOW] for start in starts]) if starts else flat
    elif starts := _starts(tensor.numel()):
        # by index, since making a copy in order would need as much memory again
        elements = torch.cat([torch.arange(start, start + _WINDOW, device=tensor.device) for start in starts])
        sample = tensor[torch.unravel_index(elements, tensor.shape)]
    else:
        sample = tensor.reshape(-1)
    return sample.view(torch.uint8).cpu()


def _starts(elements: int) -> list[int]:
    """Where the windows begin; none if the tensor is small enough to count as a whole."""
    last = elements - _WINDOW
    return [last * i // (_WINDOWS - 1) for i in range(_WINDOWS)] if elements > _WINDOWS * _WINDOW else []
