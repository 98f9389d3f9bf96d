"""The version of the package, for whoever must not import all of it."""

__all__ = ["__version__"]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__
