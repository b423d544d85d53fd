"""Loading: what is complete is in the frames, what is not is counted; a million rows take seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder, contents_of
from xferlab import analysis
from xferlab.analysis.results import EvaluationSet
from xferlab.errors import RecordError
from xferlab.records import layout

NUM_METRICS = 22


@pytest.mark.component
def test_the_import_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; from xferlab.analysis import load, aggregate; "
        "print([m for m in ('torch', 'ray', 'wandb', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_one_row_per_arm_trial_case_and_metric(storage, results) -> None:
    cases = analysis.load(storage, STUDY)
    pd.testing.assert_frame_equal(cases, results.cases)
    assert list(cases.columns) == [
        *("arm", "stage", "repetition", "trial_id", "section", "part", "case", "name", "patient"),
        *("pathology", "simulated", "metric", "value", "parent_may_have_seen"),
    ]
    num_evaluations = 2 * 1 + 2 * 4 * 2 + (3 + 4) * 2
    assert len(cases) == num_evaluations * 18 * NUM_METRICS
    assert not cases.duplicated(["arm", "stage", "repetition", "section", "part", "case", "metric"]).any()


def test_a_shared_trial_appears_once_per_arm_with_the_same_values(results) -> None:
    donor = results.cases[results.cases["stage"] == "donor"]
    values = [donor[donor["arm"] == arm]["value"].to_numpy() for arm in ("baseline", "frozen")]
    np.testing.assert_array_equal(*values)
    assert donor["trial_id"].nunique() == 1


def test_planned_and_done_are_counted_and_the_missing_one_has_a_reason(results) -> None:
    counts = results.training_counts[["repetitions", "complete"]]
    assert tuple(counts.loc[("portable", "baseline")]) == (4, 3)
    assert tuple(counts.loc[("portable", "frozen")]) == (4, 4)
    planned = results.cases.attrs["planned"]
    assert {tuple(key.split("/")): num for key, num in planned.items()} == results.planned_evaluations()
    (missing,) = results.trials[results.trials["state"] != "complete"].to_dict("records")
    assert (missing["state"], missing["repetition"]) == ("failed", 4)
    assert missing["reason"] == "TrainingError: killed by signal 9 | <b>out of memory</b>"


def test_frames_go_through_parquet_files(results, tmp_path) -> None:
    for name in ("cases", "trials", "histories", "runs"):
        frame = getattr(results, name)
        frame.to_parquet(tmp_path / name)
        again = pd.read_parquet(tmp_path / name)
        assert again.attrs == frame.attrs
        assert len(again) == len(frame)
    cases = pd.read_parquet(tmp_path / "cases")
    pd.testing.assert_frame_equal(analysis.aggregate(cases), analysis.aggregate(results.cases))


def test_histories_and_runs_hold_complete_trials_only(results) -> None:
    own = results.histories[
        (results.histories["arm"] == "baseline") & (results.histories["stage"] == "portable")
    ]
    assert sorted(own["repetition"].unique()) == [1, 2, 3]
    assert own[own["repetition"] == 2]["train_loss"].tolist() == [0.5 / e + 0.02 for e in range(1, 7)]
    assert len(results.runs) == len(results.trials) - 1


def test_stored_pixels_come_back_as_images(results) -> None:
    trial_id, evaluated = (
        results.trials["trial_id"].iloc[-1],
        EvaluationSet("portable", "portable", "hold_out"),
    )
    outputs = results.outputs(trial_id, arm="frozen", evaluated=evaluated)
    assert {image.shape for image in outputs["image"]} == {(32, 32)}
    assert {int(value) for value in np.unique(outputs["target"].iloc[0])} == {0, 255}
    assert len(results.outputs(trial_id, arm="frozen", evaluated=replace(evaluated, part="train"))) == 0


def test_arms_put_the_baseline_first(tmp_path) -> None:
    results = contents_of(tmp_path, arms=("ablated", "baseline"), repetitions=1, images=3).results
    assert results.arms == ("baseline", "ablated")


def test_arms_keep_the_order_of_the_study_where_some_share_a_trial_that_others_do_not(tmp_path) -> None:
    results = contents_of(tmp_path, repetitions=1, images=3).results
    sharing = [["baseline", "alpha", "copy"], ["baseline", "copy"], ["zeta"], ["alpha"]]
    trials = [{**results.plan["trials"][0], "arms": arms} for arms in sharing]
    plan = {**results.plan, "arms": dict.fromkeys(["alpha", "baseline", "copy", "zeta"]), "trials": trials}
    assert replace(results, plan=plan).arms == ("baseline", "zeta", "alpha", "copy")


@pytest.mark.component
def test_what_is_altered_or_absent_makes_no_trial_complete_and_no_crash(tmp_path) -> None:
    results = contents_of(tmp_path, repetitions=1, images=3).results
    altered, incomplete = results.plan["trials"][-2:]
    files = [
        layout.TrialFiles(trial["trial_id"]).evaluation(trial["evaluations"][0]["evaluation_id"])
        for trial in (altered, incomplete)
    ]
    results.store.write(files[0].table("cases"), b"torn")
    results.store.delete(files[1].record)
    rows = analysis.load_study(tmp_path, STUDY).trials.set_index("trial_id")[["state", "reason"]]
    assert rows["state"][altered["trial_id"]] == "damaged"
    assert "does not match the digest" in rows["reason"][altered["trial_id"]]
    assert str(tmp_path) not in rows["reason"][altered["trial_id"]]  # it stands on pages that are passed on
    assert tuple(rows.loc[incomplete["trial_id"]]) == ("not complete", "trained, not yet evaluated")
    assert (rows["state"] == "complete").sum() == len(rows) - 2


def test_a_study_without_any_complete_trial_loads_empty(tmp_path) -> None:
    names = contents_of(tmp_path / "whole", repetitions=1, images=3).results.plan["trials"]
    missing = {name for trial in names for name in trial["names"]}
    results = contents_of(tmp_path / "empty", repetitions=1, images=3, missing=missing).results
    assert len(results.cases) == len(results.histories) == len(results.runs) == 0
    assert (results.training_counts["complete"] == 0).all()
    assert len(analysis.aggregate(results.cases)) == 0


def test_an_unknown_study_names_the_known_ones(storage) -> None:
    with pytest.raises(RecordError, match=r"no plan of study 'covid' \(studies here: covid_lung\)"):
        analysis.load(storage, "covid")


Result = TypeVar("Result")


def timed(what: str, work: Callable[[], Result]) -> Result:
    started = time.monotonic()
    result = work()
    seconds = time.monotonic() - started
    print(f"{what}: {seconds:.1f} s")
    assert seconds < 60
    return result


@pytest.mark.slow
def test_a_million_rows(builder: StudyBuilder) -> None:
    builder.arms, builder.repetitions, builder.missing = ("baseline", "a", "b", "c"), 25, set()
    builder.images, builder.pixels, builder.epochs = 140, False, 2
    builder.write()
    results = timed("load", lambda: analysis.load_study(str(builder.folder), STUDY))
    assert len(results.cases) > 1_000_000
    print(f"{len(results.cases):,} rows")
    table = timed("aggregate", lambda: analysis.aggregate(results.cases))
    row = table.query(
        "arm == 'a' and stage == 'general' and part == 'hold_out' and metric == 'DICE' and pathology == 'all'"
    ).iloc[0]
    assert row["mean"] == pytest.approx(0.8 + 0.01 * 13 + 0.001 * 69.5)
    assert (row["num_repetitions"], row["num_images"]) == (25, 140)
