"""HTML → shown in a notebook, and replaced there as often as it changes. The only file that knows IPython."""

import sys
from collections.abc import Callable

__all__ = ["Replace", "show", "watched"]

#: Takes the HTML, and the text, that are to be seen from now on.
Replace = Callable[[str, str], None]


def __dir__() -> list[str]:
    return __all__


def watched() -> bool:
    """Whether this program runs in a notebook, whose frontend shows what is displayed.

    Nothing is imported to find out: in a notebook, IPython is there already.

    Example:
        >>> watched()
        False
    """
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


def show(html: str, text: str) -> Replace:
    """Display something now; in an IPython without a frontend, as text.

    Args:
        html: For a notebook.
        text: For everything else.

    Returns:
        A function that replaces what is shown, from any thread.
    """
    from IPython.display import DisplayHandle

    handle = DisplayHandle()
    handle.display(_bundle(html, text), raw=True)

    def replace(html: str, text: str) -> None:
        handle.update(_bundle(html, text), raw=True)

    return replace


def _bundle(html: str, text: str) -> dict[str, str]:
    return {"text/html": html, "text/plain": text}
