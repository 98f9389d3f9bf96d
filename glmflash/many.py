"""What a pipeline does with many questions: batch and map."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Unpack

from glmflash import prepare
from glmflash.asks import Asks, Item
from glmflash.batching import OnError, ordered
from glmflash.batching import batch as batch_
from glmflash.engine.request import Options
from glmflash.output.result import Result
from glmflash.progress import Progress

__all__ = ["batch", "map_"]


def __dir__() -> list[str]:
    return __all__


def batch(
    self: Asks,
    items: Iterable[Item],
    *,
    on_error: OnError = "raise",
    progress: Progress = None,
    **options: Unpack[Options],
) -> list[Any]:
    """Ask many questions at once, and wait for all answers, in order.

    Args:
        self: The pipeline.
        items: As for `submit`.
        on_error: "raise" ends everything with the first error; "return" puts errors in the places of
            the results that they stand for.
        progress: As for `from_pretrained`; a function hears of requests answered and in all.
        options: For items that do not say otherwise.
    """
    ask, most = _asking(self, options), self.engine.prefetch
    return batch_(ask, items, prefetch=most, on_error=on_error, progress=progress)


def map_(
    self: Asks,
    items: Iterable[Item],
    *,
    on_error: OnError = "raise",
    prefetch: int | None = None,
    progress: Progress = False,
    **options: Unpack[Options],
) -> Iterator[Any]:
    """Ask as many questions as come, lazily: answers are yielded in order while the next are computed.

    Args:
        self: The pipeline.
        items: As for `submit`; may be endless.
        on_error: As for `batch`.
        prefetch: Most items taken whose answers were not; by default twice `max_batch`.
        progress: As for `batch`; the number in all is None unless `items` has a length.
        options: For items that do not say otherwise.
    """
    most, ask = self.engine.prefetch if prefetch is None else prefetch, _asking(self, options)
    return ordered(ask, items, prefetch=most, on_error=on_error, progress=progress)


def _asking(pipe: Asks, options: Options) -> Callable[[Item], Future[Result]]:
    engine = pipe.engine  # `submit` for many: it waits for a place in line

    def ask(item: Item) -> Future[Result]:
        with engine.refusing():
            request = prepare.one(item, options, defaults=engine.generation)
        return engine.submit(request, wait=True)

    return ask
