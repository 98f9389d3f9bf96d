"""Answers that are compared: against a plain computation of each, counted, and when something goes wrong."""

import threading
import time
from random import Random

import pytest
import torch
from engine_world import forget, paused, question, start, to_request
from engine_world import noise as draw_noise

from glmflash.engine import score as scoring
from glmflash.engine.encoded import encode
from glmflash.errors import CacheFullError, ContextLengthError, DeadlineError, NumericsError, ParameterError
from glmflash.model import Glm4v

TEXTS = ("yes", "yes, of course", "yes, of course not", "no", "5.75")


@pytest.fixture(scope="module")
def engine(world):
    with world.engine() as engine:
        yield engine


def asked_about(world, seed=0):
    return question("What is the total of this?", draw_noise(Random(seed)))


def scores(engine, asked, texts=TEXTS, **options):
    return engine.wait(engine.score(to_request(asked, engine.generation, **options), texts))


def near(world, found):
    """So far rounding may take the same sums in other shapes."""
    return [pytest.approx(list(one), abs=10 * world.bound) for one in found]


def plainly(world, asked, text, eos):
    """One forward of prompt and answer without a cache, for this answer alone."""
    ids = world.tokenizer.encode(text)
    logits = world.recompute(asked, [*ids, 0])  # a row more: the last says whether it ends
    logprobs = logits.log_softmax(dim=-1)
    tokens = [float(logprobs[row, token_id]) for row, token_id in enumerate(ids)]
    return [*tokens, float(logprobs[len(ids), sorted(eos)].logsumexp(dim=-1))]


def test_each_is_as_likely_as_computed_plainly_alone(world, engine):
    asked = asked_about(world)
    for text, found in zip(TEXTS, scores(engine, asked), strict=True):
        assert list(found) == pytest.approx(plainly(world, asked, text, engine.eos), abs=10 * world.bound)


def test_it_does_not_matter_beside_which_others(world, engine):
    asked = asked_about(world)
    together = scores(engine, asked)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = scores(engine, asked, [text])
        assert list(alone) == pytest.approx(list(found), abs=10 * world.bound)
    assert list(map(list, scores(engine, asked, TEXTS[::-1])[::-1])) == near(world, together)


def test_picture_and_prompt_are_computed_once_and_the_answers_in_one_forward(world, engine, monkeypatch):
    packs: list[int] = []
    pictures: list[int] = []
    forward, see = Glm4v.forward, Glm4v.encode_images

    def counting(model, embeds, *others, **named):
        packs.append(len(embeds))
        return forward(model, embeds, *others, **named)

    def seeing(model, rows, grids):
        pictures.append(len(grids))
        return see(model, rows, grids)

    monkeypatch.setattr(Glm4v, "forward", counting)
    monkeypatch.setattr(Glm4v, "encode_images", seeing)
    forget(engine)
    asked = asked_about(world, seed=7)
    scores(engine, asked)
    prompt = len(engine.wait(engine.prefill(to_request(asked, engine.generation), then=lambda it: it.prompt)))
    answers = sum(1 + len(engine.tokenizer.encode(text)) for text in TEXTS)
    assert packs[:2] == [prompt - 1, answers]
    assert pictures == [1]
    packs.clear()
    scores(engine, asked)  # nothing but the answers
    assert packs == [answers]
    assert pictures == [1]


def test_many_answers_take_packs_and_come_out_the_same(world, engine, monkeypatch):
    asked = asked_about(world)
    wanted = scores(engine, asked)
    monkeypatch.setattr(scoring, "_PACK", 4)
    assert list(map(list, scores(engine, asked))) == near(world, wanted)


def test_nothing_is_left_behind(world, engine):
    asked = asked_about(world, seed=3)
    scores(engine, asked)
    before = engine.stats().pool
    scores(engine, asked)
    after = engine.stats().pool
    assert (after.used, after.pinned) == (before.used, before.pinned) == (0, 0)
    assert after.free + after.cached == after.num_blocks


def test_salts_and_encoded_pictures(world, engine):
    asked = asked_about(world, seed=5)
    wanted = scores(engine, asked)
    assert list(map(list, scores(engine, asked, cache_salt="mine"))) == near(world, wanted)
    page = encode(engine, draw_noise(Random(5)))
    again = question("What is the total of this?", page)
    assert list(map(list, scores(engine, again))) == near(world, wanted)


