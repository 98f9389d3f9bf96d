"""The block pool: the mistakes that matter, by name. Random walks are in tests/property/test_pool.py."""

from collections.abc import Sequence

import pytest

from glmflash.errors import CacheFullError, ClosedError, ParameterError
from glmflash.kv.pool import BlockPool, BlockTable, Copy
from glmflash.kv.tree import Key


def begin(pool: BlockPool, keys: Sequence[Key]) -> BlockTable:
    """Open keys and compute what is not there."""
    table = pool.open(keys)
    pool.reserve(table, len(keys) - table.length)
    pool.commit(table, keys[table.length :])
    return table


def put(pool: BlockPool, keys: Sequence[Key]) -> None:
    """Leave keys in the cache."""
    pool.close(begin(pool, keys))


def extend(pool: BlockPool, table: BlockTable, keys: Sequence[Key]) -> list[Copy]:
    copies = pool.reserve(table, len(keys))
    pool.commit(table, keys)
    return copies


def counts(pool: BlockPool) -> tuple[int, int, int]:
    stats = pool.stats()
    assert stats.free + stats.cached + stats.used == stats.num_blocks
    return stats.free, stats.cached, stats.used


# ---------------------------------------------------------------------- finding


def test_a_prefix_is_found_token_by_token() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdefgh")
    wanted = ["", "x", "a", "abc", "abcx", "abcd", "abcdef", "abcdefgh", "abcdefghi", "abcdefxh"]
    assert [pool.match(keys) for keys in wanted] == [0, 0, 1, 3, 3, 4, 6, 8, 8, 6]


def test_what_is_committed_is_found_at_once_while_the_sequence_runs() -> None:
    pool = BlockPool(8, block_size=4)
    table = pool.open("abcdef")
    pool.reserve(table, 6)
    assert pool.match("abcdef") == 0  # reserved is not committed
    for length in range(1, 7):
        pool.commit(table, "abcdef"[length - 1])
        assert pool.match("abcdef") == length


def test_the_longest_of_several_partial_blocks_is_found() -> None:
    pool = BlockPool(8, block_size=4)
    for keys in ("abcd", "abx", "aby", "ab", "z"):
        put(pool, keys)
    assert [pool.match(keys) for keys in ("abxq", "abyq", "abcq", "abq", "aq", "zq")] == [3, 3, 3, 2, 1, 1]


def test_keys_with_equal_hashes_are_different() -> None:
    assert hash(-1) == hash(-2)
    pool = BlockPool(8, block_size=4)
    put(pool, [-1] * 8)
    assert pool.match([-2] * 8) == 0
    assert pool.match([-1] * 5 + [-2] * 3) == 5


def test_the_same_block_after_another_past_is_not_the_same() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdefgh")
    put(pool, "xbcd")
    assert pool.match("xbcdefgh") == 4
    assert pool.match("efgh") == 0


def test_pictures_and_salts_share_nothing() -> None:
    def prompt(digest: str, salt: str) -> list[Key]:
        return [("salt", salt, 1), 2, *((digest, i) for i in range(9)), 3]

    pool = BlockPool(16, block_size=4)
    put(pool, prompt("0a", "me"))
    assert pool.match(prompt("0a", "me")) == 12
    assert pool.match(prompt("0b", "me")) == 2
    assert pool.match(prompt("0a", "you")) == 0


class Counted:
    """A key that counts how often keys are compared."""

    compared = 0

    def __init__(self, name: object) -> None:
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return isinstance(other, Counted) and self.name == other.name


def test_a_search_among_a_thousand_siblings_compares_few_keys() -> None:
    pool = BlockPool(2000, block_size=16)
    for number in range(1000):
        put(pool, [Counted(part) for part in (1, 2, 3, number, *range(20))])
    Counted.compared = 0
    assert pool.match([Counted(part) for part in (1, 2, 3, 500, *range(19), 99)]) == 23
    assert Counted.compared < 60


