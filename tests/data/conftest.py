"""Small data sets in the layouts that sources read."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.data.cache import open_table
from xferlab.data.case_table import CaseTable
from xferlab.data.decode import read_image
from xferlab.data.sources.manifest.reading import ManifestSource
from xferlab.data.sources.registry import DataSection
from xferlab.data.sources.source import Decoded
from xferlab.errors import DataError
from xferlab.leakage.index import open_sources

Section = Callable[..., Any]
COLUMNS = ("image", "mask", "patient_id", "pathology", "device")


def data_section(**fields: Any) -> Any:
    return TypeAdapter(DataSection).validate_python(fields)


def index_sections(sections: Mapping[str, Any], *, memo_dir: Path) -> dict[str, tuple[Case, ...]]:
    """The cases of each section."""
    return {name: source.survey.cases for name, source in open_sources(sections, memo_dir).items()}


def cases_of(config: Any, tmp_path: Path) -> tuple[Case, ...]:
    """The cases of one section, with a memo in the test's folder."""
    return index_sections({"s": config}, memo_dir=tmp_path / "memo")["s"]


def digests_of(config: Any, tmp_path: Path) -> list[str]:
    return [case.digest for case in cases_of(config, tmp_path)]


@pytest.fixture
def section() -> Section:
    """Validates a data section as the study does."""
    return data_section


def make_image(seed: int, *, height: int = 40, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def make_mask(*, height: int = 40, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    return mask


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the memo remember files that were written a moment ago."""
    monkeypatch.setattr("xferlab.data.memo._RACY_S", 0.0)


def await_tick(path: Path) -> None:
    """Returns when a change of a file would give it another change time: within milliseconds."""
    probe, changed_ns = path.with_name(".tick"), path.stat().st_ctime_ns
    probe.touch()
    while probe.stat().st_ctime_ns <= changed_ns:
        probe.touch()
    probe.unlink()


def replace_keeping_times(path: Path, content: bytes) -> None:
    """Puts another file in a file's place, as an archive does that keeps sizes and time stamps."""
    status = path.stat()
    assert len(content) == status.st_size
    new = path.with_name("new")
    new.write_bytes(content)
    os.replace(new, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def refusal(path: Path, read: Callable[[Path], object] = read_image, *, content: bytes | None = None) -> str:
    """What is said of a file that is refused, which gets this content before."""
    if content is not None:
        path.write_bytes(content)
    (problem,) = problems_of(DataError, read, path)
    assert problem.where == str(path)
    return problem.what


def write_rows(root: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> None:
    with open(root / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class Folder:
    """A manifest folder in the making: `count` cases of as many patients, every third portable."""

    def __init__(self, root: Path, count: int):
        self.root = root
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        self.rows = [self.add(number) for number in range(count)]
        self.write()

    def put(self, name: str, image: np.ndarray, mask: np.ndarray, **cells: str) -> dict[str, str]:
        """Saves image and mask, and returns their row."""
        paths = {"image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        for path, pixels in zip(paths.values(), (image, mask), strict=True):
            Image.fromarray(pixels).save(self.root / path)
        return {**paths, "patient_id": f"p{name}", "pathology": "covid19", **cells}

    def add(self, number: int) -> dict[str, str]:
        mask = make_mask()
        mask[2 - 2 * (number % 2), number // 2] = 255 if number else 0  # no two masks are equal
        mask[1, 1] = 127
        pathology, device = ("covid19", "normal")[number % 2], "fixed" if number % 3 else "portable"
        return self.put(str(number), make_image(number), mask, pathology=pathology, device=device)

    def write(self) -> None:
        write_rows(self.root, self.rows)

    def section(self, **fields: Any) -> Any:
        labels = {"lung": [255], "ignore": [127]}
        return data_section(**{"source": "manifest", "root": str(self.root), "labels": labels} | fields)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A manifest folder with six good cases."""
    return Folder(tmp_path / "pack", 6)


SIZES = [(40, 30), (1, 1), (3, 200), (257, 2), (64, 64), (31, 33)]


@pytest.fixture
def many_sizes(folder: Folder) -> Folder:
    """A manifest folder with six cases of six sizes."""
    for number, (height, width) in enumerate(SIZES):
        mask = make_mask(height=height, width=width)
        mask[0, 0] = (255, 127, 0)[number % 3]
        folder.put(str(number), make_image(number, height=height, width=width), mask)
    return folder


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


@pytest.fixture
def opener(tmp_path: Path) -> Callable[..., CaseTable]:
    """Opens a section's table at a size, by default for all of its cases."""

    def open_all(config: Any, *, size: Any, digests: Any = None, progress: Any = None) -> CaseTable:
        if digests is None:
            digests = digests_of(config, tmp_path)
        cache_dir = tmp_path / "cache"
        return open_table({"s": config}, size=size, digests=digests, cache_dir=cache_dir, progress=progress)

    return open_all
