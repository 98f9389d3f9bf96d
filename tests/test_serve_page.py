"""The server's page in a real browser: a picture is dropped, a question asked, the answer's box appears."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from random import Random

import pytest
from PIL import Image

httpx = pytest.importorskip("httpx")
for name in ("fastapi", "uvicorn", "jwt", "prometheus_client"):
    pytest.importorskip(name)

from serving import served, token  # noqa: E402

from glmflash import Pipeline  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.extras,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium, or no chromedriver, on the path"),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1000,750"
).split()
DROP = """
const [data, name] = arguments, bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], name, {type: "image/png"}));
document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
"""


class Browser:
    """Chromium, through the W3C protocol of its driver."""

    def __init__(self, address: str, profile: Path) -> None:
        arguments = [*FLAGS, f"--user-data-dir={profile}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments}}
        self._http = httpx.Client(timeout=60)
        self._url = f"{address}/session"
        session = self._do("post", "", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{session['sessionId']}"

    def _do(self, method: str, path: str, body=None):
        answer = self._http.request(method, self._url + path, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def go(self, url: str) -> None:
        self._do("post", "/url", {"url": url})

    def run(self, script: str, *arguments):
        return self._do("post", "/execute/sync", {"script": script, "args": list(arguments)})

    def type(self, selector: str, text: str) -> None:
        found = self._do("post", "/element", {"using": "css selector", "value": selector})
        self._do("post", f"/element/{next(iter(found.values()))}/value", {"text": text})

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, script: str):
        for _ in range(300):
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never came true: {script}; error: {self.text('#error')!r}")

    def screenshot(self) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(self._do("get", "/screenshot"))))

    def close(self) -> None:
        self._do("delete", "")
        self._http.close()


@pytest.fixture(scope="module")
def driver():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                if httpx.get(f"{address}/status").json()["value"]["ready"]:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def browser(driver, tmp_path):
    browser = Browser(driver, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def address():
    with Pipeline.from_pretrained("tiny", progress=False) as pipe, served(pipe) as address:
        yield address


@pytest.fixture(scope="module")
def screen():
    """Buttons: the picture's bytes, the name of one, and where it is, in thousandths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "examples" / "tiny")
        import draw

        picture, shown = draw.screen(Random("screen"), language="en")
    file = io.BytesIO()
    picture.save(file, "PNG")
    button, box = next(iter(shown.boxes.items()))
    return file.getvalue(), button, [1000 * edge / picture.size[i % 2] for i, edge in enumerate(box)]


def drop(browser, picture: bytes) -> None:
    browser.run(DROP, base64.b64encode(picture).decode(), "screen.png")
    browser.wait("return document.getElementById('picture').naturalWidth > 0")


def test_a_picture_is_dropped_and_the_answer_appears_with_its_box(browser, address, screen):
    picture, button, wanted = screen
    browser.go(f"{address}/#{token()}")
    drop(browser, picture)
    browser.type("#question", f"Where is the {button} button?\n")
    browser.wait("return document.getElementById('numbers').textContent.includes('tokens')")
    assert re.fullmatch(r"\[\[\d+,\d+,\d+,\d+\]\]", browser.text("#answer"))
    sides = browser.run(
        "return ['x', 'y', 'width', 'height'].map(side => +document.querySelector('rect').getAttribute(side))"
    )
    found = [sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3]]
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < 60
    seen = browser.run("const r = document.querySelector('rect').getBoundingClientRect();"
                       "return [r.width, r.height]")  # fmt: skip
    assert min(seen) > 20  # pixels: it can be seen
    shot = browser.screenshot().convert("RGB")
    if folder := os.environ.get("GLMFLASH_SCREENSHOTS"):
        shot.quantize(128).save(Path(folder) / "serve.png", optimize=True)
    assert browser.text("#error") == ""


def test_a_wrong_token_asks_for_another(browser, address, screen):
    browser.go(f"{address}/#wrong")
    assert browser.run("return location.hash") == ""
    drop(browser, screen[0])
    browser.type("#question", "Where?\n")
    browser.wait("return document.getElementById('error').textContent")
    assert "token" in browser.text("#error")
    assert browser.run("return document.getElementById('token').hidden") is False


def test_what_the_model_says_is_text(browser, address):
    """Nothing of an answer becomes a part of the page, and no script but the page's own runs."""
    browser.go(address)
    browser.run("show({choices: [{delta: {content: '<img src=x onerror=alert(1)><b>'}}]})")
    assert browser.run("return document.getElementById('answer').children.length") == 0
    browser.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
                "document.body.append(s)")  # fmt: skip
    assert browser.run("return window.ran") is None
