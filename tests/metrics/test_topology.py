from __future__ import annotations

import math

import numpy as np
import pytest

from xferlab.metrics.measuring import measure


def drawn(picture: str):
    """A mask from rows of `#` and `.`."""
    return np.array([[pixel == "#" for pixel in row] for row in picture.split()])


def counts(prediction, target, ignore=None):
    values = measure(prediction.astype(np.float32), target, ignore=ignore)
    return values["COMPONENTS"], values["BRIDGES"], values["ISLANDS"]


TWO_LUNGS = drawn("""
    .##...##.
    .##...##.
    .##...##.
    .##...##.
    .##...##.
""")
EMPTY = np.zeros_like(TWO_LUNGS)


def test_two_lungs_are_two_components_without_artefact():
    assert counts(TWO_LUNGS, TWO_LUNGS) == (2, 0, 0)


def test_a_line_between_the_lungs_is_one_bridge():
    bridge = TWO_LUNGS.copy()
    bridge[2] = True
    assert counts(bridge, TWO_LUNGS) == (1, 1, 0)


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (0, 0)])
def test_a_bridge_covers_a_tenth_of_both(rows, expected):
    # Each lung has 10 pixels; the line covers all of the left one and `rows` pixels of the right one.
    prediction = TWO_LUNGS.copy()
    prediction[:, 6:] = False
    prediction[0, 2:6] = True
    prediction[0, 6 : 6 + rows] = True
    assert counts(prediction, TWO_LUNGS)[1] == expected


def test_less_than_a_tenth_is_no_bridge():
    target = np.zeros((12, 12), dtype=bool)
    target[0:11, 0], target[0:11, 11] = True, True
    prediction = np.zeros_like(target)
    prediction[0] = True
    assert counts(prediction, target) == (1, 0, 0)  # 1 of 11 pixels


def test_a_component_that_joins_three_is_one_bridge():
    target = drawn("#.#.# #.#.# #.#.#")
    assert counts(np.ones_like(target), target) == (1, 1, 0)


def test_corners_connect():
    diagonal = np.eye(5, dtype=bool)
    assert counts(diagonal, diagonal)[0] == 1


@pytest.mark.parametrize("target", [drawn("##... ##... ....."), np.zeros((3, 5), dtype=bool)])
def test_with_fewer_than_two_target_components_there_is_nothing_to_bridge(target):
    assert math.isnan(counts(np.ones_like(target), target)[1])


def test_an_island_shares_no_pixel_with_the_target():
    islands = drawn("""
        ####..##.
        .##...##.
        .##...##.
        .##......
        ....#...#
    """)
    components, _, lonely = counts(islands, TWO_LUNGS)
    assert (components, lonely) == (4, 2)
    # A neighbour of the target that does not overlap it is an island too.
    assert counts(drawn("#........ ") & ~EMPTY[:1], TWO_LUNGS[:1])[2] == 1


def test_empty_masks():
    assert counts(EMPTY, TWO_LUNGS) == (0, 0, 0)
    components, bridges, islands = counts(TWO_LUNGS, EMPTY)
    assert (components, islands) == (2, 2)
    assert math.isnan(bridges)


def test_an_ignored_bridge_is_none():
    bridge, ignore = TWO_LUNGS.copy(), np.zeros_like(TWO_LUNGS)
    bridge[2] = True
    ignore[:, 4] = True
    assert counts(bridge, TWO_LUNGS, ignore) == (2, 0, 0)
