"""Rebuilding the mirror from plan and records: real wandb, offline files read back."""

import math
from dataclasses import replace
from io import BytesIO

import PIL.Image
import pytest

from tests.tracking.mirror_cases import (
    NAME,
    PATIENT,
    PATTERN,
    epochs,
    mirrored,
    spec,
    store_plan,
    store_trial,
    tear,
    wandb_settings,
)
from tests.tracking.wandb_files import all_bytes, offline_runs
from xferlab.errors import RecordError, UsageError
from xferlab.plan.identity import short_id
from xferlab.plan.spec import Input
from xferlab.records import codec, layout
from xferlab.records.reader import read_plan, read_trial
from xferlab.records.writer import write_trial
from xferlab.tracking.rebuild import mirror_study
from xferlab.tracking.recorded import RecordedRuns
from xferlab.tracking.study_run import StudyContent
from xferlab.tracking.summary import Headline

AGGREGATE = [
    {"arm": "baseline", "stage": "general", "metric": "dice", "mean": 0.75, "sd": math.nan, "n": 1},
    {"arm": "frozen", "stage": "general", "metric": "dice", "mean": 0.5, "sd": 0.125, "n": 2},
]
CURVES = [
    {"epoch": 1, "general/train_loss/baseline/mean": 0.5, "general/train_loss/baseline/num_repetitions": 2},
    {"epoch": 2, "general/train_loss/baseline/mean": 0.25, "general/train_loss/baseline/num_repetitions": 1},
]
DOT = BytesIO()
PIL.Image.new("RGB", (3, 2), "red").save(DOT, "png")
RESULTS = StudyContent(
    headline=lambda spec: Headline("DICE"),
    summary={"trials_complete": 2},
    tables={"aggregate": AGGREGATE},
    epochs=CURVES,
    figures={"arms": ("arms at a glance", DOT.getvalue())},
)
NO_RUN = StudyContent(headline=RESULTS.headline)


@pytest.mark.component
def test_what_is_missing_or_torn_is_written_once_and_only_once(empty, tmp_path):
    torn, missing, unfinished = (spec(seed=seed) for seed in (1, 2, 3))
    torn = replace(torn, settings=replace(torn.settings, profile="cpu"))
    folder = tmp_path / "mirror"
    mirrored(torn, folder, epochs(1, 4), outcome="interrupted", images=6)
    tear(folder, torn.trial_id, keep=0.7)
    for one in (torn, missing):
        store_trial(empty, one, num_epochs=5)
    store_plan(empty, [torn, missing, unfinished])
    lines = []
    first = mirror_study(empty, "covid", directory=folder, results=RESULTS, echo=lines.append)
    assert first.written[:2] == [torn.trial_id, missing.trial_id]
    assert (len(first.written), first.failed, first.unfinished) == (3, {}, [unfinished.trial_id])
    assert lines == [f"{run_id}: written" for run_id in first.written]
    runs = {run.run.run_id: run for run in offline_runs(folder)}
    assert len(runs) == len(offline_runs(folder)) == 3
    for one in (torn, missing):
        run = runs[one.trial_id]
        assert run.epochs == [row["step"] for row in run.rows] == [1, 2, 3, 4, 5]
        assert run.config["arms"] == ["baseline", "frozen"]
        assert run.summary["lungs.test/DICE"] == 0.75
        assert run.summary["lungs.test/AUC"] == 0.75  # the undefined one of three is left out
        assert run.summary["lungs.test/DICE/covid19"] == 0.75
        assert "lungs.test/AUC/covid19" not in run.summary
        assert (run.run.run_group, run.run.job_type) == ("baseline/general", "general")
        assert list(run.run.tags) == [
            *("use:covid/cpu", "study:covid", "profile:cpu", "task:segmentation"),
            *("arm:baseline", "arm:frozen"),
        ]  # fmt: skip
        assert (run.summary["outcome"], run.exit_code) == ("complete", 0)
    second = mirror_study(empty, "covid", directory=folder, results=RESULTS)
    assert (second.written, second.present) == ([], first.written)
    assert str(second) == "0 written, 3 were there, 1 not complete"
    for secret in (PATIENT.encode(), NAME.encode(), PATTERN):
        assert secret not in all_bytes(folder)


