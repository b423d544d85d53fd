"""Image matching: altered copies are found, other people are not, and no figure depends on the company."""

from __future__ import annotations

import numpy as np
import pytest
from alterations import ALTERATIONS
from leakage import chosen, drawn_chest, drawn_packs
from PIL import Image

from xferlab.data.sources.filters import join_patients
from xferlab.leakage import image_matching
from xferlab.leakage.image_matching import NEAR, Pair, find_pairs
from xferlab.leakage.thumbnails import Grey, thumbnail
from xferlab.phantoms import brain_mri, brain_patient

PEOPLE = 12
ESCAPE = {
    "rotated by 5 degrees": 8,
    "rotated by 10 degrees": 0,
    "cropped by 50 %": 0,
    "8 labels": 8,
    "1 large label": 10,
    "2 large labels": 5,
}
"""Alterations that hide copies, and how many of twelve are found at least; docs/limits.md says one more."""


def shown(image: Image.Image) -> Grey:
    return thumbnail(np.asarray(image))


@pytest.fixture(scope="module")
def chests() -> list[Image.Image]:
    return [drawn_chest(index, 256) for index in range(PEOPLE)]


@pytest.fixture(scope="module")
def people(chests: list[Image.Image]) -> list[Grey]:
    return [shown(chest) for chest in chests]


def pairs_of(pixels: list[Grey], groups: np.ndarray | None = None) -> list[Pair[int]]:
    """The pairs that agree in detail; by default each row is a patient."""
    numbers = np.arange(len(pixels)) if groups is None else groups
    pairs = find_pairs(pixels, numbers, np.ones(len(pixels), bool))
    assert all(pair.detail >= NEAR and pair.first < pair.second for pair in pairs)
    return pairs


def exposures(pixels: list[Grey], groups: np.ndarray | None = None) -> set[tuple[int, int]]:
    return {(pair.first, pair.second) for pair in pairs_of(pixels, groups) if pair.one_exposure}


@pytest.fixture(scope="module")
def published() -> list[Image.Image]:
    """The chests of the table in docs/limits.md."""
    images, _ = chosen(drawn_packs()["drawn chest X-rays"], PEOPLE)
    return images


@pytest.mark.parametrize("name", [name for name in ALTERATIONS if ESCAPE.get(name, PEOPLE)])
def test_altered_copies_are_found(published: list[Image.Image], name: str) -> None:
    assert joined_with_their_originals(published, name) >= ESCAPE.get(name, PEOPLE)


@pytest.mark.parametrize("name", [name for name, most in ESCAPE.items() if not most])
def test_copies_that_mostly_escape_are_joined_with_nobody_else(
    published: list[Image.Image], name: str
) -> None:
    joined_with_their_originals(published, name)


def joined_with_their_originals(chests: list[Image.Image], name: str) -> int:
    """How many altered copies are found; nobody else is joined."""
    copies = [ALTERATIONS[name](chest) for chest in chests]
    found = exposures([shown(image) for image in (*chests, *copies)])
    assert found <= {(row, row + PEOPLE) for row in range(PEOPLE)}
    return len(found)


def test_copies_of_an_altered_copy_are_found(chests: list[Image.Image]) -> None:
    """Neither of two altered images is the original."""
    names = ("cut by 15 % on the left", "inverted and mirrored", "padded by 20 %, black", "made square")
    altered = [shown(ALTERATIONS[name](chest)) for name in names for chest in chests[:3]]
    found = exposures(altered)
    assert found == {(a, b) for a in range(12) for b in range(a + 1, 12) if a % 3 == b % 3}


def test_other_people_and_images_of_one_patient_are_not_found(people: list[Grey]) -> None:
    assert pairs_of(people) == []
    assert exposures(people + people, np.tile(np.arange(PEOPLE), 2)) == set()
    drawn = [brain_mri(seed=3, index=index, size_px=64).image[..., 0] for index in range(80)]
    brains = [thumbnail(np.ascontiguousarray(image)) for image in drawn]
    assert exposures(brains, np.array([brain_patient(index) for index in range(80)])) == set()


def test_labels_that_different_people_share_join_nobody(chests: list[Image.Image]) -> None:
    """The frame and texts of a viewer are equal in all its pictures."""
    frame = np.zeros((256, 256), np.uint8)
    for place in range(0, 256, 16):
        frame[place : place + 8, :30] = frame[:30, place : place + 8] = 255
        frame[place : place + 8, -30:] = frame[-30:, place : place + 8] = 130
    framed = [np.where(frame > 0, frame, np.asarray(chest)) for chest in chests]
    assert exposures([thumbnail(image) for image in framed]) == set()


