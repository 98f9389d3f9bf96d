"""Trust, caches: what one salt had computed no other one finds, whichever way it asks (D2).

Always paired: a stranger finds nothing, and whoever has the salt finds something. The tiers one by one are in
tests/test_engine_laws_cache.py, saved pictures in tests/test_engine_encoded.py, what a clock tells in
tests/test_trust_engine_caches.py.
"""

import base64
import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from glmflash import Pipeline, openai
from glmflash.output.result import Usage

TEXT = "What is the total of all that stands on this receipt? Answer in a word."


@pytest.fixture
def pipe() -> Iterator[Pipeline]:
    with Pipeline.from_pretrained("tiny") as pipe:
        yield pipe


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8)


def image(seed: int) -> Image.Image:
    return Image.fromarray(picture(seed))


def data_url(seed: int) -> str:
    file = io.BytesIO()
    image(seed).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _session(pipe: Pipeline, salt: str) -> Usage:
    with pipe.session(cache_salt=salt) as session:
        return session.ask(TEXT, images=image(1), max_new_tokens=2).usage


def _stream(pipe: Pipeline, salt: str) -> Usage:
    with pipe.stream(TEXT, images=image(1), cache_salt=salt, max_new_tokens=2) as stream:
        return stream.result.usage


def _body(pipe: Pipeline, salt: str) -> Usage:
    body = {"prompt": TEXT, "image": data_url(1), "max_tokens": 2}
    answer = openai.create(pipe, body, cache_salt=salt)
    usage = answer["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return Usage(prompt=usage["prompt_tokens"], cached=cached, saved_prefill=cached)


DOORS: dict[str, Callable[[Pipeline, str], Usage]] = {
    "call": lambda pipe, salt: pipe(TEXT, images=image(1), cache_salt=salt, max_new_tokens=2).usage,
    "submit": lambda pipe, salt: (
        pipe.submit({"text": TEXT, "images": image(1), "cache_salt": salt}, max_new_tokens=2).result().usage
    ),
    "batch": lambda pipe, salt: (
        pipe.batch([{"text": TEXT, "images": image(1)}], cache_salt=salt, max_new_tokens=2)[0].usage
    ),
    "stream": _stream,
    "session": _session,
    "body": _body,
}


@pytest.mark.parametrize("door", DOORS)
def test_d2_a_salt_holds_at_every_door(door, pipe) -> None:
    ask = DOORS[door]
    first, stranger, nobody, again = (ask(pipe, salt) for salt in ("mine", "other", "Mine", "mine"))
    assert (first.cached, stranger.cached, nobody.cached) == (0, 0, 0)
    assert stranger.saved_prefill == nobody.saved_prefill == 0
    assert again.cached == again.prompt - 1


def test_d2_a_salt_of_one_door_holds_at_the_others(pipe) -> None:
    usages = {name: ask(pipe, "mine") for name, ask in DOORS.items()}
    assert [usage.cached > 0 for usage in usages.values()] == [False, *[True] * (len(DOORS) - 1)]
    assert all(ask(pipe, f"{name}'s own").cached == 0 for name, ask in DOORS.items())


@pytest.mark.parametrize(
    "ask",
    [
        lambda pipe, salt: pipe.choose(TEXT, ["yes", "no"], images=image(1), cache_salt=salt),
        lambda pipe, salt: pipe.locate("the button", image(1), cache_salt=salt, max_new_tokens=1),
        lambda pipe, salt: pipe.encode(image(1), cache_salt=salt),
    ],
    ids=["choose", "locate", "encode"],
)
def test_d2_a_salt_holds_where_no_usage_says_so(ask, pipe) -> None:
    hits = []
    for salt in ("mine", "other", "mine"):
        before = pipe.stats()
        ask(pipe, salt)
        after = pipe.stats()
        hits.append((after.pool.hits - before.pool.hits, after.vision.hits - before.vision.hits))
    first, stranger, again = hits
    assert first == stranger == (0, 0)
    assert sum(again) > 0
