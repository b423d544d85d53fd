"""Small studies with folds, and that leave sites out: run in process, and their reports computed again."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.conftest import Command
from tests.studies import TINY, noise, write_pack, write_study
from xferlab.analysis import load_study
from xferlab.cli.main import main

pytestmark = pytest.mark.component

FAST = {**TINY["training"], "max_epochs": 2, "patience": 2}
ARMS = {"baseline": {}, "quick": {"training.lr": 0.01}}
FIVE: dict[str, Any] = {
    "repetitions": None,
    "split": {"folds": 5},
    "data": {"general": {**TINY["data"]["general"], "count": 30}},
    "stages": {"general": {"data": "general"}},
    "training": FAST,
    "arms": ARMS,
}


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """A study without a number of repetitions."""
    path = write_study(folder, **changes)
    path.write_text(path.read_text().replace("repetitions: null\n", ""))
    return path


def run_and_report(folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a study and returns its report."""
    monkeypatch.setenv("XFERLAB_CACHE", str(folder / "cache"))
    study = str(write(folder, changes))
    assert main(["run", study, "--executor", "in-process"]) == 0
    assert main(["report", study, "--out", str(folder / "report")]) == 0
    return (folder / "report" / "report.md").read_text()


def table(folder: Path, pattern: str) -> list[dict[str, str]]:
    (path,) = (folder / "report" / "tables").glob(pattern)
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("folds")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return folder, run_and_report(folder, FIVE, monkeypatch)


@pytest.mark.slow
def test_every_patient_is_tested_once_by_a_network_that_never_saw_it(folds: tuple[Path, str]) -> None:
    storage = folds[0] / "xferlab-results"
    results = load_study(storage, "tiny")
    plan = json.loads((storage / "studies" / "tiny" / "plan.json").read_text())
    tested = results.cases[(results.cases["arm"] == "baseline") & (results.cases["metric"] == "DICE")]
    assert len(tested) == tested["patient"].nunique() == 30
    for trial in plan["trials"]:
        spec = json.loads((storage / "trials" / trial["trial_id"] / "spec.json").read_text())
        assert spec["coordinates"] == trial["coordinates"] == {"repeat": 1, "fold": trial["repetition"]}
        rows = json.loads((storage / "selections" / f"{spec['selection']}.json").read_text())["rows"]
        of_fold = tested.loc[tested["repetition"] == trial["repetition"], "case"]
        assert set(of_fold).isdisjoint(row[0] for row in rows)
        assert [sum(row[1] == part for row in rows) for part in ("train", "validation")] == [18, 6]


def test_the_report_names_the_design_and_its_p_is_that_of_the_corrected_t(folds: tuple[Path, str]) -> None:
    folder, report = folds
    assert "Cross-validation: 5 folds. In each repetition one fold tests, the next one selects" in report
    assert "Repetitions are the folds of a cross-validation." in report
    assert "Nadeau and Bengio 2003, test/train 0.33" in report
    # Networks of two epochs give every pixel the same class, so that Dice does not vary.
    rows = table(folder, "*arms_against_baseline_general_on_general_test_further.csv")
    (row,) = (row for row in rows if row["metric"] == "SOFT_DICE" and row["pathology"] == "all")
    cases = load_study(folder / "xferlab-results", "tiny").cases
    values: dict[tuple[str, int], list[float]] = defaultdict(list)
    for case in cases[cases["metric"] == "SOFT_DICE"].to_dict("records"):
        values[case["arm"], case["repetition"]].append(case["value"])
    differences = [np.mean(values["quick", n]) - np.mean(values["baseline", n]) for n in range(1, 6)]
    # Of 30 patients, 6 test and 18 train: V = s2 (1/5 + 6/18).
    t = np.mean(differences) / np.sqrt(np.var(differences, ddof=1) * (1 / 5 + 6 / 18))
    assert float(row["difference"]) == pytest.approx(np.mean(differences))
    assert float(row["p"]) == pytest.approx(2 * stats.t.sf(abs(t), 4))
    assert int(row["num_repetitions"]) == 5


def test_plan_shows_folds(folds: tuple[Path, str], command: Command) -> None:
    shown = command("plan", folds[0] / "study.yaml", code=0).out
    assert "repeat 1, fold 5" in next(line for line in shown.splitlines() if "baseline/general/r05" in line)
    assert "10 trials (10 complete" in shown


def sited_pack(folder: Path) -> Path:
    """Twenty-four patients of three sites."""
    pairs = [(noise(n, 32), (noise(100 + n, 32) > 127).astype(np.uint8) * 255) for n in range(24)]
    table = write_pack(folder, pairs) / "metadata.csv"
    head, *lines = table.read_text().splitlines()
    sites = (("north", "south", "west")[number % 3] for number in range(24))
    rows = [f"{line},{site}" for line, site in zip(lines, sites, strict=True)]
    table.write_text("\n".join([f"{head},hospital", *rows]) + "\n")
    return folder


@pytest.mark.slow
def test_sites_that_are_left_out_are_reported_one_by_one_without_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    root, both = str(sited_pack(tmp_path / "pack")), ["general.test", "general.hold_out"]
    changes = {
        **FIVE,
        "split": {"by": "hospital"},
        "data": {
            "general": {"source": "manifest", "root": root, "hold_out": 0.25},
            "south": {"source": "manifest", "root": root, "where": {"hospital": "south"}},
        },
        "stages": {
            "general": {"data": "general", "repetitions": 3, "evaluate_on": both},
            "south": {"data": "south", "starts_from": "general", "evaluate_on": both},
        },
    }
    report = run_and_report(tmp_path, changes, monkeypatch)
    assert (
        "all 10 trials complete" in capfd.readouterr().out
    )  # two arms: three of `general` and two of `south` each
    shown = command("plan", "study.yaml", code=0).out
    assert "site west" in next(line for line in shown.splitlines() if "baseline/general/r03" in line)
    assert (
        "stages.south: where 'south' is left out, the stage has no case to train on; it has no trial there"
        in shown
    )
    assert "Leave one site out: in each of 3 repetitions, the patients of another value of column" in report
    assert "Repetitions are the values of column 'hospital', each left out once." in report
    for part in ("test", "hold_out"):
        differences = table(tmp_path, f"*arms_against_baseline_general_on_general_{part}.csv")
        assert {row["no_p"] for row in differences} == {"sites left out"}
        assert {row["low"] + row["p"] for row in differences} == {""}

    rows = [row for row in table(tmp_path, "*sites_general_on_general_test.csv") if row["metric"] == "DICE"]
    cases = load_study(tmp_path / "xferlab-results", "tiny").cases
    cases = cases[(cases["stage"] == "general") & (cases["metric"] == "DICE") & (cases["part"] == "test")]
    baseline = cases[cases["arm"] == "baseline"]
    for number, site in enumerate(("north", "south", "west"), start=1):
        (row,) = (
            row for row in rows if (row["site"], row["arm"], row["pathology"]) == (site, "baseline", "all")
        )
        values = baseline[baseline["repetition"] == number]["value"]
        assert len(values) == int(row["num_patients"]) >= 5
        assert float(row["mean"]) == pytest.approx(values.mean())
        assert float(row["sd_images"]) == pytest.approx(values.std(ddof=1))
    together = baseline.groupby("repetition")["value"].mean()
    assert f"{together.mean():.4f} ± {together.std(ddof=1):.4f}" in report
    # The table of `south` has no line for the site that it has no trial for.
    assert {row["site"] for row in table(tmp_path, "*sites_south_on_general_test.csv")} == {"north", "west"}
