"""Every way a picture can be given ends at one decoder: the same pixels, or the same refusal."""

import asyncio
import base64
import gc
import io
import weakref
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hostile_pictures import encoded, sized
from PIL import Image

from glmflash import Clip, DataUrl, ExtractionError, InputError, InputPolicy, Pipeline, Result
from glmflash.evaluate import Question, run
from glmflash.media import read
from glmflash.openai import acreate, create
from glmflash.output.result import ToolCall
from glmflash.tools import run_tools

FEW = {"max_new_tokens": 2, "temperature": 0}
POLICY = InputPolicy(max_pictures=3)


@dataclass
class Receipt:
    total: str


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def chat(**part) -> list[dict]:
    return [{"role": "user", "content": [part, {"type": "text", "text": "The total?"}]}]


def body(data: bytes, **fields) -> dict:
    part = {"type": "image_url", "image_url": {"url": data_url(data)}}
    return {"max_tokens": 2, "temperature": 0, "messages": chat(**part), **fields}


async def streamed(pipe, data) -> None:
    async for _ in pipe.astream("The total?", images=data, **FEW):
        pass


def returned(pipe, data) -> None:
    """A tool hands the picture back as its result."""

    def shown() -> DataUrl:
        """Show it."""
        return DataUrl(data_url(data))

    said = [Result(text="", tool_calls=(ToolCall("shown", {}),)), Result(text="done")]
    asks = SimpleNamespace(engine=pipe.engine, chat=lambda messages, **options: said.pop(0))
    run_tools(asks, "Go.", [shown], on_error="raise")


def tools(pipe, data) -> None:
    def nothing() -> str:
        """Do nothing."""
        return ""

    pipe.run_tools("Go.", [nothing], images=data, **FEW)


DOORS = {
    "call": lambda pipe, data: pipe("The total?", images=data, **FEW),
    "call, several": lambda pipe, data: pipe("The total?", images=[encoded("PNG"), data], **FEW),
    "chat": lambda pipe, data: pipe.chat(chat(type="image", image=data), **FEW),
    "chat, data URL": lambda pipe, data: pipe.chat(chat(type="image_url", url=data_url(data)), **FEW),
    "stream": lambda pipe, data: list(pipe.stream("The total?", images=data, **FEW)),
    "astream": lambda pipe, data: asyncio.run(streamed(pipe, data)),
    "submit": lambda pipe, data: pipe.submit(chat(type="image", image=data), **FEW).result(),
    "batch": lambda pipe, data: pipe.batch([{"text": "The total?", "images": data}], **FEW),
    "map": lambda pipe, data: list(pipe.map([{"text": "The total?", "images": data}], **FEW)),
    "encode": lambda pipe, data: pipe.encode(data),
    "encode, asked about": lambda pipe, data: pipe("The total?", images=pipe.encode(data), **FEW),
    "session": lambda pipe, data: pipe.session(**FEW).ask("The total?", images=data),
    "extract": lambda pipe, data: pipe.extract(data, Receipt),
    "choose": lambda pipe, data: pipe.choose("The total?", ["1", "2"], images=data),
    "locate": lambda pipe, data: pipe.locate("the Save button", images=data, **FEW),
    "run_tools": tools,
    "run_tools, returned": returned,
    "openai": lambda pipe, data: create(pipe, body(data)),
    "openai, stream": lambda pipe, data: list(create(pipe, body(data, stream=True))),
    "openai, async": lambda pipe, data: asyncio.run(acreate(pipe, body(data))),
    "frames": lambda pipe, data: pipe("What happens?", videos=Clip([data, data], fps=1), **FEW),
    "engine.read": lambda pipe, data: pipe.engine.read(data),
    "media.read": lambda pipe, data: read(data, policy=POLICY),
}


@pytest.fixture(scope="module")
def pipe():
    with Pipeline.from_pretrained("tiny", input_policy=POLICY, progress=False) as pipe:
        yield pipe


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a2_every_door_refuses_a_bomb_unopened(pipe, door, monkeypatch):
    opened = []
    real = Image.open

    def counted(file, *rest, **more):
        image = real(file, *rest, **more)
        opened.append(image.size)
        return image

    monkeypatch.setattr("PIL.Image.open", counted)
    with pytest.raises(InputError, match=r"60000 x 60000 pixels, more than the 33500000"):
        door(pipe, sized("PNG", 60_000, 60_000))
    assert (60_000, 60_000) not in opened


def test_a2_a_question_of_a_benchmark_is_refused_unopened(pipe, monkeypatch):
    """Neither the answer nor the thumbnail in the report opens it."""
    asked = Question(id="1", text="?", images=(sized("PNG", 60_000, 60_000),), answers=("1",))
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("was opened"))
    (row,) = run({"it": pipe}, [asked], progress=False).rows["it"]
    assert row.error == "image_error"


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a1_every_door_ends_at_the_one_decoder(pipe, door, monkeypatch):
    opened = []
    real = Image.open
    monkeypatch.setattr("PIL.Image.open", lambda *rest, **more: opened.append(more) or real(*rest, **more))
    with suppress(ExtractionError):  # there is no receipt in it
        door(pipe, encoded("PNG", (40, 44)))
    assert opened
    assert {tuple(more) for more in opened} == {("formats",)}
    assert {more["formats"] for more in opened} == {("PNG",)}


def test_a2_the_pictures_of_one_request_are_counted_together(pipe):
    pipe("The total?", images=[encoded("PNG")] * 3, **FEW)
    with pytest.raises(
        InputError, match=r"one request has more than 3 pictures, which is InputPolicy\.max_pic"
    ):
        pipe("The total?", images=[encoded("PNG")] * 4, **FEW)
    read_before = pipe.engine.read(encoded("PNG"))
    pipe("The total?", images=[read_before] * 4, **FEW)


# ------------------------------------------------------------------------------ item 8: the same by any door


def test_the_same_picture_by_any_door(tmp_path):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for number in range(12):
        size = tuple(int(side) for side in rng.integers(4, 60, 2))
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        data = file.getvalue()
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        tensor = torch.from_numpy(pixels)
        doors = [
            path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), path.open("rb"),
            DataUrl(data_url(data)), Image.open(path), Image.fromarray(pixels), pixels,
            np.asfortranarray(pixels), pixels.transpose(2, 0, 1), tensor, tensor.permute(2, 0, 1),
            tensor.float() / 255, pixels / 255,
        ]  # fmt: skip
        for door in doors:
            np.testing.assert_array_equal(read(door), pixels)
            if hasattr(door, "close"):
                door.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros((4, 4, 3), np.uint8),
        lambda: Image.new("RGB", (4, 4)),
        lambda: io.BytesIO(encoded("PNG")),
    ],
)
def test_what_the_caller_gives_is_not_kept(make):
    given = make()
    pixels = read(given)
    alive = weakref.ref(given)
    del given
    gc.collect()
    assert alive() is None
    assert pixels.shape[2] == 3
