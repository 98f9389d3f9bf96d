"""Pictures of requests → their vision tokens, from the tower or from a byte-bounded memory of recent ones."""

from collections import OrderedDict

import torch
from torch import Tensor

from glmflash.engine.encoded import EncodedImage
from glmflash.media.patches import Patches
from glmflash.model.glm import Glm4v

__all__ = ["VisionCache", "encode_picture"]

_Key = tuple[str | None, str]


def __dir__() -> list[str]:
    return __all__


class VisionCache:
    """Vision tokens of the pictures used last, up to a number of bytes.

    The pool already spares a picture that stands where it stood before; this one spares the vision tower
    for a picture that stands elsewhere: behind another text, or after its KV was evicted.

    Args:
        max_bytes: Most bytes to keep; 0 keeps nothing.

    Example:
        >>> cache = VisionCache(100)
        >>> cache.put((None, "a"), torch.zeros(2, 4))
        >>> cache.get((None, "a")).shape, cache.get(("salt", "a")), len(cache), cache.nbytes
        (torch.Size([2, 4]), None, 1, 32)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = self.hits = self.misses = 0
        self._tokens: OrderedDict[_Key, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, key: _Key) -> Tensor | None:
        """Tokens of a picture, by salt and full digest. Shapes: -> (num_tokens, hidden_size)."""
        tokens = self._tokens.get(key)
        if tokens is None:
            self.misses += 1
            return None
        self.hits += 1
        self._tokens.move_to_end(key)
        return tokens

    def put(self, key: _Key, tokens: Tensor) -> None:
        """Keep a picture's tokens; the ones used longest ago make room."""
        if key in self._tokens or tokens.nbytes > self.max_bytes:
            return
        self._tokens[key] = tokens
        self.nbytes += tokens.nbytes
        while self.nbytes > self.max_bytes:
            self.nbytes -= self._tokens.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget all of them."""
        self._tokens.clear()
        self.nbytes = 0


def encode_picture(
    model: Glm4v, picture: Patches | EncodedImage, cache: VisionCache, *, salt: str | None
) -> tuple[Tensor, bool]:
    """Vision tokens of one picture, and whether they were already there.

    One picture at a time, so that its tokens are the same bit for bit whatever it is asked together with.

    Shapes:
        -> (num_tokens, hidden_size)
    """
    if isinstance(picture, EncodedImage):
        return picture.tokens.to(device=model.device, dtype=model.dtype), True
    key = (salt, picture.digest)
    tokens = cache.get(key)
    if tokens is not None:
        return tokens, True
    (tokens,) = model.encode_images(picture.rows, [picture.grid])
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)  # so that its time is not counted as the prefill's
    if tokens.isfinite().all():  # what is broken must not be served again
        cache.put(key, tokens)
    return tokens, False