def test_matching_changes_nothing() -> None:
    evicted: list[int] = []
    pool = BlockPool(2, block_size=4, on_evict=evicted.append)
    put(pool, "old")
    put(pool, "new")
    before = pool.stats()
    assert pool.match("old") == 3
    assert pool.stats() == before
    put(pool, "next")
    assert evicted == [0]  # still the older one


# ---------------------------------------------------------------------- copy on write


def test_a_partly_matching_block_is_shared_until_it_is_written_to() -> None:
    pool = BlockPool(8, block_size=4)
    first = begin(pool, "abcdefg")
    second = pool.open("abcdefx")
    assert (second.blocks, second.length, second.capacity) == ([0, 1], 6, 8)
    assert counts(pool) == (6, 0, 2)
    assert pool.reserve(second, 1) == [Copy(source=1, target=2, tokens=2)]
    assert (first.blocks, second.blocks) == ([0, 1], [0, 2])
    pool.commit(second, "x")
    assert (pool.match("abcdefg"), pool.match("abcdefx")) == (7, 7)


def test_forks_that_append_one_token_each_get_blocks_of_their_own() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcde")
    twin, third = pool.fork(table), pool.fork(table)
    assert extend(pool, table, "f") == []  # it has reserved this room before
    assert extend(pool, twin, "g") == [Copy(1, 2, 1)]
    assert extend(pool, third, "h") == [Copy(1, 3, 1)]
    assert [one.blocks for one in (table, twin, third)] == [[0, 1], [0, 2], [0, 3]]
    assert [pool.match(f"abcde{key}") for key in "fgh"] == [6, 6, 6]


def test_the_last_of_those_that_shared_a_block_writes_in_place() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcde")
    twin = pool.fork(table)
    pool.close(table)
    assert extend(pool, twin, "f") == []
    assert twin.blocks == [0, 1]


def test_two_forks_of_a_closed_sequence_both_get_room_without_writing_into_each_other() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcde")
    twin, third = pool.fork(table), pool.fork(table)
    pool.close(table)
    assert pool.reserve(twin, 1) == [Copy(1, 2, 1)]
    assert pool.reserve(third, 1) == []  # alone now
    assert twin.blocks[1] != third.blocks[1]


def test_cached_tokens_beyond_the_sequence_are_not_overwritten() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdefgh")
    table = pool.open("abcdex")
    assert table.blocks == [0, 1]
    assert pool.reserve(table, 1) == [Copy(1, 2, 1)]  # nobody else holds block 1, but it holds f, g, h
    pool.commit(table, "x")
    assert pool.match("abcdefgh") == 8


def test_going_on_where_a_closed_sequence_ended_copies_nothing() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdef")
    table = pool.open("abcdefgh")
    assert extend(pool, table, "gh") == []
    assert table.blocks == [0, 1]


def test_after_a_trim_what_was_committed_stays_and_is_not_overwritten() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcdefghij")
    pool.trim(table, 5)
    assert (table.length, table.blocks, table.capacity) == (5, [0, 1], 8)
    assert pool.match("abcdefghij") == 10
    assert extend(pool, table, "x") == [Copy(1, 3, 1)]
    assert (pool.match("abcdefghij"), pool.match("abcdex")) == (10, 6)


def test_a_trim_gives_back_reserved_room() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcde")
    pool.reserve(table, 20)
    assert counts(pool) == (1, 0, 7)
    pool.trim(table, 5)
    assert counts(pool) == (6, 0, 2)
    with pytest.raises(ParameterError, match="0 are reserved"):
        pool.commit(table, "f")
    assert extend(pool, table, "f") == []


def test_a_copy_has_only_what_the_sequence_has() -> None:
    pool = BlockPool(8, block_size=8)
    put(pool, "abcdefgh")
    table = pool.open("abcxyz")
    assert pool.reserve(table, 3) == [Copy(0, 1, 3)]
    pool.commit(table, "xyz")
    assert (pool.match("abcxyz"), pool.match("abcdexyz")) == (6, 5)


