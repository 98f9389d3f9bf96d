"""A prompt → how long its leading part is, up to its last picture; and that part, once it is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from glmflash.errors import ParameterError
from glmflash.kv.pool import BlockPool, BlockTable
from glmflash.kv.store import BlockStore
from glmflash.media.patches import Patches
from glmflash.prompt.build import Key, Prompt

if TYPE_CHECKING:
    from glmflash.engine.encoded import EncodedImage

__all__ = ["Prefix", "kv_dtype", "leading", "put_back"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The computed part of one prompt, as the worker hands it to `Engine.prefill`'s function.

    Args:
        keys: One for each of its tokens.
        pictures: Its pictures, read.
        vision: Their vision tokens.
        pool: Which blocks hold what; to be touched inside that function only, like the next two.
        store: The blocks.
        table: The blocks of this prefix; open until the function returns.
        prompt: The whole prompt.
        check: Raises if the request was cancelled or its time is over. All others wait for that function: if
            it computes much, it calls this in between.
    """

    keys: tuple[Key, ...]
    pictures: "tuple[Patches | EncodedImage, ...]"
    vision: tuple[Tensor, ...]
    pool: BlockPool
    store: BlockStore
    table: BlockTable
    prompt: Prompt
    check: Callable[[], None]

    def export(self) -> dict[str, Tensor]:
        """Copy out its KV, to the CPU and as it is stored; see `BlockStore.export`."""
        kv = self.store.export(self.table.blocks, len(self.keys))
        return {name: tensor.cpu() for name, tensor in kv.items()}


def leading(prompt: Prompt) -> int:
    """Count the tokens up to the last picture and the control token that ends it; 0 without pictures."""
    return max((span.start + span.length + 1 for span in prompt.spans), default=0)


def kv_dtype(store: BlockStore) -> str:
    """What the store keeps keys and values in; KV of another type cannot be put into it."""
    return "int8" if store.int8 else str(store.dtype).removeprefix("torch.")


def put_back(pool: BlockPool, store: BlockStore, keys: Sequence[Key], kv: Mapping[str, Tensor]) -> None:
    """Put exported KV into the pool, as far as it is not there.

    Raises:
        CacheFullError: If there is no room for it.
        ParameterError: If it is not KV of these keys in such a store.
    """
    if any(tensor.shape[1:2] != (len(keys),) for tensor in kv.values()):
        raise ParameterError("kv", f"is not of {len(keys)} tokens")
    table = pool.open(keys)
    try:
        start = table.length
        store.copy(pool.reserve(table, len(keys) - start))
        store.load(table.blocks, start, {name: tensor[:, start:] for name, tensor in kv.items()})
        pool.commit(table, keys[start:])
    finally:
        pool.close(table)
