"""Segments and picture sizes → a prompt: ids, what the KV cache compares, positions, where pictures stand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glmflash.errors import ContextLengthError, MessageError, ParameterError
from glmflash.prompt.messages import Image, Text, Video
from glmflash.prompt.positions import positions
from glmflash.prompt.template import Control, Segment, join
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.shapes import Grid, ImageSpan

__all__ = ["ClipLayout", "Key", "Prompt", "build"]

Key = int | tuple[str, int] | tuple[str, str, int]

_MAX_CHARS = 2_000_000  # no context holds that much text; encoding more would only take time


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the network sees of a chat.

    Args:
        ids: Token ids; a picture is a run of the placeholder id.
        keys: One per token, for comparing prompts exactly. Text: its id. A picture's token i:
            `(digest, i)`. With a cache salt the first key is `("salt", salt, id)`. Prompts that share
            keys up to a token share ids, positions and pictures up to it.
        positions: Time, row and column of each token.
        delta: What to add to the index of a generated token to get its position.
        spans: Where each picture stands.

    Shapes:
        positions (3, N) int64, read-only
    """

    ids: tuple[int, ...]
    keys: tuple[Key, ...]
    positions: npt.NDArray[np.int64]
    delta: int
    spans: tuple[ImageSpan, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class ClipLayout:
    """What a prompt shows of a clip.

    Args:
        groups: Size in patches and digest of each group of frames; each stands there like a picture.
        stamps: The text behind each of them, which says when it is.
    """

    groups: tuple[tuple[Grid, str], ...]
    stamps: tuple[str, ...]


def build(
    segments: Iterable[Segment],
    *,
    tokenizer: Tokenizer,
    images: Sequence[tuple[Grid, str] | ClipLayout],
    image_token_id: int,
    merge_size: int,
    answer_prefix: str = "",
    cache_salt: str | None = None,
) -> Prompt:
    """Encode segments and make room for the pictures.

    Args:
        segments: What `template.segments` returns.
        tokenizer: The checkpoint's.
        images: Size in patches and digest of each picture, or the layout of a clip: `Image(i)` or `Video(i)`
            is number i. The digest names pixels, preprocessing and size; see `media.pixels.digest`.
        image_token_id: The placeholder's id.
        merge_size: Side of the square of patches that becomes one token.
        answer_prefix: Text that the answer begins with; it continues the last segment.
        cache_salt: Prompts of different salts never share cached KV.

    Raises:
        MessageError: If pictures and clips, and places for them, differ in number or kind.
        ContextLengthError: If the text alone is longer than any context.
        ParameterError: If `answer_prefix` or `cache_salt` is not a string.
        ConfigError: If the tokenizer lacks a control token of the template.
    """
    _check_strings(answer_prefix=answer_prefix, cache_salt="" if cache_salt is None else cache_salt)
    walk = join([*segments, Text(answer_prefix)])
    _check_walk(walk, images)
    pieces = list(_pieces(walk, images))
    ids: list[int] = []
    keys: list[Key] = []
    spans: list[ImageSpan] = []
    for piece in pieces:
        if isinstance(piece, tuple):
            span = ImageSpan(len(ids), piece[0].num_tokens(merge_size), piece[1])
            ids += [image_token_id] * span.length
            keys += [(span.digest, i) for i in range(span.length)]
            spans.append(span)
        else:
            ids += _encode(piece, tokenizer)
            keys += ids[len(keys) :]
    if cache_salt is not None and ids:
        keys[0] = ("salt", cache_salt, ids[0])
    grids = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    place, delta = positions(len(ids), spans, grids, merge_size=merge_size)
    place.setflags(write=False)
    return Prompt(tuple(ids), tuple(keys), place, delta, tuple(spans))


def _encode(piece: Control | Text, tokenizer: Tokenizer) -> list[int]:
    if isinstance(piece, Control):
        return [tokenizer.control(piece.token)]
    return tokenizer.encode(piece.text)


def _pieces(
    walk: Iterable[Segment], images: Sequence[tuple[Grid, str] | ClipLayout]
) -> Iterator[Control | Text | tuple[Grid, str]]:
    """Every place for a picture as what is shown there; a clip as its groups, each with its time behind."""
    for segment in walk:
        if isinstance(segment, Control | Text):
            yield segment
            continue
        shown = images[segment.index]
        if isinstance(shown, tuple):
            yield shown
            continue
        for group, stamp in zip(shown.groups, shown.stamps, strict=True):
            yield from (Control("<|begin_of_image|>"), group, Control("<|end_of_image|>"), Text(stamp))


def _check_strings(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str):
            raise ParameterError(name, f"is a {type(value).__name__}; allowed: a string")


def _check_walk(walk: Sequence[Segment], images: Sequence[tuple[Grid, str] | ClipLayout]) -> None:
    wanted = [segment for segment in walk if isinstance(segment, Image | Video)]
    if [segment.index for segment in wanted] != list(range(len(images))):
        raise MessageError(
            f"the messages have places for {len(wanted)} pictures, but {len(images)} are given;"
            " give each once, in order of appearance"
        )
    for segment, shown in zip(wanted, images, strict=True):
        if isinstance(segment, Video) != isinstance(shown, ClipLayout):
            raise MessageError("a picture is given in the place of a clip, or the other way round")
    chars = sum(len(segment.text) for segment in walk if isinstance(segment, Text))
    if chars > _MAX_CHARS:
        raise ContextLengthError(
            f"the messages hold {chars:,} characters of text; at most {_MAX_CHARS:,} are encoded"
        )
