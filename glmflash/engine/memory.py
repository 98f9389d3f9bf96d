"""Whatever was raised for want of memory → an error of ours that says what would need less."""

from glmflash.errors import CacheFullError, CapacityError
from glmflash.kv.store import BlockStore

__all__ = ["short_of_memory"]

# As torch and the libraries below it say it: there it is a RuntimeError.
_WORDS = ("allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")


def __dir__() -> list[str]:
    return __all__


def short_of_memory(error: BaseException, store: BlockStore | None = None) -> BaseException:
    """Running out of memory, as an error of ours; anything else as it is.

    Args:
        error: What was raised.
        store: Given if it was to grow then.

    Example:
        >>> short_of_memory(ValueError("no"))
        ValueError('no')
    """
    said = str(error) if isinstance(error, RuntimeError) else ""
    if not (isinstance(error, MemoryError) or any(words in said for words in _WORDS)):
        return error
    problem = CapacityError(
        "there is no memory left to compute this request; ask with fewer or smaller pictures"
        " (max_image_tokens), or give the pipeline less kv_memory or a smaller max_step_tokens"
    )
    if store is not None:
        problem = CacheFullError(
            f"the KV cache could not grow beyond {store.num_blocks} blocks: the device has no memory left;"
            " give the pipeline less kv_memory, or ask for less at a time"
        )
    problem.__cause__ = error  # so that its frames are cleared too, and the tensors in them freed
    return problem
