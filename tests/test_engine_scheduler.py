"""What runs, what waits, what is sent back: on sequences that only count, over a real pool."""

import pytest
from scheduler_world import Desk, Fake

from glmflash.errors import CacheFullError


def prompt(name: str, length: int) -> list:
    return [(name, index) for index in range(length)]


def sizes(chunks) -> list[int]:
    return [chunk.tokens for chunk in chunks]


def test_first_come_first_served():
    desk = Desk(16, max_batch=1)
    fakes = [desk.add(Fake(prompt(str(n), 3), 1, rank=n)) for n in range(3)]
    desk.turn()
    assert [fake.ended for fake in fakes] == [True, False, False]
    assert desk.drain() == 2


def test_a_head_start_is_an_age():
    desk = Desk(16, max_batch=1)
    late = desk.add(Fake(prompt("late", 3), 1, rank=5.0))
    urgent = desk.add(Fake(prompt("urgent", 3), 1, rank=6.0 - 10.0))
    desk.turn()
    assert (late.ended, urgent.ended) == (False, True)


def test_decodes_go_before_prompts_and_prompts_share_what_is_left():
    desk = Desk(64, max_batch=4, max_step_tokens=8)
    desk.add(Fake(prompt("a", 2), 9, rank=2))
    desk.turn()
    desk.add(Fake(prompt("b", 10), 1, rank=0))
    desk.add(Fake(prompt("c", 10), 1, rank=1))
    assert sizes(desk.turn()) == [1, 7]
    assert sizes(desk.turn()) == [1, 3, 4]
    assert sizes(desk.turn()) == [1, 6]


def test_more_tokens_than_a_step_may_have_never_starve_a_batch_of_decodes():
    desk = Desk(64, max_batch=6, max_step_tokens=1)
    for number in range(6):
        desk.add(Fake(prompt(str(number), 1), 8, rank=number))
    desk.drain()
    assert desk.scheduler.max_step_tokens == 6


def test_a_prompt_is_admitted_when_it_fits_and_nobody_overtakes_it():
    desk = Desk(8)
    desk.add(Fake(prompt("a", 18), 3, rank=0))  # 5 or 6 of 8 blocks
    big = desk.add(Fake(prompt("big", 16), 1, rank=1))
    small = desk.add(Fake(prompt("small", 2), 1, rank=2))
    desk.turn()
    assert big in desk.scheduler.waiting
    assert small in desk.scheduler.waiting
    desk.drain()


def test_what_running_prompts_have_yet_to_get_is_not_promised_twice():
    """Prompts of half a pool were admitted all at once, as none had a block yet, and then sent back."""
    desk = Desk(32, max_batch=16, max_step_tokens=32)
    for number in range(6):
        desk.add(Fake(prompt(str(number), 60), 1, rank=number))
    desk.turn()
    assert len(desk.scheduler.running) == 2
    desk.drain()
    assert desk.scheduler.preemptions == 0


def test_the_last_in_line_is_sent_back_and_goes_on_later():
    desk = Desk(6, block_size=2)
    first = desk.add(Fake(prompt("a", 2), 9, rank=0))
    last = desk.add(Fake(prompt("b", 2), 9, rank=1))
    while not first.ended:
        desk.turn()
        assert not last.ended
    assert desk.scheduler.preemptions > 0
    desk.drain()
    assert last.ended


def test_one_that_had_its_turn_may_still_be_sent_back():
    """Its token is then not computed: its blocks are another's."""
    desk = Desk(5, block_size=2, max_batch=2, max_step_tokens=2)
    late = desk.add(Fake(prompt("a", 1), 9, rank=1))
    desk.turn()
    urgent = desk.add(Fake(prompt("b", 6), 1, rank=0))
    for _ in range(5):
        chunks = desk.turn()
    assert desk.scheduler.preemptions == 1
    assert [chunk.sequence for chunk in chunks] == [urgent]
    assert late in desk.scheduler.waiting
    desk.drain()


def test_what_was_sent_back_is_found_again_if_nobody_needed_the_room():
    desk = Desk(8, block_size=2, max_batch=2)
    desk.add(Fake(prompt("a", 6), 4, rank=0))
    desk.add(Fake(prompt("b", 6), 4, rank=1))
    desk.drain()
    total = 2 * (6 + 4 - 1)
    assert desk.scheduler.preemptions
    assert desk.computed < total + 6  # less than a prompt was computed twice


