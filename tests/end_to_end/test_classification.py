"""Classification with, without and outside of predicted masks, from the study file to the report."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.end_to_end.classified import NAMES, PATCHED, fields
from tests.end_to_end.test_kills import files_after_kills
from tests.studies import noise, write_study
from tests.tracking.wandb_files import OfflineRun, offline_runs
from xferlab.analysis import load_study
from xferlab.analysis.aggregation import aggregate
from xferlab.cli.main import main

TRACKING = {"wandb": {"project": "mine", "mode": "offline"}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classified")
    path = write_study(folder, **fields(features={"on": "chests.hold_out", "cases": 4}, tracking=TRACKING))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XFERLAB_CACHE", str(folder / "cache"))
        patched.chdir(folder)
        assert main(["check", str(path)]) == 0
        assert main(["run", str(path), "--executor", "in-process", "--storage", "results"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.component
def test_cases_hold_what_metrics_of_sets_are_made_of(study: Path) -> None:
    results = load_study(study.parent / "results", "tiny")
    rows = results.cases[(results.cases["stage"] == "kinds") & (results.cases["part"] == "hold_out")]
    wide = rows.pivot(index=["arm", "repetition", "case"], columns="metric", values="value")
    assert len(wide) == 3 * 2 * 11
    np.testing.assert_allclose(wide["P_covid19"] + wide["P_normal"], 1.0, atol=1e-6)
    assert (wide["IS_covid19"] == 1 - wide["IS_normal"]).all()
    assert (wide["ACCURACY"] == (wide["CALLED"] == wide["LABEL"])).all()
    assert (wide["passed"] == 1).all()
    for (arm, repetition), cases in wide.groupby(level=["arm", "repetition"]):
        name = f"{arm}/kinds/r0{repetition}"
        assert 0 <= roc_auc_score(cases["IS_covid19"], cases["P_covid19"]) <= 1, name


@pytest.mark.slow
@pytest.mark.component
def test_a_report_has_classes_heat_and_what_objects_cost(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = study.parent / "results"
    words = ["report", str(study), "--storage", str(storage), "--out", str(tmp_path)]
    words += ["--ensembles", "--temperature"]
    assert main(words) == 0
    page = (tmp_path / "report.md").read_text()
    for text in ("Sensitivity, covid19", "AUC (macro)", "where the network looks, stage kinds", "cable"):
        assert text in page
    assert list((tmp_path / "figures").glob("*heat_kinds_on_chests_hold_out.png"))
    (path,) = (tmp_path / "tables").glob("*_ensembles_kinds_on_chests_hold_out.csv")
    (scaled,) = (tmp_path / "tables").glob("*_temperature_kinds_on_chests_hold_out.csv")
    assert {"LOG_LOSS", "CALIBRATION_ERROR", "BRIER_SCORE"} == set(pd.read_csv(scaled)["metric"])
    ensembles = pd.read_csv(path).query("by == 'ensemble' and pathology == 'all'")
    reached = ensembles.set_index(["arm", "metric"])["mean"]
    cases = load_study(storage, "tiny").cases.query("stage == 'kinds' and part == 'hold_out'")
    wide = cases.pivot(index=["arm", "case", "repetition"], columns="metric", values="value")
    assert len({arm for arm, _ in reached.index}) == 3
    for arm, rows in wide.groupby(level="arm"):
        mean = rows.groupby(level="case")[["IS_covid19", "P_covid19"]].mean()
        auc = roc_auc_score(mean["IS_covid19"], mean["P_covid19"])
        assert reached[arm, "AUROC_covid19" if (arm, "AUROC_covid19") in reached else "AUROC"] == auc
        right = (mean["P_covid19"] > 0.5) == mean["IS_covid19"]
        assert reached[arm, "ACCURACY"] == pytest.approx(right.mean())


@pytest.mark.slow
@pytest.mark.component
def test_wandb_has_the_metrics_of_sets_of_the_report_and_who_predicts_for_whom(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_kind: dict[str, list[OfflineRun]] = {}
    for run in offline_runs(study.parent / "cache" / "wandb"):
        of_kind.setdefault(run.run.job_type, []).append(run)
    made = {stage: {name for run in runs for name in run.made} for stage, runs in of_kind.items()}
    assert all(run.taken == [] for run in of_kind["lungs"] + of_kind["filter"])
    for run in of_kind["kinds"]:
        (start, masks) = run.taken  # the network that filters is also the one that the training starts from
        assert start in made["filter"]
        assert masks in made["lungs"]
    rows = aggregate(load_study(study.parent / "results", "tiny").cases)
    rows = rows.set_index(["arm", "stage", "part", "pathology", "metric"])["mean"]
    for metric in ("AUROC", "AUROC_covid19", "BALANCED_ACCURACY", "F1_SCORE_normal"):
        inside = [run for run in of_kind["kinds"] if run.run.run_group == "inside/kinds"]
        values = [run.summary[f"chests.hold_out/{metric}"] for run in inside]
        assert np.mean(values) == pytest.approx(rows["inside", "kinds", "hold_out", "all", metric])
    monkeypatch.setenv("XFERLAB_CACHE", str(study.parent / "cache"))
    assert main(["mirror", str(study), "--storage", str(study.parent / "results")]) == 0
    assert "0 written, 11 were there" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.component
def test_predict_runs_what_masks_need_first(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(noise(3, 50)).save(tmp_path / "a.png")
    where = ["--storage", str(study.parent / "results"), "--out", str(tmp_path / "out")]
    assert main(["predict", "inside/kinds/r01", str(tmp_path / "a.png"), *where]) == 0
    with (tmp_path / "out/predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["class"] in NAMES
    assert float(row["P_covid19"]) + float(row["P_normal"]) == pytest.approx(1.0, abs=1e-5)
    with Image.open(tmp_path / "out" / row["heat"]) as heat:
        assert heat.size == (50, 50)
    where += ["--format", "dicom-seg"]
    assert main(["predict", "inside/kinds/r01", str(tmp_path / "a.png"), *where]) == 2
    assert "this network (task 'classification') marks no structures in images" in capsys.readouterr().err


def killed(folder: Path, **changes: Any) -> Path:
    """A study that is short enough to be killed again and again."""
    return write_study(folder, **fields(retries=20, repetitions=1, **changes))


@pytest.mark.slow
def test_dropout_masks_and_gates_survive_kills(tmp_path: Path) -> None:
    assert any(name.startswith("predictions/") for name in files_after_kills(tmp_path, killed(tmp_path)))


@pytest.mark.slow
def test_patches_and_masks_of_a_densenet_out_of_fold_survive_kills(tmp_path: Path) -> None:
    """Drawn patches, balanced draws, dropout of channels, stored masks and maps end with the same bytes."""
    files = files_after_kills(tmp_path, killed(tmp_path, arms={"patches": PATCHED}))
    assert any(name.startswith("predictions/") for name in files)
    assert any(name.endswith("outputs.parquet") for name in files)
