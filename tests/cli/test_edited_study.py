"""An edited study, or one whose data are elsewhere: every verb on results says so first, and goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command, Said
from tests.studies import TINY, noise, write_pack, write_study
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records import codec

pytestmark = pytest.mark.component

STUDY = {
    "repetitions": 1,
    "data": {"d": {"source": "manifest", "root": "./d", "labels": {"lung": [255]}}},
    "stages": {"general": {"data": "d", "evaluate_on": ["d.test"]}},
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
}
ARMS = {"baseline": {}, "wide": {"model.init_features": 4}}


@pytest.fixture
def study(command: Command, tmp_path: Path) -> Path:
    """A study that was run, and edited since: an arm was added."""
    masks = np.zeros((8, 32, 32), np.uint8)
    masks[:, 8:20, 8:20] = 255
    write_pack(tmp_path / "d", [(noise(n, 32), mask) for n, mask in enumerate(masks)], patient="Secret ")
    path = write_study(tmp_path, **STUDY, arms={"baseline": {}})
    assert command("run", path, "--executor", "in-process").code == 0
    return path


def read(command: Command, study: Path, *codes: int) -> list[Said]:
    """What status, failures and report say, which end with these exit codes."""
    said = [command(verb, study) for verb in ("status", "failures", "report")]
    assert [each.code for each in said] == list(codes)
    return said


def test_a_study_and_its_data_may_change_and_every_verb_says_so(
    command: Command, study: Path, tmp_path: Path
) -> None:
    read(command, study, 0, 0, 0)
    page = tmp_path / "reports/tiny/index.html"
    assert "Complete: all 1 planned trials." in page.read_text()

    write_study(tmp_path, **STUDY, arms=ARMS)
    differs = (
        "study.yaml differs from the last plan of the study: 1 trial added (arm wide). "
        f"`xferlab run {study}` brings the results up to date."
    )
    assert {said.out.splitlines()[0] for said in read(command, study, 1, 0, 1)} == {differs}
    # A page is passed on: it names the study file, and no folder of this machine.
    differs_on_page = differs.replace(str(study), "study.yaml")
    assert (
        f"<p class='status incomplete'>{differs_on_page} All 1 trials of the last plan are complete.</p>"
        in page.read_text().replace("&#x27;", "'")
    )
    command("report", study, "--storage", tmp_path / "xferlab-results", "--out", "passed-on")
    assert str(tmp_path) not in (tmp_path / "passed-on/index.html").read_text()
    assert json.loads(command("status", study, "--json").out)["remarks"] == [differs]

    (tmp_path / "d").rename(tmp_path / "elsewhere")
    status, *others = read(command, study, 1, 0, 1)
    for said in (status, *others):
        assert said.out.splitlines()[0] == differs
        assert "the data of the study cannot be read here: " in said.err
    assert "1 complete" in status.out
    assert "Secret" not in page.read_text()

    write_study(tmp_path, **STUDY, arms={"baseline": {}})
    unread = "The data of the study could not be read here, so only the names of its trials, "
    assert all(said.out.startswith(unread) for said in read(command, study, 0, 0, 0))


def test_another_machine_sees_what_was_planned_on_this_one(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = {**TINY["training"], "device": "auto", "precision": "auto", "max_epochs": 1, "patience": 1}
    path = write_study(tmp_path, **{**STUDY, "training": training}, arms={"baseline": {}})
    assert command("run", path, "--executor", "in-process").code == 0
    session = sys.modules["xferlab.cli.session"]
    before = session.cpu_has_bfloat16()
    monkeypatch.setattr(session, "cpu_has_bfloat16", lambda: not before)
    monkeypatch.setattr(session, "cuda_present", lambda: True)
    assert last(command("status", path)) == "1 complete"


def test_patients_whose_part_an_added_section_changes_are_told_of(command: Command, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "stages": {"general": {"data": "general", "evaluate_on": ["general.test"]}},
        "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
        "arms": {"baseline": {}},
    }
    path = write_study(tmp_path, **changes)
    command("run", path, "--executor", "in-process", code=0)
    assert "another part" not in command("plan", path).out
    added = {"source": "phantom_cxr", "count": 11, "seed": 5, "size_px": 32}
    write_study(tmp_path, **changes, data={**TINY["data"], "added": added})
    (told,) = (line for line in command("plan", path).out.splitlines() if "another part" in line)
    assert told.endswith("(data.added added)")
    assert told in command("run", path, "--executor", "in-process", code=0).out.splitlines()
    command("report", path, code=0)
    page = (tmp_path / "reports/tiny/index.html").read_text()
    assert f"{told}.</p>" in page


def test_trained_trials_are_only_measured_on_an_added_test_set(command: Command, study: Path) -> None:
    images = [(noise(n, 32), np.full((32, 32), 255, np.uint8)) for n in (50, 51)]
    clinic = write_pack(study.parent / "clinic", images, patient="C")
    section = {"source": "manifest", "root": str(clinic), "labels": {"lung": [255]}, "hold_out": 1.0}
    stage = {"data": "d", "evaluate_on": ["d.test", "clinic.hold_out"]}
    edited = {**STUDY, "data": {**STUDY["data"], "clinic": section}, "stages": {"general": stage}}
    write_study(study.parent, **edited, arms={"baseline": {}})
    planned = command("plan", study, code=0).out
    assert "trained; measurements are missing" in planned
    assert (
        "left: 1 trials, at most 0 epochs and 0 training images; 1 of them are trained, and are only measured"
        in planned.splitlines()
    )
    assert "another part" not in planned
    (before,) = study.parent.glob("xferlab-results/trials/*/record.json")
    content = before.read_bytes()
    command("run", study, "--executor", "in-process", code=0)
    (after,) = study.parent.glob("xferlab-results/trials/*/record.json")
    assert (after, after.read_bytes()) == (before, content)
    assert len(list(study.parent.glob("xferlab-results/trials/*/evaluations/*/record.json"))) == 2

    write_pack(clinic, images, patient="Secret ")  # ids of patients of the study
    planned = command("plan", study, code=0).out
    assert ("waiting" in planned, "trained;" in planned) == (True, False)
    assert "in another part than in the last plan" in planned


def last(said: Said) -> str:
    return said.out.splitlines()[-1]


def test_status_is_asked_for_a_part(command: Command, tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert last(command("status", path, "--arm", "still")) == "4 waiting"
    assert last(command("status", path, "--stage", "portable")) == "4 waiting"
    assert last(command("status", path, "--stage", "portable", "--arm", "still")) == "2 waiting"
    rows = json.loads(command("status", path, "--json", "--state", "running").out)
    assert (rows["trials"], rows["counts"]) == ([], {"waiting": 6})
    said = command("status", path, "--stage", "portabel", code=2)
    assert "there is no stage 'portabel' in " in said.err
    assert said.err.endswith("accepted: general, portable. Did you mean 'portable'?\n")


def test_a_plan_of_an_earlier_version_is_replaced_by_a_run(command: Command, study: Path) -> None:
    storage = study.parent / "xferlab-results"
    plan = storage / "studies/tiny/plan.json"
    plan.write_bytes(codec.json_bytes({**codec.checked(plan.read_bytes()), "version": 3}))
    records = {path: path.read_bytes() for path in storage.glob("trials/*/record.json")}
    assert "run the study again, which writes its plan again" in command("report", study, code=2).err
    command("run", study, "--executor", "in-process", code=0)
    assert codec.checked(plan.read_bytes())["version"] == PLAN_VERSION
    assert {path: path.read_bytes() for path in storage.glob("trials/*/record.json")} == records
    command("report", study, code=0)


def test_what_a_report_would_show_otherwise_is_told_and_a_run_trains_nothing(
    command: Command, study: Path
) -> None:
    write_study(study.parent, **STUDY, arms=ARMS)
    command("run", study, "--executor", "in-process", code=0)
    primary = {"metric": "DICE", "on": "d.test", "stage": "general"}
    data = {"d": {**STUDY["data"]["d"], "note": "Of the clinic."}}
    more = {"note": "For the paper.", "primary": primary, "contrasts": [["wide", "baseline"]], "data": data}
    for changes, named in (
        ({"note": "For the paper."}, "note changed"),
        ({"data": data}, "data changed"),
        (more, "note, claims, data changed"),
    ):
        write_study(study.parent, **{**STUDY, **changes}, arms=ARMS)
        for said in read(command, study, 0, 0, 0):
            assert said.out.startswith(f"study.yaml differs from the last plan of the study: {named}. ")
    records = {path: path.read_bytes() for path in study.parent.glob("xferlab-results/trials/*/record.json")}
    command("run", study, "--executor", "in-process", code=0)
    assert {path: path.read_bytes() for path in records} == records
    assert not any("differs" in said.out for said in read(command, study, 0, 0, 0))


def test_a_mistake_in_the_study_file_is_no_lack_of_data(command: Command, study: Path) -> None:
    primary = {"metric": "HD95", "on": "d.test", "stage": "general"}
    write_study(study.parent, **STUDY, arms={"baseline": {}}, primary=primary)
    for said in read(command, study, 2, 2, 2):
        assert "stage 'general' has no metric 'HD95'" in said.err
        assert "cannot be read here" not in said.err


def test_a_split_file_that_is_elsewhere_is_a_lack_of_data(command: Command, study: Path) -> None:
    parts = ["train", "train", "train", "validation", "validation", "test", "test", "test"]
    rows = "".join(f"Secret {number},{part}\n" for number, part in enumerate(parts))
    split = study.parent / "split.csv"
    split.write_text(f"patient_id,part\n{rows}")
    write_study(study.parent, **STUDY, arms={"baseline": {}}, split={"file": "split.csv"})
    command("run", study, "--executor", "in-process", code=0)
    split.unlink()
    for said in read(command, study, 0, 0, 0):
        assert "warning: the data of the study cannot be read here: " in said.err
    assert "split.file cannot be read: No such file" in command("plan", study, code=2).err


def test_a_record_of_another_version_replaces_no_report(command: Command, study: Path) -> None:
    read(command, study, 0, 0, 0)
    report = study.parent / "reports/tiny/report.md"
    before = report.read_bytes()
    (record,) = study.parent.glob("xferlab-results/trials/*/record.json")
    record.write_bytes(codec.json_bytes({**codec.checked(record.read_bytes()), "version": 99}))
    assert "this record has version 99, and this xferlab needs" in command("report", study, code=2).err
    assert report.read_bytes() == before