def test_figures_depend_neither_on_the_company_nor_on_the_order(
    chests: list[Image.Image], people: list[Grey]
) -> None:
    copy = shown(ALTERATIONS["turned by 90 degrees and cut by 15 %"](chests[2]))
    (pair,) = pairs_of([people[2], copy])
    (swapped,) = pairs_of([copy, people[2]])
    (among,) = pairs_of([copy, *people])
    assert among[:2] == (0, 3)
    for same in (swapped, among):
        assert same[2:] == pytest.approx(pair[2:], abs=0.01)
    assert among[2:] == pytest.approx(swapped[2:], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_an_order_of_rows_finds_the_same(chests: list[Image.Image], people: list[Grey], seed: int) -> None:
    names = ("inverted", "cropped by 20 %", "4 labels", "upside down")
    copies = [shown(ALTERATIONS[name](chest)) for name, chest in zip(names, chests, strict=False)]
    pixels = [*people, *copies]
    order = np.random.default_rng(seed).permutation(len(pixels))
    found = exposures([pixels[row] for row in order])
    assert {frozenset(int(order[row]) for row in pair) for pair in found} == {
        frozenset((row, PEOPLE + row)) for row in range(len(names))
    }


def test_only_fresh_rows_are_compared(people: list[Grey]) -> None:
    pixels = people[:3] * 3
    fresh = np.arange(9) >= 6
    pairs = {(pair.first, pair.second) for pair in find_pairs(pixels, np.arange(9), fresh)}
    assert pairs == {(row, 6 + row) for row in range(3)} | {(3 + row, 6 + row) for row in range(3)}


@pytest.mark.parametrize("groups", [np.arange(601), np.append(np.zeros(600, int), 1)])
def test_a_crowd_of_equal_images_is_one_person(
    people: list[Grey], monkeypatch: pytest.MonkeyPatch, groups: np.ndarray
) -> None:
    """A placeholder under many ids; or many equal frames of one patient, and one under another id."""
    monkeypatch.setattr(image_matching, "agreements", lambda *_: pytest.fail("aligned"))
    found = exposures([people[0]] * 601, groups)
    assert all(groups[first] != groups[second] for first, second in found)
    joined = join_patients((str(groups[first]), str(groups[second])) for first, second in found)
    assert len(joined) == len({*groups})
    assert len({*joined.values()}) == 1


def test_equal_images_of_several_patients_are_compared_with_those_of_each(
    chests: list[Image.Image], people: list[Grey]
) -> None:
    cut = shown(ALTERATIONS["cut by 15 % on the left"](chests[0]))
    pixels, groups = [people[0], people[0], cut, cut, people[1]], np.array([0, 1, 0, 0, 2])
    assert exposures(pixels, groups) == {(0, 1), (1, 2), (1, 3)}
    added = find_pairs(pixels, groups, np.arange(5) == 3)
    assert [pair[:2] for pair in added] == [(1, 3)]


def test_step_by_step_finds_the_same_as_at_once(chests: list[Image.Image], people: list[Grey]) -> None:
    names = ("inverted", "cropped by 30 %", "8 labels", "upside down", "rotated by 5 degrees", "made square")
    pixels = people + [shown(ALTERATIONS[name](chest)) for name in names for chest in chests[:3]]
    groups, old = np.arange(len(pixels)), 18
    before = find_pairs(pixels[:old], groups[:old], np.ones(old, bool))
    added = find_pairs(pixels, groups, groups >= old)
    at_once = pairs_of(pixels)
    assert len(at_once) > 18
    assert [pair[:2] for pair in sorted(before + added)] == [pair[:2] for pair in at_once]
    for one, other in zip(sorted(before + added), at_once, strict=True):
        assert one[2:] == pytest.approx(other[2:], abs=1e-3)


def test_one_image_and_images_without_features_are_compared_with_nothing() -> None:
    ramp = np.tile(np.arange(128, dtype=np.uint8), (64, 1))
    narrow = np.tile(np.arange(128, dtype=np.uint8), (32, 1))
    assert pairs_of([ramp]) == []
    assert pairs_of([ramp, narrow, ramp.copy()]) == []
