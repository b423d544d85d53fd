"""Loading: what is complete is in the frames, what is not is counted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from xferlab import analysis
from xferlab.analysis.results import EvaluationSet
from xferlab.errors import RecordError
from xferlab.records import layout
from xferlab.records.store import Store

NUM_METRICS = 18


@pytest.mark.component
def test_the_import_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; from xferlab.analysis import load, aggregate; "
        "print([m for m in ('torch', 'ray', 'wandb', 'matplotlib', 'scipy.stats') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_one_row_per_arm_trial_case_and_metric(storage) -> None:
    cases = analysis.load(storage, "covid_lung")
    assert list(cases.columns) == [
        *("arm", "stage", "repetition", "trial_id", "section", "part", "case", "name", "patient"),
        *("pathology", "simulated", "metric", "value", "parent_may_have_seen"),
    ]
    num_evaluations = 2 * 1 + 2 * 4 * 2 + (3 + 4) * 2
    assert len(cases) == num_evaluations * 18 * NUM_METRICS
    assert not cases.duplicated(["arm", "stage", "repetition", "section", "part", "case", "metric"]).any()


def test_a_shared_trial_appears_once_per_arm_with_the_same_values(storage) -> None:
    cases = analysis.load(storage, "covid_lung")
    donor = cases[cases["stage"] == "donor"]
    one, other = (donor[donor["arm"] == arm]["value"].to_numpy() for arm in ("baseline", "frozen"))
    np.testing.assert_array_equal(one, other)
    assert donor["trial_id"].nunique() == 1


def test_planned_and_done_are_counted_and_the_missing_one_has_a_reason(results) -> None:
    counts = results.counts().set_index(["arm", "stage"])
    assert tuple(counts.loc[("baseline", "portable")]) == (4, 3)
    assert tuple(counts.loc[("frozen", "portable")]) == (4, 4)
    assert results.cases.attrs["planned"] == results.planned()
    (missing,) = results.trials[results.trials["state"] != "complete"].to_dict("records")
    assert (missing["state"], missing["repetition"]) == ("failed", 4)
    assert missing["reason"] == "TrainingError: killed by signal 9 | <b>out of memory</b>"


def test_histories_and_runs_hold_complete_trials_only(results) -> None:
    own = results.histories[
        (results.histories["arm"] == "baseline") & (results.histories["stage"] == "portable")
    ]
    assert sorted(own["repetition"].unique()) == [1, 2, 3]
    assert own[own["repetition"] == 2]["train_loss"].tolist() == [0.5 / e + 0.02 for e in range(1, 7)]
    assert len(results.runs) == len(results.trials) - 1


def test_stored_pixels_come_back_as_images(results) -> None:
    trial_id = results.trials["trial_id"].iloc[-1]
    evaluated = EvaluationSet("portable", "portable", "hold_out")
    outputs = results.outputs(trial_id, arm="frozen", evaluated=evaluated)
    assert {image.shape for image in outputs["image"]} == {(32, 32)}
    assert {int(value) for value in np.unique(outputs["target"].iloc[0])} == {0, 255}
    train = EvaluationSet("portable", "portable", "train")
    assert len(results.outputs(trial_id, arm="frozen", evaluated=train)) == 0


def test_arms_put_the_baseline_first(builder) -> None:
    builder.arms, builder.repetitions, builder.images = ("ablated", "baseline"), 1, 3
    results = analysis.load_study(builder.write(), "covid_lung")
    assert results.arms == ("baseline", "ablated")


@pytest.mark.component
def test_altered_cases_make_a_trial_damaged_not_a_crash(builder) -> None:
    builder.repetitions = 1
    folder = builder.write()
    store = Store.open(folder)
    results = analysis.load_study(folder, "covid_lung")
    trial = results.plan["trials"][-1]
    evaluation_id = trial["evaluations"][0]["evaluation_id"]
    store.write(layout.evaluation_path(trial["trial_id"], evaluation_id, "cases.parquet"), b"torn")
    after = analysis.load_study(folder, "covid_lung").trials
    (row,) = after[after["state"] == "damaged"].to_dict("records")
    assert row["trial_id"] == trial["trial_id"]
    assert "does not match the digest" in row["reason"]


@pytest.mark.component
def test_a_trial_without_one_evaluation_is_not_complete(builder) -> None:
    builder.repetitions = 1
    folder = builder.write()
    store = Store.open(folder)
    trial = analysis.load_study(folder, "covid_lung").plan["trials"][-1]
    evaluation_id = trial["evaluations"][0]["evaluation_id"]
    store.delete(layout.evaluation_path(trial["trial_id"], evaluation_id, "record.json"))
    row = analysis.load_study(folder, "covid_lung").trials.iloc[-1]
    assert (row["state"], row["reason"]) == ("not complete", "trained, not yet evaluated")


def test_a_study_without_any_complete_trial_loads_empty(builder) -> None:
    builder.missing = {
        f"{arm}/{s}/r{r:02d}"
        for arm in builder.arms
        for s in ("donor", "general", "portable")
        for r in range(5)
    }
    results = analysis.load_study(builder.write(), "covid_lung")
    assert len(results.cases) == len(results.histories) == len(results.runs) == 0
    assert (results.counts()["num_done"] == 0).all()
    assert len(analysis.aggregate(results.cases)) == 0


def test_an_unknown_study_names_the_known_ones(storage) -> None:
    with pytest.raises(RecordError, match=r"no plan of study 'covid' \(studies here: covid_lung\)"):
        analysis.load(storage, "covid")
