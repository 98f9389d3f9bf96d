"""The deltas of an answer on its way → what a notebook shows of them, updated in place until it ends."""

import logging
import threading
from concurrent.futures import CancelledError, Future
from typing import Any

from glmflash import notebook
from glmflash.output.result import Delta
from glmflash.output.result_html import answering, failed

__all__ = ["Live"]

_EVERY = 0.1  # seconds from one update to the next
_PATIENCE = 1.0  # seconds that the end of a stream waits for a frontend to have shown it
_log = logging.getLogger(__name__)


def __dir__() -> list[str]:
    return __all__


class Live:
    """What has come of an answer so far, for whoever looks.

    It knows text and no stream: what is shown neither takes pieces from whoever iterates, nor keeps a stream
    alive that was let go, which cancels it.
    """

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._shown: list[threading.Thread] = []

    def add(self, deltas: list[Delta]) -> None:
        """More of it has come; any thread may say so."""
        self._deltas += deltas

    def html(self, future: "Future[Any]") -> str:
        """The answer if it has ended, else what there is of it; everything the model wrote is escaped.

        Args:
            future: Of the result.
        """
        if not future.done():
            text = {"thinking": "", "answer": "", "tool_call": ""}
            for delta in list(self._deltas):
                text[delta.channel] += delta.text
            return answering(thinking=text["thinking"], text=text["answer"], call=text["tool_call"])
        try:
            return str(future.result()._repr_html_())
        except CancelledError:
            return failed("cancelled")
        except Exception as error:  # noqa: BLE001  # whoever iterates gets it; here it is shown
            return failed(f"{type(error).__name__}: {error}")

    def display(self, future: "Future[Any]", text: str) -> None:
        """Show it where this is called, and keep that up to date; in a notebook only is there more to come.

        Args:
            future: Of the result.
            text: For whatever shows no HTML.
        """
        done = future.done()  # before: it may end while it is being shown, and its end is still to be seen
        html = self.html(future)
        replace = notebook.show(html, text)
        if notebook.watched() and not done:
            thread = threading.Thread(
                target=self._follow, args=(future, text, replace, html), name="glmflash-display", daemon=True
            )
            self._shown.append(thread)
            thread.start()

    @property
    def shown(self) -> bool:
        """Whether it is being shown somewhere."""
        return bool(self._shown)

    def settle(self) -> None:
        """It has ended: return once that is shown, so that it is shown where it belongs."""
        while self._shown:
            self._shown.pop().join(_PATIENCE)

    def _follow(self, future: "Future[Any]", text: str, replace: notebook.Replace, shown: str) -> None:
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        done = False
        while not done:
            done = ended.wait(_EVERY)
            html = self.html(future)
            if html != shown:
                shown = html
                try:
                    replace(html, text)
                except Exception:  # noqa: BLE001  # the frontend's own; the answer goes on
                    _log.exception("a stream is shown no further")
                    return
