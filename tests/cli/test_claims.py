"""What `plan` says of what a study is to show, before anything runs and when something is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import TINY, write_study

pytestmark = pytest.mark.component

CLAIMS = {
    "primary": {"metric": "DICE", "stage": "general", "on": "general.test"},
    "contrasts": [["other", "baseline"]],
}


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


def test_the_smallest_difference_that_could_be_supported(tmp_path: Path, command: Command) -> None:
    path = study(tmp_path, 3, **CLAIMS)
    refused = command("plan", path, "--power")
    assert "has not run" in refused.err
    command("run", path, "--executor", "in-process", code=0)
    said = command("plan", study(tmp_path, 8, **CLAIMS), "--power").out
    (line,) = [line for line in said.splitlines() if line.startswith("  other − baseline: ")]
    assert line.endswith(" with 8 repetitions (by 3 complete ones)")
    assert float(line.split()[3]) > 0
