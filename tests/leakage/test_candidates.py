"""Candidates: how features move with an image, and how much work their number makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from leakage import drawn_chest

from xferlab.leakage import candidates
from xferlab.leakage.candidates import Index
from xferlab.leakage.features import SPREAD, TURNS, Turn, Whole, features, response
from xferlab.leakage.thumbnails import Grey, thumbnail


@pytest.fixture(scope="module")
def people() -> list[Grey]:
    return [thumbnail(np.asarray(drawn_chest(index, 160))) for index in range(96)]


def index(images: list[Grey]) -> Index:
    return Index(images, np.arange(len(images)), np.ones(len(images), bool))


def moved(image: Grey, across: int, down: int) -> Grey:
    """The part of an image that a window of 100 x 100 pixels shows."""
    return np.ascontiguousarray(image[14 + down : 114 + down, 14 + across : 114 + across])


@pytest.mark.parametrize("turn", TURNS)
def test_features_turn_with_the_image(people: list[Grey], turn: Turn) -> None:
    image = people[0]
    before = features(image, image.shape)
    shown = np.ascontiguousarray(turn.image(image))
    after = features(shown, shown.shape)
    expected = zip(*turn.places(before.x, before.y), before.sign, before.waves @ turn.matrix(), strict=True)
    found = zip(after.x, after.y, after.sign, after.waves, strict=True)
    for one, other in zip(sorted(expected, key=_place), sorted(found, key=_place), strict=True):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], abs=1e-3)


def _place(feature: tuple[float, float, float, np.ndarray]) -> tuple[float, float]:
    return float(feature[0]), float(feature[1])


def test_a_negative_has_the_same_features(people: list[Grey]) -> None:
    before, after = (features(image, image.shape) for image in (people[0], 255 - people[0]))
    same = (before.x[:, None] == after.x) & (before.y[:, None] == after.y)
    row, column = np.nonzero(same)
    assert len(row) > 0.9 * len(before.x)
    assert (before.sign[row] == -after.sign[column]).all()
    assert before.waves[row] == pytest.approx(after.waves[column], abs=0.1)


def test_response_is_nearly_as_strong_where_the_contrast_is_a_quarter(people: list[Grey]) -> None:
    image = people[0]
    faint = image.copy()
    faint[:64] = 128 + (faint[:64].astype(int) - 128) // 4
    strong, weak = (np.abs(response(each, each.shape))[8:48] for each in (image, faint))
    assert 0.6 < weak.mean() / strong.mean() < 1.1


@pytest.mark.parametrize(("across", "down"), [(0, 0), (9, -5), (-12, 12)])
def test_the_way_of_one_image_to_another_is_found(people: list[Grey], across: int, down: int) -> None:
    still, window = moved(people[3], 0, 0), moved(people[3], across, down)
    for number, turn in enumerate(TURNS):
        for sign in (1, -1):
            shown = np.ascontiguousarray(turn.image(window))
            (way,) = index([still, shown if sign > 0 else 255 - shown]).candidates()
            assert way.sign == sign
            if way.moving == 1:  # its turn takes the image back
                back = TURNS[way.turn].image(shown)
                assert (back == window).all()
                assert (way.x, way.y) == pytest.approx((across, down), abs=1)
            else:
                assert way.turn == number
            assert way.votes > 20


def test_few_features_of_two_people_have_a_code_in_common(
    people: list[Grey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each further image adds to the work of the others."""
    sizes: list[int] = []
    look_up = candidates._Lists.looked_up

    def counted(lists: candidates._Lists, wanted: candidates.Codes) -> tuple[Whole, candidates.Codes]:
        asked, hit = look_up(lists, wanted)
        sizes.append(len(asked))
        return asked, hit

    monkeypatch.setattr(candidates._Lists, "looked_up", counted)
    votes = {}
    for number in (24, 96):
        sizes.clear()
        ways = index(people[:number]).candidates()
        votes[number] = sum(sizes) / number
    assert len(ways) <= 96 / 8
    # Of more than 300,000 pairs of descriptions of two images.
    assert (votes[96] - votes[24]) / 72 < 1.5


def test_a_code_of_a_crowd_is_left_out(people: list[Grey], monkeypatch: pytest.MonkeyPatch) -> None:
    images = people[:1] * 8
    assert len(index(images).candidates()) == 8 * 7 / 2
    monkeypatch.setattr(candidates, "CROWD", 7)
    assert index(images).candidates() == []


@pytest.mark.parametrize(
    ("asked", "hit", "numbers"), [(range(6), range(6), [6]), ([0] * 6, range(6), []), (range(6), [0] * 6, [])]
)
def test_a_feature_of_either_image_votes_once_in_a_cell(
    asked: Sequence[int], hit: Sequence[int], numbers: list[int]
) -> None:
    votes = candidates._Votes(np.array(asked), np.array(hit, np.int32), np.zeros(6, np.int64))
    cells, counts, sums = candidates._tally(
        np.full((4, 6), [[7], [8], [9], [10]]), votes, np.ones((2, 6), np.float32)
    )
    assert cells.tolist() == [7, 8, 9, 10][: 4 * len(numbers)]
    assert counts.tolist() == numbers * 4
    assert sums.tolist() == [[6.0] * len(cells)] * 2


def test_codes_do_not_depend_on_the_version_of_numpy() -> None:
    normals, _ = candidates._planes(TURNS[0])
    assert normals[0, 4:8] * SPREAD[0] == pytest.approx(PLANES, abs=1e-4)


PLANES = [-0.3150635, -0.1427955, -0.03378145, 0.1210299]
