"""A request → what the network is given: patches of its pictures and clips, and its prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from glmflash.config import ModelConfig, PreprocessorConfig
from glmflash.engine.clips import as_clip, read_clip
from glmflash.engine.encoded import EncodedImage
from glmflash.engine.overflow import check_text, too_long
from glmflash.engine.prefix import leading
from glmflash.engine.reading import source
from glmflash.engine.request import Request
from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.clips import Clip
from glmflash.media.patches import ClipPatches, Patches, still
from glmflash.media.policy import InputPolicy
from glmflash.media.read import read
from glmflash.media.totals import Totals
from glmflash.prompt.build import ClipLayout, Prompt, build
from glmflash.prompt.messages import Video
from glmflash.prompt.template import TemplateStyle, segments
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.shapes import Grid

__all__ = ["Inputs", "Seen", "build_prompt", "leading", "read_picture", "read_pictures"]

#: A picture or clip that was read: what stands for it from there on.
Seen: TypeAlias = Patches | ClipPatches | EncodedImage


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One request as the network sees it.

    Args:
        prompt: Token ids, positions, and where the pictures stand.
        pictures: What stands in each of the prompt's spans: a picture, as patches unless it came encoded, or
            a group of a clip's frames.
        sizes: (width, height) of each picture and clip of the request, as read.
    """

    prompt: Prompt
    pictures: tuple[Patches | EncodedImage, ...]
    sizes: tuple[tuple[int, int], ...]


def read_pictures(
    request: Request,
    preprocessor: PreprocessorConfig,
    policy: InputPolicy,
    *,
    video_preprocessor: PreprocessorConfig | None = None,
    fingerprint: Callable[[], str] | None = None,
    give_up: Callable[[], bool] | None = None,
) -> tuple[Seen, ...]:
    """Decode, resize and cut pictures and clips into patches; those read or encoded before are passed on.

    Args:
        request: Names them.
        preprocessor: How pictures become patches.
        policy: Limits on them.
        video_preprocessor: The same for clips; that of pictures if not given.
        fingerprint: Gives the one that encoded pictures must have; called only if there are any.
        give_up: Asked while URLs are fetched; if it says yes, that ends at once.

    Raises:
        ImageError: If one cannot be read, breaks the policy, or was encoded by another model.
        FetchError: If one is a URL that may not or cannot be fetched.
        ParameterError: If `max_image_tokens` is less than an encoded picture has.
    """
    seen: list[Seen] = []
    totals = Totals(policy)
    clips = {part.index for one in request.messages for part in one.parts if isinstance(part, Video)}
    for index, given in enumerate(request.pictures):
        try:
            if isinstance(given, EncodedImage):
                _check_encoded(given, request, fingerprint)
            if index not in clips and isinstance(given, Clip | ClipPatches):
                raise ImageError("a clip is given as a picture; give it as videos=, or in a 'video' part")
            seen.append(
                read_picture(
                    as_clip(given) if index in clips else given,
                    preprocessor,
                    policy,
                    video_preprocessor=video_preprocessor,
                    max_image_tokens=request.max_image_tokens,
                    give_up=give_up,
                    totals=totals,
                )
            )
        except (ImageError, FetchError) as error:
            if len(request.pictures) == 1:
                raise
            kind = "clip" if index in clips else "picture"
            raise type(error)(f"{kind} {index + 1} of {len(request.pictures)}: {error}") from None
    return tuple(seen)


def read_picture(
    picture: object,
    preprocessor: PreprocessorConfig,
    policy: InputPolicy,
    *,
    video_preprocessor: PreprocessorConfig | None = None,
    max_image_tokens: int | None = None,
    give_up: Callable[[], bool] | None = None,
    totals: Totals | None = None,
) -> Seen:
    """Decode, resize and cut one picture, or `Clip`; one that was read or encoded before stays as it is.

    Raises:
        ImageError: If it cannot be read, or breaks the policy.
        FetchError: If it is a URL that may not or cannot be fetched.
    """
    if isinstance(picture, (Patches, EncodedImage)):
        return picture
    if isinstance(picture, Clip | ClipPatches):
        limits = video_preprocessor or preprocessor
        return read_clip(picture, limits, policy, max_image_tokens=max_image_tokens, give_up=give_up)
    pixels = read(source(picture), policy=policy, give_up=give_up, totals=totals)
    return still(pixels, preprocessor, max_image_tokens=max_image_tokens)


def build_prompt(
    request: Request, pictures: Sequence[Seen], *, tokenizer: Tokenizer, config: ModelConfig
) -> Inputs:
    """Lay out and encode the request's messages, with room for the pictures and clips.

    Raises:
        MessageError: If messages and pictures do not fit together.
        ParameterError: If the checkpoint always thinks and an answer prefix is given.
        ContextLengthError: If the prompt leaves no room for an answer.
    """
    style = TemplateStyle.of(tokenizer.controls)
    if request.answer_prefix and not style.switch:
        raise ParameterError("answer_prefix", "this checkpoint always thinks before it answers; leave it out")
    thinking = bool(request.thinking) if style.switch else None  # True adds nothing
    limit = config.text.max_position_embeddings
    walk = segments(request.messages, tools=request.shown_tools, thinking=thinking, style=style)
    check_text(walk, request.answer_prefix, limit=limit)
    prompt = build(
        walk,
        tokenizer=tokenizer,
        images=[_layout(picture) for picture in pictures],
        image_token_id=config.image_token_id,
        merge_size=config.vision.spatial_merge_size,
        answer_prefix=request.answer_prefix,
        cache_salt=request.cache_salt,
    )
    if len(prompt) >= limit:
        encoded = any(isinstance(picture, EncodedImage) for picture in pictures)
        raise too_long(prompt, request, tokenizer=tokenizer, limit=limit, encoded=encoded)
    shown = [one.groups if isinstance(one, ClipPatches) else (one,) for one in pictures]
    return Inputs(prompt, tuple(chain.from_iterable(shown)), tuple(one.size for one in pictures))


def _layout(picture: Seen) -> tuple[Grid, str] | ClipLayout:
    if isinstance(picture, ClipPatches):
        return ClipLayout(tuple((one.grid, one.digest) for one in picture.groups), picture.stamps)
    return picture.grid, picture.digest


def _check_encoded(picture: EncodedImage, request: Request, fingerprint: Callable[[], str] | None) -> None:
    if fingerprint is not None and picture.fingerprint != fingerprint():
        raise ImageError(
            "the encoded picture was made by another model, dtype or preprocessing; encode it with this one"
        )
    most = request.max_image_tokens
    if most is not None and most < picture.num_tokens:
        raise ParameterError(
            "max_image_tokens",
            f"is {most}, but an encoded picture has {picture.num_tokens} tokens already;"
            f" encode it anew with max_image_tokens={most}",
        )
