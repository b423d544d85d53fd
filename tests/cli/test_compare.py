"""`xferlab report --compare`: another version, by its file or its storage, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import TINY, write_study
from xferlab.records import codec, layout
from xferlab.records.store import Store

pytestmark = pytest.mark.component

STUDY: dict[str, Any] = {
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
    "stages": {"portable": {"data": "portable", "evaluate_on": ["portable.hold_out"]}},
    "arms": {"baseline": {}},
}


@pytest.fixture
def versions(command: Command, tmp_path: Path) -> list[Path]:
    """Two versions of one study, of two trainings each, in storages of their own."""
    paths = []
    for name, lr in (("first", 1e-3), ("second", 1e-2)):
        (tmp_path / name).mkdir()
        training = {**STUDY["training"], "lr": lr}
        paths.append(write_study(tmp_path / name, **{**STUDY, "training": training, "storage": "results"}))
        command("run", paths[-1], "--executor", "in-process", code=0)
    return paths


@pytest.mark.slow
def test_two_versions_stand_side_by_side(command: Command, versions: list[Path], tmp_path: Path) -> None:
    first, second = versions
    pages = []
    for given in (second, second.parent / "results"):
        command("report", first, "--compare", given, "--out", tmp_path / "out", code=0)
        pages.append((tmp_path / "out" / "report.md").read_text("utf-8"))
    assert pages[0] == pages[1]
    _, _, section = pages[0].partition("## Against another study")
    assert "| baseline/portable.training.lr | " in " ".join(section.split())
    (table,) = (tmp_path / "out" / "tables").glob("*two_studies_portable_on_portable_hold_out.md")
    line = next(line for line in table.read_text("utf-8").splitlines() if line.startswith("| Dice"))
    assert line.count(" of 2, ") == 2
    assert "n < 5 repetitions" in line  # the same patients, split alike: paired, though too few


def test_what_is_no_other_study_is_refused(command: Command, versions: list[Path], tmp_path: Path) -> None:
    first, second = versions

    def refused(given: Path) -> str:
        said = command("report", first, "--compare", given, "--out", tmp_path / "out", code=2)
        assert not (tmp_path / "out").exists()
        return said.err

    assert "the one that the report is of" in refused(first)
    assert "the one that the report is of" in refused(first.parent / "results")
    nowhere = refused(tmp_path / "nowhere")
    assert "there is no such study file" in nowhere
    assert "accepted: a study file, or a folder or URI in which a study has run" in nowhere

    studies = second.parent / "results" / "studies"
    (studies / "tiny").rename(studies / "older")
    (studies / "oldest").mkdir()
    (studies / "oldest" / "plan.json").write_text("{}")
    several = refused(second.parent / "results")
    assert "this storage holds no study 'tiny' (studies here: older, oldest)" in several

    (studies / "older").rename(studies / "tiny")
    plan = studies / "tiny" / "plan.json"
    whole = plan.read_text()
    plan.write_text(whole[: len(whole) // 2])
    assert str(plan) in refused(second)
    store = Store.open(second.parent / "results")
    body = {**json.loads(whole), "version": 1}
    del body["sha256"]
    codec.write_json(store, layout.StudyFiles("tiny").plan, body)
    old = refused(second)
    assert old.startswith(f"xferlab: --compare {second}: ")
    assert "has version 1, and this xferlab needs version" in old
