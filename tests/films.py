"""What the tests of clips share: frames that differ, and files made of them."""

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image


def frames(count: int, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    """A bar that grows over a background of its own, and noise in a corner: no two are alike."""
    chance = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        picture = np.full((height, width, 3), chance.integers(0, 255, 3), np.uint8)
        picture[:, : 1 + index * 5 % width] = index * 7 % 256
        picture[4:20, 4:20] = chance.integers(0, 255, (16, 16, 3))
        pictures.append(picture)
    return pictures


def animation(pictures: Sequence[np.ndarray], durations: int | list[int], form: str = "WEBP") -> bytes:
    """Lossless, but for GIF's 256 colours."""
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    file = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    first.save(file, form, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return file.getvalue()


def video(
    pictures: Sequence[np.ndarray],
    *,
    form: str = "mp4",
    codec: str = "libx264",
    rate: int = 30,
    times: Sequence[int] | None = None,
    **options: str,
) -> bytes:
    """An encoded video; `times` are in milliseconds."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"g": "12"} | options
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
