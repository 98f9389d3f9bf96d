"""Pixels → rows of patches in the order and scale that the vision tower was trained on."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from glmflash.config import PreprocessorConfig
from glmflash.errors import ImageError
from glmflash.media.arrays import Pixels
from glmflash.media.pixels import digest, fit, resize
from glmflash.shapes import Grid

__all__ = ["ClipPatches", "Patches", "clip", "still"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One picture, or one group of frames of a clip, ready for the vision tower.

    Args:
        source: The rows, or what makes them: a picture that is known already is never cut.
        grid: How the N patches lie.
        digest: Hex SHA-256 that names pixels and preprocessing.
        size: (width, height) of the picture as read; boxes are given in these pixels.
        pixels: The picture as the model sees it, or the first of the frames, if known; for people.
    """

    source: Tensor | Callable[[], Tensor]
    grid: Grid
    digest: str
    size: tuple[int, int]
    pixels: Pixels | None = None

    @property
    def rows(self) -> Tensor:
        """The patches, cut when they are asked for.

        Shapes:
            -> (N, C) float32, N patches. C is channels * patch² for a still, whose frames would all be the
            same, so that the model sums its temporal kernel instead; and temporal times that for a clip.
        """
        return self.source if isinstance(self.source, Tensor) else self.source()


def still(pixels: Pixels, config: PreprocessorConfig, *, max_image_tokens: int | None = None) -> Patches:
    """Cut a picture into patches.

    Args:
        pixels: What `media.read` gives.
        config: The checkpoint's preprocessing.
        max_image_tokens: Most vision tokens; see `pixels.fit`.

    Shapes:
        pixels (H, W, 3) -> rows (N, 588) for patches of 14 x 14

    Raises:
        ImageError: If `pixels` is not uint8 (H, W, 3), or one side is more than 200 times the other.
        ParameterError: If `max_image_tokens` is not a positive whole number.

    Source: transformers glm46v, `Glm46VImageProcessorPil`; parity in tests/parity/test_patches.py.
    """
    _check(pixels)
    height, width = pixels.shape[:2]
    size = fit(height, width, config=config, max_image_tokens=max_image_tokens)
    resized = resize(pixels, *size)
    return Patches(
        source=partial(_rows, [resized], config, temporal=1),
        grid=Grid(1, size[0] // config.patch_size, size[1] // config.patch_size),
        digest=digest(pixels, config, size=size),
        size=(width, height),
        pixels=resized,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ClipPatches:
    """One clip, ready for the vision tower, which sees each group of frames as a picture of its own.

    Args:
        groups: The groups of `temporal_patch_size` frames, in order.
        stamps: What the prompt says behind each: when it is shown.
    """

    groups: tuple[Patches, ...]
    stamps: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of its frames as read; boxes are given in these pixels."""
        return self.groups[0].size

    @property
    def digest(self) -> str:
        """Hex SHA-256 that names what is shown, and when."""
        told = "|".join(
            f"{group.digest} {stamp}" for group, stamp in zip(self.groups, self.stamps, strict=True)
        )
        return hashlib.sha256(f"glmflash-clip-1|{told}".encode()).hexdigest()


def clip(
    frames: Iterable[Pixels],
    config: PreprocessorConfig,
    *,
    count: int | None = None,
    max_image_tokens: int | None = None,
) -> tuple[Patches, ...]:
    """Cut the frames of a clip into patches, group by group; an odd frame out is shown twice.

    A frame is made smaller as soon as it comes, so of the large ones only one needs to be in memory.

    Args:
        frames: Frames of one size, in order; which ones to take from a film is decided before.
        config: The checkpoint's limits for clips; they hold for all frames together.
        count: How many come, if `frames` has no length.
        max_image_tokens: Most vision tokens of each group; see `pixels.fit`.

    Shapes:
        frames T x (H, W, 3) -> for each pair of frames a grid of t = 1 with rows (N, 1176)

    Raises:
        ImageError: If there are no frames, or they differ in size, or as for `still`.

    Source: transformers glm46v, `Glm46VVideoProcessor`; parity in tests/parity/test_patches.py.
    """
    resized, first, size = list[Pixels](), (0, 0), (0, 0)
    for frame in frames:
        _check(frame)
        if not resized:
            first = frame.shape[:2]
            total = count if count is not None else len(frames)  # type: ignore[arg-type]  # as it says
            size = fit(*first, config=config, frames=total, max_image_tokens=max_image_tokens)
        if frame.shape[:2] != first:
            raise ImageError(f"the clip has frames of {first} and {frame.shape[:2]}; allowed: one size")
        resized.append(resize(frame, *size))
    if not resized:
        raise ImageError("the clip has no frames; at least one is needed")
    temporal = config.temporal_patch_size
    resized += resized[-1:] * (-len(resized) % temporal)
    starts = range(0, len(resized), temporal)
    return tuple(_group(resized[start : start + temporal], first, config) for start in starts)


def _group(frames: Sequence[Pixels], size: tuple[int, int], config: PreprocessorConfig) -> Patches:
    """The frames of one temporal patch, already as small as the model sees them."""
    (height, width), seen = size, frames[0].shape[:2]
    return Patches(
        source=partial(_rows, frames, config, temporal=len(frames)),
        grid=Grid(1, seen[0] // config.patch_size, seen[1] // config.patch_size),
        digest=digest(frames, config, size=seen),
        size=(width, height),
        pixels=frames[0],
    )


def _rows(frames: Sequence[Pixels], config: PreprocessorConfig, *, temporal: int) -> Tensor:
    """Patches as rows: merge groups in reading order, in each its patches, in each channel, frame, y, x."""
    patch, merge = config.patch_size, config.merge_size
    height, width = frames[0].shape[:2]
    across, down = width // patch, height // patch
    # dtype and device in full: the program around us may have changed torch's defaults
    shape = (len(frames) // temporal, down * across, 3, temporal, patch**2)
    rows = torch.empty(shape, dtype=torch.float32, device="cpu")  # (T, N / T, C, pair, y * x)
    for index, frame in enumerate(frames):
        split = frame.reshape(down // merge, merge, patch, across // merge, merge, patch, 3)
        # permuted as bytes, a quarter of the memory traffic; np.array copies, so the caller's stay apart
        cut = np.array(split.transpose(0, 3, 1, 4, 6, 2, 5), order="C")  # (bh, bw, mh, mw, C, y, x)
        rows[index // temporal, :, :, index % temporal] = torch.from_numpy(cut).view(-1, 3, patch * patch)
    mean, std = (rows.new_tensor(value).view(3, 1, 1) for value in (config.image_mean, config.image_std))
    # division, not multiplication by a reciprocal: bit-equal to the reference for all 256 levels
    rows.div_(255.0).sub_(mean).div_(std)
    return rows.view(-1, 3 * temporal * patch * patch)  # (N, C)


def _check(pixels: Pixels) -> None:
    shape, dtype = np.shape(pixels), getattr(pixels, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ImageError(
            f"pixels are {dtype} {shape}; allowed: uint8 (height, width, 3), as media.read gives"
        )
