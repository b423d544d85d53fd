"""Pixel spacing that a table gives: measured as that of a header, part of the digest, no contradiction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import COLUMNS, Folder, digests_of, write_rows
from tests.data.test_dicom import write as write_dicom
from tests.studies import noise, write_study
from xferlab.cli.main import BAD_INPUT, COMPLETE, main
from xferlab.data.sources.registry import open_source
from xferlab.errors import DataError
from xferlab.metrics.measuring import measure

TABLE = (*COLUMNS, "spacing_mm")


def give(folder: Folder, cells: dict[int, str]) -> None:
    """Writes the table with the column."""
    rows = [{**row, "spacing_mm": cells.get(number, "")} for number, row in enumerate(folder.rows)]
    write_rows(folder.root, rows, TABLE)


def add_dicom(folder: Folder, **fields: Any) -> None:
    """Makes the first image a DICOM file of the same grey levels."""
    with Image.open(folder.root / "images/0.png") as image:
        pixels = np.asarray(image).astype(np.uint16)
    write_dicom(folder.root / "images/0.dcm", pixels, WindowCenter=128, WindowWidth=256, **fields)
    folder.rows[0]["image"] = "images/0.dcm"


@pytest.mark.parametrize("size", ["native", 16])
def test_distances_are_those_of_a_header(folder: Folder, tmp_path: Path, opener: Any, size: Any) -> None:
    """In millimetres, a PNG with the column and a DICOM file with the same spacing have one HD95."""
    found = []
    for is_dicom in (False, True):
        give(folder, {0: "" if is_dicom else "0.2 x 0.35"})
        if is_dicom:
            add_dicom(folder, PixelSpacing=[0.2, 0.35])
            give(folder, {})
        config = folder.section()
        case = next(c for c in open_source("s", config, memo_dir=tmp_path).cases() if c.patient == "p0")
        image, targets, spacing = opener(config, size=size).case(case.digest)
        target = targets[0] == 255
        output = np.roll(target, (3, 1), axis=(0, 1)).astype(np.float32)
        found.append((image, measure(output, target, spacing_mm=(float(spacing[0]), float(spacing[1])))))
    (png, by_table), (dicom, by_header) = found
    assert (png == dicom).all()
    assert by_table["HD95_mm"] == by_header["HD95_mm"] > 0
    assert by_table["HD95_mm"] != by_table["HD95_px"] == by_header["HD95_px"]


def test_only_cases_with_the_column_get_another_digest(folder: Folder, tmp_path: Path) -> None:
    before = digests_of(folder.section(), tmp_path)
    give(folder, {})
    assert digests_of(folder.section(), tmp_path) == before
    renewed = []
    for cell in ("0.2", "0.20x0.2", "0.2 x 0.3"):
        give(folder, {3: cell})
        after = digests_of(folder.section(), tmp_path)
        (number,) = (row for row in range(6) if after[row] != before[row])
        renewed.append((number, after[number]))
    assert [number for number, _ in renewed] == [3, 3, 3]
    assert renewed[0] == renewed[1] != renewed[2]  # what counts is the spacing, however it is written


@pytest.mark.parametrize("cell", ["0", "-1", "0,2", "1x2x3", "nan", "wide", "0.2 x"])
def test_a_cell_that_is_no_spacing_is_an_error(folder: Folder, tmp_path: Path, cell: str) -> None:
    give(folder, {2: cell})
    (problem,) = open_source("s", folder.section(), memo_dir=tmp_path).survey.problems
    assert (problem.severity, problem.where.endswith("metadata.csv:4")) == ("error", True)
    assert f"spacing_mm {cell!r} is no pixel spacing; accepted is one positive number" in problem.what


@pytest.mark.parametrize(("cell", "used"), [("0.2", (0.1999, 0.2)), ("0.3", None), ("0.2 x 0.25", None)])
def test_a_header_wins_and_may_not_be_contradicted(
    folder: Folder, tmp_path: Path, cell: str, used: tuple[float, float] | None
) -> None:
    add_dicom(folder, PixelSpacing=[0.1999, 0.2])
    give(folder, {0: cell})
    source = open_source("s", folder.section(), memo_dir=tmp_path)
    case = next(case for case in source.cases() if case.patient == "p0")
    if used:
        assert source.decode(case).spacing_mm == used
    else:
        what = r"metadata.csv:2: spacing_mm is .* mm, but the header of images/0.dcm says 0.1999 x 0.2 mm"
        with pytest.raises(DataError, match=what):
            source.decode(case)


@pytest.mark.component
def test_plans_change_where_the_column_says_something(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = folder.section().model_dump(exclude_defaults=True)
    stages = {"lungs": {"data": "mine", "structures": ["lung"]}}
    for number in range(6, 20):
        folder.rows.append(folder.put(str(number), noise(number, 32), np.eye(32, dtype=np.uint8) * 255))
    study = write_study(tmp_path, data={"mine": section}, stages=stages, arms={"a": {}})

    def ids() -> list[str]:
        capsys.readouterr()
        assert main(["plan", str(study), "--json"]) == COMPLETE
        return [trial["trial_id"] for trial in json.loads(capsys.readouterr().out)["trials"]]

    folder.write()
    before = ids()
    give(folder, {})
    assert ids() == before
    give(folder, dict.fromkeys(range(20), "0.2"))
    assert set(ids()).isdisjoint(before)
    add_dicom(folder, PixelSpacing=[0.4, 0.4])
    give(folder, {0: "0.2"})
    assert main(["check", str(study)]) == BAD_INPUT
    assert "but the header of images/0.dcm says 0.4 x 0.4 mm" in capsys.readouterr().out


def test_images_without_the_column_have_no_spacing(folder: Folder, opener: Any) -> None:
    assert np.isnan(opener(folder.section(), size=16).spacing_mm).all()
    give(folder, {1: "0.5"})
    assert np.isnan(opener(folder.section(), size=16).spacing_mm).all(axis=1).sum() == 5
