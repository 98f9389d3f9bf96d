"""A request → what the network is given: patches of its pictures, and its prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmflash.config import ModelConfig, PreprocessorConfig
from glmflash.engine.encoded import EncodedImage
from glmflash.engine.overflow import too_long
from glmflash.engine.prefix import leading
from glmflash.engine.reading import source
from glmflash.engine.request import Request
from glmflash.errors import FetchError, ImageError, ParameterError
from glmflash.media.patches import Patches, still
from glmflash.media.policy import InputPolicy
from glmflash.media.read import read
from glmflash.prompt.build import Prompt, build
from glmflash.prompt.template import TemplateStyle, segments
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Inputs", "build_prompt", "leading", "read_picture", "read_pictures"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One request as the network sees it.

    Args:
        prompt: Token ids, positions, and where the pictures stand.
        pictures: Each picture, in the order of the prompt: as patches, unless it came encoded.
    """

    prompt: Prompt
    pictures: tuple[Patches | EncodedImage, ...]


def read_pictures(
    request: Request,
    preprocessor: PreprocessorConfig,
    policy: InputPolicy,
    *,
    fingerprint: Callable[[], str] | None = None,
    give_up: Callable[[], bool] | None = None,
) -> tuple[Patches | EncodedImage, ...]:
    """Decode, resize and cut the request's pictures into patches; those read or encoded before are passed on.

    Args:
        request: Names the pictures.
        preprocessor: How they become patches.
        policy: Limits on them.
        fingerprint: Gives the one that encoded pictures must have; called only if there are any.
        give_up: Asked while URLs are fetched; if it says yes, that ends at once.

    Raises:
        ImageError: If one cannot be read, breaks the policy, or was encoded by another model.
        FetchError: If one is a URL that may not or cannot be fetched.
        ParameterError: If `max_image_tokens` is less than an encoded picture has.
    """
    pictures: list[Patches | EncodedImage] = []
    for index, picture in enumerate(request.pictures):
        try:
            if isinstance(picture, EncodedImage):
                _check_encoded(picture, request, fingerprint)
            pictures.append(
                read_picture(
                    picture, preprocessor, policy, max_image_tokens=request.max_image_tokens, give_up=give_up
                )
            )
        except (ImageError, FetchError) as error:
            if len(request.pictures) == 1:
                raise
            raise type(error)(f"picture {index + 1} of {len(request.pictures)}: {error}") from None
    return tuple(pictures)


def read_picture(
    picture: object,
    preprocessor: PreprocessorConfig,
    policy: InputPolicy,
    *,
    max_image_tokens: int | None = None,
    give_up: Callable[[], bool] | None = None,
) -> Patches | EncodedImage:
    """Decode, resize and cut one picture into patches; one that was read or encoded before stays as it is.

    Raises:
        ImageError: If it cannot be read, or breaks the policy.
        FetchError: If it is a URL that may not or cannot be fetched.
    """
    if isinstance(picture, (Patches, EncodedImage)):
        return picture
    pixels = read(source(picture), policy=policy, give_up=give_up)
    return still(pixels, preprocessor, max_image_tokens=max_image_tokens)


def build_prompt(
    request: Request, pictures: Sequence[Patches | EncodedImage], *, tokenizer: Tokenizer, config: ModelConfig
) -> Inputs:
    """Lay out and encode the request's messages, with room for the pictures.

    Raises:
        MessageError: If messages and pictures do not fit together.
        ParameterError: If the checkpoint always thinks and an answer prefix is given.
        ContextLengthError: If the prompt leaves no room for an answer.
    """
    style = TemplateStyle.of(tokenizer.controls)
    if request.answer_prefix and not style.switch:
        raise ParameterError("answer_prefix", "this checkpoint always thinks before it answers; leave it out")
    thinking = bool(request.thinking) if style.switch else None  # True adds nothing
    prompt = build(
        segments(request.messages, tools=request.shown_tools, thinking=thinking, style=style),
        tokenizer=tokenizer,
        images=[(picture.grid, picture.digest) for picture in pictures],
        image_token_id=config.image_token_id,
        merge_size=config.vision.spatial_merge_size,
        answer_prefix=request.answer_prefix,
        cache_salt=request.cache_salt,
    )
    limit = config.text.max_position_embeddings
    if len(prompt) >= limit:
        encoded = any(isinstance(picture, EncodedImage) for picture in pictures)
        raise too_long(prompt, request, tokenizer=tokenizer, limit=limit, encoded=encoded)
    return Inputs(prompt, tuple(pictures))


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
