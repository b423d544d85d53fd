"""A folder of somebody's images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of six patients, with masks of two lungs each."""
    draw = np.random.default_rng(0)
    for name in ("images", "left", "right"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    for number in range(12):
        pixels = draw.integers(0, 255, (40, 40), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / "images" / f"P{number // 2}_{number}.png")
        for side, columns in (("left", slice(22, 36)), ("right", slice(4, 18))):
            mask = np.zeros((40, 40), np.uint8)
            mask[8 + number : 38, columns] = 255
            Image.fromarray(mask).save(tmp_path / "mine" / side / f"P{number // 2}_{number}_mask.png")
    return tmp_path / "mine"
