"""Pixels in tables: those of the source or of Pillow, in arrays that are views of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import SIZES, Folder
from xferlab.data.cache import open_table, resized
from xferlab.data.sources.manifest.reading import ManifestSource
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Decoded


def test_native_pixels_are_those_of_the_source(many_sizes: Folder, tmp_path: Path, opener: Any) -> None:
    table = opener(many_sizes.section(), size="native")
    source = open_source("s", many_sizes.section(), memo_dir=tmp_path / "memo")
    for case in source.cases():
        (row,) = table.rows([case.digest])
        expected = source.decode(case)
        assert (table.image(row).shape, table.image(row).dtype) == ((1, *expected.image.shape), np.uint8)
        assert (table.image(row)[0] == expected.image).all()
        assert (table.targets_of(row) == expected.targets).all()
    assert sorted(map(tuple, table.sizes.tolist())) == sorted(SIZES)
    assert {0, 127, 255} == set(
        np.concatenate([np.unique(table.targets_of(row)) for row in range(6)]).tolist()
    )
    assert np.isnan(table.spacing_mm).all()


def test_resized_pixels_are_those_of_pillow(folder: Folder, tmp_path: Path, opener: Any) -> None:
    table = opener(folder.section(), size=16)
    assert (table.images.shape, table.images.dtype) == ((6, 1, 16, 16), np.uint8)
    assert (table.targets.shape, table.targets.dtype) == ((6, 1, 16, 16), np.uint8)
    for case in open_source("s", folder.section(), memo_dir=tmp_path / "memo").cases():
        (row,) = table.rows([case.digest])
        with Image.open(folder.root / case.name) as image:
            expected = image.resize((16, 16), Image.Resampling.BILINEAR)
        image, target, _ = table.case(case.digest)
        assert (image[0] == np.asarray(expected)).all()
        assert (table.images[row] == image).all()
        assert (table.targets[row] == target).all()
        assert 255 in np.unique(target)
        assert set(np.unique(target)) <= {0, 127, 255}


def test_arrays_are_views_of_a_read_only_map(many_sizes: Folder, folder: Folder, opener: Any) -> None:
    square, native = (opener(many_sizes.section(), size=size) for size in (16, "native"))
    for array in (square.images, square.targets, native.image(3), native.targets_of(3)):
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    assert np.shares_memory(native.image(3), native.pixels[0])


def test_three_channels_come_first(section: Any, tmp_path: Path) -> None:
    config = section(source="phantom_mri", count=2, size_px=32)
    source = open_source("m", config, memo_dir=tmp_path)
    digests = [case.digest for case in source.cases()]
    table = open_table({"m": config}, size="native", digests=digests, cache_dir=tmp_path / "cache")
    for case in source.cases():
        assert (table.case(case.digest)[0] == source.decode(case).image.transpose(2, 0, 1)).all()


def test_each_size_has_a_table(folder: Folder, tmp_path: Path, opener: Any, decoded: list[str]) -> None:
    for size in (16, 32, "native"):
        opener(folder.section(), size=size)
    files = {path.parent.name: path.name for path in (tmp_path / "cache").rglob("*.images")}
    assert set(files) == {"native", "16px", "32px"}
    assert len(set(files.values())) == 1
    assert len(decoded) == 18


@pytest.mark.parametrize(
    ("size", "spacing_mm"), [("native", [0.5, 0.25]), (16, [0.5 * 40 / 16, 0.25 * 20 / 16])]
)
def test_spacing_follows_the_size(
    folder: Folder, opener: Any, monkeypatch: pytest.MonkeyPatch, size: Any, spacing_mm: list[float]
) -> None:
    def decode(self: ManifestSource, case: Any) -> Decoded:
        return Decoded(np.zeros((40, 20), np.uint8), np.zeros((1, 40, 20), np.uint8), (0.5, 0.25))

    monkeypatch.setattr(ManifestSource, "decode", decode)
    assert opener(folder.section(), size=size).spacing_mm.tolist() == [spacing_mm] * 6


def test_resizing_is_antialiased_and_masks_keep_their_values() -> None:
    fine = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (32, 32))
    image, targets = resized(Decoded(fine, np.where(fine > 0, 255, 127).astype(np.uint8)[None]), 8)
    assert image.shape == targets.shape == (1, 8, 8)
    assert np.abs(image.astype(int) - 100).max() <= 1
    assert set(np.unique(targets)) <= {127, 255}
    colour, _ = resized(Decoded(fine[..., None].repeat(3, -1), fine[None]), 8)
    assert (colour == image).all()
    assert colour.shape == (3, 8, 8)


def test_real_images_are_kept_as_they_are(real_data: Path, section: Any, tmp_path: Path) -> None:
    root = real_data / "covid-lung-native"
    config = section(source="manifest", root=str(root), labels={"lung": [255], "ignore": [127]})
    cases = open_source("native", config, memo_dir=tmp_path / "memo").cases()
    digests = [case.digest for case in cases]
    table = open_table({"native": config}, size="native", digests=digests, cache_dir=tmp_path / "cache")
    for case in cases:
        _, (target,), _ = table.case(case.digest)
        with Image.open(root / case.name) as image:
            assert target.shape == image.size[::-1]
        assert set(np.unique(target)) <= {0, 127, 255}
        assert (target == 255).any()
