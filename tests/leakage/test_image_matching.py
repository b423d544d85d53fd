"""Image matching: altered copies are found, other people are not, and no figure depends on the company."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy.fft import dctn
from scipy.stats import rankdata

from xferlab.leakage.image_matching import (
    CORRELATION,
    DETAIL,
    MAX_BITS,
    equalised,
    find_pairs,
    is_flat,
    perceptual_hash,
)
from xferlab.phantoms import PATHOLOGIES, brain_mri, brain_patient, chest_xray

Alter = Callable[[Image.Image], Image.Image]
PEOPLE = 12


def thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((64, 64), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def chests() -> list[Image.Image]:
    drawn = (
        chest_xray(seed=8, index=index, pathology=PATHOLOGIES[index % 3], size_px=192)
        for index in range(PEOPLE)
    )
    return [Image.fromarray(one.image) for one in drawn]


@pytest.fixture(scope="module")
def people(chests: list[Image.Image]) -> np.ndarray:
    return np.stack([thumbnail(chest) for chest in chests])


def exposures(pixels: np.ndarray, patients: np.ndarray | None = None) -> set[tuple[int, int]]:
    """The pairs of rows that show one exposure; by default each row is a patient."""
    groups = np.arange(len(pixels)) if patients is None else patients
    pairs = find_pairs(pixels, groups, np.ones(len(pixels), bool))
    assert all(pair.correlation >= CORRELATION for pair in pairs)
    return {(pair.first, pair.second) for pair in pairs if pair.detail >= DETAIL}


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def crop(*, left: float = 0.0, top: float = 0.0, right: float = 0.0, bottom: float = 0.0) -> Alter:
    def alter(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return image.crop(tuple(round(side) for side in box))

    return alter


def levels(change: Callable[[np.ndarray], np.ndarray]) -> Alter:
    def alter(image: Image.Image) -> Image.Image:
        grey = np.clip(change(np.asarray(image) / 255.0), 0.0, 1.0)
        return Image.fromarray(np.rint(255 * grey).astype(np.uint8))

    return alter


def labelled(image: Image.Image) -> Image.Image:
    altered = image.copy()
    draw = ImageDraw.Draw(altered)
    draw.rectangle((0, 0, 60, 11), fill=0)
    draw.text((2, 0), "AP 12:33", fill=255)
    return altered


ALTERED: dict[str, Alter] = {
    "jpeg": jpeg,
    "smaller": lambda image: image.resize((90, 80), Image.Resampling.LANCZOS),
    "cropped at a side": crop(left=0.05),
    "cropped all around": crop(left=0.025, top=0.025, right=0.025, bottom=0.025),
    "turned": lambda image: image.rotate(2, Image.Resampling.BILINEAR),
    "gamma 0.5": levels(lambda grey: grey**0.5),
    "gamma 2": levels(lambda grey: grey**2),
    "brighter": levels(lambda grey: 0.8 * grey + 0.15),
    "windowed": levels(lambda grey: (grey - 0.2) / 0.7),
    "equalised": ImageOps.equalize,
    "mirrored": ImageOps.mirror,
    "labelled": labelled,
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_altered_copies_are_found(chests: list[Image.Image], people: np.ndarray, alter: Alter) -> None:
    copies = np.stack([thumbnail(alter(chest)) for chest in chests])
    found = exposures(np.concatenate([people, copies]))
    assert found <= {(row, row + PEOPLE) for row in range(PEOPLE)}
    assert len(found) >= 0.75 * PEOPLE  # the hash loses some crops; all else is found


def test_other_people_and_images_of_one_patient_are_not_found(people: np.ndarray) -> None:
    assert exposures(people) == set()
    assert exposures(np.concatenate([people, people]), np.tile(np.arange(PEOPLE), 2)) == set()
    drawn = [brain_mri(seed=3, index=index, size_px=64).image[..., 0] for index in range(80)]
    brains = np.stack([thumbnail(Image.fromarray(np.ascontiguousarray(image))) for image in drawn])
    assert exposures(brains, np.array([brain_patient(index) for index in range(80)])) == set()


def test_figures_do_not_depend_on_the_company(people: np.ndarray) -> None:
    pixels = np.concatenate([people, people[:4, ::-1, ::-1], np.roll(people, 1, axis=2)])
    alone = pixels[[2, 2 + PEOPLE + 4]]
    (pair,) = find_pairs(alone, np.arange(2), np.ones(2, bool))
    among = find_pairs(pixels, np.arange(len(pixels)), np.ones(len(pixels), bool))
    (same,) = (one for one in among if (one.first, one.second) == (2, 2 + PEOPLE + 4))
    assert (same.correlation, same.detail) == pytest.approx((pair.correlation, pair.detail), abs=1e-4)


def test_only_fresh_rows_are_compared(people: np.ndarray) -> None:
    pixels = np.concatenate([people[:3]] * 3)
    fresh = np.arange(9) >= 6
    pairs = {(pair.first, pair.second) for pair in find_pairs(pixels, np.arange(9), fresh)}
    assert pairs == {(row, 6 + row) for row in range(3)} | {(3 + row, 6 + row) for row in range(3)}


def test_hash_is_the_signs_of_the_cosine_transform(people: np.ndarray) -> None:
    images = equalised(people)
    waves = dctn(images.astype(np.float64), axes=(1, 2))[:, :9, :9].reshape(PEOPLE, -1)[:, 1:65]
    bits = np.unpackbits(perceptual_hash(images)[:, None].view(np.uint8), axis=1)
    sure = np.abs(waves) > 1e-3
    assert (bits == (waves > 0))[sure].all()


def test_hash_of_strangers_differs(people: np.ndarray) -> None:
    hashes = perceptual_hash(equalised(people))
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert np.median(distances[np.triu_indices(PEOPLE, 1)]) > MAX_BITS


def test_equalised_is_scipys_mid_ranks(people: np.ndarray) -> None:
    ranks = equalised(people[:3])
    for image, found in zip(people, ranks, strict=False):
        expected = (rankdata(image, "average").reshape(64, 64) - 0.5) / image.size
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "flat"),
    [
        (np.full((64, 64), 7, np.uint8), True),
        (np.full((64, 64), 7, np.uint8) + np.eye(64, dtype=np.uint8) * 200, True),
        (np.arange(4096).reshape(64, 64).astype(np.uint8) % 3, True),
        (np.arange(4096).reshape(64, 64).astype(np.uint8), False),
    ],
)
def test_images_that_show_nothing(people: np.ndarray, pixels: np.ndarray, flat: bool) -> None:
    assert is_flat(pixels) == flat
    assert not any(map(is_flat, people))
