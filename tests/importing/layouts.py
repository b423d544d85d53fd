"""Small data sets in published layouts, and what `xferlab import` makes of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from xferlab.cli.main import COMPLETE, main

SIZE = 24


def image(path: Path, number: int = 0, *, size: int = SIZE) -> Path:
    """Writes an image that differs from those of other numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (size, size), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, values: np.ndarray | None = None, *, size: int = SIZE) -> Path:
    """Writes a mask: these values, else a square of 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        values = np.zeros((size, size), np.uint8)
        values[4:12, 5:15] = 255
    Image.fromarray(values).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def imported(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[str, dict[str, Any]]:
    """Runs the command; returns what it says, and the section that it prints."""
    capsys.readouterr()
    assert main(["import", *map(str, words)]) == COMPLETE, capsys.readouterr().err
    said = capsys.readouterr().out
    (section,) = yaml.safe_load(said[said.index("\ndata:") :])["data"].values()
    return said, section


def is_accepted(section: dict[str, Any], folder: Path) -> bool:
    """Whether `check` finds no error in a study of a section's first structure."""
    structures = [*section.get("structures", {}), *section["labels"]]
    first = next(name for name in structures if name != "ignore")
    stages = {"first": {"data": "mine", "structures": [first]}}
    study = {"study": "mine", "repetitions": 1, "data": {"mine": section}, "stages": stages}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return main(["check", str(path)]) == COMPLETE
