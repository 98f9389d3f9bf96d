"""A request → the threads that prepare it: what is at hand never stands behind what is far away."""

import os

from glmflash.engine.encoded import EncodedImage
from glmflash.engine.readers import Readers
from glmflash.engine.request import Request
from glmflash.media.patches import ClipPatches, Patches
from glmflash.media.sources import Url, from_url
from glmflash.prompt.messages import ImageUrl

__all__ = ["Desks", "desk", "desks", "source"]

Desks = tuple[Readers, Readers, Readers]

_FETCHING = (
    8  # requests whose pictures are fetched at once; each waits for a server far longer than it computes
)


def __dir__() -> list[str]:
    return __all__


def desks() -> Desks:
    """Threads for text, for pictures at hand, and for pictures on the network."""
    return (
        Readers(1, name="glmflash-text"),
        Readers(min(4, os.cpu_count() or 1)),
        Readers(_FETCHING, name="glmflash-fetch"),
    )


def desk(request: Request, desks: Desks) -> Readers:
    """Those that a request goes to."""
    text, pictures, fetches = desks
    kinds = [type(source(picture)) for picture in request.pictures]
    if Url in kinds:
        return fetches
    return text if all(kind in (Patches, ClipPatches, EncodedImage) for kind in kinds) else pictures


def source(picture: object) -> object:
    """A message's `image_url` says itself what it is; every other source stays as it came."""
    return from_url(picture.url) if isinstance(picture, ImageUrl) else picture
