"""Cases at the size that they have: the same promises as the resized cache, and pixels as decoded."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.data.conftest import Folder, make_image, make_mask, settle
from xferlab.data import cache
from xferlab.data.cache import NativeTable, open_native, open_table
from xferlab.data.index import index_sections
from xferlab.data.sources import Decoded, open_source
from xferlab.data.sources.manifest import ManifestSource
from xferlab.errors import DataError, StorageError

SIZES = [(40, 30), (1, 1), (3, 200), (257, 2), (64, 64), (31, 33)]


@pytest.fixture
def many_sizes(folder: Folder) -> Folder:
    """A manifest folder with six cases of six sizes."""
    for number, (height, width) in enumerate(SIZES):
        image, mask = make_image(number, height=height, width=width), make_mask(height=height, width=width)
        mask[0, 0] = (255, 127, 0)[number % 3]
        for kind, pixels in (("images", image), ("masks", mask)):
            path = folder.root / f"{kind}/{number}.png"
            Image.fromarray(pixels).save(path)
            settle(path)
    return folder


@pytest.fixture
def opened(many_sizes: Folder, tmp_path: Path) -> Callable[..., NativeTable]:
    """Opens the native table of a section, by default for all of its cases."""

    def opener(config: Any = None, *, digests: Any = None, progress: Any = None) -> NativeTable:
        config = config or many_sizes.section()
        if digests is None:
            cases = index_sections({"s": config}, memo_dir=tmp_path / "memo")["s"]
            digests = [case.digest for case in cases]
        return open_native("s", config, digests=digests, cache_dir=tmp_path / "cache", progress=progress)

    return opener


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that were decoded, in the order of completion."""
    names: list[str] = []
    decode = ManifestSource.decode

    def counting(self: ManifestSource, case: Any) -> Decoded:
        names.append(case.name)
        return decode(self, case)

    monkeypatch.setattr(ManifestSource, "decode", counting)
    return names


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


def test_known_cases_need_neither_decoding_nor_files(
    many_sizes: Folder, opened: Any, decoded: list[str]
) -> None:
    first, config = opened(), many_sizes.section()
    shutil.rmtree(many_sizes.root)
    again = opened(config, digests=list(reversed(first.digests))[:2])
    assert len(decoded) == 6
    assert again.digests == first.digests


def test_filters_and_new_cases_share_the_work(many_sizes: Folder, opened: Any, decoded: list[str]) -> None:
    portable = opened(many_sizes.section(where={"device": "portable"}))
    assert sorted(decoded) == ["images/0.png", "images/3.png"]
    many_sizes.rows.append(many_sizes.add(6))
    many_sizes.write()
    everything = opened()
    assert sorted(decoded) == [f"images/{number}.png" for number in range(7)]
    for old, row in enumerate(everything.rows(portable.digests)):
        assert (everything.image(row) == portable.image(old)).all()
        assert (everything.target(row) == portable.target(old)).all()


def test_resized_tables_are_apart(many_sizes: Folder, tmp_path: Path, opened: Any) -> None:
    table = opened()
    square = open_table(
        "s", many_sizes.section(), size_px=16, digests=table.digests, cache_dir=tmp_path / "cache"
    )
    folders = {path.parent.name: path.name for path in (tmp_path / "cache").rglob("*.arrow")}
    assert set(folders) == {"native", "16px"}
    assert len(set(folders.values())) == 1
    assert square.digests == table.digests


def test_all_bad_cases_at_once_and_nothing_is_left(many_sizes: Folder, tmp_path: Path, opened: Any) -> None:
    for name in ("images/1.png", "masks/4.png"):
        (many_sizes.root / name).write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        opened()
    assert sorted(Path(p.where).name for p in caught.value.problems) == ["1.png", "4.png"]
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.suffix in (".arrow", ".tmp")]
    assert left == []


def test_files_that_changed_since_the_plan(opened: Any) -> None:
    with pytest.raises(DataError, match=r"data\.s: 1 of 1 planned cases are not there any more, such as abc"):
        opened(digests=["abc"])


@pytest.mark.parametrize("keep", [0, 100, -9])
def test_torn_table_is_built_again(tmp_path: Path, opened: Any, decoded: list[str], keep: int) -> None:
    images = [np.array(opened().image(row)) for row in range(6)]
    (path,) = (tmp_path / "cache").rglob("*.arrow")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:keep])
    table = opened()
    assert all((table.image(row) == image).all() for row, image in enumerate(images))
    assert len(decoded) == 12


def test_leftovers_of_killed_builders_are_removed(tmp_path: Path, opened: Any) -> None:
    folder = tmp_path / "cache" / f"tables-v{cache.CACHE_VERSION}" / "native"
    folder.mkdir(parents=True)
    (folder / "dead.images.tmp").write_bytes(b"x")
    (folder / "alive.images.tmp").write_bytes(b"x")
    with FileLock(folder / "alive.lock"):
        opened()
    assert [path.name for path in folder.glob("*.tmp")] == ["alive.images.tmp"]


def test_who_waits_for_a_builder_does_not_build(opened: Any, decoded: list[str]) -> None:
    barrier = threading.Barrier(3)
    tables: list[NativeTable] = []

    def open_together() -> None:
        barrier.wait()
        tables.append(opened())

    threads = [threading.Thread(target=open_together) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 6
    assert all((table.image(5) == tables[0].image(5)).all() for table in tables)


def test_full_disk(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(file: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device\. .*XFERLAB_CACHE"):
        opened()
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_progress_counts_every_case_once(opened: Any) -> None:
    calls: list[tuple[int, int]] = []
    opened(progress=lambda *call: calls.append(call))
    assert calls == [(number, 6) for number in range(1, 7)]


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
