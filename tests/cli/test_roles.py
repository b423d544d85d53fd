"""What `plan`, `status` and `prune` say of trials that take predictions, and of those out of fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Command
from tests.studies import write_study
from xferlab.analysis import load_study
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.plan.plan import Plan
from xferlab.records import codec, layout
from xferlab.records.store import Store
from xferlab.schedule.study import publish

pytestmark = pytest.mark.usefixtures("added_tasks")

DUET: dict[str, Any] = {"task": "duet", "data": "general", "masks": {"from": "general", "out_of_fold": 2}}
STAGES = {
    "general": {"data": "general"},
    "views": {"task": "labelled", "data": "general"},
    "whole": {**DUET, "gate": {"from": "views", "keep": "normal"}},
}
FOLDS = [f"baseline/general/r0{repetition}/f{fold}" for repetition in (1, 2) for fold in (1, 2)]


@pytest.fixture
def study(cache: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path, stages=STAGES, arms={"baseline": {}})


@pytest.fixture
def plan(study: Path) -> Plan:
    """The plan and the specs in the storage, as if all trials had begun."""
    session = Session.open(StudyOptions(study=str(study)))
    plan = session.plan()
    publish(plan, session.store)
    for spec in plan.trials:
        codec.write_json(session.store, layout.TrialFiles(spec.trial_id).spec, spec.to_json())
    return plan


def change(study: Path, **masks: Any) -> None:
    text = yaml.safe_load(study.read_text())
    text["stages"]["whole"]["masks"] |= masks
    study.write_text(yaml.safe_dump(text, sort_keys=False))


def test_plan_shows_roles(study: Path, command: Command) -> None:
    lines = command("plan", study, code=0).out.splitlines()
    assert "starts from  predictions " in lines[1]
    (whole,) = (line for line in lines if line.startswith("baseline/whole/r02 "))
    masks = "masks: lung of baseline/general/r02 and 2 out of fold"
    assert f" scratch      {masks}; gate: normal of baseline/views/r02 " in whole
    assert [name for name in FOLDS if any(line.startswith(f"{name} ") for line in lines)] == FOLDS
    document = json.loads(command("plan", study, "--json", code=0).out)
    (entry,) = (trial for trial in document["trials"] if trial["names"] == ["baseline/whole/r01"])
    given, gate = entry["inputs"]
    assert (given["role"], len(given["trials"]), given["names"]) == ("masks", 3, ["lung"])
    assert (given["threshold"], gate["role"], gate["names"]) == (0.5, "gate", ["normal"])
    assert [trial["names"][0] for trial in document["trials"] if trial.get("fold")] == FOLDS
    assert document["totals"]["all"]["trials"] == 2 * 3 + 4


def test_an_arm_alone_comes_with_those_of_other_arms_that_it_takes_from(
    study: Path, command: Command
) -> None:
    text = yaml.safe_load(study.read_text())
    text["arms"] = {
        "baseline": {},
        "wide": {"stages.general.training.lr": 0.5},
        "theirs": {"stages.whole.masks.from": "wide.general"},
    }
    study.write_text(yaml.safe_dump(text, sort_keys=False))
    document = json.loads(command("plan", study, "--json", "--arms", "theirs", code=0).out)
    names = {name for trial in document["trials"] for name in trial["names"]}
    assert {"wide/general/r01", "wide/general/r02/f2", "theirs/whole/r02"} < names
    ids = {trial["trial_id"] for trial in document["trials"]}
    assert all(set(given["trials"]) <= ids for trial in document["trials"] for given in trial["inputs"])
    assert "wide/whole/r01" in names  # as `theirs/whole` is the same training
    assert not any(name.startswith("baseline/whole") for name in names)


def test_no_cell_of_a_plan_is_cut(study: Path, command: Command) -> None:
    names = {f"baseline/whole-stage-{'with-a-long-name-' * 3}{number}/r01" for number in (1, 2)}
    fields = yaml.safe_load(study.read_text())
    fields["stages"] |= {name.split("/")[1]: fields["stages"]["whole"] for name in names}
    study.write_text(yaml.safe_dump(fields, sort_keys=False))
    words = command("plan", study, code=0).out.split()
    assert names | set(FOLDS) <= set(words)
    assert not any("…" in word for word in words)


def test_folds_have_a_state_and_are_no_result(study: Path, plan: Plan, command: Command) -> None:
    rows = json.loads(command("status", study, "--json", code=1).out)["trials"]
    assert {row["name"] for row in rows} == plan.names.keys() > set(FOLDS)
    results = load_study(study.parent / "xferlab-results", "tiny")
    assert set(results.trials["stage"]) == {"general", "views", "whole"}
    assert results.planned() == {("baseline", stage): 2 for stage in STAGES}
    parents = {parent for trial in results.plan["trials"] for i in trial["inputs"] for parent in i["trials"]}
    assert parents == {
        plan.names[f"baseline/{stage}/r0{r}"] for stage in ("general", "views") for r in (1, 2)
    }


def test_prune_keeps_what_predictions_need(study: Path, plan: Plan, command: Command) -> None:
    change(study, threshold=0.25)
    session = Session.open(StudyOptions(study=str(study)))
    publish(session.plan(), session.store)
    store = Store.open(study.parent / "xferlab-results")
    command("prune", study, "--yes", code=0)
    assert set(store.list(layout.TRIALS)) == {
        trial for name, trial in plan.names.items() if "/whole/" not in name
    }
    needed = {each.selection for spec in plan.trials for e in spec.evaluations for each in e.predicted}
    assert needed
    assert all(store.exists(layout.selection_path(digest)) for digest in needed)


def test_what_changed_names_the_stage_and_its_masks(study: Path, plan: Plan, command: Command) -> None:
    assert "has changed" not in command("status", study, code=1).out
    change(study, threshold=0.25)
    told = command("status", study, code=1).out
    assert "2 trials changed (baseline/whole: masks.threshold 0.5 -> 0.25)" in told
    change(study, threshold=0.5, out_of_fold=False)
    told = command("status", study, code=1).out
    assert "4 trials removed (baseline/general r01/f1 to r02/f2)" in told
    assert "2 trials changed (baseline/whole)" in told