@pytest.mark.slow
def test_the_study_run_carries_its_table_curves_and_figure_and_is_left_alone_while_they_hold(empty, tmp_path):
    store_plan(empty, [spec()])
    report = mirror_study(empty, "covid", directory=tmp_path / "mirror", results=RESULTS)
    (run,) = offline_runs(tmp_path / "mirror")
    assert (run.run.run_id, run.run.job_type) == (report.written[0], "study")
    (path,) = (tmp_path / "mirror").glob("wandb/*/files/media/table/*.table.json")
    table = codec.json.loads(path.read_text())
    assert table["columns"] == list(AGGREGATE[0])
    assert table["data"][1] == list(AGGREGATE[1].values())
    assert len(table["data"]) == 2
    assert [{name: row[name] for name in CURVES[0]} for row in run.rows] == CURVES
    assert [row["step"] for row in run.rows] == [1, 2]
    (path,) = (tmp_path / "mirror").glob("wandb/*/files/media/images/figures/*.png")
    assert PIL.Image.open(path).getpixel((2, 1)) == (255, 0, 0)
    assert (run.summary["trials_complete"], run.exit_code) == (2, 0)
    assert list(run.run.tags) == ["use:covid/cpu", "study:covid", "profile:cpu", "task:segmentation"]
    assert "of lungs are withheld" in run.run.notes
    again = mirror_study(empty, "covid", directory=tmp_path / "mirror", results=RESULTS)
    assert again.present == report.written
    changed = replace(RESULTS, epochs=[CURVES[0]])
    assert mirror_study(empty, "covid", directory=tmp_path / "mirror", results=changed).written
    (run,) = offline_runs(tmp_path / "mirror")
    assert run.epochs == [1]


@pytest.mark.slow
def test_images_come_and_go_with_the_word_of_the_plan(empty, tmp_path):
    one = spec(shareable=True)
    store_trial(empty, one)
    store_plan(empty, [one])
    folder = tmp_path / "mirror"
    mirror_study(empty, "covid", directory=folder)
    (run,) = offline_runs(folder)
    assert run.summary["output_sets"] == ["lungs.test"]
    assert run.run.notes == ""
    assert len(list(folder.glob("wandb/*/files/media/images/outputs/*.png"))) == 4
    store_plan(empty, [one], shareable=False)
    assert mirror_study(empty, "covid", directory=folder).written == [one.trial_id]
    assert not list(folder.rglob("*.png"))
    (run,) = offline_runs(folder)
    assert run.config["withheld"] == ["lungs.validation", "lungs.test"]
    assert "of lungs are withheld" in run.run.notes
    assert NAME.encode() not in all_bytes(folder)


@pytest.mark.component
def test_a_trial_takes_what_its_parents_and_those_who_predict_for_it_made_and_only_digests_leave(
    empty, tmp_path
):
    parent, masks, child = spec(seed=1), spec(seed=2), spec(seed=3)
    predicted = Input("masks", (masks.trial_id,), names=("lungs",), places=(0,), threshold=0.5)
    gate = Input("gate", (parent.trial_id,), names=("frontal",), places=(0,))
    child = replace(child, inputs=(*child.inputs, predicted, gate))
    parent, masks = (replace(one, inputs=()) for one in (parent, masks))
    store_plan(empty, [parent, masks, child])
    of_donor, of_parent, of_masks, of_child = (letter * 64 for letter in "dabc")
    for one, started_from, made in (
        (parent, of_donor, of_parent),
        (masks, None, of_masks),
        (child, parent.trial_id, of_child),
    ):
        store_trial(empty, one)
        record = read_trial(empty, one.trial_id)
        write_trial(empty, replace(record, started_from=started_from, weights_sha256=made))
    folder = tmp_path / "mirror"
    assert mirror_study(empty, "covid", directory=folder).failed == {}
    runs = {run.run.run_id: run for run in offline_runs(folder)}
    names = {digest: f"weights-{digest[:16]}" for digest in (of_donor, of_parent, of_masks, of_child)}
    first, second, third = (runs[one.trial_id] for one in (parent, masks, child))
    assert (first.taken, first.made) == ([names[of_donor]], [names[of_parent]])
    assert (second.taken, second.made) == ([], [names[of_masks]])
    assert (third.taken, third.made) == ([names[of_parent], names[of_masks]], [names[of_child]])
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.component
def test_the_run_of_a_trial_has_the_tag_of_each_profile_and_study_that_uses_it(empty, tmp_path):
    trial, folder = spec(), tmp_path / "mirror"
    store_trial(empty, trial)
    users = [("covid", "quick"), ("covid", None), ("other", None)]
    for study, profile in users:
        store_plan(empty, [trial], study=study, profile=profile)
        assert mirror_study(empty, study, directory=folder).written == [trial.trial_id]
    (run,) = offline_runs(folder)
    assert run.epochs == [1, 2, 3, 4, 5]
    assert {"use:covid/quick", "use:covid", "use:other", "study:other"} <= set(run.run.tags)
    for study, profile in users:
        store_plan(empty, [trial], study=study, profile=profile)
        assert mirror_study(empty, study, directory=folder).present == [trial.trial_id]


