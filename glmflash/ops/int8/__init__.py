"""INT8 products: a weight in INT8 with a scale per row, packed for one of several kernels."""

from glmflash.ops.int8.activations import FEW, by_levels
from glmflash.ops.int8.kernel import FewRowsWeight, Kernel, PackedWeight, TemplateWeight
from glmflash.ops.int8.packer import Packer
from glmflash.ops.int8.registry import KERNELS, choose_kernel

__all__ = [
    "FEW",
    "KERNELS",
    "FewRowsWeight",
    "Kernel",
    "PackedWeight",
    "Packer",
    "TemplateWeight",
    "by_levels",
    "choose_kernel",
]


def __dir__() -> list[str]:
    return __all__
