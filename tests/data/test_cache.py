"""The cache: right pixels, zero copies, built once, shared by all that use the same cases."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock
from PIL import Image

from xferlab.data import cache
from xferlab.data.cache import ImageTable, default_cache_dir, open_table, resized
from xferlab.data.index import index_sections
from xferlab.data.sources import Decoded, open_source
from xferlab.data.sources.manifest import ManifestSource
from xferlab.errors import DataError, StorageError


@pytest.fixture
def opened(folder: Any, tmp_path: Path) -> Callable[..., ImageTable]:
    """Opens the table of a section, by default for all of its cases."""

    def opener(
        config: Any = None, *, digests: Any = None, size_px: int = 16, progress: Any = None
    ) -> ImageTable:
        config = config or folder.section()
        if digests is None:
            cases = index_sections({"s": config}, memo_dir=tmp_path / "memo")["s"]
            digests = [case.digest for case in cases]
        return open_table(
            "s", config, size_px=size_px, digests=digests, cache_dir=tmp_path / "cache", progress=progress
        )

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


def test_known_cases_need_neither_decoding_nor_files(folder: Any, opened: Any, decoded: list[str]) -> None:
    first = opened()
    assert len(decoded) == 6
    config = folder.section()
    for path in folder.root.rglob("*.*"):
        path.unlink()
    again = opened(config, digests=list(reversed(first.digests))[:2])
    assert len(decoded) == 6
    assert (again.images == first.images).all()


def test_filters_and_sections_share_the_work(folder: Any, opened: Any, decoded: list[str]) -> None:
    portable = opened(folder.section(where={"device": "portable"}))
    assert sorted(decoded) == ["images/0.png", "images/3.png"]
    everything = opened()
    assert sorted(decoded) == [f"images/{n}.png" for n in (0, 1, 2, 3, 4, 5)]
    opened(folder.section(where={"device": "fixed"}, same_patient=[["p1", "p2"]]))
    assert len(decoded) == 6
    rows = everything.rows(portable.digests)
    assert (everything.images[rows] == portable.images).all()
    assert (everything.targets[rows] == portable.targets).all()


def test_another_size_is_another_table(opened: Any, decoded: list[str]) -> None:
    assert opened(size_px=16).images.shape[-1] == 16
    assert opened(size_px=32).images.shape[-2:] == (32, 32)
    assert len(decoded) == 12


def test_new_cases_are_added_to_what_is_known(folder: Any, opened: Any, decoded: list[str]) -> None:
    opened()
    folder.rows.append(folder.add(6))
    folder.write()
    assert len(opened().digests) == 7
    assert decoded[6:] == ["images/6.png"]


def test_progress_counts_every_case_once(opened: Any) -> None:
    calls: list[tuple[int, int]] = []
    opened(progress=lambda *call: calls.append(call))
    assert calls == [(n, 6) for n in range(1, 7)]


def test_rows_follow_the_request(opened: Any) -> None:
    table = opened()
    assert table.rows(list(reversed(table.digests))).tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(DataError, match="1 of 2 cases are not in this table, such as abc"):
        table.rows([table.digests[0], "abc"])


def test_all_bad_cases_at_once_and_nothing_is_left(folder: Any, tmp_path: Path, opened: Any) -> None:
    for name in ("images/1.png", "masks/4.png"):
        (folder.root / name).write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        opened()
    assert sorted(Path(p.where).name for p in caught.value.problems) == ["1.png", "4.png"]
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.suffix in (".arrow", ".tmp")]
    assert left == []


def test_files_that_changed_since_the_plan(folder: Any, opened: Any) -> None:
    with pytest.raises(DataError, match=r"data\.s: 1 of 1 planned cases are not there any more, such as abc"):
        opened(digests=["abc"])


@pytest.mark.parametrize("keep", [0, 100, -9])
def test_torn_table_is_built_again(tmp_path: Path, opened: Any, decoded: list[str], keep: int) -> None:
    images = np.array(opened().images)
    (path,) = (tmp_path / "cache").rglob("*.arrow")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:keep])
    assert (opened().images == images).all()
    assert len(decoded) == 12


def test_table_of_another_kind_is_built_again(tmp_path: Path, opened: Any, decoded: list[str]) -> None:
    opened()
    (path,) = (tmp_path / "cache").rglob("*.arrow")
    batch = pa.RecordBatch.from_pydict({"digest": ["a"]})
    path.unlink()
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    opened()
    assert len(decoded) == 12


def test_leftovers_of_killed_builders_are_removed(tmp_path: Path, opened: Any) -> None:
    folder = tmp_path / "cache" / f"tables-v{cache.CACHE_VERSION}" / "16px"
    folder.mkdir(parents=True)
    (folder / "dead.images.tmp").write_bytes(b"x")
    (folder / "alive.images.tmp").write_bytes(b"x")
    with FileLock(folder / "alive.lock"):
        opened()
    assert [path.name for path in folder.glob("*.tmp")] == ["alive.images.tmp"]


def test_who_waits_for_a_builder_does_not_build(opened: Any, decoded: list[str]) -> None:
    barrier = threading.Barrier(3)
    tables: list[ImageTable] = []

    def open_together() -> None:
        barrier.wait()
        tables.append(opened())

    threads = [threading.Thread(target=open_together) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 6
    assert all((table.images == tables[0].images).all() for table in tables)


def test_full_disk(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(file: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", write)
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device\. .*XFERLAB_CACHE"):
        opened()
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_cache_folder_that_is_a_file(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match="cache: the image cache cannot be written"):
        opened()


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


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", "/fast/disk")
    assert default_cache_dir() == Path("/fast/disk")
    monkeypatch.delenv("XFERLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/xferlab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "xferlab"