@pytest.mark.component
def test_another_project_or_entity_gets_all_runs_and_the_first_keeps_those_of_other_studies(empty, tmp_path):
    alone, shared = spec(seed=1), spec(seed=2)
    for trial in (alone, shared):
        store_trial(empty, trial)
    store_plan(empty, [shared], study="other")
    store_plan(empty, [alone, shared])
    mirror_study(empty, "other", directory=tmp_path)
    assert mirror_study(empty, "covid", directory=tmp_path).failed == {}
    moved = {"project": "paper"}, {"project": "paper", "entity": "team"}
    for changes in moved:
        store_plan(empty, [alone, shared], tracking=wandb_settings(**changes))
        report = mirror_study(empty, "covid", directory=tmp_path)
        assert (report.written, report.failed) == ([alone.trial_id, shared.trial_id], {})
        assert mirror_study(empty, "covid", directory=tmp_path).present == report.written
    held = {(run.run.run_id, run.run.entity, run.run.project) for run in offline_runs(tmp_path)}
    left = (shared.trial_id, "", "mirror-test")
    assert held == {(trial.trial_id, "team", "paper") for trial in (alone, shared)} | {left}
    assert len(offline_runs(tmp_path)) == 3
    assert mirror_study(empty, "other", directory=tmp_path).present == [shared.trial_id]


@pytest.mark.component
def test_another_number_of_images_is_noticed(empty, tmp_path):
    trial = spec(shareable=True)
    store_trial(empty, trial)
    for number in (3, 1):
        store_plan(empty, [trial], tracking=wandb_settings(images=number))
        assert mirror_study(empty, "covid", directory=tmp_path).written == [trial.trial_id]
        assert len(list(tmp_path.glob("wandb/*/files/media/images/outputs/*.png"))) == number


@pytest.mark.slow
def test_a_trial_that_was_mirrored_whole_is_left_alone(empty, tmp_path):
    one = replace(spec(shareable=True), arms=("baseline", "frozen"))
    one = replace(one, settings=replace(one.settings, profile="cpu"))
    store_trial(empty, one, num_epochs=3)
    store_plan(empty, [one])
    folder = tmp_path / "mirror"
    final = {"best_epoch": 3, "best_score": 0.5, "num_epochs": 3}
    final["training_hours"] = sum(result.train_s + result.validation_s for result in epochs(1, 3)) / 3600
    final |= {"lungs.test/DICE": 0.75, "lungs.test/AUC": 0.75, "lungs.test/DICE/covid19": 0.75}
    mirrored(one, folder, epochs(1, 3), summary=final, images=6)
    assert mirror_study(empty, "covid", directory=folder, results=NO_RUN).present == [one.trial_id]


@pytest.mark.slow
def test_a_damaged_record_fails_alone(empty, tmp_path):
    bad, good = spec(seed=1), spec(seed=2)
    for one in (bad, good):
        store_trial(empty, one)
    store_plan(empty, [bad, good])
    name = layout.TrialFiles(bad.trial_id).evaluation(bad.evaluations[0].evaluation_id).table("cases")
    empty.write(name, b"torn")
    report = mirror_study(empty, "covid", directory=tmp_path / "mirror")
    assert report.written == [good.trial_id]
    ((failed, reason),) = report.failed.items()
    assert failed == bad.trial_id
    assert "does not match the digest" in reason


def test_modes_are_checked(empty, tmp_path):
    store_plan(empty, [spec()], tracking=None)
    with pytest.raises(UsageError, match="accepted: online, offline, disabled"):
        mirror_study(empty, "covid", directory=tmp_path, mode="onlin")
    with pytest.raises(UsageError, match=r"has no `tracking\.wandb`"):
        mirror_study(empty, "covid", directory=tmp_path)
    with pytest.raises(RecordError, match="no plan of study 'other'"):
        mirror_study(empty, "other", directory=tmp_path)


def test_disabled_writes_nothing(empty, tmp_path):
    store_plan(empty, [spec()], tracking=wandb_settings("disabled"))
    assert str(mirror_study(empty, "covid", directory=tmp_path / "mirror")).startswith("0 written")
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize("source", ["", "lungs@narrow"])
def test_each_set_that_arms_have_under_one_name_has_numbers_of_its_own(empty, source):
    first = spec()
    (narrow,) = first.evaluations
    wide = replace(narrow, evaluation_id=short_id(["wide"]), source="lungs@wide")
    trial = replace(first, evaluations=(replace(narrow, source=source), wide))
    store_trial(empty, trial)
    store_plan(empty, [trial])
    plan = read_plan(empty, "covid")
    run = RecordedRuns(empty, plan).trial(plan["trials"][0])
    sets = [f"{source or 'lungs'}.test", "lungs@wide.test"]
    assert run.order.config["evaluated_on"] == sets
    assert {f"{name}/DICE" for name in sets} <= run.summary.keys()
