"""What lies in unused memory changes nothing; a number that is not finite ends its own request only."""

from random import Random

import pytest
import torch
from engine_world import ask, forget, noise, paused, question, start, to_request, together, watch

from glmflash.engine import runner
from glmflash.errors import NumericsError, ParameterError
from glmflash.model import Glm4v

TEMPLATE = 5  # tokens that all prompts with a picture begin with


def fill(pool, store, value: float) -> None:
    """Write a value wherever no token is: into free blocks, and behind the last token of all others."""
    store.ensure(store.max_blocks)
    size = store.block_size
    unused = torch.ones(store.num_blocks * size, dtype=torch.bool)
    for block in pool._blocks.taken.values():
        held = 0 if block.node is None else len(block.node.keys)
        unused[block.id * size : block.id * size + held] = False
    for layer in store._layers:
        for plane in layer.planes:
            plane[:, unused] = value if plane.is_floating_point() else 127


def answers(world, questions, value: float, monkeypatch, *, kv_dtype: str = "auto"):
    """Serve them one by one, then eight together; memory is filled before each forward."""
    with world.engine(blocks=40, kv_dtype=kv_dtype) as engine, monkeypatch.context() as patch:
        pool, store = engine._runner.scheduler.pool, engine._runner.store
        watch(patch, lambda _: fill(pool, store, value))
        return [*(ask(engine, one) for one in questions), *together(engine, questions[:8])]


def compare(world, count: int, monkeypatch, **options) -> None:
    questions = world.questions("canary", count)
    clean = answers(world, questions, 0.0, monkeypatch, **options)
    canary = answers(world, questions, float("nan"), monkeypatch, **options)
    for got, wanted in zip(canary, clean, strict=True):
        assert got.ids == wanted.ids
        assert torch.equal(got.logits, wanted.logits)


@pytest.mark.slow
@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
def test_nan_in_unused_memory_changes_not_a_bit(world, monkeypatch, kv_dtype):
    compare(world, 8, monkeypatch, kv_dtype=kv_dtype)


@pytest.mark.soak
@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
def test_nan_before_each_of_two_hundred_requests(world, monkeypatch, kv_dtype):
    compare(world, 200, monkeypatch, kv_dtype=kv_dtype)


def test_the_canary_sings(world, monkeypatch):
    """The same fill over what is used is noticed, so the tests above look at something."""
    with world.engine(blocks=40) as engine:
        ask(engine, question("which", max_new_tokens=2))
        engine.call(lambda _, store: [plane.fill_(float("nan")) for plane in store.layers[0].planes]).result()
        with pytest.raises(NumericsError):
            ask(engine, question("which", max_new_tokens=2))


class Saboteur:
    """Breaks one request at its n-th forward: in its logits, or in the keys and values it has."""

    def __init__(self, monkeypatch, at: int, where: str) -> None:
        self.request, self.at, self.where, self.seen = None, at, where, 0
        self._forward = runner.forward
        monkeypatch.setattr(runner, "forward", self)

    def __call__(self, model, store, chunks, **named):
        mine = [chunk for chunk in chunks if chunk.sequence.request is self.request and chunk.last]
        self.seen += len(mine)
        hit = mine and self.seen == self.at
        if hit and self.where == "keys":
            table = mine[0].sequence.table
            last = table.length - 1
            slot = table.blocks[last // 16] * 16 + last % 16
            store.layers[0].planes[0][:, slot] = float("nan")
        logits = self._forward(model, store, chunks, **named)
        if hit and self.where == "logits":
            rows = [chunk for chunk in chunks if chunk.last and chunk.sequence.answer is not None]
            logits[rows.index(mine[0]), 7] = float("nan")
        return logits


@pytest.mark.slow
@pytest.mark.parametrize(("at", "where"), [(1, "logits"), (2, "keys"), (4, "logits"), (4, "keys")])
def test_a_number_that_is_not_finite_fails_only_its_request(world, known, monkeypatch, at, where):
    questions, wanted = zip(*known[:6], strict=True)
    victim = Random(at).randrange(6)
    broken = questions[victim].but(max_new_tokens=8)
    saboteur = Saboteur(monkeypatch, at, where)
    with world.engine() as engine:
        with paused(engine, 6):
            asked = [start(engine, broken if n == victim else one) for n, one in enumerate(questions)]
            saboteur.request = asked[victim].request
        with pytest.raises(NumericsError, match="not finite"):
            asked[victim].future.result(30)
        assert len(asked[victim].rows) == at - 1
        for number, one in enumerate(asked):
            if number != victim:
                world.check(one.answer(), wanted[number])
        again = ask(engine, questions[victim])
        # What may have been broken is found by nobody; neighbours that came later computed the template anew.
        assert again.result.usage.cached <= TEMPLATE
        world.check(again, wanted[victim])
        for one, cold in known:
            world.check(ask(engine, one), cold)
        pool = engine.stats().pool
        assert pool.used == 0


def test_neighbours_of_a_broken_request_are_bit_equal_to_those_of_one_that_ended(world, known, monkeypatch):
    questions = [one.but(ignore_eos=True, max_new_tokens=10) for one, _ in known[:5]]
    runs = []
    for breaks in (True, False):
        with monkeypatch.context() as patch, world.engine() as engine:
            saboteur = Saboteur(patch, 4, "logits")
            with paused(engine, 5):
                asked = [start(engine, questions[0].but(max_new_tokens=10 if breaks else 4))]
                saboteur.request = asked[0].request if breaks else None
                asked += [start(engine, one) for one in questions[1:]]
            runs.append([one.answer() for one in asked[1:]])
    for got, wanted in zip(*runs, strict=True):
        assert got.ids == wanted.ids
        assert torch.equal(got.logits, wanted.logits)


def test_a_processor_that_gives_nan_fails_only_its_request(world, known):
    (asked, wanted), (other, others) = known[:2]
    with world.engine() as engine:
        bad = to_request(asked, engine.generation, logits_processors=[lambda _, logits: logits / 0 * 0])
        with paused(engine, 2):
            failing, good = engine.submit(bad), start(engine, other)
        with pytest.raises(ParameterError, match="processor"):
            failing.result(30)
        world.check(good.answer(), others)
        again = ask(engine, asked)  # what the model computed was right, and stays
        assert again.result.usage.cached == again.result.usage.prompt - 1
        world.check(again, wanted)


def test_a_broken_look_at_a_picture_is_not_remembered(world, monkeypatch):
    asked = question("what is the total", noise(Random(3)), max_new_tokens=3)
    encode = Glm4v.encode_images
    with world.engine() as engine:
        wanted = ask(engine, asked)
        forget(engine)
        with monkeypatch.context() as patch:
            patch.setattr(
                Glm4v, "encode_images", lambda self, *a: [x * float("nan") for x in encode(self, *a)]
            )
            with pytest.raises(NumericsError):
                ask(engine, asked)
        again = ask(engine, asked)
    world.check(again, wanted)
    assert again.result.usage.saved_prefill == 0
