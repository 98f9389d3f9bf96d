"""A checkpoint's configuration → bytes of memory by part, before anything is loaded."""

from glmflash.plan.fit import require_room
from glmflash.plan.parts import Part
from glmflash.plan.plan import Plan, plan

__all__ = ["Part", "Plan", "plan", "require_room"]


def __dir__() -> list[str]:
    return __all__
