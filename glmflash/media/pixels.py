"""Pixels of any size → pixels whose sides are whole vision tokens; and the digest that names them."""

import hashlib
import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from glmflash.config import PreprocessorConfig
from glmflash.errors import ImageError, ParameterError
from glmflash.media.arrays import Pixels
from glmflash.shown import show

__all__ = ["digest", "fit", "resize", "smart_resize", "thumbnail"]

_MAX_RATIO = 200


def __dir__() -> list[str]:
    return __all__


def smart_resize(
    height: int,
    width: int,
    *,
    frames: int,
    factor: int,
    temporal_factor: int,
    min_pixels: int,
    max_pixels: int,
) -> tuple[int, int]:
    """Choose the size that the model was trained to see a picture in: (height, width).

    Sides become multiples of `factor`; the area is moved into bounds, keeping the aspect ratio as far as
    that rounding allows. A long thin picture may exceed `max_pixels`, since no side falls below `factor`.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        frames: Frames of the clip; a still counts as `temporal_factor` frames.
        factor: Side of a vision token in pixels.
        temporal_factor: Frames of a temporal patch.
        min_pixels: Least frames * height * width.
        max_pixels: Most of the same.

    Raises:
        ImageError: If there are too few frames, or one side is more than 200 times the other.

    Example:
        >>> limits = {"min_pixels": 12544, "max_pixels": 9633792}
        >>> smart_resize(1080, 1920, frames=2, factor=28, temporal_factor=2, **limits)
        (1092, 1932)

    Source: transformers glm46v, `smart_resize`; parity in tests/parity/test_patches.py.
    """
    if frames < temporal_factor:
        raise ImageError(f"{frames} frames; at least {temporal_factor} are needed")
    height, width = _at_least(factor, height, width)
    # round() goes half to even, like the reference: 70 / 28 becomes 2
    rows, columns = round(height / factor), round(width / factor)
    total = round(frames / temporal_factor) * temporal_factor * rows * columns * factor**2
    if total > max_pixels:
        shrink = math.sqrt(frames * height * width / max_pixels)
        rows = max(1, math.floor(height / shrink / factor))
        columns = max(1, math.floor(width / shrink / factor))
    elif total < min_pixels:
        grow = math.sqrt(min_pixels / (frames * height * width))
        rows = math.ceil(height * grow / factor)
        columns = math.ceil(width * grow / factor)
    return rows * factor, columns * factor


def fit(
    height: int,
    width: int,
    *,
    config: PreprocessorConfig,
    frames: int | None = None,
    max_image_tokens: int | None = None,
) -> tuple[int, int]:
    """Choose the size for a picture under a checkpoint's limits and the caller's: (height, width).

    Args:
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        config: The checkpoint's preprocessing.
        frames: Frames of a clip; None for a still.
        max_image_tokens: Most vision tokens of the picture (of a clip: of each pair of frames). Fewer
            tokens are less detail, and less time. A picture that needs fewer anyway is left alone.

    Raises:
        ImageError: If one side is more than 200 times the other.
        ParameterError: If `max_image_tokens` is not a positive whole number.

    Example:
        >>> config = PreprocessorConfig(12544, 9633792, 14, 2, 2, (0.5,) * 3, (0.5,) * 3, "Glm46V")
        >>> fit(1080, 1920, config=config), fit(1080, 1920, config=config, max_image_tokens=256)
        ((1092, 1932), (336, 588))
    """
    limit = max_image_tokens
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ParameterError("max_image_tokens", f"is {show(limit)}; allowed: a whole number from 1, or None")
    size = smart_resize(
        height,
        width,
        frames=max(frames or 0, config.temporal_patch_size),  # a single one is shown as a whole pair
        factor=config.factor,
        temporal_factor=config.temporal_patch_size,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
    )
    if limit is None or size[0] * size[1] <= limit * config.factor**2:
        return size
    rows, columns = _largest(height, width, limit)
    return rows * config.factor, columns * config.factor


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize with Pillow's antialiased bicubic filter (a = -0.5), the one of the reference processor.

    Shapes:
        pixels (H, W, 3) -> (height, width, 3), uint8; `pixels` itself if it has that size
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def digest(
    pixels: Pixels | Sequence[Pixels], config: PreprocessorConfig, *, size: tuple[int, int] | None = None
) -> str:
    """Name a picture by everything that its vision tokens depend on: a hex SHA-256.

    Args:
        pixels: A still, or the frames of a clip, before resizing.
        config: How it is preprocessed.
        size: (height, width) after resizing; what `fit` gives without a token limit if not given.

    Example:
        >>> config = PreprocessorConfig(12544, 9633792, 14, 2, 2, (0.5,) * 3, (0.5,) * 3, "Glm46V")
        >>> black = np.zeros((28, 56, 3), np.uint8)
        >>> digest(black, config) == digest(black.copy(), config) != digest(black.reshape(56, 28, 3), config)
        True
    """
    clip = not isinstance(pixels, np.ndarray)
    frames = [pixels] if isinstance(pixels, np.ndarray) else list(pixels)
    height, width = frames[0].shape[:2]
    size = size or fit(height, width, config=config, frames=len(frames) if clip else None)
    parts = (config.patch_size, config.temporal_patch_size, config.merge_size)
    header = (parts, config.image_mean, config.image_std, "clip" if clip else "still", len(frames), size)
    state = hashlib.sha256(f"glmflash-pixels-1|{header}".encode())
    for frame in frames:
        state.update(f"|{frame.shape}|{frame.dtype}|".encode())
        state.update(np.ascontiguousarray(frame).reshape(-1).data)
    return state.hexdigest()


def _at_least(side: int, height: int, width: int) -> tuple[int, int]:
    """Scale up until no side is below `side`; refuse what is then too thin."""
    scale = max(1.0, side / height, side / width)
    new_height, new_width = int(height * scale), int(width * scale)
    if max(new_height, new_width) / min(new_height, new_width) > _MAX_RATIO:
        raise ImageError(
            f"the picture is {width} x {height} pixels: one side is more than {_MAX_RATIO} times the other; "
            "cut it into pieces"
        )
    return new_height, new_width


def _largest(height: int, width: int, limit: int) -> tuple[int, int]:
    """The grid of at most `limit` tokens in which the picture keeps most detail.

    The exact sides would be fractions of tokens. Of the four ways to round them, take the one whose coarser
    direction is finest; of those alike, the one with fewer tokens, as more would add no detail.
    """
    rows = min(max(math.sqrt(limit * height / width), 1.0), float(limit))
    columns = limit / rows
    sides = (math.floor(rows), math.ceil(rows)), (math.floor(columns), math.ceil(columns))
    grids = [grid for grid in itertools.product(*sides) if grid[0] * grid[1] <= limit]
    return max(grids, key=lambda grid: (min(grid[0] / rows, grid[1] / columns), -grid[0] * grid[1]))


def thumbnail(pixels: Pixels, side: int) -> Image.Image:
    """A picture whose sides are at most this long, for people to recognise; never larger than it was.

    Shapes:
        pixels (H, W, 3)

    Example:
        >>> thumbnail(np.zeros((100, 200, 3), np.uint8), 50).size
        (50, 25)
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return picture
