"""A run → how it was measured: what a reader must know to compare its figures with others."""

import platform
from dataclasses import dataclass, field

from glmflash.version import __version__

__all__ = ["Conditions"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How it was measured.

    Args:
        concurrency: Questions that each system had under way at once.
        timeout: Most seconds for a question; None for no limit.
        seed: Of the draws.
        created: When, in UTC.
        machine: On what.
        version: Of this library.
    """

    concurrency: int = 1
    timeout: float | None = None
    seed: int = 0
    created: str = ""
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    version: str = __version__

    @property
    def asked(self) -> str:
        """Whether latencies are those of questions alone."""
        return "one question at a time" if self.concurrency == 1 else f"{self.concurrency} questions together"
