"""The version of the package, for whoever must not import all of it; old versions of others → a warning."""

import warnings

__all__ = ["__version__", "warn_if_old"]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__


def warn_if_old(library: str, version: str, floor: tuple[int, ...], *, holes: str = "known holes") -> None:
    """Warn of a library that pip would not have installed beside glmflash; said once, at import.

    Args:
        library: Its name.
        version: What is there.
        floor: The first numbers of the oldest that is allowed.
        holes: What older ones have.

    Example:
        >>> warn_if_old("Pillow", "13.0.0", (13,))
    """
    if tuple(map(int, version.split(".")[: len(floor)])) < floor:
        oldest = ".".join(map(str, floor))
        warnings.warn(
            f"{library} {version} has {holes}; glmflash needs {library} {oldest} or newer",
            RuntimeWarning,
            stacklevel=2,
        )
