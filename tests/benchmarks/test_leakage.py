"""The benchmark of the audit: it reads packs, counts what is found, and times the comparison."""

from __future__ import annotations

import csv
from pathlib import Path

import leakage
import numpy as np
import pytest
from alterations import ALTERATIONS
from PIL import Image

pytestmark = pytest.mark.component


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """A pack of three chests of two people, and a volume of two slices."""
    (tmp_path / "chests").mkdir()
    with open(tmp_path / "chests/metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient_id"])
        for number in range(3):
            leakage.drawn_chest(number, 96).save(tmp_path / f"chests/{number}.png")
            writer.writerow([f"{number}.png", f"p{number % 2}"])
    volume = tmp_path / "heads/kaggle_3m/TCGA_AA_1_1999"
    volume.mkdir(parents=True)
    for number in (1, 2):
        drawn = leakage.drawn_slice(10 * number)
        Image.merge("RGB", [drawn] * 3).save(volume / f"TCGA_AA_1_1999_{number}.tif")
        drawn.save(volume / f"TCGA_AA_1_1999_{number}_mask.tif")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_packs_of_a_folder(packs: Path) -> None:
    read = leakage.real_packs(packs)
    assert {name: list(pack.patients) for name, pack in read.items()} == {
        "chests": ["p0", "p1", "p0"],
        "heads": ["TCGA_AA_1"] * 2,
    }
    assert [image().mode for pack in read.values() for image in pack.images] == ["L"] * 5


def test_copies_are_counted(
    packs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = ("inverted", "turned by 90 degrees", "rotated by 10 degrees")
    monkeypatch.setattr(leakage, "ALTERATIONS", {name: ALTERATIONS[name] for name in some})
    monkeypatch.setenv("XFERLAB_DATA", str(packs))
    assert leakage.main(["--copies", "2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["inverted", "2", "1", "3"] in lines
    assert ["turned", "by", "90", "degrees", "2", "1", "3"] in lines
    assert ["wrongly", "joined", "pairs:", "0"] in lines
    assert ["all", "together", "5", "0", "0"] in lines


def test_who_is_joined_wrongly_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    chest = leakage.drawn_chest(0, 96)
    monkeypatch.setattr(leakage, "ALTERATIONS", {"none": lambda image: image})
    assert leakage.joined([chest, chest], ["a", "a"], "none") == (2, 0)
    assert leakage.joined([chest, chest], ["a", "b"], "none") == (2, 4)


def test_times_are_printed_and_extrapolated(capsys: pytest.CaptureFixture[str]) -> None:
    assert leakage.main(["--only-times", "--sizes", "4", "8", "6"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows[1:]] == ["4", "6", "8", "50000"]
    assert all(np.isfinite(float(cell)) for row in rows[1:-1] for cell in row)
