"""Anything that holds a picture → RGB pixels → patches for the vision tower.

    policy       limits on what is read
    sources      path, bytes, file, data URL → bytes
    arrays       NumPy array or torch tensor → uint8 samples
    orientation  EXIF bytes → how the picture is turned
    read         any source → pixels (the one place where pictures are decoded)
    pixels       pixels → resized pixels, and their digest
    patches      pixels → rows of patches
    pages        "1-3, 7" → numbers of pages
    pdf          a PDF → its pages as pictures

Nothing here imports torch except `patches`, which is therefore not imported by this package's `__init__`.
"""

from glmflash.media.pdf import PdfPages, read_pdf
from glmflash.media.policy import InputPolicy
from glmflash.media.read import read
from glmflash.media.sources import DataUrl, Url

__all__ = ["DataUrl", "InputPolicy", "PdfPages", "Url", "read", "read_pdf"]


def __dir__() -> list[str]:
    return __all__
