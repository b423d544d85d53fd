"""Real folders, imported without their tables, give these tables again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from tests.importing.layouts import mask
from xferlab.cli.main import COMPLETE, main
from xferlab.data.decode import read_labels
from xferlab.data.sources.manifest.table import read_table

ALIKE = ("image", "mask", "patient_id", "pathology", "device")
MERGED = {"mask", "mask_lungs", "mask_clavicles"}


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


def test_the_published_masks_of_jsrt_become_those_of_the_pack(real_data: Path, tmp_path: Path) -> None:
    pack = real_data / "jsrt-scr-512"
    rows = read_table(pack / "metadata.csv").rows[::30]
    for number, row in enumerate(rows):
        name = Path(row.cells["image"]).stem
        stored = {column: read_labels(pack / row.cells[column]).values for column in MERGED | {"mask_heart"}}

        def publish(structure: str, column: str, values: Collection[int]) -> None:
            marked = np.isin(stored[column], values).astype(np.uint8) * 255  # noqa: B023
            mask(tmp_path / f"fold{1 + number % 2}" / "masks" / structure / f"{name}.gif", marked)  # noqa: B023

        publish("heart", "mask_heart", [255])
        for side, value in (("left", 170), ("right", 255)):
            publish(f"{side} lung", "mask_lungs", [value])
            publish(f"{side} clavicle", "mask_clavicles", [value])
        (tmp_path / f"{name}.jpg").symlink_to(pack / row.cells["image"])
    assert main(["import", str(tmp_path)]) == COMPLETE
    imported = {
        Path(row.cells["image"]).stem: row.cells for row in read_table(tmp_path / "metadata.csv").rows
    }
    for row in rows:
        cells = imported[Path(row.cells["image"]).stem]
        for column in MERGED:
            drawn, expected = (
                read_labels(folder / of[column]).values
                for folder, of in ((tmp_path, cells), (pack, row.cells))
            )
            assert (drawn == expected).all(), (row.cells["image"], column)
