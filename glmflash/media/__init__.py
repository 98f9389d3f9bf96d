"""Anything that holds a picture → RGB pixels → patches for the vision tower.

    policy       limits on what is read
    clip_policy  limits on clips
    sources      path, bytes, file, data URL, URL → bytes
    fetch        a URL and what is allowed → bytes (the one place where pictures come from the network)
    folders      a path → its real place, if that is allowed
    scan         bytes → size and frames, by their structure; what is too much is refused
    totals       what the pictures of one request come to
    arrays       NumPy array or torch tensor → uint8 samples
    orientation  EXIF bytes → how the picture is turned
    read         any source → pixels (the one place where pictures are decoded)
    pixels       pixels → resized pixels, and their digest
    frames       when the frames of a clip are shown → which of them the model sees
    animation    animated GIF, WEBP, PNG → a film
    video        encoded video → a film (the one place that knows FFmpeg)
    clips        any moving pictures → a film
    patches      pixels → rows of patches
    pages        "1-3, 7" → numbers of pages
    pdf          a PDF → its pages as pictures

Nothing here imports torch except `patches`, which is therefore not imported by this package's `__init__`.
"""

from glmflash.media.clip_policy import ClipPolicy
from glmflash.media.clips import Clip, open_clip
from glmflash.media.fetch.policy import UrlPolicy
from glmflash.media.frames import Film, Timeline
from glmflash.media.pdf import PdfPages, read_pdf
from glmflash.media.policy import InputPolicy
from glmflash.media.read import read
from glmflash.media.sources import DataUrl, Url
from glmflash.media.totals import Totals

__all__ = [
    "Clip",
    "ClipPolicy",
    "DataUrl",
    "Film",
    "InputPolicy",
    "PdfPages",
    "Timeline",
    "Totals",
    "Url",
    "UrlPolicy",
    "open_clip",
    "read",
    "read_pdf",
]


def __dir__() -> list[str]:
    return __all__