# ---------------------------------------------------------------------- the same content twice


def test_two_sequences_may_compute_the_same() -> None:
    pool = BlockPool(8, block_size=4)
    one, other = pool.open("abcdef"), pool.open("abcdef")
    for table in (one, other):
        pool.reserve(table, 6)
    for table in (one, other):
        pool.commit(table, "abcdef")
    assert (one.blocks, other.blocks) == ([0, 1], [2, 3])  # each keeps its own while it runs
    extend(pool, one, "gX")
    extend(pool, other, "gYZ")
    assert (pool.match("abcdefgXZ"), pool.match("abcdefgYZ")) == (8, 9)
    pool.close(one)
    assert counts(pool) == (4, 1, 3)  # block 0 repeats block 2; block 1 holds an X
    pool.close(other)
    assert counts(pool) == (4, 4, 0)
    assert (pool.match("abcdefgXZ"), pool.match("abcdefgYZ")) == (8, 9)


def test_a_twin_of_what_nobody_holds_takes_its_place() -> None:
    pool = BlockPool(8, block_size=4)
    one, other = pool.open("abcd"), pool.open("abcd")
    pool.reserve(one, 4)
    pool.reserve(other, 4)
    pool.commit(one, "abcd")
    extend(pool, one, "efgh")
    pool.close(one)
    pool.commit(other, "abcd")
    assert other.blocks == [1]
    assert counts(pool) == (6, 1, 1)  # block 0 is free, what followed it stays
    assert pool.match("abcdefgh") == 8


def test_a_question_asked_ten_times_is_kept_once() -> None:
    pool = BlockPool(16, block_size=4)
    for _ in range(10):
        table = pool.open("a prompt"[:-1])
        extend(pool, table, "a prompt"[table.length :])
        for key in "an answer.":
            extend(pool, table, key)
        pool.close(table)
    assert counts(pool) == (11, 5, 0)
    assert pool.match("a promptan answer.") == 18


# ---------------------------------------------------------------------- running out


def test_the_lowest_free_block_is_handed_out_first() -> None:
    pool = BlockPool(8, block_size=4)
    tables = [pool.open("") for _ in range(3)]
    for table in tables:
        pool.reserve(table, 8)
    pool.close(tables[1])
    pool.close(tables[0])
    last = pool.open("")
    pool.reserve(last, 12)
    assert last.blocks == [0, 1, 2]
    assert pool.stats().high_water == 6


def test_reserving_is_all_or_nothing() -> None:
    pool = BlockPool(4, block_size=4)
    put(pool, "abcdef")
    table = begin(pool, "xyz")
    before = pool.stats()
    with pytest.raises(CacheFullError, match=r"14 more tokens need 4 blocks .* only 3 of 4"):
        pool.reserve(table, 14)
    assert (pool.stats(), table.blocks, table.capacity) == (before, [2], 4)
    assert pool.match("abcdef") == 6
    assert not pool.can_reserve(table, 14)
    assert pool.can_reserve(table, 13)
    assert pool.reserve(table, 13) == []
    assert counts(pool) == (0, 0, 4)


def test_nothing_is_evicted_while_a_block_is_free() -> None:
    evicted: list[int] = []
    pool = BlockPool(3, block_size=4, on_evict=evicted.append)
    put(pool, "one")
    put(pool, "two")
    put(pool, "six")
    assert (counts(pool), evicted) == ((0, 3, 0), [])
    put(pool, "far")
    assert (counts(pool), evicted) == ((0, 3, 0), [0])


def test_the_longest_unused_goes_first_and_opening_is_a_use() -> None:
    evicted: list[int] = []
    pool = BlockPool(3, block_size=4, on_evict=evicted.append)
    for keys in ("one", "two", "six"):
        put(pool, keys)
    pool.close(pool.open("one"))
    put(pool, "far")
    assert [pool.match(keys) for keys in ("one", "two", "six")] == [3, 0, 3]
    put(pool, "new")
    assert [pool.match(keys) for keys in ("one", "two", "six")] == [3, 0, 0]
    assert evicted == [1, 2]


