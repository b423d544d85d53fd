"""All scripts can be imported, so that none is left behind when what it measures changes."""

from __future__ import annotations

import importlib
from itertools import islice
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_a_script_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_both_ways_train_on_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, patches = map(importlib.import_module, ("images", "patches"))
    monkeypatch.setattr(images, "PHANTOM_SIZE_PX", 64)
    images.write_phantoms(tmp_path, 16)
    setting = patches.PatchSetting("patches", tmp_path, tmp_path / "cache", 64, 0.125, 1, patch_px=32)
    for way in (patches.EngineWay(setting), patches.UsualWay(setting)):
        assert [number for number, _ in islice(way.steps(), 2)] == [16, 16]
