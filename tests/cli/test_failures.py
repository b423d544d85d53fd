"""`xferlab failures`: one traceback an error, all trials that met it, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.studies import TINY, write_study
from xferlab.cli.failures import ADVICE
from xferlab.trial.failure import Kind

pytestmark = pytest.mark.component


def test_one_error_of_two_trials_is_shown_once(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, arms={"calm": {}, "wild": {"training.lr": 1e30}}, stages=ONLY_GENERAL)
    storage = ("--storage", tmp_path / "st")
    assert command("run", study, "--executor", "in-process", *storage).code == 1
    said = command("failures", study, *storage)
    assert said.code == 1
    assert said.out.count("Traceback (most recent call last)") == 1
    assert said.out.startswith("NonFiniteLossError: the training loss became ")
    for name in ("wild/general/r01", "wild/general/r02"):
        assert f"  {name} (" in said.out
    assert "calm" not in said.out
    assert ADVICE[Kind.HOPELESS] in said.out
    assert said.out.splitlines()[-1] == "2 trials failed, with 1 distinct error"
    rows = json.loads(command("failures", study, "--json", *storage).out)
    assert [(row["attempts"], row["failure"]["kind"]) for row in rows] == [(1, "hopeless"), (1, "hopeless")]


def test_without_failures_it_says_so(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, arms={"calm": {}}, stages=ONLY_GENERAL)
    said = command("failures", study, "--storage", tmp_path / "st")
    remark = f"{tmp_path / 'st'} holds no plan of study tiny: it has not run here.\n"
    assert (said.code, said.out) == (0, f"{remark}no trial failed\n")


def test_every_kind_of_failure_comes_with_advice() -> None:
    assert set(ADVICE) == set(Kind)


ONLY_GENERAL = {"general": TINY["stages"]["general"]}