def test_a_block_goes_before_the_one_that_it_follows() -> None:
    evicted: list[int] = []
    pool = BlockPool(4, block_size=2, on_evict=evicted.append)
    put(pool, "abcdef")
    found = [pool.match("abcdef")]
    for keys in ("x", "yy", "zz"):
        put(pool, keys)
        found.append(pool.match("abcdef"))
    assert evicted == [2, 1]
    assert found == [6, 6, 4, 2]


def test_a_running_sequence_keeps_its_blocks() -> None:
    pool = BlockPool(4, block_size=4)
    table = begin(pool, "abcdefgh")
    other = begin(pool, "stuvwxyz")
    for one in (table, other):
        with pytest.raises(CacheFullError):
            pool.reserve(one, 1)
    pool.close(other)
    extend(pool, table, "ijklm")
    assert (table.length, pool.match("abcdefghijklm"), pool.match("stuvwxyz")) == (13, 13, 0)


def test_a_sequence_that_is_alone_can_use_the_whole_pool() -> None:
    pool = BlockPool(3, block_size=4)
    put(pool, "abcdefghijkl")
    table = pool.open("abcdef" + "uvwxyz")
    assert pool.can_reserve(table, 6)
    assert pool.reserve(table, 6) == []  # no room for a copy; what follows `f` is given up
    assert pool.match("abcdefgh") == 4
    pool.commit(table, "uvwxyz")
    assert pool.match("abcdefuvwxyz") == 12
    assert counts(pool) == (0, 0, 3)


def test_taking_over_one_of_two_twins_loses_nothing() -> None:
    pool = BlockPool(3, block_size=4)
    one, other, last = pool.open(""), pool.open(""), pool.open("")
    for table in (one, other, last):
        pool.reserve(table, 4)
    extend(pool, one, "abcd")
    extend(pool, other, "abcd")
    pool.trim(other, 2)
    assert extend(pool, other, "x") == []
    assert (pool.match("abcd"), pool.match("abx"), pool.available) == (4, 3, 0)


def test_a_shared_block_is_never_given_up() -> None:
    pool = BlockPool(2, block_size=4)
    table = begin(pool, "abcdef")
    twin = pool.fork(table)
    assert not pool.can_reserve(twin, 1)
    with pytest.raises(CacheFullError):
        pool.reserve(twin, 1)
    assert (twin.blocks, table.blocks) == ([0, 1], [0, 1])


def test_what_runs_out_is_told_by_the_time_it_is_true() -> None:
    seen: list[tuple[int, int, int]] = []
    pool = BlockPool(2, block_size=4, on_evict=lambda block: seen.append(counts(pool)))
    put(pool, "abcdefgh")
    begin(pool, "stuvwxyz")
    assert seen == [(1, 1, 0), (2, 0, 0)]


# ---------------------------------------------------------------------- ending


def test_closing_twice_frees_once() -> None:
    pool = BlockPool(4, block_size=4)
    table = begin(pool, "abcdef")
    twin = pool.fork(table)
    pool.close(table)
    pool.close(table)
    assert counts(pool) == (2, 0, 2)
    pool.close(twin)
    assert counts(pool) == (2, 2, 0)
    assert (table.closed, table.blocks, table.length) == (True, [], 0)


def test_a_closed_table_cannot_be_used() -> None:
    pool = BlockPool(4, block_size=4)
    table = begin(pool, "abc")
    pool.close(table)
    for use in (
        lambda: pool.reserve(table, 0),
        lambda: pool.can_reserve(table, 1),
        lambda: pool.commit(table, "d"),
        lambda: pool.trim(table, 0),
        lambda: pool.fork(table),
        lambda: pool.discard(table),
    ):
        with pytest.raises(ClosedError):
            use()


