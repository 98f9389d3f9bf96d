"""Who else is answered at the time changes no answer, nor does having too little memory for all at once."""

import sys
import time
from random import Random

import pytest
from engine_world import ask, forget, noise, paused, question, start, together, watch


@pytest.fixture
def packs(monkeypatch):
    """How many sequences each forward had."""
    sizes = []
    watch(monkeypatch, lambda chunks: sizes.append(len(chunks)))
    return sizes


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 16])
def test_alone_equals_in_a_batch(world, known, packs, size):
    neighbours = Random(size).sample(known, size)
    questions, wanted = zip(*neighbours, strict=True)
    with world.engine(max_batch=16, max_step_tokens=4096) as engine:
        together(engine, questions)
        forget(engine, vision=False)  # the tower sees one picture a turn, so they would begin one by one
        answers = together(engine, questions)
    for got, alone in zip(answers, wanted, strict=True):
        world.check(got, alone)
    assert max(packs) == size


def test_neighbours_come_and_go_at_any_time(world, known, packs):
    rng = Random(4)
    order = [rng.choice(known) for _ in range(40)]
    with world.engine(max_batch=7, max_step_tokens=40) as engine:
        asked = []
        for one, _ in order:
            asked.append(start(engine, one))
            time.sleep(rng.choice([0, 0, 0.002, 0.01]))
        for got, (_, alone) in zip(asked, order, strict=True):
            world.check(got.answer(), alone)
    assert len(set(packs)) > 3


def test_each_row_of_a_batch_draws_its_own_numbers(world):
    asked = question("which", noise(Random(1)), max_new_tokens=12, ignore_eos=True, temperature=2.0, top_k=0)
    questions = [asked.but(top_p=1.0, seed=seed) for seed in (1, 2, 3, 1, 2, 3, 1, 2)]
    wanted = world.cold(questions[:3])
    with world.engine() as engine:
        answers = together(engine, questions)
    for number, got in enumerate(answers):
        world.check(got, wanted[number % 3])
    assert len({answer.ids for answer in answers}) == 3


def test_a_pool_overcommitted_four_times_finishes_all_unchanged(world, known):
    questions = [asked for asked, _ in known[:16]]
    needs = [-(-(answer.result.usage.prompt + len(answer.ids)) // 16) for _, answer in known[:16]]
    blocks = max(max(needs), sum(needs) // 4)
    with world.engine(blocks=blocks) as engine:
        assert engine.stats().pool.num_blocks == blocks
        assert sum(needs) >= 4 * blocks or blocks == max(needs)
        for _ in range(2):
            answers = together(engine, questions)
            for got, (_, alone) in zip(answers, known[:16], strict=True):
                world.check(got, alone)
        pool = engine.stats().pool
    assert (pool.used, pool.free + pool.cached) == (0, blocks)
    assert pool.evictions > 0


@pytest.mark.slow
def test_sent_back_in_the_middle_of_an_answer_and_computed_anew(world):
    """Four long answers about one picture, in a pool that holds two of them."""
    text = "what is the total of the picture"
    questions = [
        question(f"{number} {text}", noise(Random(number)), max_new_tokens=60, ignore_eos=True)
        for number in range(4)
    ]
    wanted = world.cold(questions)
    blocks = sum(-(-(one.result.usage.prompt + 60) // 16) for one in wanted) // 2
    with world.engine(blocks=blocks) as engine:
        answers = together(engine, questions)
        stats = engine.stats()
    for got, alone in zip(answers, wanted, strict=True):
        world.check(got, alone)
    assert stats.preemptions > 0
    assert stats.pool.used == 0


@pytest.mark.parametrize("vision_memory", ["auto", 0])
def test_eight_questions_about_one_new_picture_compute_it_once(world, monkeypatch, vision_memory):
    computed = []
    watch(monkeypatch, lambda chunks: computed.append(sum(chunk.tokens for chunk in chunks)))
    picture = noise(Random(8), largest=8)
    questions = [question(f"what is {n}", picture, max_new_tokens=1) for n in range(8)]
    wanted = world.cold(questions)
    computed.clear()
    with world.engine(max_step_tokens=16, vision_memory=vision_memory) as engine:  # some turns of prefill
        answers = together(engine, questions)
        vision = engine.stats().vision
    for got, alone in zip(answers, wanted, strict=True):
        world.check(got, alone)
    usages = sorted((one.result.usage for one in answers), key=lambda usage: usage.cached)
    image = usages[0].image
    assert usages[0].cached == 0
    assert all(usage.cached > image for usage in usages[1:])
    assert sum(computed) <= usages[0].prompt + 7 * (usages[0].prompt - image)
    assert vision.misses == 1


def test_questions_that_share_nothing_do_not_wait_for_each_other(world, packs):
    questions = [
        question(f"{n} total", noise(Random(n)), max_new_tokens=20, ignore_eos=True) for n in range(6)
    ]
    with world.engine() as engine:
        together(engine, questions)
    assert max(packs) == 6


def test_priority_goes_first_and_changes_nothing(world, known):
    ended = []
    questions, wanted = zip(*known[:5], strict=True)
    with world.engine(max_batch=1) as engine:
        with paused(engine, 5):
            asked = [start(engine, one.but(priority=n)) for n, one in enumerate(questions)]
            for number, one in enumerate(asked):
                one.future.add_done_callback(lambda _, number=number: ended.append(number))
        for got, alone in zip(asked, wanted, strict=True):
            world.check(got.answer(), alone)
        assert ended == [4, 3, 2, 1, 0]
        world.check(ask(engine, questions[0]), wanted[0])


def test_a_kernel_for_few_rows_changes_nothing(world, known, monkeypatch):
    """The one that only large weights would meet; a row alone goes through another."""
    monkeypatch.setattr(sys.modules["glmflash.ops.linear"], "_LARGE", 1)
    questions, wanted = zip(*known[:12], strict=True)
    with world.engine() as engine:
        for got, alone in zip(together(engine, questions), wanted, strict=True):
            world.check(got, alone)
