"""Files that change between planning and decoding: no other pixels are taken for those of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import (
    data_section,
    index_sections,
    make_image,
    make_mask,
    replace_keeping_times,
)
from tests.data.test_dicom import write as write_dicom
from tests.refusals import problems_of
from xferlab.data import memo
from xferlab.data.cache import open_table
from xferlab.data.check import check_sections
from xferlab.data.sources.registry import open_source
from xferlab.errors import DataError, FileUnavailableError
from xferlab.leakage.index import StudyIndex

pytestmark = pytest.mark.usefixtures("remembering", "stamps_that_lie")
CHANGED = "changed since the study was planned: its SHA-256 was "


@pytest.fixture
def stamps_that_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of which only size and modification time are of use, such as a mounted bucket."""
    monkeypatch.setattr(memo, "stamp_of", lambda status: (status.st_size, status.st_mtime_ns, 0, 0))


def save_tiff(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def save_dicom(path: Path, pixels: np.ndarray) -> None:
    write_dicom(path, pixels.astype(np.uint16), SOPInstanceUID="1.2")


class Data:
    """A section of two cases whose files have equal sizes, so that any can take the place of another."""

    def __init__(self, root: Path, config: Any, image: str, mask: str):
        self.root, self.config, self.image, self.mask = root, config, root / image, root / mask

    def change(self, kind: str) -> Path:
        path: Path = getattr(self, kind)
        data = bytearray(path.read_bytes())
        first = 600 if kind == "image" else data.index(b"\xff" * 8)
        data[first : first + 8] = b"\0" * 8
        replace_keeping_times(path, bytes(data))
        return path


@pytest.fixture(params=["tif", "dcm", "lgg"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    root, kind = tmp_path / "pack", request.param
    if kind == "lgg":
        folder = root / "TCGA_AA_1_19990101"
        folder.mkdir(parents=True)
        for number in (1, 2):
            pixels = np.dstack([make_image(number + channel) for channel in (0, 10, 20)])
            save_tiff(folder / f"{folder.name}_{number}.tif", pixels)
            save_tiff(folder / f"{folder.name}_{number}_mask.tif", make_mask())
        config = data_section(source="lgg", root=str(root), drop_ends=0)
        name = f"{folder.name}/{folder.name}_1"
        return Data(root, config, f"{name}.tif", f"{name}_mask.tif")
    root.mkdir()
    for number in (1, 2):
        (save_dicom if kind == "dcm" else save_tiff)(root / f"{number}.{kind}", make_image(number))
        save_tiff(root / f"{number}_mask.tif", make_mask())
    lines = [f"{number}.{kind},{number}_mask.tif,p{number},normal" for number in (1, 2)]
    (root / "metadata.csv").write_text("\n".join(["image,mask,patient_id,pathology", *lines]))
    return Data(root, data_section(source="manifest", root=str(root)), f"1.{kind}", "1_mask.tif")


def digests(config: Any, tmp_path: Path) -> list[str]:
    results = index_sections({"s": config}, memo_dir=tmp_path / "cache" / "digests")["s"]
    return sorted(case.digest for case in results)


@pytest.mark.parametrize("size", [16, "native"])
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_no_changed_file_enters_the_image_cache(data: Data, kind: str, size: Any, tmp_path: Path) -> None:
    planned = digests(data.config, tmp_path)
    path = data.change(kind)
    assert digests(data.config, tmp_path) == planned  # the memo is deceived
    cache_dir = tmp_path / "cache"
    refused = problems_of(
        DataError, open_table, {"s": data.config}, size=size, digests=planned, cache_dir=cache_dir
    )
    assert {(problem.where, problem.what.startswith(CHANGED)) for problem in refused} == {(str(path), True)}
    assert not list(cache_dir.rglob("*.images"))
    again = digests(data.config, tmp_path)
    assert again != planned
    table = open_table({"s": data.config}, size=size, digests=again, cache_dir=cache_dir)
    assert sorted(table.digests) == again


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_changed_file_is_compared_with_no_other_and_check_names_it(
    data: Data, kind: str, tmp_path: Path
) -> None:
    digests(data.config, tmp_path)
    path = data.change(kind)
    memo_path = next((tmp_path / "cache" / "digests").iterdir())
    remembered = memo_path.read_bytes()
    with pytest.raises(FileUnavailableError, match=f"{path.name}: {CHANGED}"):
        StudyIndex({"s": data.config}, memo_dir=tmp_path / "cache" / "digests")
    memo_path.write_bytes(remembered)
    results = check_sections({"s": data.config}, memo_dir=tmp_path / "cache" / "digests")
    changes = [problem for problem in results if CHANGED in problem.what]
    assert {(problem.where, problem.severity) for problem in changes} == {(str(path), "error")}


def test_a_mask_that_changes_while_its_lesions_are_looked_for_is_reported(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lesion DIGEST` is remembered for good: it may follow from no other bytes."""
    if data.config.source != "lgg":
        return
    read = memo.FileMemo.read

    def changing(self: memo.FileMemo, name: str, sha256: str) -> bytes:
        if data.mask.exists() and name.endswith("_1_mask.tif"):
            replace_keeping_times(data.mask, data.mask.read_bytes().replace(b"\xff", b"\0"))
        return read(self, name, sha256)

    with monkeypatch.context() as patch:
        patch.setattr(memo.FileMemo, "read", changing)
        with pytest.raises(DataError, match=f"_1_mask.tif: {CHANGED}"):
            digests(data.config, tmp_path)
    results = index_sections({"s": data.config}, memo_dir=tmp_path / "cache" / "digests")["s"]
    assert [case.pathology for case in results] == ["no_tumour", "tumour"]


def test_what_is_decoded_are_the_bytes_that_were_compared(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is gone as soon as it was read once: nothing is read a second time."""
    source = open_source("s", data.config, memo_dir=tmp_path / "memo")
    case = next(case for case in source.cases() if case.name in str(data.image))
    expected = source.decode(case)
    read = memo.FileMemo.read

    def read_once(self: memo.FileMemo, name: str, sha256: str) -> bytes:
        results = read(self, name, sha256)
        (self.root / name).unlink()
        return results

    monkeypatch.setattr(memo.FileMemo, "read", read_once)
    decoded = source.decode(case)
    assert (decoded.image == expected.image).all()
    assert (decoded.targets == expected.targets).all()
    assert not data.image.exists()
    assert not data.mask.exists()


def test_sections_that_share_a_file_forget_what_they_remember_of_it(data: Data, tmp_path: Path) -> None:
    if data.config.source != "manifest":
        return
    shared = data.config.model_copy(update={"where": {"pathology": "normal"}})
    sections = {"s": data.config, "t": shared}
    memo_dir = tmp_path / "cache" / "digests"
    before = index_sections(sections, memo_dir=memo_dir)
    data.change("mask")
    with pytest.raises(FileUnavailableError, match=CHANGED):
        StudyIndex(sections, memo_dir=memo_dir)
    after = index_sections(sections, memo_dir=memo_dir)
    assert after["s"] == after["t"] != before["s"]
