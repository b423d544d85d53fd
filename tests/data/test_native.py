"""Cases at the size that they have: pixels as decoded, in arrays that are views of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import SIZES, Folder
from xferlab.data.cache import NativeTable, open_native, open_table
from xferlab.data.sources import Decoded, open_source
from xferlab.data.sources.manifest import ManifestSource


@pytest.fixture
def opened(many_sizes: Folder, opener: Any) -> Callable[..., NativeTable]:
    """Opens the native table of all images."""
    return lambda: opener(many_sizes.section(), size="native")


def test_pixels_are_those_of_the_source(many_sizes: Folder, tmp_path: Path, opened: Any) -> None:
    table = opened()
    source = open_source("s", many_sizes.section(), memo_dir=tmp_path / "memo")
    assert list(table.digests) == sorted(table.digests)
    for case in source.cases():
        (row,) = table.rows([case.digest])
        expected = source.decode(case)
        assert table.size(row) == expected.target.shape
        assert (table.image(row).shape, table.image(row).dtype) == ((1, *table.size(row)), np.uint8)
        assert (table.image(row)[0] == expected.image).all()
        assert (table.target(row) == expected.target).all()
    assert sorted(table.size(row) for row in range(6)) == sorted(SIZES)
    assert {0, 127, 255} == set(np.concatenate([np.unique(table.target(row)) for row in range(6)]).tolist())
    assert np.isnan(table.spacing_mm).all()


def test_arrays_are_views_of_a_read_only_map(opened: Any) -> None:
    table = opened()
    arrays = [table.spacing_mm, table.sizes, table.images.values, table.targets.values]
    arrays += [table.image(3), table.target(3)]
    for array in arrays:
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.c_contiguous
    assert np.shares_memory(table.image(3), table.images.values)
    assert np.shares_memory(table.target(3), table.targets.values)


def test_three_channels_come_first(section: Any, tmp_path: Path) -> None:
    config = section(source="phantom_mri", count=2, size_px=32)
    source = open_source("m", config, memo_dir=tmp_path)
    digests = [case.digest for case in source.cases()]
    table = open_native("m", config, digests=digests, cache_dir=tmp_path / "cache")
    for case, row in zip(source.cases(), table.rows(digests), strict=True):
        assert (table.image(row) == source.decode(case).image.transpose(2, 0, 1)).all()


def test_resized_tables_are_apart(many_sizes: Folder, tmp_path: Path, opened: Any) -> None:
    table = opened()
    square = open_table(
        "s", many_sizes.section(), size_px=16, digests=table.digests, cache_dir=tmp_path / "cache"
    )
    folders = {path.parent.name: path.name for path in (tmp_path / "cache").rglob("*.arrow")}
    assert set(folders) == {"native", "16px"}
    assert len(set(folders.values())) == 1
    assert square.digests == table.digests


def test_spacing_is_that_of_the_source(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: ManifestSource, case: Any) -> Decoded:
        return Decoded(np.zeros((40, 20), np.uint8), np.zeros((40, 20), np.uint8), (0.5, 0.25))

    monkeypatch.setattr(ManifestSource, "decode", decode)
    assert opened().spacing_mm.tolist() == [[0.5, 0.25]] * 6


def test_real_images_are_kept_as_they_are(real_data: Path, section: Any, tmp_path: Path) -> None:
    root = real_data / "covid-lung-native"
    labels = {"lung": [255], "ignore": [127]}
    config = section(source="manifest", root=str(root), labels=labels)
    source = open_source("native", config, memo_dir=tmp_path / "memo")
    cases = source.cases()
    table = open_native(
        "native", config, digests=[case.digest for case in cases], cache_dir=tmp_path / "cache"
    )
    for case in cases:
        (row,) = table.rows([case.digest])
        with Image.open(root / case.name) as image:
            assert table.size(row) == image.size[::-1]
        assert set(np.unique(table.target(row))) <= {0, 127, 255}
        assert (table.target(row) == 255).any()
