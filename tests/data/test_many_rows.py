"""Tables of a hundred thousand rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.conftest import index_sections

ROWS, IMAGES, MASKS = 100_000, 500, 200
MOST_S = 60.0
"""Of processor time; some seconds where nothing else runs."""


@pytest.mark.slow
@pytest.mark.usefixtures("remembering")
def test_a_hundred_thousand_rows_are_indexed_in_seconds(section: Any, tmp_path: Path) -> None:
    root = tmp_path / "pack"
    for kind, count in (("images", IMAGES), ("masks", MASKS)):
        (root / kind).mkdir(parents=True)
        for number in range(count):
            Image.new("I;16", (8, 8), number).save(root / kind / f"{number}.png")
    lines = ["image,mask,patient_id,pathology"]
    lines += [f"images/{n % IMAGES}.png,masks/{n // IMAGES}.png,p{n // 3},normal" for n in range(ROWS)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    config = section(source="manifest", root=str(root))
    for when in ("cold", "warm"):
        start_s = time.process_time()
        cases = index_sections({"s": config}, memo_dir=tmp_path / "memo")["s"]
        took_s = time.process_time() - start_s
        print(f"{when}: {len(cases):,} cases of {ROWS:,} rows in {took_s:.1f} s")
        assert len({case.digest for case in cases}) == ROWS
        assert took_s < MOST_S
