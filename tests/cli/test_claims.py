"""What `plan` says of what a study is to show, before anything runs and when something is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command
from tests.studies import TINY, noise, write_pack, write_study

pytestmark = pytest.mark.component

CLAIMS = {
    "primary": {"metric": "DICE", "stage": "general", "on": "general.test"},
    "contrasts": [["other", "baseline"]],
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A section of images in files, which may be real ones."""
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    write_pack(tmp_path / "pack", [(noise(number, 32), mask) for number in range(24)])
    return {"general": {"source": "manifest", "root": "pack", "labels": {"lung": [255]}}}


def study(folder: Path, repetitions: int, **changes: Any) -> Path:
    general = {"data": "general", "repetitions": repetitions, "evaluate_on": ["general.test"]}
    fields: dict[str, Any] = {
        "repetitions": repetitions,
        "stages": {"general": general},
        "arms": {"baseline": {}, "other": {"stages.general.training": {"lr": 0.05}}},
        "training": {**TINY["training"], "max_epochs": 4, "patience": 4},
    }
    return write_study(folder, **{**fields, **changes})


def test_claims_are_printed_before_anything_runs(tmp_path: Path, command: Command) -> None:
    declared = command("plan", study(tmp_path, 3, **CLAIMS)).out
    assert "claims by DICE on general.test, none within ±0.01: other − baseline" in declared
    undeclared = command("plan", study(tmp_path, 3)).out
    assert "exploratory, by DICE on general.test, none within ±0.01: other − baseline" in undeclared
    assert "declares `primary` and `contrasts` before it runs" in undeclared


def test_check_and_plan_tell_of_contrasts_that_get_no_verdict(
    tmp_path: Path, command: Command, files: dict[str, Any]
) -> None:
    path = study(tmp_path, 3, **CLAIMS, data=files)
    few = "contrasts: warning: no verdict is possible of other − baseline: other has too few repetitions (3,"
    assert few in command("check", path).out
    assert "contrasts that can get no verdict (1)" in command("plan", path).err
    assert "no verdict" not in command("check", study(tmp_path, 5, **CLAIMS, data=files)).out


def test_the_smallest_difference_that_could_be_supported(
    tmp_path: Path, command: Command, files: dict[str, Any]
) -> None:
    path = study(tmp_path, 3, **CLAIMS, data=files)
    refused = command("plan", path, "--power")
    assert "has not run" in refused.err
    command("run", path, "--executor", "in-process", code=0)
    said = command("plan", study(tmp_path, 8, **CLAIMS, data=files), "--power").out
    (line,) = [line for line in said.splitlines() if line.startswith("  other − baseline: ")]
    assert line.endswith(" with 8 repetitions (by 3 complete ones)")
    assert float(line.split()[3]) > 0
    said = command("plan", study(tmp_path, 4, **CLAIMS, data=files), "--power").out
    assert "  other − baseline: no claim is possible, since at least 5 paired repetitions are needed" in said
