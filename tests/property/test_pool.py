"""The block pool under random walks: tight, where room runs out, and roomy, where all must be found."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pool_world import Running, World

pytestmark = pytest.mark.property

# Two keys, so that prompts share much; they differ, and their hashes do not.
KEYS = st.lists(st.sampled_from([-1, -2]), max_size=11)
FEW = st.lists(st.sampled_from([-1, -2]), min_size=1, max_size=2)  # as many as a decode appends
STEPS = 100 if settings.get_current_profile_name() == "long" else 50

room_for_one = precondition(lambda self: len(self.world.running) < 6)
some = precondition(lambda self: self.world.running)
some_writable = precondition(lambda self: self.writable())


class Walk(RuleBasedStateMachine):
    """All that can be done to a pool."""

    blocks_min = blocks_max = 0

    @initialize(data=st.data(), block_size=st.sampled_from([4, 5, 4, 6, 1]), keys=KEYS)
    def start(self, data: st.DataObject, block_size: int, keys: list[int]) -> None:
        number = data.draw(st.integers(self.blocks_min, self.blocks_max))
        self.world = World(number, block_size, roomy=number >= 400)
        self.faults = 0
        self.ended: list[list[int]] = []
        self.ask(data, keys, 3)

    def writable(self) -> list[Running]:
        return [one for one in self.world.running if not one.table.read_only]

    def one(self, data: st.DataObject) -> Running:
        return data.draw(st.sampled_from(self.writable()))

    def any(self, data: st.DataObject) -> Running:
        return data.draw(st.sampled_from(self.world.running))

    @room_for_one
    @rule(data=st.data(), keys=KEYS, answer=st.integers(0, 6))
    def ask(self, data: st.DataObject, keys: list[int], answer: int) -> None:
        """As an engine does: reuse what is there, prefill the rest at once, decode token by token."""
        one = self.world.open(keys)
        assert one is not None
        if self.world.reserve(one, len(keys) - one.table.length):
            self.world.commit(one, keys[one.table.length :])
            for _ in range(answer):
                if self.world.reserve(one, 1):
                    self.world.commit(one, [data.draw(st.sampled_from([-1, -2]))])

    @precondition(lambda self: self.ended and len(self.world.running) < 6)
    @rule(data=st.data(), cut=st.integers(0, 5), keys=FEW)
    def ask_again(self, data: st.DataObject, cut: int, keys: list[int]) -> None:
        old = data.draw(st.sampled_from(self.ended))
        self.ask(data, old[: max(0, len(old) - cut)] + keys, 0)

    @room_for_one
    @rule(keys=KEYS)
    def open(self, keys: list[int]) -> None:
        self.world.open(keys)

    @some_writable
    @rule(data=st.data(), keys=FEW)
    def decode(self, data: st.DataObject, keys: list[int]) -> None:
        one = self.one(data)
        if self.world.reserve(one, len(keys)):
            self.world.commit(one, keys)

    @some_writable
    @rule(data=st.data(), keys=FEW)
    def decode_all(self, data: st.DataObject, keys: list[int]) -> None:
        for one in self.writable():
            if self.world.reserve(one, len(keys)):
                self.world.commit(one, keys)

    @some_writable
    @rule(data=st.data(), tokens=st.integers(0, 9))
    def reserve(self, data: st.DataObject, tokens: int) -> None:
        self.world.reserve(self.one(data), tokens)

    @some_writable
    @rule(data=st.data(), keys=KEYS)
    def commit(self, data: st.DataObject, keys: list[int]) -> None:
        one = self.one(data)
        self.world.commit(one, keys[: one.room])

    @some_writable
    @rule(data=st.data(), keys=KEYS)
    def write_in_vain(self, data: st.DataObject, keys: list[int]) -> None:
        """A forward that fails: it has written to its room, and nothing is committed."""
        one = self.one(data)
        self.world.write(one, keys[: one.room], fault=-1)

    @precondition(lambda self: 0 < len(self.world.running) < 6)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        self.world.fork(self.any(data))

    @some_writable
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        one = self.one(data)
        self.world.trim(one, data.draw(st.integers(0, one.table.length)))

    @some
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        one = self.any(data)
        self.world.close(one)
        self.ended.append(one.keys)

    @some
    @rule(data=st.data())
    def close_and_open_again(self, data: st.DataObject) -> None:
        one = self.any(data)
        self.world.close(one)
        again = self.world.open(one.keys)
        assert again is not None
        assert again.table.length >= self.world.sure(one)

    @some_writable
    @rule(data=st.data(), keys=FEW)
    def go_wrong(self, data: st.DataObject, keys: list[int]) -> None:
        """Commit values that are wrong, and go on without noticing."""
        one = self.one(data)
        if self.world.reserve(one, len(keys)):
            self.faults += 1
            self.world.faults.add(self.faults)
            self.world.commit(one, keys, fault=self.faults)

    @some
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        one = self.any(data)
        bad = [i for i, value in enumerate(self.world.read(one)) if value.faults]
        self.world.discard(one, bad[0] if bad else data.draw(st.integers(0, one.table.length)))

    @room_for_one
    @rule(keys=KEYS)
    def pin(self, keys: list[int]) -> None:
        self.world.open(keys, pin=True)

    @rule(data=st.data(), clear=st.booleans())
    def clear_or_resize(self, data: st.DataObject, clear: bool) -> None:
        if not clear:
            self.world.resize(data.draw(st.integers(self.blocks_min, self.blocks_max)))
        elif not self.world.roomy:
            self.world.pool.clear()
            assert self.world.pool.stats().cached == 0

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def all_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """At the end all sequences close, and every block is free again."""
        if not hasattr(self, "world"):
            return
        for one in list(self.world.running):
            self.world.close(one)
        self.world.check()
        self.world.pool.clear()
        self.world.check()
        assert self.world.pool.stats().free == self.world.num_blocks


class Tight(Walk):
    """Fewer blocks than the sequences want."""

    blocks_min, blocks_max = 3, 8


class Roomy(Walk):
    """Nothing is ever evicted to make room, so that all that was committed must be found."""

    blocks_min, blocks_max = 400, 440


TestTight = Tight.TestCase
TestRoomy = Roomy.TestCase
TestTight.settings = TestRoomy.settings = settings(stateful_step_count=STEPS)