@pytest.mark.slow
def test_neighbours_go_on_as_they_were(world, engine):
    plain = world.questions("beside scores", 3)
    wanted = world.cold(plain)
    with paused(engine, len(plain)):
        under_way = [start(engine, one) for one in plain]
    scored = [engine.score(to_request(asked_about(world, n), engine.generation), TEXTS) for n in range(3)]
    for got, one in zip(under_way, wanted, strict=True):
        assert got.answer().ids == one.ids
    assert all(len(engine.wait(future)) == len(TEXTS) for future in scored)


def test_cancelled_it_gives_its_blocks_back(world, engine):
    with paused(engine):
        future = engine.score(to_request(asked_about(world, 9), engine.generation), TEXTS)
        assert future.cancel()
    done = threading.Event()
    engine.call(lambda *_: done.set()).result(10)
    scores(engine, asked_about(world))
    assert engine.stats().pool.used == 0


def test_cancelled_midway_the_answers_that_are_left_are_not_computed(world, engine, monkeypatch):
    forward, packs = scoring._forward, []
    begun, cancelled = threading.Event(), threading.Event()

    def slowly(*given):
        packs.append(given)
        begun.set()
        assert cancelled.wait(10)
        return forward(*given)

    monkeypatch.setattr(scoring, "_PACK", 1)
    monkeypatch.setattr(scoring, "_forward", slowly)
    future = engine.score(to_request(asked_about(world, 9), engine.generation), TEXTS)
    assert begun.wait(10)
    assert future.cancel()
    cancelled.set()
    engine.call(lambda *_: None).result(10)
    assert len(packs) == 1
    assert engine.stats().pool.used == 0


def test_its_time_is_over_midway_and_the_answers_that_are_left_are_not_computed(world, engine, monkeypatch):
    forward, packs = scoring._forward, []

    def slowly(*given):
        packs.append(given)
        time.sleep(1.0)
        return forward(*given)

    asked = asked_about(world, 9)
    scores(engine, asked)  # so that the prompt takes no time
    monkeypatch.setattr(scoring, "_PACK", 1)
    monkeypatch.setattr(scoring, "_forward", slowly)
    with pytest.raises(DeadlineError, match="timeout of 1 s"):
        scores(engine, asked, timeout=1.0)
    assert len(packs) == 1
    assert engine.stats().pool.used == 0
    monkeypatch.undo()
    assert len(scores(engine, asked, timeout=60.0)) == len(TEXTS)


@pytest.mark.parametrize("texts", [[], "yes", ["yes", ""], [1], [None]])
def test_texts_that_are_none(world, engine, texts):
    with pytest.raises(ParameterError, match="texts"):
        scores(engine, question("Hm?"), texts)


def test_more_than_neighbours_should_wait_for(world, engine, monkeypatch):
    monkeypatch.setattr(scoring, "_MOST", 12)
    assert len(scores(engine, asked_about(world), ["yes", "no"])) == 2
    with pytest.raises(ParameterError, match="at most 12"):
        scores(engine, asked_about(world), [f"answer {number}" for number in range(12)])


@pytest.mark.parametrize("options", [{"thinking": True}, {"thinking": "auto"}, {"choice": ["a"]}])
def test_what_would_come_before_an_answer_or_forbid_it(engine, options):
    with pytest.raises(ParameterError, match="compared as they are") as caught:
        scores(engine, question("Hm?"), **options)
    assert caught.value.parameter == ("response_format" if "choice" in options else "thinking")


def test_no_room_in_the_context_or_the_cache(world, engine):
    limit = engine.model.config.text.max_position_embeddings
    with pytest.raises(ContextLengthError):
        scores(engine, question("Hm?"), ["no " * limit])
    with world.engine(blocks=4) as small, pytest.raises(CacheFullError):
        scores(small, question("Hm?"), ["yes, of course " * 4] * 1 + ["no, of course not " * 8])


def test_numbers_that_are_not_finite_are_its_own_error(world, engine, monkeypatch):
    forward = scoring._forward
    monkeypatch.setattr(scoring, "_forward", lambda *given: forward(*given) * torch.nan)
    with pytest.raises(NumericsError):
        scores(engine, asked_about(world))
    monkeypatch.undo()
    assert len(scores(engine, asked_about(world))) == len(TEXTS)
