"""What a notebook shows of a stream: all of it, in place, and without touching the stream."""

import asyncio
import gc
import logging
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from glmflash import Delta, Pipeline, Result, notebook
from glmflash.engine.live import Live


class Page:
    """A notebook's frontend: what it was given to show, in order, by thread."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.threads: list[str] = []
        self.broken = False

    def show(self, html: str, text: str) -> notebook.Replace:
        self.replace(html, text)
        return self.replace

    def replace(self, html: str, text: str) -> None:
        if self.broken:
            raise RuntimeError("the frontend is gone")
        self.shown.append(html)
        self.threads.append(threading.current_thread().name)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    found = Page()
    monkeypatch.setattr(notebook, "show", found.show)
    monkeypatch.setattr(notebook, "watched", lambda: True)
    return found


@pytest.fixture(scope="module")
def pipe(nano_checkpoint):
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        yield pipe


OPTIONS = {"max_new_tokens": 24, "ignore_eos": True, "temperature": 0}


def test_it_is_updated_in_place_and_ends_with_the_result(page) -> None:
    live, future = Live(), Future()
    live.display(future, "text")
    live.add([Delta("let me <b>see</b>", "thinking")])
    wait_for(lambda: "let me" in page.shown[-1])
    assert "<details open>" in page.shown[-1]
    live.add([Delta("<script>"), Delta("f(1)", "tool_call")])
    wait_for(lambda: "&lt;script&gt;" in page.shown[-1])
    assert "f(1)" in page.shown[-1]
    assert "<details>" in page.shown[-1]
    result = Result(text="<script>", thinking="let me <b>see</b>")
    future.set_result(result)
    live.settle()
    assert page.shown[-1] == result._repr_html_()
    assert not any("<script" in html or "<b>" in html for html in page.shown)
    assert set(page.threads[1:]) == {"glmflash-display"}
    assert not live.shown


def wait_for(true) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_updates_are_rare_however_many_pieces_come(page) -> None:
    live, future = Live(), Future()
    live.display(future, "text")
    began = time.monotonic()
    for number in range(2000):
        live.add([Delta(f"{number} ")])
        if not number % 100:
            time.sleep(0.005)
    future.set_result(Result(text="done"))
    live.settle()
    assert len(page.shown) <= 3 + (time.monotonic() - began) / 0.1


@pytest.mark.parametrize("error", [ValueError("<i>no</i>"), None])
def test_errors_and_cancelling_are_shown_and_not_raised(page, error) -> None:
    live, future = Live(), Future()
    live.display(future, "text")
    if error is None:
        assert future.cancel()
        future.set_running_or_notify_cancel()
    else:
        future.set_exception(error)
    live.settle()
    assert ("cancelled" if error is None else "ValueError: &lt;i&gt;no&lt;/i&gt;") in page.shown[-1]


def test_a_frontend_that_is_gone_stops_nothing(page, caplog) -> None:
    live, future = Live(), Future()
    live.display(future, "text")
    page.broken = True
    with caplog.at_level(logging.ERROR):
        future.set_result(Result(text="done"))
        live.settle()
    assert "shown no further" in caplog.text


def test_showing_takes_no_piece_from_whoever_iterates(pipe, page) -> None:
    plain = list(pipe.stream("Hi", **OPTIONS))
    with pipe.stream("Hi", **OPTIONS) as stream:
        stream._ipython_display_()
        shown = list(stream)
    assert "".join(one.text for one in shown) == "".join(one.text for one in plain)
    assert page.shown[-1] == stream.result._repr_html_() == stream._repr_html_()
    stream._ipython_display_()  # once more, at its end
    assert page.shown[-1] == stream.result._repr_html_()


def test_an_end_that_comes_while_it_is_being_shown_is_shown(pipe, page, monkeypatch) -> None:
    replace = page.replace
    monkeypatch.setattr(page, "replace", lambda html, text: (time.sleep(0.2), replace(html, text)))
    stream = pipe.stream("Hi", **OPTIONS)
    stream._ipython_display_()
    list(stream)
    assert not stream._live.shown
    assert page.shown[-1] == stream.result._repr_html_()


def test_an_async_stream_is_shown_too(pipe, page) -> None:
    async def ask() -> Result:
        stream = pipe.astream("Hi", **OPTIONS)
        stream._ipython_display_()
        async for _ in stream:
            pass
        return await stream.result()

    assert page.shown[-1:] == []
    result = asyncio.run(ask())
    assert page.shown[-1] == result._repr_html_()


def test_a_session_shows_its_stream(pipe, page) -> None:
    with pipe.session() as session, session.stream("Hi", **OPTIONS) as stream:
        stream._ipython_display_()
        for _ in stream:
            pass
    assert page.shown[-1] == stream._repr_html_() == stream.result._repr_html_()


def test_what_is_shown_keeps_no_stream_alive(pipe, page) -> None:
    stream = pipe.stream("Hi", max_new_tokens=100_000, ignore_eos=True)
    future, gone = stream._sequence.future, weakref.ref(stream)
    stream._ipython_display_()
    del stream
    gc.collect()
    assert gone() is None
    assert future.result(timeout=10).finish_reason == "cancelled"


def test_without_a_notebook_nothing_follows(monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(notebook, "show", lambda html, text: shown.append(text))
    live = Live()
    live.display(Future(), "<Stream>")
    assert shown == ["<Stream>"]
    assert not live.shown


def test_ipython_is_told_once_and_then_updated(monkeypatch) -> None:
    said = []

    class DisplayHandle:
        def display(self, bundle, *, raw):
            said.append(("display", bundle, raw))

        def update(self, bundle, *, raw):
            said.append(("update", bundle, raw))

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(DisplayHandle=DisplayHandle))
    notebook.show("<p>1", "1")("<p>2", "2")
    assert said == [
        ("display", {"text/html": "<p>1", "text/plain": "1"}, True),
        ("update", {"text/html": "<p>2", "text/plain": "2"}, True),
    ]