def test_uncommitted_room_is_free_after_closing() -> None:
    pool = BlockPool(4, block_size=4)
    table = begin(pool, "abc")
    pool.reserve(table, 12)
    pool.close(table)
    assert counts(pool) == (3, 1, 0)


def test_wrong_values_are_never_found_again() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcdefgh")
    put(pool, "abcdefghijk")  # computed from it
    put(pool, "abcxyz")
    pool.discard(table, from_token=5)
    assert [pool.match(keys) for keys in ("abcdefghijk", "abcdef", "abcxyz")] == [4, 4, 6]
    assert counts(pool) == (5, 3, 0)


def test_discarding_spares_what_only_shares_what_was_right() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abcd")
    other = pool.open("abx")
    extend(pool, other, "x")
    pool.discard(table, from_token=2)
    assert [pool.match(keys) for keys in ("abcd", "abx")] == [2, 3]


def test_a_copy_of_wrong_values_is_not_found_either() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abc")
    copied, waiting = pool.open("abcx"), pool.open("abcy")
    extend(pool, copied, "x")
    pool.reserve(waiting, 1)  # copied, and nothing committed yet
    pool.discard(table, from_token=1)
    pool.commit(waiting, "y")
    assert [pool.match(keys) for keys in ("abcx", "abcy")] == [0, 0]
    extend(pool, copied, "more")
    assert pool.match("abcxmore") == 0
    for one in (copied, waiting):
        pool.close(one)
    assert counts(pool) == (8, 0, 0)


def test_a_copy_of_what_was_discarded_is_not_found() -> None:
    pool = BlockPool(8, block_size=4)
    table = begin(pool, "abc")
    reader = pool.open("abc")
    third = pool.fork(reader)
    pool.discard(table)
    assert pool.reserve(reader, 1) == [Copy(0, 1, 3)]
    pool.commit(reader, "d")
    extend(pool, third, "e")
    assert pool.match("abcd") == pool.match("abce") == 0


def test_what_is_computed_anew_after_a_discard_is_found() -> None:
    pool = BlockPool(8, block_size=4)
    pool.discard(begin(pool, "abcdef"))
    assert (pool.match("abcdef"), counts(pool)) == (0, (8, 0, 0))
    put(pool, "abcdef")
    assert pool.match("abcdef") == 6


def test_discarding_from_the_end_forgets_nothing() -> None:
    pool = BlockPool(8, block_size=4)
    pool.discard(begin(pool, "abcdef"), from_token=6)
    assert pool.match("abcdef") == 6


# ---------------------------------------------------------------------- pins, sizes, parameters


def test_pinned_blocks_are_not_evicted() -> None:
    pool = BlockPool(4, block_size=4)
    put(pool, "abcdef")
    pinned = pool.pin("abcdxyz")
    assert (pinned.length, pinned.blocks, pool.stats().pinned) == (4, [0], 1)
    put(pool, "stuvwxyz1234")
    assert (pool.match("abcdef"), counts(pool)) == (4, (0, 3, 1))
    with pytest.raises(CacheFullError):
        pool.reserve(pool.open(""), 16)
    pool.close(pinned)
    assert pool.stats().pinned == 0
    pool.reserve(pool.open(""), 16)
    assert pool.match("abcdef") == 0


def test_pins_hold_at_most_half_and_count_a_block_once() -> None:
    pool = BlockPool(5, block_size=4)
    put(pool, "abcdefghijkl")
    first, second = pool.pin("abcdefgh"), pool.pin("abcdefgh")
    assert pool.stats().pinned == 2
    before = pool.stats()
    with pytest.raises(CacheFullError, match="3 of 5"):
        pool.pin("abcdefghijkl")
    assert pool.stats() == before
    pool.close(first)
    assert pool.stats().pinned == 2
    pool.close(second)
    assert pool.stats().pinned == 0


