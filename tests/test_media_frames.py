"""Which frames of a clip are seen, and what is said of when: the published values, and laws."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.errors import ImageError
from glmflash.media.frames import Timeline, choose, fewer, stamps

# frames, frames a second -> how many are seen, the first of them, the last of them
DENSE = [
    (7, 2, 8, (0, 1, 2, 3, 4, 5, 6, 6), ()),
    (90, 30, 18, (0, 5, 10), (75, 80, 85)),
    (900, 30, 180, (0, 5, 10), (886, 891, 896)),
    (930, 30, 62, (0, 15), (900, 915)),
    (1080, 24, 90, (0, 12), (1056, 1068)),
    (9030, 30, 302, (0, 30, 60), (9000, 9000)),
    (21000, 30, 640, (0, 32, 65, 98), (20999,)),
    (62500, 25, 640, (0, 97, 195), (62499,)),
    (1, 30, 2, (0, 0), ()),  # the reference fails here
]
EVEN = [
    (90, 30, 6, (0, 15, 30, 45, 60, 75), ()),
    (9030, 30, 600, (0, 16, 31, 46), (9029,)),
]


@pytest.mark.parametrize(
    ("family", "golden"), [*(("Glm46V", one) for one in DENSE), *(("Glm4v", one) for one in EVEN)]
)
def test_published_choices(family, golden):
    count, rate, seen, first, last = golden
    chosen = choose(Timeline(count, float(rate)), family=family)
    assert len(chosen) == seen
    assert chosen[: len(first)] == first
    assert chosen[len(chosen) - len(last) :] == last


def test_times_are_told_as_each_family_was_trained_to_read_them():
    line = Timeline(100, 8.0)
    assert stamps(line, (0, 4, 100, 99), family="Glm46V") == ("0.0 seconds", "12.5 seconds")
    assert stamps(line, (0, 4, 100, 99), family="Glm4v") == ("0", "12")


def test_no_frames_are_refused():
    with pytest.raises(ImageError, match="no frames"):
        choose(Timeline(0, 30.0), family="Glm46V")


lines = st.builds(
    lambda count, rate: Timeline(count, rate),
    st.integers(1, 3000),
    st.floats(0.2, 240, allow_nan=False) | st.sampled_from([1.0, 24.0, 25.0, 29.97, 30.0, 59.94, 60.0]),
)
families = st.sampled_from(["Glm46V", "Glm4v"])


@pytest.mark.property
@given(lines, families, st.integers(1, 3), st.none() | st.integers(1, 40))
def test_chosen_frames_are_there_in_order_in_whole_groups(line, family, temporal, most):
    chosen = choose(line, family=family, temporal=temporal, max_frames=most)
    assert chosen
    assert len(chosen) % temporal == 0
    assert list(chosen) == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < line.count
    distinct = set(chosen)
    assert len(distinct) <= min(line.count, 640)
    assert len(chosen) - len(distinct) < temporal
    if most is not None:
        assert len(distinct) <= most
    assert len(stamps(line, chosen, family=family, temporal=temporal)) == len(chosen) // temporal


@pytest.mark.property
@given(lines, families)
def test_saying_when_each_frame_is_shown_changes_nothing_if_they_come_evenly(line, family):
    """Also where the rounding of times decides: the sum of quotients is not asked for more than the rate."""
    frame = 1 / line.rate
    told = dataclasses.replace(
        line, times=tuple(index * frame for index in range(line.count)), seconds=line.duration
    )
    one, two = choose(line, family=family), choose(told, family=family)
    if family == "Glm46V":
        assert one == two
    else:
        assert all(abs(i - j) <= 1 for i, j in zip(one, two, strict=False))


def test_uneven_times_are_followed():
    """A slide that stays for nine seconds is looked at once a look, not once a frame."""
    times = (0.0, 9.0, *(9.0 + i / 30 for i in range(1, 30)))
    line = Timeline(len(times), 3.1, times=times, seconds=10.0)
    assert choose(line, family="Glm4v")[:3] == (0, 1, 16)
    assert stamps(line, (0, 0, 1, 16), family="Glm46V") == ("0.0 seconds", "9.0 seconds")


@given(st.lists(st.integers(), min_size=1, unique=True), st.integers(1, 50))
def test_fewer_keeps_the_ends(chosen, most):
    kept = fewer(chosen, most)
    assert len(kept) == min(len(chosen), most)
    assert kept[0] == chosen[0]
    assert most == 1 or kept[-1] == chosen[-1]
