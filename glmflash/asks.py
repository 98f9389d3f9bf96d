"""What functions that become methods of a pipeline need of it: an engine, and ways to ask."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, Protocol, Unpack

from glmflash.engine.engine import Engine
from glmflash.engine.request import Options, Request
from glmflash.engine.stream import AsyncStream, Stream
from glmflash.output.result import Result
from glmflash.progress import Progress

__all__ = ["Asks", "Item", "Talk"]

Talk = str | Sequence[Mapping[str, object]]  # a question, or messages
Item = Talk | Request | Mapping[str, object]  # or a request, or keywords of a call


def __dir__() -> list[str]:
    return __all__


class Asks(Protocol):
    """A pipeline, as a function on a lower floor sees it."""

    @property
    def engine(self) -> Engine:
        """What does the work."""

    def chat(self, messages: Sequence[Mapping[str, object]], **options: Unpack[Options]) -> Result:
        """See `Pipeline.chat`."""

    def stream(
        self, text: Talk, *, images: object = None, videos: object = None, system: str | None = None,
        **options: Unpack[Options],
    ) -> Stream:  # fmt: skip
        """See `Pipeline.stream`."""

    def astream(
        self, text: Talk, *, images: object = None, videos: object = None, system: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:  # fmt: skip
        """See `Pipeline.astream`."""

    def submit(self, item: Item, **options: Unpack[Options]) -> Future[Result]:
        """See `Pipeline.submit`."""

    def batch(
        self,
        items: Iterable[Item],
        *,
        on_error: Literal["raise", "return"] = "raise",
        progress: Progress = None,
        **options: Unpack[Options],
    ) -> list[Any]:
        """See `Pipeline.batch`."""
