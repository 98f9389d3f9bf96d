"""Memory limits and a model's shape → a runner with its KV pool and store, and its memory of pictures."""

from collections.abc import Callable

from glmflash.engine.delivery import Delivery
from glmflash.engine.events import BlockEvicted
from glmflash.engine.runner import Runner
from glmflash.engine.scheduler import Scheduler
from glmflash.engine.settings import Settings
from glmflash.engine.vision import VisionCache
from glmflash.kv.memory import auto_memory, count_blocks, parse_memory
from glmflash.kv.pool import BlockPool
from glmflash.kv.store import BlockStore, block_bytes
from glmflash.model.glm import Glm4v

__all__ = ["make_runner"]

_BLOCK_SIZE = 16
_VISION = 256 * 2**20  # bytes: two dozen pictures of a megapixel
_CONTEXTS = 4  # whole contexts for each request of a batch: more than that, "auto" does not ask for


def __dir__() -> list[str]:
    return __all__


def make_runner(model: Glm4v, settings: Settings, delivery: Delivery, *, vocab_size: int) -> Runner:
    """Make what computes, and its caches; nothing large is allocated before it is needed.

    Raises:
        ParameterError: If not even one KV block fits into the memory.
    """
    text, int8 = model.config.text, settings.kv_dtype == "int8"
    shape = {
        "num_layers": text.num_hidden_layers,
        "num_kv_heads": text.num_key_value_heads,
        "head_dim": text.head_dim,
        "block_size": _BLOCK_SIZE,
    }
    size = block_bytes(**shape, dtype=model.dtype, int8=int8)
    memory = parse_memory(settings.kv_memory)
    num_blocks = count_blocks(auto_memory(model.device) if memory is None else memory, block_bytes=size)
    if memory is None:
        num_blocks = min(
            num_blocks, -(-_CONTEXTS * settings.max_batch * text.max_position_embeddings // _BLOCK_SIZE)
        )
    store = BlockStore(**shape, num_blocks=num_blocks, dtype=model.dtype, device=model.device, int8=int8)
    vision = parse_memory(settings.vision_memory, parameter="vision_memory")
    pool = BlockPool(num_blocks, block_size=_BLOCK_SIZE, on_evict=_teller(delivery))
    scheduler = Scheduler(
        pool, max_batch=settings.max_batch, max_step_tokens=settings.max_step_tokens or _step_tokens(model)
    )
    seen = VisionCache(_VISION if vision is None else vision)
    return Runner(model, store, scheduler, seen, delivery, vocab_size=vocab_size)


def _step_tokens(model: Glm4v) -> int:
    return 512 if model.device.type == "cpu" else 2048


def _teller(delivery: Delivery) -> Callable[[int], None]:
    """What the pool calls as it evicts a block."""

    def tell(block: int) -> None:
        if observers := delivery.observers:
            observers.emit(BlockEvicted(block=block))

    return tell
