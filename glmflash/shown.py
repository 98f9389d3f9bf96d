"""A wrong value → what a message may say of it: short, and neither an address nor a payload."""

from numbers import Real

__all__ = ["show"]

_MOST = 40


def __dir__() -> list[str]:
    return __all__


def show(value: object) -> str:
    """Numbers, short strings, booleans and None as they are, anything else by its type.

    Example:
        >>> show(5), show("x" * 100)[-6:], show([object()])
        ('5', 'xxx...', 'a list')
    """
    if isinstance(value, (str, bool, Real)) or value is None:
        try:
            said = repr(value[:_MOST]) if isinstance(value, str) else str(value)
        except ValueError:  # an integer with too many digits to print
            return "a huge number"
        short = len(said) <= _MOST and not (isinstance(value, str) and len(value) > _MOST)
        return said if short else said[: _MOST - 3] + "..."
    return f"a {type(value).__name__}"
