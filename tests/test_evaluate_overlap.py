"""Boxes: intersection over union by hand, the best pairing against all pairings, laws."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmflash.evaluate.matching import best_matching
from glmflash.evaluate.overlap import MOST_BOXES, boxes_found, boxes_overlap, overlap
from glmflash.output import Box, parse_boxes

edges = st.integers(0, 12)
areas = st.tuples(edges, edges, edges, edges).map(
    lambda four: (*map(min, four[:2], four[2:]), *map(max, four[:2], four[2:]))
)
solid = areas.filter(lambda area: area[0] < area[2] and area[1] < area[3])


def boxes(*areas):
    return [Box("", tuple(map(float, area)), area) for area in areas]


def cells(area):
    return {(x, y) for x in range(area[0], area[2]) for y in range(area[1], area[3])}


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (0, 5, 10, 15), 50 / 150),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),  # one inside the other
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # they touch
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),  # points have no area
    ],
)
def test_overlap_by_hand(one, two, expected):
    assert overlap(one, two) == pytest.approx(expected)


@given(areas, areas)
def test_overlap_is_that_of_their_pixels(one, two):
    shared, covered = cells(one) & cells(two), cells(one) | cells(two)
    assert overlap(one, two) == pytest.approx(len(shared) / len(covered) if covered else 0)


@given(solid, areas, st.integers(1, 9), st.integers(1, 9))
def test_laws_of_overlap(one, two, wide, high):
    assert overlap(one, one) == 1
    assert overlap(one, two) == overlap(two, one)
    scaled = [(a * wide, b * high, c * wide, d * high) for a, b, c, d in (one, two)]
    assert overlap(*scaled) == pytest.approx(overlap(one, two))


tables = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(tables)
def test_no_pairing_is_better_than_the_best(fit):
    rows, columns = len(fit), len(fit[0])
    pairs = best_matching(fit)
    assert len(pairs) == min(rows, columns)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    longer = max(rows, columns)
    padded = [[fit[r][c] if r < rows and c < columns else 0 for c in range(longer)] for r in range(longer)]
    every = (sum(padded[r][c] for r, c in enumerate(order)) for order in permutations(range(longer)))
    assert sum(fit[row][column] for row, column in pairs) == pytest.approx(max(every))


def test_pairs_by_hand():
    right = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    near = boxes((20, 0, 30, 20), (0, 0, 10, 10))  # in another order; the first is twice as high
    assert boxes_overlap(near, right) == pytest.approx((0.5 + 1) / 2)
    assert boxes_found(near, right) == 1  # 0.5 is enough
    assert boxes_overlap(near[:1], right) == pytest.approx(0.5 / 2)  # one is missing
    assert boxes_overlap([*near, *boxes((50, 50, 60, 60))], right) == pytest.approx(1.5 / 3)  # one too many
    assert boxes_found(boxes((0, 0, 10, 21)), right[:1]) == 0  # 100 / 210
    assert boxes_overlap([], right) == boxes_found([], right) == 0


def test_labels_do_not_count():
    one = parse_boxes('{"label": "Save", "bbox": [0, 0, 10, 10]}', size=(50, 70))
    assert boxes_overlap(one, parse_boxes("[0,0,10,10]", size=(1000, 1000))) == 1


def test_thousands_of_boxes_cost_little():
    flood = boxes((0, 0, 10, 10)) * 50_000
    assert boxes_overlap(flood, boxes((0, 0, 10, 10))) == pytest.approx(1 / 50_000)
    many = boxes(*((x, 0, x + 1, 1) for x in range(MOST_BOXES)))
    assert boxes_overlap(many[::-1], many) == 1
