"""Cases at one size: pixels as Pillow resizes them, in arrays that are views of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xferlab.data.cache import ImageTable, resized
from xferlab.data.sources import Decoded, open_source
from xferlab.data.sources.manifest import ManifestSource


@pytest.fixture
def opened(folder: Any, opener: Any) -> Callable[..., ImageTable]:
    """Opens the table of all images at a size."""
    return lambda size_px=16: opener(folder.section(), size=size_px)


def test_pixels_are_those_of_pillow(folder: Any, tmp_path: Path, opened: Any) -> None:
    table = opened()
    assert (table.images.shape, table.images.dtype) == ((6, 1, 16, 16), np.uint8)
    assert (table.targets.shape, table.targets.dtype) == ((6, 16, 16), np.uint8)
    source = open_source("s", folder.section(), memo_dir=tmp_path / "memo")
    for case in source.cases():
        (row,) = table.rows([case.digest])
        with Image.open(folder.root / case.name) as image:
            expected = image.resize((16, 16), Image.Resampling.BILINEAR)
        assert (table.images[row, 0] == np.asarray(expected)).all()
        assert set(np.unique(table.targets[row])) <= {0, 127, 255}
        assert (table.targets[row] == 255).any()
    assert np.isnan(table.spacing_mm).all()
    assert list(table.digests) == sorted(table.digests)


def test_arrays_are_views_of_a_read_only_map(opened: Any) -> None:
    table = opened()
    for array in (table.images, table.targets, table.spacing_mm):
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.c_contiguous


def test_another_size_is_another_table(opened: Any, decoded: list[str]) -> None:
    assert opened(size_px=16).images.shape[-1] == 16
    assert opened(size_px=32).images.shape[-2:] == (32, 32)
    assert len(decoded) == 12


def test_spacing_follows_the_size(folder: Any, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: ManifestSource, case: Any) -> Decoded:
        return Decoded(np.zeros((40, 20), np.uint8), np.zeros((40, 20), np.uint8), (0.5, 0.25))

    monkeypatch.setattr(ManifestSource, "decode", decode)
    assert opened().spacing_mm.tolist() == [[0.5 * 40 / 16, 0.25 * 20 / 16]] * 6


def test_resizing_is_antialiased_and_masks_keep_their_values() -> None:
    fine = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (32, 32))
    image, target = resized(Decoded(fine, np.where(fine > 0, 255, 127).astype(np.uint8)), 8)
    assert image.shape == (1, 8, 8)
    assert np.abs(image.astype(int) - 100).max() <= 1
    assert set(np.unique(target)) <= {127, 255}
    colour, _ = resized(Decoded(fine[..., None].repeat(3, -1), fine), 8)
    assert (colour == image).all()
    assert colour.shape == (3, 8, 8)
