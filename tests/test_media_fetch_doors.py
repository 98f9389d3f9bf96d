"""Every way a URL can be given: refused with a word on how to allow it, or fetched by the one client."""

import ast
import asyncio
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from url_world import CALLS, HOST, Internet, picture, reply, says

import glmflash
from glmflash import (
    Clip,
    ClosedError,
    DeadlineError,
    ExtractionError,
    FetchError,
    ImageError,
    InputPolicy,
    Pipeline,
    Result,
    Url,
    UrlPolicy,
)
from glmflash.media import read
from glmflash.openai import acreate, create
from glmflash.output.result import ToolCall
from glmflash.tools import run_tools

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

TEXT = f"https://{HOST}/secret.png?secret"
URL = Url(TEXT)
FEW = {"max_new_tokens": 2, "temperature": 0}
ON = InputPolicy(urls=UrlPolicy(hosts=(HOST,)))


@dataclass
class Receipt:
    total: str


def chat(**part) -> list[dict]:
    return [{"role": "user", "content": [part, {"type": "text", "text": "The total?"}]}]


def body(**fields) -> dict:
    return {"max_tokens": 2, "temperature": 0, **fields}


async def streamed(pipe) -> None:
    async for _ in pipe.astream("The total?", images=URL, **FEW):
        pass


def shown() -> Url:
    """Show it."""
    return URL


def returned(pipe) -> None:
    """A tool hands a URL back as its result."""
    said = [Result(text="", tool_calls=(ToolCall("shown", {}),)), Result(text="done")]
    asks = SimpleNamespace(engine=pipe.engine, chat=lambda messages, **options: said.pop(0))

    run_tools(asks, "Go.", [shown], on_error="raise")


PART = {"type": "image_url", "image_url": {"url": TEXT}}
DOORS = {
    "call": lambda pipe: pipe("The total?", images=URL, **FEW),
    "call, several": lambda pipe: pipe("The total?", images=[picture(), URL], **FEW),
    "chat, image": lambda pipe: pipe.chat(chat(type="image", image=URL), **FEW),
    "chat, image_url": lambda pipe: pipe.chat(chat(**PART), **FEW),
    "chat, url": lambda pipe: pipe.chat(chat(type="image_url", url=TEXT), **FEW),
    "stream": lambda pipe: list(pipe.stream("The total?", images=URL, **FEW)),
    "astream": lambda pipe: asyncio.run(streamed(pipe)),
    "submit": lambda pipe: pipe.submit(chat(**PART), **FEW).result(),
    "batch": lambda pipe: pipe.batch([{"text": "The total?", "images": URL}], **FEW),
    "map": lambda pipe: list(pipe.map([{"messages": chat(**PART)}], **FEW)),
    "encode": lambda pipe: pipe.encode(URL),
    "session": lambda pipe: pipe.session(**FEW).ask("The total?", images=URL),
    "extract": lambda pipe: pipe.extract(URL, Receipt),
    "choose": lambda pipe: pipe.choose("The total?", ["1", "2"], images=URL),
    "locate": lambda pipe: pipe.locate("the Save button", images=URL, **FEW),
    "run_tools": lambda pipe: pipe.run_tools("Go.", [shown], images=URL, **FEW),
    "run_tools, returned": returned,
    "openai": lambda pipe: create(pipe, body(messages=chat(**PART))),
    "openai, stream": lambda pipe: list(create(pipe, body(messages=chat(**PART), stream=True))),
    "openai, plain": lambda pipe: create(pipe, body(prompt="The total?", image=TEXT)),
    "openai, async": lambda pipe: asyncio.run(acreate(pipe, body(messages=chat(**PART)))),
    "engine.read": lambda pipe: pipe.engine.read(URL),
    "media.read": lambda pipe: read(URL, policy=pipe.engine.settings.policy),
}


@contextmanager
def pipeline(policy: InputPolicy, checkpoint: str | Path = "tiny"):
    with Pipeline.from_pretrained(checkpoint, input_policy=policy, progress=False) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def off():
    with pipeline(InputPolicy()) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def on():
    with pipeline(ON) as pipe:
        yield pipe


@pytest.fixture
def internet(monkeypatch):
    internet = Internet()
    monkeypatch.setattr("glmflash.media.fetch.client.NETWORK", internet.network)
    return internet


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_off_no_door_leads_out(off, internet, door):
    with CALLS.heard() as calls, pytest.raises(FetchError, match="URLs are off") as caught:
        door(off)
    assert "InputPolicy" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert calls.connects == calls.lookups == internet.looked_up == []


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_on_every_door_leads_to_the_client(on, internet, door):
    with internet.serving(says(reply(picture()))), suppress(ExtractionError):  # of a red picture
        door(on)
    assert len(internet.requests) == 1


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_on_every_door_is_checked(on, internet, door):
    internet.names[HOST] = [["127.0.0.1"]]
    with pytest.raises(FetchError, match="not a public address") as caught:
        door(on)
    assert "secret" not in str(caught.value)
    assert internet.connected == []


