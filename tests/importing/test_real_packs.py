"""Real folders, imported without their tables, give these tables again."""

from __future__ import annotations

from pathlib import Path

import pytest

from xferlab.cli.main import COMPLETE, main
from xferlab.data.sources.manifest.table import read_table

ALIKE = ("image", "mask", "patient_id", "pathology", "device")


@pytest.mark.parametrize("pack", ["covid-lung-512", "montgomery-512", "shenzhen-512"])
def test_a_pack_is_found_again(real_data: Path, tmp_path: Path, pack: str) -> None:
    original = real_data / pack
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(original / name)
    words = [str(tmp_path / "images"), str(tmp_path / "masks"), "--patient", str(original / "metadata.csv")]
    assert main(["import", *words]) == COMPLETE
    found, expected = (
        {tuple(row.cells[column] for column in ALIKE) for row in read_table(folder / "metadata.csv").rows}
        for folder in (tmp_path, original)
    )
    assert found == expected
