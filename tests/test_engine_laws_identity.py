"""Two pictures share keys and values if their pixels and sizes are equal, and never otherwise."""

import io
import re
from random import Random

import numpy as np
import pytest
import torch
from engine_world import ask, forget, noise, question, to_request
from PIL import Image

from glmflash import InputPolicy
from glmflash.engine.inputs import build_prompt, read_pictures

TEMPLATE = 5  # tokens that all prompts with a picture begin with

PIXELS = np.random.default_rng(20).integers(0, 256, (84, 112, 3), np.uint8)
SQUARE = np.random.default_rng(21).integers(0, 256, (84, 84, 3), np.uint8)
INDICES = np.random.default_rng(22).integers(0, 4, (84, 112), np.uint8)


def file(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(**tags: object) -> Image.Exif:
    made = Image.Exif()
    names = {"orientation": 0x0112, "artist": 0x013B, "unique_id": 0xA420}
    for name, value in tags.items():
        made[names[name]] = value
    return made


def touched(pixels: np.ndarray, place: tuple[int, int, int]) -> np.ndarray:
    other = pixels.copy()
    other[place] ^= 1
    return other


def palette(colours: list[int], indices: np.ndarray = INDICES) -> Image.Image:
    image = Image.new("P", indices.shape[::-1])
    image.putdata(indices.reshape(-1).tolist())
    image.putpalette(colours)
    return image


def rgba(alpha: int) -> np.ndarray:
    return np.dstack((PIXELS, np.full(PIXELS.shape[:2], alpha, np.uint8)))


RED, BLUE = [0, 0, 0, 255, 0, 0, 9, 9, 9, 7, 7, 7], [0, 0, 0, 0, 0, 255, 9, 9, 9, 7, 7, 7]
SWAPPED = [*RED[3:6], *RED[:3], *RED[6:]]
PLAIN = Image.fromarray(PIXELS)

DIFFERENT = {
    "the lowest bit of the first pixel": (PIXELS, touched(PIXELS, (0, 0, 0))),
    "the lowest bit of the last pixel": (PIXELS, touched(PIXELS, (-1, -1, -1))),
    "channels swapped": (PIXELS, PIXELS[:, :, ::-1]),
    "the same bytes in another shape": (PIXELS, PIXELS.reshape(112, 84, 3)),
    "transposed": (SQUARE, SQUARE.transpose(1, 0, 2)),
    "mirrored": (PIXELS, PIXELS[:, ::-1]),
    "turned round": (PIXELS, PIXELS[::-1, ::-1]),
    "a row less, resized to the same": (PIXELS, PIXELS[:-1]),
    "the same indices into another palette": (palette(RED), palette(BLUE)),
    "transparent": (rgba(255), rgba(128)),
    "shown another way up by its EXIF": (file(PLAIN), file(PLAIN, exif=exif(orientation=3))),
    "other pixels under the same EXIF id": (
        file(PLAIN, exif=exif(unique_id="0" * 32)),
        file(Image.fromarray(touched(PIXELS, (40, 40, 1))), exif=exif(unique_id="0" * 32)),
    ),
}

EQUAL = {
    "a PNG file": (PIXELS, file(PLAIN)),
    "a file in memory": (PIXELS, io.BytesIO(file(PLAIN, compress_level=0))),
    "a PIL image": (PIXELS, PLAIN),
    "floats": (PIXELS, PIXELS / 255),
    "half floats": (PIXELS, (PIXELS / 255).astype(np.float32)),
    "channels first": (PIXELS, np.ascontiguousarray(PIXELS.transpose(2, 0, 1))),
    "a tensor": (PIXELS, torch.from_numpy(PIXELS.copy())),
    "a view with other strides": (PIXELS, PIXELS[::-1, ::-1].copy()[::-1, ::-1]),
    "opaque alpha": (PIXELS, rgba(255)),
    "a palette in another order": (palette(RED), palette(SWAPPED, np.choose(INDICES, [1, 0, 2, 3]))),
    "grey and RGB": (PIXELS[:, :, 0], np.dstack([PIXELS[:, :, 0]] * 3)),
    "another author in the EXIF": (file(PLAIN), file(PLAIN, exif=exif(artist="someone"))),
    "an EXIF orientation undone": (PIXELS, file(PLAIN.rotate(180), exif=exif(orientation=3))),
    "a JPEG with another EXIF": (
        file(PLAIN, "JPEG"),
        file(PLAIN, "JPEG", exif=exif(artist="someone", unique_id="1" * 32)),
    ),
}


@pytest.fixture(scope="module")
def engine(world):
    with world.engine() as engine:
        yield engine


def answers(engine, pair, **options):
    """The second of a pair after the first, and then with nothing cached."""
    forget(engine)
    ask(engine, question("which", pair[0], max_new_tokens=2))
    after = ask(engine, question("which", pair[1], max_new_tokens=2, **options))
    forget(engine)
    return after, ask(engine, question("which", pair[1], max_new_tokens=2, **options))


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_pictures_never_share(world, engine, kind):
    after, cold = answers(engine, DIFFERENT[kind])
    assert after.result.usage.cached == after.result.usage.saved_prefill == TEMPLATE
    world.check(after, cold)


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_pixels_share_through_any_door(world, engine, kind):
    after, cold = answers(engine, EQUAL[kind])
    assert after.result.usage.cached == after.result.usage.prompt - 1
    world.check(after, cold)


@pytest.mark.parametrize(("most", "shared"), [(11, False), (12, True), (10**6, True), (1, False)])
def test_a_picture_at_another_resolution_is_another_picture(world, engine, most, shared):
    after, cold = answers(engine, (PIXELS, PIXELS), max_image_tokens=most)
    usage = after.result.usage
    assert usage.cached == (usage.prompt - 1 if shared else TEMPLATE)
    world.check(after, cold)


def test_a_key_holds_the_whole_digest(world):
    """All 256 bits, compared exactly: no luck is needed."""
    request = to_request(question("which", [PIXELS, SQUARE]), world.generation)
    pictures = read_pictures(request, world.preprocessor, InputPolicy())
    prompt = build_prompt(request, pictures, tokenizer=world.tokenizer, config=world.model.config).prompt
    for picture, span in zip(pictures, prompt.spans, strict=True):
        assert re.fullmatch("[0-9a-f]{64}", picture.digest)
        keys = prompt.keys[span.start : span.start + span.length]
        assert keys == tuple((picture.digest, index) for index in range(span.length))


def test_the_order_of_pictures_matters(world, engine):
    one, other = noise(Random(1)), noise(Random(2))
    after, cold = answers(engine, ([one, other], [other, one]))
    assert after.result.usage.cached == TEMPLATE
    assert after.result.usage.saved_prefill == TEMPLATE + after.result.usage.image  # the tower's tokens serve
    world.check(after, cold)


def test_a_token_id_is_no_part_of_a_picture(world, engine):
    """A text as long as the picture, at its place, finds nothing of it."""
    forget(engine)
    ask(engine, question("which", PIXELS, max_new_tokens=2))
    text = ask(engine, question(" ".join(["which"] * 40), max_new_tokens=2)).result.usage
    assert text.cached <= TEMPLATE