def test_a_pinned_table_can_be_forked_and_not_written_to() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdef")
    pinned = pool.pin("abcdef")
    for use in (
        lambda: pool.reserve(pinned, 0),
        lambda: pool.commit(pinned, ""),
        lambda: pool.trim(pinned, 0),
    ):
        with pytest.raises(ParameterError, match="pinned and read-only"):
            use()
    fork = pool.fork(pinned)
    assert extend(pool, fork, "g") == [Copy(1, 2, 2)]
    pool.close(fork)
    assert pool.stats().pinned == 2


def test_clearing_forgets_what_no_sequence_holds() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdefghij")
    table = pool.open("abcd")
    pool.clear()
    assert (counts(pool), pool.match("abcdefghij")) == ((7, 0, 1), 4)
    pool.close(table)


def test_a_pool_grows() -> None:
    pool = BlockPool(2, block_size=4)
    table = begin(pool, "abcdefgh")
    pool.resize(4)
    extend(pool, table, "ij")
    assert (table.blocks, pool.num_blocks, counts(pool)) == ([0, 1, 2], 4, (1, 0, 3))


def test_a_pool_shrinks_to_what_is_in_use() -> None:
    evicted: list[int] = []
    pool = BlockPool(8, block_size=4, on_evict=evicted.append)
    table = begin(pool, "abcdefgh")
    put(pool, "abcdefghijklmnopqrst")
    with pytest.raises(CacheFullError, match="no fewer than 2"):
        pool.resize(1)
    pool.resize(3)
    assert (counts(pool), sorted(evicted)) == ((0, 1, 2), [3, 4])
    assert pool.match("abcdefghijklmnopqrst") == 12
    pool.close(table)


def test_shrinking_drops_what_follows_a_block_that_goes() -> None:
    pool = BlockPool(4, block_size=2)
    blocker = pool.open("")
    pool.reserve(blocker, 6)
    table = begin(pool, "ab")  # block 3
    pool.close(blocker)
    extend(pool, table, "cd")  # block 0 follows block 3
    pool.close(table)
    pool.resize(2)
    assert (counts(pool), pool.match("abcd")) == ((2, 0, 0), 0)


def test_hits_and_misses_are_counted_in_tokens() -> None:
    pool = BlockPool(8, block_size=4)
    put(pool, "abcdef")
    put(pool, "abcdxyz")
    stats = pool.stats()
    assert (stats.hits, stats.misses, stats.evictions, stats.copies) == (4, 9, 0, 0)


def test_a_very_long_chain_needs_no_deep_stack() -> None:
    pool = BlockPool(5000, block_size=1)
    table = begin(pool, range(5000))
    twin = pool.fork(table)
    pool.discard(table, from_token=1)
    pool.close(twin)
    assert (pool.match(range(5000)), counts(pool)) == (1, (4999, 1, 0))
    wide = BlockPool(4, block_size=3000)
    put(wide, range(2500))
    put(wide, [*range(2000), -1])
    assert wide.match(range(3000)) == 2500


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (lambda pool, table: BlockPool(0), "num_blocks: 0"),
        (lambda pool, table: BlockPool(1, block_size=0), "block_size: 0"),
        (lambda pool, table: pool.resize(0), "num_blocks: 0"),
        (lambda pool, table: pool.reserve(table, -1), "tokens: -1"),
        (lambda pool, table: pool.can_reserve(table, -1), "tokens: -1"),
        (lambda pool, table: pool.commit(table, "ab"), "keys: 2 tokens, but 1 are reserved"),
        (lambda pool, table: pool.trim(table, 4), "length: 4; allowed: 0 to 3"),
        (lambda pool, table: pool.trim(table, -1), "length: -1"),
    ],
)
def test_wrong_numbers_are_refused(use, problem: str) -> None:
    pool = BlockPool(4, block_size=4)
    table = begin(pool, "xyz")
    with pytest.raises(ParameterError, match=problem):
        use(pool, table)
    assert (table.length, counts(pool)) == (3, (3, 0, 1))
