"""The run of a study in W&B, read back from its offline files: it says what the report says."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import StudyBuilder
from tests.conftest import Command
from tests.studies import ONE_TRIAL, TINY, recorded, write_study
from tests.tracking.wandb_files import OfflineRun, offline_runs
from xferlab.analysis import load_study
from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.cli.study_results import study_results
from xferlab.metrics.claims import Claims, Place

pytestmark = pytest.mark.component

HOLD_OUT = "portable.hold_out"
STUDY: dict[str, Any] = {
    "training": {**TINY["training"], "max_epochs": 3, "patience": 1},
    "stages": {"portable": {"data": "portable", "evaluate_on": [HOLD_OUT]}},
    "arms": {"baseline": {}, "still": {"stages.portable.training": {"rotation": None, "lr": 0.01}}},
    "primary": {"metric": "DICE", "on": HOLD_OUT, "stage": "portable"},
    "contrasts": [["still", "baseline"]],
    "tracking": {"wandb": {"project": "mine", "mode": "offline"}},
}


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(f"cache/wandb/wandb/*/files/media/table/{name}_*.table.json")
    body = json.loads(path.read_text())
    return [dict(zip(body["columns"], row, strict=True)) for row in body["data"]]


def close(a: Any, b: float) -> bool:
    return math.isclose(float(a), b, rel_tol=1e-9)


@pytest.mark.slow
def test_the_run_of_a_study_says_what_its_report_says(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **STUDY)
    command("run", study, "--executor", "in-process", code=0)
    command("report", study, "--out", tmp_path / "report", code=0)
    runs = offline_runs(tmp_path / "cache" / "wandb")
    (of_study,) = (run for run in runs if run.run.job_type == "study")
    trials = [run for run in runs if run.run.job_type == "portable"]
    assert sorted(run.run.run_group for run in trials) == ["baseline/portable"] * 2 + ["still/portable"] * 2
    assert of_study.summary["trials_complete"] == of_study.summary["trials_planned"] == 4
    assert all(len(run.made) == 1 and run.taken == [] for run in trials)
    holds_the_means_of_its_trials(tmp_path, of_study, trials)
    holds_bands_over_its_trials(of_study, trials)
    holds_the_verdict_of_the_report(tmp_path, of_study)
    (figure,) = tmp_path.glob("cache/wandb/wandb/*/files/media/images/figures/arms_portable_on_*.png")
    (drawn,) = (tmp_path / "report" / "figures").glob("*arms_portable_on_portable_hold_out.png")
    assert pixels(figure) == pixels(drawn)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/wandb").rglob("*.wandb")}
    assert "0 written, 5 were there" in command("mirror", study, code=0).out
    assert {path: path.stat().st_mtime_ns for path in written} == written


def pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def holds_the_means_of_its_trials(folder: Path, of_study: OfflineRun, trials: list[OfflineRun]) -> None:
    rows = table(folder, "aggregate")
    for pathology in ("all", "covid19", "normal"):
        key = f"{HOLD_OUT}/portable/DICE" + ("" if pathology == "all" else f"/{pathology}")
        values = [run.summary[key] for run in trials if run.run.run_group == "still/portable"]
        (row,) = (
            row
            for row in rows
            if (row["arm"], row["part"], row["metric"], row["pathology"])
            == ("still", "hold_out", "DICE", pathology)
        )
        assert close(row["mean"], statistics.fmean(values))
        assert (row["num_repetitions"], row["num_planned"]) == (2, 2)
        assert (row["num_patients"] < MIN_PATIENTS) == (pathology != "all")
        if pathology != "all":
            assert math.isnan(row["sd_repetitions"])
        else:
            assert close(row["sd_repetitions"], statistics.stdev(values))
            assert close(of_study.summary["DICE/still/portable/mean"], statistics.fmean(values))
            assert of_study.summary["DICE/still/portable/sd_images"] == row["sd_images"]


def holds_bands_over_its_trials(of_study: OfflineRun, trials: list[OfflineRun]) -> None:
    assert of_study.epochs == list(range(1, max(max(run.epochs) for run in trials) + 1))
    for row in of_study.rows:
        values = [
            each["validation_loss"]
            for run in trials
            if run.run.run_group == "baseline/portable"
            for each in run.rows
            if each.get("epoch") == row["epoch"]
        ]
        name = "portable/validation_loss/baseline"
        assert row.get(f"{name}/num_repetitions", 0) == len(values)
        assert (f"{name}/sd" in row) == (len(values) > 1)
        if values:
            assert close(row[f"{name}/mean"], statistics.fmean(values))
        if len(values) > 1:
            assert close(row[f"{name}/sd"], statistics.stdev(values))


def holds_the_verdict_of_the_report(folder: Path, of_study: OfflineRun) -> None:
    (line,) = table(folder, "contrasts")
    (path,) = (folder / "report" / "tables").glob("*claims.csv")
    with path.open() as file:
        (told,) = csv.DictReader(file)
    assert (line["metric"], line["on"], line["contrast"]) == ("DICE", HOLD_OUT, told["contrast"])
    for name in ("difference", "low", "high"):
        assert close(line[name], float(told[name]))
    assert line["verdict"] == told["verdict"] == "no claim"  # the images are drawn
    sentence = of_study.summary[f"verdict/{line['contrast']}"]
    assert line["words"] in sentence
    found = sentence.partition(" No claim")[0]
    assert found in (folder / "report" / "report.md").read_text()


def broken(*arguments: Any, **named: Any) -> Any:
    raise ValueError("numbers that nobody thought of")


def test_what_cannot_be_summed_up_or_drawn_fails_no_trial_and_no_study(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", write_study(tmp_path, **ONE_TRIAL), "--executor", "in-process", "--storage")
    command(*run, "without", code=0)
    study = write_study(tmp_path, **ONE_TRIAL, tracking=STUDY["tracking"])
    with monkeypatch.context() as patched:
        patched.setattr("xferlab.trial.run.trial_summary", broken)
        patched.setattr("xferlab.cli.mirror.study_results", broken)
        said = command(*run, "with", code=0)
    assert said.err.count("warning: W&B lacks") == 1
    assert recorded(tmp_path / "with") == recorded(tmp_path / "without")
    assert "2 written, 0 were there" in command("mirror", study, "--storage", "with", code=0).out


def test_a_trial_that_arms_measure_on_other_data_of_one_name_has_numbers_of_each(
    command: Command, tmp_path: Path
) -> None:
    stages = {"general": {"data": "general", "repetitions": 1, "evaluate_on": [HOLD_OUT]}}
    arms = {"baseline": {}, "coarse": {"data.portable.degrade_to": 8}}
    changes = {**ONE_TRIAL, "stages": stages, "arms": arms, "tracking": STUDY["tracking"]}
    changes["training"] = {**TINY["training"], "max_epochs": 1, "patience": 1}
    command("run", write_study(tmp_path, **changes), "--executor", "in-process", code=0)
    runs = offline_runs(tmp_path / "cache" / "wandb")
    (trial,) = (run for run in runs if run.run.job_type == "general")
    names = ["portable.hold_out", "portable@coarse.hold_out"]
    assert trial.config["evaluated_on"] == names
    assert {f"{name}/portable/DICE" for name in names} <= trial.summary.keys()


def test_few_patients_have_no_deviation_there_either(tmp_path: Path) -> None:
    pair = (Place("frozen", "portable"), Place("baseline", "portable"))
    claims = Claims("DICE", HOLD_OUT, None, (pair,), declared=True)
    builder = StudyBuilder(tmp_path, images=MIN_PATIENTS - 1, missing=set(), pixels=False, claims=claims)
    content = study_results(Contents(load_study(builder.write(), builder.study)), pixels=False)
    deviations = ("sd_repetitions", "sd_images")
    few = [row for row in content.tables["aggregate"] if row["num_patients"] < MIN_PATIENTS]
    assert few
    assert all(math.isnan(row[name]) for row in few for name in deviations)
    assert all(math.isnan(content.summary[f"DICE/frozen/portable/{name}"]) for name in deviations)
