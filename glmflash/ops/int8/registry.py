"""A device → the best kernel for INT8 products that runs there."""

from functools import cache

import torch

from glmflash.errors import ParameterError
from glmflash.ops.int8.cuda import CUBLAS
from glmflash.ops.int8.fbgemm import FBGEMM
from glmflash.ops.int8.kernel import Kernel
from glmflash.ops.int8.onednn import ONEDNN, has_wide_vnni
from glmflash.ops.int8.reference import REFERENCE
from glmflash.ops.int8.triton import TRITON

__all__ = ["KERNELS", "choose_kernel"]

#: For each kind of device the best first, but on some processors oneDNN; the last runs everywhere.
KERNELS = (FBGEMM, ONEDNN, TRITON, CUBLAS, REFERENCE)


def __dir__() -> list[str]:
    return __all__


@cache
def choose_kernel(device: torch.device, name: str | None = None) -> Kernel:
    """The best kernel that runs on a device, or the one of that name; never another in its place.

    The best is the first of `KERNELS`; on processors with AVX-512 VNNI it is oneDNN. Kernels are tried out
    there once, so the first call on a GPU takes seconds.

    Args:
        device: Where the weights are.
        name: Ask for this one, to compare; None chooses.

    Raises:
        ParameterError: If there is no kernel of that name, or it does not run there; the message says why.

    Example:
        >>> choose_kernel(torch.device("cpu"), "reference").name
        'reference'
    """
    if name is None:
        kernels = (ONEDNN, *KERNELS) if has_wide_vnni() else KERNELS
        return next(kernel for kernel in kernels if kernel.why_not(device) is None)
    named = {kernel.name: kernel for kernel in KERNELS}
    if name not in named:
        raise ParameterError("kernel", f"is {name!r:.40}; allowed: {', '.join(map(repr, named))}")
    reason = named[name].why_not(device)
    if reason is not None:
        raise ParameterError("kernel", f"is {name!r}, which does not run on {device} here: {reason}")
    return named[name]