@pytest.fixture(scope="module")
def importers() -> dict[str, set[str]]:
    """Name -> modules of the package that import it."""
    found, root = defaultdict(set), Path(glmflash.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for alias in node.names:
                    found[above + alias.name].add(path.relative_to(root).with_suffix("").as_posix())
    return found


@pytest.mark.slow
def test_one_way_leads_to_the_client(importers):
    """Whoever adds another way to read pictures finds it here, and adds it to the doors above."""
    assert importers["glmflash.media.fetch.client.fetch"] == {"media/sources", "media/fetch/__init__"}
    assert importers["glmflash.media.sources.read_bytes"] == {"media/read", "media/pdf", "media/clips"}
    assert importers["glmflash.media.read.read"] == {
        "engine/inputs",
        "media/__init__",
        "media/clips",
    }
    assert importers["glmflash.media.read"] == {"cli/ask", "evaluate/pictures"}  # without a policy
    assert importers["glmflash.media.fetch.network.NETWORK"] == {"media/fetch/client"}
    for whole in ("fetch", "fetch.client", "fetch.fetch", "sources"):
        assert not importers[f"glmflash.media.{whole}"]


CLIPS = {
    "call": lambda pipe: pipe("What happens?", videos=URL, **FEW),
    "call, clip": lambda pipe: pipe("What happens?", videos=Clip(URL), **FEW),
    "a frame": lambda pipe: pipe("What happens?", videos=Clip([picture(), URL], fps=1), **FEW),
    "chat, video_url": lambda pipe: pipe.chat(chat(type="video_url", video_url={"url": TEXT}), **FEW),
    "openai": lambda pipe: create(pipe, body(messages=chat(type="video_url", video_url={"url": TEXT}))),
}


@pytest.mark.parametrize("door", CLIPS.values(), ids=CLIPS)
def test_clips_are_fetched_neither_off_nor_on(off, on, internet, door):
    for pipe in (off, on):
        with CALLS.heard() as calls, pytest.raises(FetchError) as caught:
            door(pipe)
        assert "secret" not in str(caught.value)
        assert calls.connects == calls.lookups == internet.looked_up == []


@pytest.mark.extras
def test_a_pdf_comes_through_the_same_door(internet):
    pytest.importorskip("pypdfium2")
    with CALLS.heard() as calls, pytest.raises(FetchError, match="URLs are off"):
        glmflash.read_pdf(URL)
    assert calls.connects == calls.lookups == internet.looked_up == []


def test_what_comes_is_judged_by_its_content(internet):
    html = reply(b"<html>secret</html>", Content_Type="image/png")
    with internet.serving(says(reply(picture(), Content_Type="text/html"), html)):
        assert read(URL, policy=ON).shape == (40, 60, 3)
        with pytest.raises(ImageError, match="not an allowed picture") as caught:
            read(URL, policy=ON)
    assert "secret" not in str(caught.value)


def test_the_policy_bounds_what_comes(internet):
    with internet.serving(says(reply(picture()))):
        with pytest.raises(FetchError, match=r"InputPolicy\.max_bytes"):
            read(URL, policy=replace(ON, max_bytes=10))
        with pytest.raises(ImageError, match="max_pixels"):
            read(URL, policy=replace(ON, max_pixels=10))


def test_one_of_several_is_named(on, internet):
    internet.names = {}
    with pytest.raises(FetchError, match=r"picture 2 of 2: images\.example\.com: is not a host"):
        on("The total?", images=[picture(), URL], **FEW)


# What hangs elsewhere does not hang here.


@pytest.fixture
def hanging(nano_checkpoint, monkeypatch):
    """A pipeline, and a network on which no name is ever found."""
    go = threading.Event()
    internet = Internet()
    network = replace(internet.network, resolve=lambda host: (go.wait(20), [])[1])
    monkeypatch.setattr("glmflash.media.fetch.client.NETWORK", network)
    with pipeline(ON, nano_checkpoint) as pipe:
        yield pipe
    go.set()


def url_question(**options) -> dict:
    return {"text": "What?", "images": URL, **FEW, **options}


def test_b2_a_hundred_hanging_urls_stall_nobody_else(hanging):
    urls = [hanging.submit(url_question()) for _ in range(100)]
    began = time.monotonic()
    texts = [hanging.submit("What?", **FEW) for _ in range(20)]
    pictures = [hanging.submit({"text": "What?", "images": picture()}, **FEW) for _ in range(5)]
    for future in texts + pictures:
        future.result(timeout=5)
    assert time.monotonic() - began < 5
    assert not any(future.done() for future in urls)
    assert len(hanging.engine._readers[2]._threads) == 8


def ends(thing, within=1.5) -> float:
    began = time.monotonic()
    thing()
    taken = time.monotonic() - began
    assert taken < within
    return taken


def soon(condition) -> None:
    end = time.monotonic() + 1.5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_cancelling_ends_the_fetch(hanging):
    futures = [hanging.submit(url_question()) for _ in range(8)]
    time.sleep(0.05)
    assert all(future.cancel() for future in futures)
    soon(lambda: hanging.stats().failed == {"cancelled": 8})


def test_a_timeout_of_the_request_ends_the_fetch(hanging):
    def ask() -> None:
        with pytest.raises(DeadlineError, match=r"timeout of 0\.2 s"):
            hanging("What?", images=URL, timeout=0.2, **FEW)

    assert ends(ask) > 0.19


def test_stopping_a_stream_ends_the_fetch_with_an_empty_answer(hanging):
    stream = hanging.stream("What?", images=URL, **FEW)
    time.sleep(0.05)
    stream.cancel()
    ends(lambda: list(stream))
    assert (stream.result.text, stream.result.finish_reason) == ("", "cancelled")
    assert stream.result.usage.total == 0

    def leave() -> None:
        with hanging.stream("What?", images=URL, **FEW):
            pass

    ends(leave)
    assert hanging.stats().finished["cancelled"] == 2


def test_closing_ends_the_fetch(hanging):
    futures = [hanging.submit(url_question()) for _ in range(20)]
    time.sleep(0.05)
    ends(hanging.close)
    for future in futures:
        with pytest.raises(ClosedError):
            future.result(timeout=1)
