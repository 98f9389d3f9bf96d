"""What was computed before changes no answer: found in the pool, evicted, or seen elsewhere in a prompt."""

from random import Random

import pytest
from engine_world import Answer, Question, ask, forget, noise, question, together

from glmflash import Pipeline
from glmflash.kv import BlockPool, BlockStore


@pytest.mark.slow
def test_cached_equals_cold(world, known):
    order = [one for one in known for _ in range(2)]
    Random(0).shuffle(order)
    asked_before = set()
    with world.engine() as engine:
        for asked, cold in order:
            got = ask(engine, asked)
            world.check(got, cold)
            usage = got.result.usage
            if id(asked) in asked_before:
                assert usage.cached == usage.saved_prefill == usage.prompt - 1
            asked_before.add(id(asked))


@pytest.mark.slow
def test_cached_equals_cold_after_eviction(world, known):
    """A pool for the longest question alone: each one drives another out."""
    blocks = max(-(-(one.result.usage.prompt + len(one.ids)) // 16) for _, one in known) + 1
    with world.engine(blocks=blocks, vision_memory=0) as engine:
        for _ in range(2):
            for asked, cold in known:
                world.check(ask(engine, asked), cold)
        pool = engine.stats().pool
        assert pool.evictions > blocks
        assert (pool.used, pool.free + pool.cached) == (0, blocks)


def test_the_answer_is_reused_too(world):
    """A conversation that goes on computes what is new, not what was said before."""
    picture = noise(Random(5))
    with world.engine() as engine:
        first = question("what is the total", picture, max_new_tokens=30, ignore_eos=True)
        said = ask(engine, first).result
        turns = [*first.messages, {"role": "assistant", "content": said.text}]
        then = Question([*turns, {"role": "user", "content": "and the vendor"}], {"max_new_tokens": 6})
        got = ask(engine, then)
        forget(engine)
        world.check(got, ask(engine, then))
    assert got.result.usage.cached >= said.usage.prompt - 2  # what ends the prompt differs without an answer


def test_a_second_picture_keeps_the_first_ones_keys_and_values(world):
    one, other = noise(Random(1)), noise(Random(2))
    with world.engine() as engine:
        alone = ask(engine, question("which", [one], max_new_tokens=4)).result.usage
        both = ask(engine, question("which", [one, other], max_new_tokens=4))
        assert both.result.usage.cached > alone.image
        forget(engine)
        cold = ask(engine, question("which", [one, other], max_new_tokens=4))
        assert cold.result.usage.cached == 0
        world.check(both, cold)
        turned = ask(engine, question("which", [other, one], max_new_tokens=4)).result.usage
    assert turned.cached < turned.image  # elsewhere in the prompt it is another prompt
    assert turned.saved_prefill >= turned.image  # but the tower need not see it again


def elsewhere(picture, text: str) -> Question:
    parts = [{"type": "text", "text": text}, {"type": "image", "image": picture}]
    return Question([{"role": "user", "content": parts}], {"max_new_tokens": 8, "ignore_eos": True})


def test_vision_tokens_seen_before_equal_fresh_ones(world):
    picture = noise(Random(7))
    with world.engine() as engine:
        cold = [ask(engine, elsewhere(picture, text)) for text in ("a", "the box") if forget(engine) is None]
        forget(engine)
        ask(engine, question("which", picture, max_new_tokens=1))
        before = engine.stats().vision
        warm = [ask(engine, elsewhere(picture, text)) for text in ("a", "the box")]
        after = engine.stats().vision
    for got, wanted in zip(warm, cold, strict=True):
        world.check(got, wanted)
        assert wanted.result.usage.saved_prefill - wanted.result.usage.cached == 0
        assert got.result.usage.saved_prefill - got.result.usage.cached == got.result.usage.image
    assert (after.hits - before.hits, after.misses - before.misses) == (2, 0)


class Tree:
    """A random tree of conversations: a node goes on from its parent's answer, or begins a new one."""

    def __init__(self, world, rng: Random, nodes: int) -> None:
        self.pictures = [noise(rng, largest=3) for _ in range(2)]
        self.nodes: list[Question] = []
        self.cold: list[Answer] = []
        with world.engine() as engine:
            for _ in range(nodes):
                self.nodes.append(self._grow(rng))
                forget(engine)
                self.cold.append(ask(engine, self.nodes[-1]))

    def _grow(self, rng: Random) -> Question:
        past = []
        if self.nodes and rng.random() < 0.8:
            parent = rng.randrange(len(self.nodes))
            said = self.cold[parent].result.text or "ok"
            past = [*self.nodes[parent].messages, {"role": "assistant", "content": said}]
        pictures = rng.sample(self.pictures, rng.choice([0, 0, 1, 2]))
        content: list[dict] = [{"type": "image", "image": picture} for picture in pictures]
        content.append({"type": "text", "text": rng.choice(["the total", "the box", "which vendor", "a"])})
        if rng.random() < 0.2:
            content.reverse()
        options = {"max_new_tokens": rng.randint(1, 6), "ignore_eos": True}
        if rng.random() < 0.3:
            options |= {"temperature": 1.0, "seed": rng.randrange(100)}
        return Question([*past, {"role": "user", "content": content}], options)

    def check(self, world, rng: Random) -> int:
        """Warm; all together in a pool that is too small; after eviction: as cold. Returns tokens reused."""
        longest = max(one.result.usage.prompt + len(one.ids) for one in self.cold)
        order = rng.sample(range(len(self.nodes)), len(self.nodes))
        with world.engine() as engine:
            reused = 0
            for node in order:
                got = ask(engine, self.nodes[node])
                world.check(got, self.cold[node])
                reused += got.result.usage.cached
        with world.engine(blocks=-(-longest // 16) + 2, max_step_tokens=24, vision_memory=4096) as engine:
            for got, node in zip(together(engine, [self.nodes[node] for node in order]), order, strict=True):
                world.check(got, self.cold[node])
            for node in reversed(order):
                world.check(ask(engine, self.nodes[node]), self.cold[node])
        return reused


@pytest.mark.slow
def test_trees_of_conversations(world):
    for seed in range(4):
        rng = Random(seed)
        assert Tree(world, rng, 5).check(world, rng) > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_trees_of_conversations(world):
    for seed in range(500):  # of each checkpoint
        rng = Random(1000 + seed)
        Tree(world, rng, 6).check(world, rng)


@pytest.mark.parametrize("salts", [("a", "b"), (None, "a"), ("a", None), ("a", "A")])
def test_salts_separate_tenants_in_every_tier(world, salts):
    """Paired: the same salt finds what was computed before, another one finds nothing of it."""
    mine, other = salts
    asked = question("which is the total", noise(Random(2)), max_new_tokens=5)
    with world.engine() as engine:
        first = ask(engine, asked.but(cache_salt=mine))
        stranger = ask(engine, asked.but(cache_salt=other))
        strangers_vision = engine.stats().vision
        again = ask(engine, asked.but(cache_salt=mine))
        behind = elsewhere(asked.messages[0]["content"][0]["image"], "a")  # only the tower's tokens help here
        mine_again = ask(engine, behind.but(cache_salt=mine)).result.usage
    assert stranger.result.usage.cached == stranger.result.usage.saved_prefill == 0
    assert (strangers_vision.hits, strangers_vision.misses) == (0, 2)
    assert again.result.usage.cached == again.result.usage.prompt - 1
    assert mine_again.saved_prefill - mine_again.cached == mine_again.image
    for got in (stranger, again):
        world.check(got, first)


@pytest.mark.parametrize("salts", [("a", "b"), (None, "a"), ("a", None)])
def test_salts_separate_encoded_pictures(world, salts):
    mine, other = salts
    with world.engine() as engine:
        encoded = Pipeline(engine).encode(noise(Random(6)), cache_salt=mine)
        asked = question("which", encoded, max_new_tokens=3)
        stranger = ask(engine, asked.but(cache_salt=other))
        again = ask(engine, asked.but(cache_salt=mine))
    assert stranger.result.usage.cached == 0
    assert again.result.usage.cached > encoded.num_tokens
    world.check(again, stranger)


def test_salted_blocks_are_found_by_their_salt_alone(world):
    """As above, seen from the pool: after many questions of one tenant the other one's keys match nothing."""
    questions = [question(f"{n} which", noise(Random(n)), max_new_tokens=2) for n in range(4)]

    def keys(pool: BlockPool, _: BlockStore) -> list[tuple]:
        return [tuple(node.keys) for node in pool._blocks.root.children]

    with world.engine() as engine:
        for number, asked in enumerate(questions * 2):
            ask(engine, asked.but(cache_salt=f"tenant {number % 2}"))
        begins = {key[0] for key in engine.call(keys).result(10)}
    assert {begin[:2] for begin in begins} == {("salt", "tenant 0"), ("salt", "tenant 1")}
