"""Foreign objects on evaluation images: each a function of case and kind, the rest of the image untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xferlab.phantoms.foreign_objects import DRAWERS, with_objects

DIGESTS = ["aa" * 32, "bb" * 32, "cc" * 32]


def grey(side: int = 64, *, count: int = 3, channels: int = 1, level: int = 60) -> np.ndarray:
    return np.full((count, channels, side, side), level, np.uint8)


@pytest.mark.parametrize("kind", DRAWERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_kind_brightens_a_part_and_leaves_the_rest(kind: str, channels: int) -> None:
    images = grey(channels=channels)
    laid = with_objects(images, DIGESTS, [kind])
    assert (laid.shape, laid.dtype) == (images.shape, np.uint8)
    assert (images == 60).all()
    assert (laid >= images).all()
    share = (laid > images).mean(axis=(1, 2, 3))
    assert ((share > 0) & (share < 0.5)).all()
    assert (laid == laid[:, :1]).all()


def test_a_case_gets_the_same_object_in_any_company() -> None:
    images, kinds = grey(), ["implant", "cable"]
    together = with_objects(images, DIGESTS, kinds)
    for row, digest in enumerate(DIGESTS):
        assert (with_objects(images[row : row + 1], [digest], kinds[::-1]) == together[row]).all()
    assert (together[0] != together[1]).any()


def test_another_kind_moves_nothing() -> None:
    images = grey()
    implant, both = (with_objects(images, DIGESTS, kinds) for kinds in (["implant"], ["implant", "cable"]))
    assert (both >= implant).all()
    assert (both != implant).any()
    two = with_objects(images, DIGESTS, ["cable", "cable"])
    assert ((two > 60).mean() > (with_objects(images, DIGESTS, ["cable"]) > 60).mean()).all()


def test_none_is_a_copy() -> None:
    images = grey()
    laid = with_objects(images, DIGESTS, [])
    assert (laid == images).all()
    assert not np.shares_memory(laid, images)
    assert len(with_objects(images[:0], [], ["cable"])) == 0


@pytest.mark.parametrize("kind", DRAWERS)
def test_place_does_not_depend_on_resolution(kind: str) -> None:
    small, large = (with_objects(grey(side), DIGESTS, [kind])[:, 0] for side in (128, 512))
    for few, many in zip(small, large, strict=True):
        shrunk = np.asarray(Image.fromarray(many).resize((128, 128), Image.Resampling.BOX)).astype(int)
        assert np.abs(shrunk - few).mean() < 0.12 * np.abs(few.astype(int) - 60).mean() + 1.0


def test_real_images_of_any_size(real_data: Path) -> None:
    path = min((real_data / "covid-lung-native" / "images").iterdir())
    with Image.open(path) as opened:
        image = np.asarray(opened.convert("L"))[None, None]
    laid = with_objects(image, DIGESTS[:1], list(DRAWERS))
    assert 0.001 < (laid != image).mean() < 0.5
