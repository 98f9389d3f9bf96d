"""Whatever comes, in whatever pool: everybody finishes, in bounded time, with nobody else's KV."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from scheduler_world import Desk, Fake

pytestmark = pytest.mark.property


class Arrivals(RuleBasedStateMachine):
    """Requests of a few families come, are cancelled, or run; `Desk` checks every turn."""

    @initialize(
        blocks=st.integers(3, 14),
        block_size=st.sampled_from([1, 2, 4]),
        max_batch=st.integers(1, 5),
        max_step_tokens=st.integers(1, 12),
    )
    def open(self, blocks, block_size, max_batch, max_step_tokens):
        self.desk = Desk(blocks, block_size=block_size, max_batch=max_batch, max_step_tokens=max_step_tokens)
        self.capacity = blocks * block_size
        self.submitted, self.cancelled, self.now = [], [], 0.0

    @rule(
        family=st.integers(0, 2),
        shared=st.integers(0, 12),
        own=st.integers(1, 6),
        answer=st.integers(0, 8),
        priority=st.sampled_from([0, 0, 0, 3, -3]),
        looks=st.sampled_from([0, 0, 1, 2]),
    )
    def arrive(self, family, shared, own, answer, priority, looks):
        keys = [(family, at) for at in range(shared)] + [len(self.submitted) % 2] * own
        keys = keys[: self.capacity - 1]
        self.now += 1.0
        # As in `Answer`: the last token of an answer needs no room of its own.
        answer = min(answer, self.capacity - len(keys) + 1)
        fake = Fake(keys, answer, rank=self.now - 10 * priority, looks=looks)
        self.submitted.append(self.desk.add(fake))

    @precondition(lambda self: list(self.desk.scheduler))
    @rule(turns=st.integers(1, 4))
    def run(self, turns):
        for _ in range(turns):
            self.desk.turn()

    @precondition(lambda self: list(self.desk.scheduler))
    @rule(which=st.integers(0, 20))
    def cancel(self, which):
        alive = list(self.desk.scheduler)
        fake = alive[which % len(alive)]
        self.cancelled.append(fake)
        self.desk.end(fake)
        self.desk.check()

    def teardown(self):
        if not hasattr(self, "desk"):
            return
        self.desk.drain()
        assert not self.desk.failed
        assert all(fake.ended for fake in self.submitted)
        assert all(not fake.left for fake in self.submitted if fake not in self.cancelled)
        stats = self.desk.pool.stats()
        assert stats.used == 0
        assert stats.free + stats.cached == stats.num_blocks


TestArrivals = Arrivals.TestCase
TestArrivals.settings = settings(max_examples=60, stateful_step_count=25)
TestArrivals.pytestmark = [pytest.mark.property]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_arrivals_for_long():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Arrivals, settings=settings(max_examples=3000, stateful_step_count=80))
