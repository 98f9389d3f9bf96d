"""What was done to a model so that it can be computed in float16: factors, and the bounds that they keep."""

from dataclasses import dataclass

__all__ = ["LIMIT", "Bound", "Rescaling", "Shift"]

#: What bounds are kept under: half of what float16 holds (65,504). Bounds are of exact numbers; a number that
#: is rounded n times on its way can be larger by a factor of (1 + 2^-11)^n, which reaches 2 at n = 1419.
LIMIT = 2.0**15
_NOTICED = 2.0**-10  # half of what bfloat16 loses


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Shift:
    """A tensor, or an eps, that was multiplied by a power of two.

    Args:
        name: As in the model; with rows of some meaning in brackets, such as "[up]".
        exponent: It was multiplied by 2 ** exponent.
        loss: What its rows lost by it, relative to their size (root mean square over the rows): 0 unless some
            of it became so small that float16 has fewer digits there.
    """

    name: str
    exponent: int
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Bound:
    """Largest magnitude that is possible at one place of the network, for any input.

    Args:
        name: The module, as in the model; with rows of some meaning in brackets, such as "[up]".
        place: "input" or "output" of the module.
        before: Before.
        after: After.
    """

    name: str
    place: str
    before: float
    after: float

    @property
    def met(self) -> bool:
        """Whether it is proven that float16 holds it."""
        return self.after <= LIMIT


@dataclass(frozen=True, slots=True)
class Rescaling:
    """What `rescale_` did.

    Args:
        shifts: What was multiplied; empty if the model needed nothing.
        bounds: Places of the network, in the order in which they were looked at.
    """

    shifts: tuple[Shift, ...]
    bounds: tuple[Bound, ...]

    @property
    def unmet(self) -> tuple[Bound, ...]:
        """Places that no factor brought into range. They may stay in range all the same: bounds are loose."""
        return tuple(bound for bound in self.bounds if not bound.met)

    @property
    def lossy(self) -> tuple[Shift, ...]:
        """Tensors that lost more than half of what bfloat16 would have rounded away."""
        return tuple(shift for shift in self.shifts if shift.loss > _NOTICED)

    def __str__(self) -> str:
        """In some words, for a log."""
        weights = [shift for shift in self.shifts if not shift.name.endswith(".eps")]
        if weights:
            least = min(weights, key=lambda shift: shift.exponent)
            words = f"{len(weights)} tensors times powers of two, {least.name} times 2^{least.exponent}"
            words += f", relative loss at most {max(shift.loss for shift in weights):.1e}"
        else:
            words = "no weight had to be changed"
        worst = max(self.bounds, key=lambda bound: bound.before)
        words += f"; largest bound {worst.before:.3g} before ({worst.name})"
        return f"{words}, {max(bound.after for bound in self.bounds):.3g} after"
