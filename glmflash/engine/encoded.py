"""A picture → its vision tokens as a value that can be asked about, kept, saved and loaded."""

import logging
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from torch import Tensor

from glmflash.engine.prefix import Prefix, kv_dtype, leading, put_back
from glmflash.engine.request import Request
from glmflash.engine.sampling import Sampling
from glmflash.errors import CacheFullError, CheckpointError, ClosedError, InputError, NumericsError
from glmflash.kv.pool import BlockPool
from glmflash.kv.store import BlockStore
from glmflash.markup import box, facts
from glmflash.prompt.build import Key, build
from glmflash.prompt.messages import Image, Message
from glmflash.prompt.template import TemplateStyle, segments
from glmflash.shapes import Grid
from glmflash.weights.derived import Derived, read_derived, write_derived

if TYPE_CHECKING:
    from glmflash.engine.engine import Engine

__all__ = ["EncodedImage", "encode"]

_KIND, _VERSION = "glmflash-encoded-image", 1
_TOKENS, _KV = "vision", "kv."
_ASKED = (Message("user", (Image(0),), plain=False),)
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


class _Pipeline(Protocol):
    """What `load` needs of a pipeline."""

    @property
    def engine(self) -> "Engine":
        """The engine that is to answer questions about the picture."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EncodedImage:
    """A picture that the vision tower has seen. It can stand wherever a picture can.

    Args:
        digest: Names its pixels and how they were preprocessed; see `media.pixels.digest`.
        grid: Its size in patches.
        num_tokens: Vision tokens.
        size: (width, height) of the picture as read; boxes are given in these pixels.
        tokens: Its vision tokens. Do not write to them.
        fingerprint: Of the model and preprocessing that made them; no other takes them.
        cache_salt: Whose KV it is; ask with the same salt.

    Shapes:
        tokens (num_tokens, hidden_size)
    """

    digest: str
    grid: Grid
    num_tokens: int
    size: tuple[int, int]
    tokens: Tensor
    fingerprint: str
    cache_salt: str | None = None
    _engine: "weakref.ref[Engine] | None" = field(default=None, kw_only=True)

    def pin(self) -> None:
        """Keep the KV of prompts that begin with this picture until `unpin`, or the pipeline is closed.

        The pipeline is the one that encoded or loaded the picture. If the KV has been evicted there, it is
        computed again first. One pin holds, however often it is set.

        Raises:
            CacheFullError: If pins would hold more than half of the cache.
            ClosedError: If the pipeline has been closed.
        """
        engine, place = self._open_engine(), (self.cache_salt, self.digest)

        def pin(prefix: Prefix) -> None:
            held = engine.pins.get(place)
            engine.pins[place] = prefix.pool.pin(prefix.keys)  # anew: what was held may not be found any more
            if held is not None:
                prefix.pool.close(held)

        engine.wait(engine.prefill(_request(self, self.cache_salt), then=pin))

    def unpin(self) -> None:
        """Let the KV be evicted again when its room is needed. Does nothing if it is not pinned."""
        place = (self.cache_salt, self.digest)
        try:
            engine = self._open_engine()

            def unpin(pool: BlockPool, _: BlockStore) -> None:
                table = engine.pins.pop(place, None)
                if table is not None:
                    pool.close(table)

            engine.wait(engine.call(unpin))
        except ClosedError:  # which let go of all pins
            pass

    def save(self, path: str | Path) -> Path:
        """Write vision tokens, and the KV of prompts that begin with them, to a safetensors file.

        Args:
            path: The file; replaced once the new one is complete.

        Raises:
            ClosedError: If the pipeline has been closed.
            OSError: If the file cannot be written.
        """
        engine, request = self._open_engine(), _request(self, self.cache_salt)
        tensors, dtype = engine.wait(engine.prefill(request, then=_export))
        metadata = {
            "digest": self.digest,
            "grid": [self.grid.t, self.grid.h, self.grid.w],
            "size": list(self.size),
            "cache_salt": self.cache_salt,
            "kv_dtype": dtype,
        }
        return write_derived(
            path,
            {_TOKENS: self.tokens} | tensors,
            metadata=metadata,
            kind=_KIND,
            version=_VERSION,
            fingerprint=self.fingerprint,
        )

    @classmethod
    def load(cls, path: str | Path, pipe: _Pipeline) -> "EncodedImage":
        """Read a saved picture, and put its KV into the pipeline's cache.

        KV of another `kv_dtype`, or for which there is no room, is left out; it is computed when needed.

        Args:
            path: What `save` wrote.
            pipe: A pipeline of the same checkpoint, dtype and preprocessing.

        Raises:
            CheckpointError: If the file is damaged, or was made by another model.
            ClosedError: If the pipeline has been closed.
        """
        engine = pipe.engine
        derived = read_derived(
            path, kind=_KIND, version=_VERSION, fingerprint=engine.fingerprint, required=[_TOKENS]
        )
        image = _image(Path(path), derived, engine)
        kv = {name.removeprefix(_KV): x for name, x in derived.tensors.items() if name.startswith(_KV)}

        def restore(pool: BlockPool, store: BlockStore) -> None:
            if derived.metadata.get("kv_dtype") == kv_dtype(store):
                put_back(pool, store, keys, kv)

        try:
            keys = _keys(image, engine)
            engine.wait(engine.call(restore))
        except CacheFullError:
            _log.info("no room for the KV of %s; it is computed when the picture is asked about", path)
        except InputError as error:
            raise CheckpointError(f"{path}: does not fit this model ({error}); make it anew") from None
        return image

    def __repr__(self) -> str:
        width, height = self.size
        return f"<EncodedImage: {width} x {height} pixels, {self.num_tokens} tokens, {self.digest[:12]}>"

    def _repr_html_(self) -> str:
        width, height = self.size
        rows = [
            ("picture", f"{width} × {height} pixels"),
            ("tokens", f"{self.num_tokens} in {self.grid.h} × {self.grid.w} patches"),
            ("digest", self.digest[:16]),
        ]
        rows += [("cache salt", self.cache_salt)] if self.cache_salt is not None else []
        return box(facts(rows))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an EncodedImage belongs to a pipeline and cannot be pickled; use save and load")

    def _open_engine(self) -> "Engine":
        engine = self._engine() if self._engine is not None else None
        if engine is None:
            raise ClosedError("the pipeline of this picture is gone; load it, or encode it, with another one")
        return engine


def encode(
    engine: "Engine", picture: object, *, max_image_tokens: int | None = None, cache_salt: str | None = None
) -> EncodedImage:
    """Read a picture and compute its vision tokens, and the KV of prompts that begin with it.

    Args:
        engine: Does the work, in its turn among other requests.
        picture: Anything that `media.read` takes, or an encoded picture.
        max_image_tokens: Most vision tokens; see `Request`.
        cache_salt: Keeps the KV for questions with the same salt.

    Raises:
        InputError: If the picture cannot be used.
    """
    fingerprint = engine.fingerprint  # here, so that nobody waits for it

    def wrap(prefix: Prefix) -> EncodedImage:
        (read,), (tokens,) = prefix.pictures, prefix.vision
        _check_finite([tokens])
        return EncodedImage(
            digest=read.digest,
            grid=read.grid,
            num_tokens=len(tokens),
            size=read.size,
            tokens=tokens.clone(),  # others hold the one that came
            fingerprint=fingerprint,
            cache_salt=cache_salt,
            _engine=weakref.ref(engine),
        )

    return engine.wait(engine.prefill(_request(picture, cache_salt, max_image_tokens), then=wrap))


def _request(picture: object, cache_salt: str | None, max_image_tokens: int | None = None) -> Request:
    return Request(
        messages=_ASKED,
        pictures=(picture,),
        sampling=Sampling(),
        max_image_tokens=max_image_tokens,
        cache_salt=cache_salt,
    )


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _check_finite(tensors: Iterable[Tensor]) -> None:
    if not _finite(tensors):
        raise NumericsError(
            "the model gave numbers for this picture that are not finite;"
            " if it computes in float16, load it as bfloat16 or float32"
        )


def _keys(image: EncodedImage, engine: "Engine") -> tuple[Key, ...]:
    """Keys of the leading part of every prompt that begins with the picture."""
    config = engine.model.config
    prompt = build(
        segments(_ASKED, style=TemplateStyle.of(engine.tokenizer.controls)),
        tokenizer=engine.tokenizer,
        images=[(image.grid, image.digest)],
        image_token_id=config.image_token_id,
        merge_size=config.vision.spatial_merge_size,
        cache_salt=image.cache_salt,
    )
    return prompt.keys[: leading(prompt)]


def _export(prefix: Prefix) -> tuple[dict[str, Tensor], str]:
    kv = prefix.export()
    _check_finite(kv.values())
    return {_KV + name: tensor for name, tensor in kv.items()}, kv_dtype(prefix.store)


def _image(path: Path, derived: Derived, engine: "Engine") -> EncodedImage:
    """The value that a file holds, if it is one."""
    text, tokens = engine.model.config.text, derived.tensors[_TOKENS]
    match derived.metadata:
        case {
            "digest": str(digest),
            "grid": [int(t), int(h), int(w)],
            "size": [int(width), int(height)],
            "cache_salt": str() | None as salt,
        }:
            grid = Grid(t, h, w)
            count = grid.num_tokens(engine.model.config.vision.spatial_merge_size)
            fits = tokens.shape == (count, text.hidden_size) and tokens.dtype == engine.model.dtype
            if fits and count > 0 and _finite(derived.tensors.values()):
                return EncodedImage(
                    digest=digest,
                    grid=grid,
                    num_tokens=count,
                    size=(width, height),
                    tokens=tokens.to(engine.model.device),
                    fingerprint=engine.fingerprint,
                    cache_salt=salt,
                    _engine=weakref.ref(engine),
                )
    raise CheckpointError(f"{path}: its values do not fit together; make it anew")
