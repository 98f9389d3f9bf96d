"""An encoded picture answers like the picture itself, and the first question is already cheap."""

import dataclasses
import gc
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from glmflash import CacheFullError, CheckpointError, ClosedError, ImageError, NumericsError, Pipeline
from glmflash.engine.encoded import EncodedImage, _keys, encode
from glmflash.engine.inputs import build_prompt, leading
from glmflash.engine.request import Request
from glmflash.engine.sampling import Sampling
from glmflash.prompt import parse
from glmflash.testing import random_checkpoint
from glmflash.weights.derived import read_derived, write_derived

QUESTION = "What does it say?"
BLOCK = 16


def picture(seed: int = 0, *, height: int = 84, width: int = 112) -> np.ndarray:
    """12 tokens of it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def load(nano_checkpoint):
    """A pipeline; with `blocks`, of a KV cache that small."""

    def load(*, blocks: int | None = None, path: Path = nano_checkpoint, **options) -> Pipeline:
        if blocks is not None:
            with Pipeline.from_pretrained(path, device="cpu", kv_memory="1 MiB") as pipe:
                block_bytes = pipe.engine.call(lambda pool, store: store.block_bytes).result()
            options |= {"kv_memory": blocks * block_bytes, "max_batch": 1}
        return Pipeline.from_pretrained(
            path, device="cpu", kv_memory=options.pop("kv_memory", "1 MiB"), **options
        )

    return load


@pytest.fixture
def pipe(load):
    with load() as pipe:
        yield pipe


def ask(pipe: Pipeline, images: object, question: str = QUESTION, **options):
    return pipe(question, images=images, max_new_tokens=6, temperature=0, ignore_eos=True, **options)


def fill(pipe: Pipeline) -> None:
    """Push everything out of a small cache that may be."""
    for seed in range(100, 104):
        ask(pipe, picture(seed, height=140, width=168), cache_salt="others")  # which use no block of ours


# ---- as a picture


def test_what_it_says_about_itself(pipe: Pipeline) -> None:
    page = encode(pipe.engine, picture())
    assert (page.num_tokens, page.size, page.fingerprint) == (12, (112, 84), pipe.engine.fingerprint)
    assert page.grid.num_tokens(2) == len(page.tokens) == 12
    assert repr(page) == f"<EncodedImage: 112 x 84 pixels, 12 tokens, {page.digest[:12]}>"
    with pytest.raises(dataclasses.FrozenInstanceError):
        page.digest = ""  # type: ignore[misc]


def test_the_first_question_is_cheap_and_answered_as_ever(load, pipe: Pipeline) -> None:
    page = encode(pipe.engine, picture())
    first = ask(pipe, page)
    with load() as other:
        fresh = ask(other, picture())
    assert first.token_ids == fresh.token_ids
    assert first.usage.image == fresh.usage.image == 12
    assert fresh.usage.cached == 0
    assert first.usage.cached >= leading(prompt_of(pipe, page))  # everything up to <|end_of_image|>


def prompt_of(pipe: Pipeline, page: EncodedImage):
    chat, pictures = parse([{"role": "user", "content": [{"type": "image", "image": page}]}])
    request = Request(messages=chat, pictures=pictures, sampling=Sampling())
    engine = pipe.engine
    return build_prompt(request, [page], tokenizer=engine.tokenizer, config=engine.model.config).prompt


def test_picture_and_encoded_picture_share_their_kv(pipe: Pipeline) -> None:
    before = ask(pipe, picture())
    page = encode(pipe.engine, picture())
    assert ask(pipe, page).usage.cached == before.usage.prompt - 1
    assert ask(pipe, picture()).usage.cached == before.usage.prompt - 1


def test_anywhere_in_a_chat_without_the_vision_tower(load, pipe: Pipeline) -> None:
    page, other = encode(pipe.engine, picture(1)), picture(2)
    with load() as asked, load() as plain:
        loaded = dataclasses.replace(page, _engine=None)  # of the same model: any of its pipelines takes it
        part = lambda image: {"type": "image", "image": image}  # noqa: E731
        chat = lambda image: [  # noqa: E731
            {"role": "system", "content": "Be terse."},
            {"role": "user", "content": [part(other), {"type": "text", "text": "and"}, part(image)]},
        ]
        answer = asked.chat(chat(loaded), max_new_tokens=6, temperature=0, ignore_eos=True)
        assert (
            answer.token_ids
            == plain.chat(chat(picture(1)), max_new_tokens=6, temperature=0, ignore_eos=True).token_ids
        )
        assert (asked.stats().vision.entries, plain.stats().vision.entries) == (1, 2)


def test_encoding_to_fewer_tokens(pipe: Pipeline) -> None:
    small = encode(pipe.engine, picture(), max_image_tokens=6)
    assert small.num_tokens == 6
    assert small.digest != encode(pipe.engine, picture()).digest
    assert ask(pipe, small).token_ids == ask(pipe, picture(), max_image_tokens=6).token_ids


def test_encoding_what_is_encoded(pipe: Pipeline) -> None:
    page = encode(pipe.engine, picture())
    again = encode(pipe.engine, page, cache_salt="a")
    assert (again.digest, again.size, again.cache_salt) == (page.digest, page.size, "a")
    assert torch.equal(again.tokens, page.tokens)


def test_writing_to_its_tokens_changes_no_other_answer(pipe: Pipeline) -> None:
    page = encode(pipe.engine, picture())
    before = ask(pipe, picture(), "A")
    with torch.inference_mode():
        page.tokens.zero_()
    system = "Not at the beginning, so that vision tokens count."
    with_system = ask(pipe, picture(), system=system)
    pipe.engine.call(lambda pool, store: pool.clear()).result()
    assert ask(pipe, picture(), "A").token_ids == before.token_ids
    assert ask(pipe, picture(), system=system).token_ids == with_system.token_ids


def test_what_is_no_picture(pipe: Pipeline) -> None:
    with pytest.raises(ImageError):
        encode(pipe.engine, b"no picture")


def test_a_picture_of_another_model(load, pipe: Pipeline, tmp_path: Path) -> None:
    foreign = random_checkpoint(tmp_path, "nano", seed=7)
    with load(path=foreign) as other:
        page = encode(other.engine, picture())
        assert ask(other, page).text == ask(other, picture()).text
    with pytest.raises(ImageError, match="made by another model"):
        ask(pipe, page)


def test_numbers_that_are_not_finite(load) -> None:
    with load() as pipe:
        with torch.no_grad():
            pipe.engine.model.model.visual.merger.proj.weight.fill_(float("nan"))
        with pytest.raises(NumericsError, match="not finite"):
            encode(pipe.engine, picture())


def test_a_salt_keeps_its_kv_apart(pipe: Pipeline) -> None:
    page = encode(pipe.engine, picture(), cache_salt="a")
    assert ask(pipe, page).usage.cached == 0
    assert ask(pipe, page, cache_salt="b").usage.cached == 0
    assert ask(pipe, page, cache_salt="a").usage.cached >= page.num_tokens


# ---- pins


def pinned(pipe: Pipeline) -> int:
    return pipe.stats().pool.pinned


def test_a_pin_keeps_the_kv(load) -> None:
    with load(blocks=8) as pipe:
        page = encode(pipe.engine, picture())
        page.pin()
        page.pin()
        assert pinned(pipe) == 2
        fill(pipe)
        assert ask(pipe, page).usage.cached >= page.num_tokens
        page.unpin()
        assert pinned(pipe) == 0
        fill(pipe)
        assert ask(pipe, page).usage.cached < page.num_tokens
        page.unpin()


def test_a_pin_brings_evicted_kv_back(load) -> None:
    with load(blocks=8) as pipe:
        page = encode(pipe.engine, picture())
        fill(pipe)
        page.pin()
        fill(pipe)
        assert ask(pipe, page).usage.cached >= page.num_tokens


def test_pins_of_different_salts_are_different_pins(pipe: Pipeline) -> None:
    one, two = (encode(pipe.engine, picture(), cache_salt=salt) for salt in ("a", "b"))
    one.pin()
    two.pin()
    one.unpin()
    assert pinned(pipe) == 2
    encode(pipe.engine, picture(), cache_salt="b").unpin()
    assert pinned(pipe) == 0


def test_pins_cannot_take_everything(load) -> None:
    with load(blocks=8) as pipe:
        pages = [encode(pipe.engine, picture(seed)) for seed in range(3)]
        pages[0].pin()
        pages[1].pin()
        with pytest.raises(CacheFullError, match="half"):
            pages[2].pin()
        assert pinned(pipe) <= 4
        assert ask(pipe, pages[2]).usage.completion == 6


def test_closing_lets_go(load) -> None:
    with load() as pipe:
        page = encode(pipe.engine, picture())
        page.pin()
        model = weakref.ref(pipe.engine.model)
    page.unpin()
    for use in (page.pin, lambda: page.save("never")):
        with pytest.raises(ClosedError):
            use()
    del pipe, use
    gc.collect()
    assert model() is None  # the page has its tokens, and nothing else
    with pytest.raises(ClosedError, match="gone"):
        page.pin()
    page.unpin()


# ---- saved and loaded


@pytest.fixture
def saved(pipe: Pipeline, tmp_path: Path) -> Path:
    return encode(pipe.engine, picture()).save(tmp_path / "page.safetensors")


@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
def test_loaded_is_as_fresh(load, tmp_path: Path, kv_dtype: str) -> None:
    with load(kv_dtype=kv_dtype) as pipe:
        page = encode(pipe.engine, picture())
        path = page.save(tmp_path / "page.safetensors")
        fresh = ask(pipe, picture())
    with load(kv_dtype=kv_dtype) as pipe:
        again = EncodedImage.load(path, pipe)
        assert torch.equal(again.tokens, page.tokens)
        same = ["digest", "grid", "num_tokens", "size", "fingerprint", "cache_salt"]
        assert [getattr(again, name) for name in same] == [getattr(page, name) for name in same]
        answer = ask(pipe, again)
        assert answer.token_ids == fresh.token_ids
        assert answer.usage.cached == leading(prompt_of(pipe, again))
        assert pipe.stats().vision.misses == 0
        again.pin()
        assert again.save(path) == path
    with safe_open(path, "pt") as file:
        assert (file.get_tensor("kv.keys").dtype == torch.int8) == (kv_dtype == "int8")


@pytest.mark.parametrize("dtypes", [("auto", "int8"), ("int8", "auto")])
def test_kv_of_another_type_is_left_out(load, tmp_path: Path, dtypes: tuple[str, str]) -> None:
    with load(kv_dtype=dtypes[0]) as pipe:
        path = encode(pipe.engine, picture()).save(tmp_path / "page")
    with load(kv_dtype=dtypes[1]) as pipe, load(kv_dtype=dtypes[1]) as plain:
        page = EncodedImage.load(path, pipe)
        answer = ask(pipe, page)
        assert answer.usage.cached == 0
        assert answer.token_ids == ask(plain, picture()).token_ids


def test_saving_computes_what_was_evicted(load, tmp_path: Path) -> None:
    with load(blocks=8) as pipe:
        page = encode(pipe.engine, picture())
        before = load_file(page.save(tmp_path / "before"))
        fill(pipe)
        after = load_file(page.save(tmp_path / "after"))
    assert before.keys() == after.keys() == {"vision", "kv.keys", "kv.values"}
    for name in before:
        torch.testing.assert_close(after[name], before[name])


@pytest.mark.parametrize("seen", [picture(), picture(1)])
def test_loading_what_is_partly_there(load, pipe: Pipeline, saved: Path, seen: np.ndarray) -> None:
    with load() as other:
        ask(other, seen)
        page = EncodedImage.load(saved, other)
        EncodedImage.load(saved, other)
        answer = ask(other, page, "More?")
        assert answer.usage.cached >= page.num_tokens
        assert answer.token_ids == ask(pipe, picture(), "More?").token_ids


def test_loading_without_room(load, saved: Path) -> None:
    with load(blocks=8) as pipe:
        hold = pipe.engine.call(
            lambda pool, store: (table := pool.open([]), pool.reserve(table, 8 * BLOCK))[0]
        )
        table = hold.result()
        page = EncodedImage.load(saved, pipe)
        pipe.engine.call(lambda pool, store: pool.close(table)).result()
        assert ask(pipe, page).usage.cached == 0
        assert pipe.stats().pool.used == 0


def test_the_salt_is_saved_too(load, pipe: Pipeline, tmp_path: Path) -> None:
    path = encode(pipe.engine, picture(), cache_salt="a").save(tmp_path / "page")
    with load() as other:
        page = EncodedImage.load(path, other)
        assert page.cache_salt == "a"
        assert ask(other, page).usage.cached == 0
        assert ask(other, page, cache_salt="a").usage.cached >= page.num_tokens


def test_a_file_of_another_model(load, saved: Path, tmp_path: Path) -> None:
    foreign = random_checkpoint(tmp_path / "other", "nano", seed=7)
    with load(path=foreign) as pipe, pytest.raises(CheckpointError, match="made by another model"):
        EncodedImage.load(saved, pipe)
    with load(dtype="bfloat16") as pipe, pytest.raises(CheckpointError, match="made by another model"):
        EncodedImage.load(saved, pipe)


def without_kv(tensors: dict) -> dict:
    return {"vision": tensors["vision"]}


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        (lambda tensors: {}, {}),
        (lambda tensors: tensors | {"vision": tensors["vision"][1:]}, {}),
        (lambda tensors: tensors | {"vision": tensors["vision"].double()}, {}),
        (lambda tensors: tensors | {"vision": tensors["vision"] * float("nan")}, {}),
        (lambda tensors: tensors | {"kv.keys": tensors["kv.keys"] * float("inf")}, {}),
        (lambda tensors: tensors | {"kv.keys": tensors["kv.keys"][:, 1:]}, {}),
        (lambda tensors: tensors | {"kv.keys": tensors["kv.keys"][:1]}, {}),
        (lambda tensors: tensors | {"kv.keys": tensors["kv.keys"].half()}, {}),
        (lambda tensors: tensors | {"kv.more": torch.zeros(())}, {}),
        (lambda tensors: {name: x for name, x in tensors.items() if name != "kv.values"}, {}),
        (without_kv, {}),
        (dict, {"grid": [1, 4, 4]}),
        (dict, {"grid": [1, 6]}),
        (dict, {"grid": [1, -6, -8]}),
        (dict, {"size": ["112", 84]}),
        (dict, {"digest": None}),
        (dict, {"cache_salt": 3}),
    ],
)
def test_a_file_whose_values_do_not_fit(pipe: Pipeline, saved: Path, tensors, metadata) -> None:
    keys = {"kind": "glmflash-encoded-image", "version": 1, "fingerprint": pipe.engine.fingerprint}
    old = read_derived(saved, **keys)
    write_derived(saved, tensors(old.tensors), metadata=dict(old.metadata) | metadata, **keys)
    with pytest.raises(CheckpointError, match=saved.name):
        EncodedImage.load(saved, pipe)
    assert pipe.stats().pool.used == 0


def test_a_pin_of_broken_kv_is_made_anew(load) -> None:
    with load(blocks=10) as pipe:
        page = pipe.encode(picture())
        page.pin()

        def poison(pool, store) -> None:
            table = pool.open(_keys(page, pipe.engine))
            pool.discard(table)

        pipe.engine.call(poison).result()
        assert pipe(QUESTION, images=page, max_new_tokens=1).usage.cached == 0
        page.pin()
        for seed in range(8):  # more than the cache holds
            pipe(f"{seed} or so", images=picture(seed + 10), max_new_tokens=1)
        assert pipe(QUESTION, images=page, max_new_tokens=1).usage.cached >= page.num_tokens
        page.unpin()
        assert pinned(pipe) == 0


def test_an_answer_that_meets_pinned_blocks_ends_as_too_long(load) -> None:
    with load(blocks=12) as pipe:
        pages = [pipe.encode(picture(seed)) for seed in range(3)]
        for page in pages:
            page.pin()
        result = pipe("Hi", max_new_tokens=180, ignore_eos=True, repetition_stop=None)
        assert result.finish_reason == "length"
        assert 16 < result.usage.total < 12 * BLOCK
        assert pipe.stats().pool.used == pinned(pipe) > 0


def test_it_is_saved_not_pickled(pipe: Pipeline) -> None:
    with pytest.raises(TypeError, match="save and load"):
        pickle.dumps(pipe.encode(picture()))


def test_an_encoding_is_no_request_in_the_accounts(load) -> None:
    with load() as pipe:
        pipe.encode(picture())
        with pytest.raises(ImageError):
            pipe.encode(b"no picture")
        stats = pipe.stats()
        assert (stats.submitted, dict(stats.finished), dict(stats.failed)) == (0, {}, {})