def test_what_never_fits_fails_alone():
    desk = Desk(4)
    held = desk.pool.open([])
    desk.pool.reserve(held, 12)  # three of four blocks are somebody's
    impossible = Fake(prompt("a", 9), 1, rank=0)
    possible = Fake(prompt("b", 2), 1, rank=1)
    desk.check = lambda: None  # it counts the blocks of sequences only
    desk.add(impossible)
    desk.add(possible)
    desk.turn()
    ((fake, error),) = desk.failed
    assert fake is impossible
    assert isinstance(error, CacheFullError)
    assert "pinned" in str(error)
    assert desk.scheduler.running or possible.ended


def test_a_failed_admission_holds_nothing():
    desk = Desk(4)
    desk.pool.reserve(desk.pool.open([]), 12)
    before = desk.pool.stats()
    desk.add(Fake(prompt("a", 9), 1))
    desk.scheduler.admit()
    after = desk.pool.stats()
    assert (after.free, after.cached, after.used) == (before.free, before.cached, before.used)


def test_a_prefix_under_way_is_waited_for_and_then_reused():
    desk = Desk(64, max_batch=8, max_step_tokens=8)
    picture = prompt("picture", 30)
    fakes = [desk.add(Fake([*picture, ("q", n), 0], 1, rank=n)) for n in range(8)]
    desk.drain()
    assert fakes[0].cached == 0
    assert all(fake.cached >= 30 - 4 - 1 for fake in fakes[1:])  # all but a block
    assert desk.computed <= 32 + 7 * (2 + 4 + 1)


def test_a_prefix_under_way_is_waited_for_before_pictures_are_looked_at():
    desk = Desk(64, max_batch=8, max_step_tokens=64)
    picture = prompt("picture", 30)
    fakes = [desk.add(Fake([*picture, n, 0], 1, rank=n, looks=3 if n == 0 else 0)) for n in range(4)]
    desk.turn()
    assert desk.scheduler.running == fakes[:1]
    desk.drain()
    assert all(fake.cached >= 30 for fake in fakes[1:])


def test_those_that_share_little_do_not_wait():
    desk = Desk(64, max_batch=8, max_step_tokens=4)
    template = prompt("template", 4)
    for number in range(3):
        desk.add(Fake([*template, *prompt(str(number), 12)], 1, rank=number))
    desk.turn()
    assert len(desk.scheduler.running) == 3


def test_a_waiting_one_is_overtaken_by_those_that_share_nothing():
    desk = Desk(64, max_batch=8, max_step_tokens=4)
    desk.add(Fake(prompt("picture", 30), 1, rank=0))
    twin = desk.add(Fake(prompt("picture", 30), 1, rank=1))
    other = desk.add(Fake(prompt("other", 5), 1, rank=2))
    desk.turn()
    assert twin in desk.scheduler.waiting
    assert other in desk.scheduler.running
    desk.drain()


def test_if_the_one_that_is_waited_for_ends_the_next_takes_its_place():
    desk = Desk(64, max_batch=8, max_step_tokens=4)
    fakes = [desk.add(Fake(prompt("picture", 30), 1, rank=n)) for n in range(3)]
    desk.turn()
    desk.end(fakes[0])
    desk.turn()
    assert desk.scheduler.running == fakes[1:2]
    assert fakes[1].cached == 8
    desk.drain()


def test_only_the_leading_part():
    desk = Desk(64)
    picture = prompt("picture", 10)
    fakes = [desk.add(Fake(picture, 0, rank=n)) for n in range(3)]
    desk.drain()
    assert all(fake.ended for fake in fakes)
    assert desk.pool.match(picture) == 10
    late = desk.add(Fake(picture, 0))
    desk.turn()
    assert late.ended
    assert late.cached == 10


@pytest.mark.parametrize("where", ["waiting", "running"])
def test_ending_gives_all_blocks_back(where):
    desk = Desk(8)
    fake = desk.add(Fake(prompt("a", 20), 5))
    if where == "running":
        desk.turn()
    desk.end(fake)
    stats = desk.pool.stats()
    assert stats.used == 0
    assert list(desk.scheduler) == []
    assert stats.free + stats.cached == 8


def test_the_oldest_finishes_though_new_ones_keep_coming():
    desk = Desk(10, block_size=2, max_batch=3, max_step_tokens=6)
    old = desk.add(Fake(prompt("old", 9), 10, rank=0))
    turns = 0
    while not old.ended:
        desk.add(Fake(prompt(f"new {turns}", 5), 3, rank=1 + turns))
        desk.turn()
        turns += 1
        assert turns <= 9 + 10 + 1
    desk.drain()


def test_one_that_was_cancelled_is_not_kept():
    desk = Desk(8)
    desk.add(Fake(prompt("a", 24), 5, rank=0))
    blocked = desk.add(Fake(prompt("b", 24), 5, rank=1))
    desk.turn()
    desk.end(blocked)
    held = [value for value in vars(desk.scheduler).values() if isinstance(value, tuple) and blocked in value]
    assert not held
