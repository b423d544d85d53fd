"""The share of masks of networks that knew the patients, by class: counted in the plan, told in a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from tests.studies import write_study
from tests.takes import takes
from xferlab.analysis import load_study
from xferlab.analysis.tables.masks import masks_table
from xferlab.analysis.tables.overview import training_table
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.plan.document import to_document
from xferlab.plan.plan import Plan
from xferlab.plan.spec import MASKS

pytestmark = pytest.mark.usefixtures("added_tasks")


def planned(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Plan:
    monkeypatch.setenv("XFERLAB_CACHE", str(folder / "cache"))
    path = write_study(folder, **takes(**changes))
    return Session.open(StudyOptions(study=str(path), storage=str(folder / "st"))).plan()


def sources(plan: Plan) -> dict[str, Counter[str]]:
    """Numbers by source of each part, over all trials and classes, as the plan says."""
    found: dict[str, Counter[str]] = {}
    for trial in to_document(plan)["trials"]:
        for part, classes in trial.get("mask_sources", {}).items():
            for numbers in classes.values():
                found.setdefault(part, Counter()).update(numbers)
    return found


def counted(plan: Plan) -> dict[str, Counter[str]]:
    """The same by patients, the slow way."""
    patients = {case.digest: case.patient for _, case, _ in plan.selector.listed()}
    found: dict[str, Counter[str]] = {}
    for trial in plan.trials:
        own = {row[0]: row[1] for row in plan.selections[trial.selection].rows}
        for item in trial.predicted:
            if item.role != MASKS:
                continue
            rows, line = [], [plan.by_id[item.trial]]
            while line:
                spec = line.pop()
                rows += plan.selections[spec.selection].rows
                line += [plan.by_id[given] for origin in spec.origins for given in origin.trials]
            for digest in plan.selections[item.selection].digests:
                parts = {row[1] for row in rows if patients[row[0]] == patients[digest]}
                known = "trained" if "train" in parts else "selected" if parts else "unseen"
                found.setdefault(own[digest], Counter())[known] += 1
    return found


def few(plan_changes: dict[str, Any]) -> dict[str, Any]:
    stages = takes(**plan_changes)["stages"]
    return {**plan_changes, "stages": {**stages, "lungs": {**stages["lungs"], "label_fraction": 0.5}}}


def descended(plan_changes: dict[str, Any]) -> dict[str, Any]:
    """The network that predicts has few labels of its own, and starts from one that has all."""
    few_labels = few(plan_changes)
    stages = few_labels["stages"]
    first = {key: value for key, value in stages["lungs"].items() if key != "label_fraction"}
    first["repetitions"] = takes(**plan_changes)["repetitions"]
    lungs = {**stages["lungs"], "starts_from": "first"}
    return {**few_labels, "stages": {"first": first, **stages, "lungs": lungs}}


def test_what_an_ancestor_knew_a_network_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, monkeypatch, **descended({"out_of_fold": 2}))
    assert set(+sources(plan)["train"]) == {"trained"}
    assert "folds that a parent has seen" in {warning.kind for warning in plan.warnings}


@pytest.mark.parametrize(
    "changes",
    [descended({}), {}, {"out_of_fold": 2}, {"out_of_fold": True}, few({}), few({"out_of_fold": 3})],
    ids=["descended", "in sample", "two folds", "five folds", "few labels", "few labels, three folds"],
)
def test_each_case_is_counted_by_what_its_network_knew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    plan = planned(tmp_path, monkeypatch, **changes)
    found, expected = sources(plan), counted(plan)
    assert {part: +numbers for part, numbers in found.items()} == expected
    assert ("trained" in expected["train"]) == ("out_of_fold" not in changes)
    assert set(expected["validation"]) == {"selected"}


def test_shares_stand_by_class_in_a_table(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, missing=set(), pixels=False, repetitions=2)
    trials = builder._trials()
    for trial in trials:
        if trial["stage"] == "portable":
            known = {"trained": 3, "selected": 0, "unseen": 1 if trial["arms"] == ["frozen"] else 9}
            trial["mask_sources"] = {"train": {"normal": known}}
    builder._trials = lambda: trials  # type: ignore[method-assign]
    table = masks_table(load_study(builder.write(), STUDY))
    lines = {group.labels: row.cells for group in table.groups for row in group.rows}
    assert lines == {
        ("portable", "baseline", "train"): ("12", "25 %", "0 %", "75 %"),
        ("portable", "frozen", "train"): ("4", "75 %", "0 %", "25 %"),
    }


@pytest.mark.parametrize("gate", [True, False])
def test_a_table_of_a_gated_stage_says_that_it_counts_all(tmp_path: Path, gate: bool) -> None:
    builder = StudyBuilder(tmp_path, pixels=False, repetitions=1)
    trials = builder._trials()
    trials[-1]["mask_sources"] = {"train": {"normal": {"trained": 3, "selected": 0, "unseen": 1}}}
    trials[-1]["inputs"] += [{"role": "gate", "trials": [], "donor": None}] if gate else []
    builder._trials = lambda: trials  # type: ignore[method-assign]
    results = load_study(builder.write(), STUDY)
    assert ("images that do not pass count, too" in " ".join(masks_table(results).caption)) == gate
    assert ("patients before it" in " ".join(training_table(results).caption)) == gate


def test_a_study_without_masks_has_no_such_table(tmp_path: Path) -> None:
    assert masks_table(load_study(StudyBuilder(tmp_path, pixels=False).write(), STUDY)).groups == ()
