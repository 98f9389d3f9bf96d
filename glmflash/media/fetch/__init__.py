"""The text of a URL, and what is allowed → the bytes that lie there, or an error that does not repeat it.

    address   text → scheme, host, port, target: one strict parser, and its text is what is asked for
    policy    which hosts may be asked
    patience  how long, and whether anybody still waits
    public    an IP address → whether everybody on the internet may reach it
    resolve   a host → its addresses, asked for once, all of them public
    dial      a checked address → a connection to exactly it, every byte of it counted
    client    all of these in turn, and again at each redirect

Nothing else in the package opens a connection, except `weights.hub`, which downloads checkpoints.
"""

from glmflash.media.fetch.client import fetch
from glmflash.media.fetch.policy import UrlPolicy

__all__ = ["UrlPolicy", "fetch"]


def __dir__() -> list[str]:
    return __all__
