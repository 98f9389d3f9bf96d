"""A model → the same network in numbers that float16 holds."""

from glmflash.weights.rescale.network import is_rescaled, rescale_
from glmflash.weights.rescale.rescaling import LIMIT, Bound, Rescaling, Shift

__all__ = ["LIMIT", "Bound", "Rescaling", "Shift", "is_rescaled", "rescale_"]


def __dir__() -> list[str]:
    return __all__
