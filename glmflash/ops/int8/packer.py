"""INT8 weights, one after another → each packed for a kernel, sooner where one of its shape was before."""

import torch
from torch import Tensor

from glmflash.ops.int8.kernel import PackedWeight, TemplateWeight
from glmflash.ops.int8.registry import choose_kernel

__all__ = ["Packer"]


def __dir__() -> list[str]:
    return __all__


class Packer:
    """Packs the weights of a model; several threads may ask it to.

    It keeps one packed weight of each shape, so let go of it when the model is made.

    Args:
        kernel: A kernel's name; None takes the best for where a weight is.

    Example:
        >>> weight = torch.ones(2, 4, dtype=torch.int8)
        >>> packed, kernel = Packer("reference").pack(weight, torch.ones(2))
        >>> packed.unpack().equal(weight), kernel
        (True, 'reference')
    """

    def __init__(self, kernel: str | None = None) -> None:
        self._kernel = kernel
        self._templates: dict[tuple[torch.device, torch.Size], TemplateWeight] = {}

    def pack(self, weight: Tensor, scale: Tensor) -> tuple[PackedWeight, str]:
        """Pack a weight, as the kernel's own `pack` would, and name the kernel.

        Shapes:
            weight (O, I) int8, scale (O,) float32

        Raises:
            ParameterError: If there is no kernel of that name, or it does not run on the weight's device.
        """
        kernel = choose_kernel(weight.device, self._kernel)
        template = self._templates.get((weight.device, weight.shape))
        if template is not None:
            return template.another(weight, scale), kernel.name
        packed = kernel.pack(weight, scale)
        if isinstance(packed, TemplateWeight):
            self._templates.setdefault((weight.device, weight.shape), packed)
        return packed, kernel.name
