"""A search as table and figures, and tuned arms in a study's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.claims import verdicts_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.design import Side
from xferlab.analysis.figures.tuning import importance
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.differences import arms_against_baseline_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tuning import (
    load_curves,
    load_samples,
    samples_table,
    tuned_arms,
    tuned_on,
    tuned_sentence,
    tuning_report,
)
from xferlab.metrics.claims import Claims, Place
from xferlab.records import codec, layout, reader
from xferlab.records.samples import (
    RepetitionCurve,
    SampleRecord,
    search_store,
    write_sample,
    write_tuning,
)
from xferlab.records.store import Store

LR, ROTATION = "stages.portable.training.lr", "stages.portable.training.rotation"
ON = [
    {"repetition": n, "seed": n, "section": "portable", "cases": 20, "patients": 17 + n, "sha256": "0" * 64}
    for n in (1, 2)
]
DOCUMENT: dict[str, Any] = {
    "version": 2,
    "tuning_id": "search",
    "study": "covid_lung",
    "arm": "baseline",
    "stage": "portable",
    "repetitions": 2,
    "search": "random",
    "seed": 1,
    "asha": {"grace_epochs": 1, "reduction": 3},
    "score": {"name": "loss", "better": "lower", "label": "validation loss"},
    "space": [
        {"path": LR, "kind": "loguniform", "values": [1e-4, 1e-1]},
        {"path": ROTATION, "kind": "choice", "values": [None, {"degrees": 5.0, "probability": 0.5}]},
    ],
    "validated_on": ON,
}
PAIR = (Place("frozen", "portable"), Place("baseline", "portable"))
CARRIED: dict[str, Any] = {
    "tuning_id": "search",
    "stage": "portable",
    "search": "random",
    "num_samples": 20,
    "num_stopped": 12,
}


def record(number: int) -> SampleRecord:
    """The nearer lr lies to 1e-2, the better; rotation is worth nothing."""
    lr = float(10 ** np.random.default_rng(number).uniform(-4, -1))
    loss = 0.1 + 0.1 * abs(np.log10(lr) + 2)
    outcome = {5: "stopped", 6: "diverged"}.get(number, "complete")
    curve = (0.9, loss) if number != 6 else ()
    return SampleRecord(
        sample_id=f"s{number}",
        tuning_id="search",
        number=number,
        parameters={LR: lr, ROTATION: DOCUMENT["space"][1]["values"][number % 2]},
        outcome=outcome,
        max_epochs=4,
        better="lower",
        repetitions=(RepetitionCurve(f"t{number}", curve, len(curve), ""),) * 2,
    )


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "storage")
    write_tuning(store, DOCUMENT)
    for number in range(1, 25):
        write_sample(search_store(store, "search"), record(number))
    return tmp_path / "storage"


def test_samples_as_a_frame(storage: Path) -> None:
    frame = load_samples(storage, "search")
    assert list(frame["sample"]) == list(range(1, 25))
    assert frame.loc[5, "outcome"] == "diverged"
    assert np.isnan(frame.loc[5, "score"])
    assert frame.loc[4, "epochs_saved"] == 4  # two repetitions at epoch 2 of 4
    assert frame.loc[0, LR] == record(1).parameters[LR]
    assert list(frame[ROTATION][:2]) == ['{"degrees": 5.0, "probability": 0.5}', None]


def test_curves_as_a_frame(storage: Path) -> None:
    frame = load_curves(storage, "search")
    curves = frame[frame["sample"] == 1]
    assert list(curves["repetition"]) == [0, 0, 1, 1, 2, 2]
    assert list(curves["score"][:2]) == list(record(1).curve)


def test_the_winner_stands_first_and_the_diverged_last() -> None:
    records = [record(number) for number in range(1, 25)]
    table = samples_table(DOCUMENT, records)
    rows = table.groups[0].rows
    complete = [sample for sample in records if sample.outcome == "complete"]
    best = min(complete, key=lambda sample: sample.curve[-1])
    assert rows[0].label == f"{best.number} (winner)"
    assert [row.cells[0] for row in rows][-2:] == ["stopped", "diverged"]
    assert rows[-1].cells[2] == "–"
    assert "stopping early saved at most 4" in table.notes[0]
    assert len(table.data) == 24


def test_a_sample_that_was_not_valid_stands_last_and_is_explained() -> None:
    invalid = replace(record(7), outcome="invalid", repetitions=(), reason="no")
    table = samples_table(DOCUMENT, [invalid, record(6), record(1)])
    assert [row.cells[:3] for row in table.groups[0].rows][-1] == ("invalid", "0 of 4", "–")
    assert table.caption[-1] == "Invalid: not trained, as the values are not valid together."
    assert len(samples_table(DOCUMENT, [record(1)]).caption) == len(table.caption) - 1


@pytest.mark.component  # imports Optuna
def test_what_decides_the_score_is_the_important_parameter(storage: Path) -> None:
    frame = load_samples(storage, "search")
    scored = frame[frame["score"].notna()]
    shares = importance(DOCUMENT, scored)
    assert next(iter(shares)) == LR
    assert shares[LR] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(DOCUMENT, scored[:5]) == {}
    assert importance(DOCUMENT, scored.assign(score=0.5)) == {}


@pytest.mark.component
def test_the_report_of_a_search(storage: Path, tmp_path: Path) -> None:
    page = tuning_report(storage, "search", tmp_path / "out")
    text = page.read_text("utf-8")
    for name in ("parallel", "importance"):
        assert f"(figures/{name}.png)" in text
        assert (tmp_path / "out/figures" / f"{name}.png").stat().st_size > 5000
    assert "No test or hold-out case was read." in text
    assert len(pd.read_csv(tmp_path / "out/tables/samples.csv")) == 24
    assert len(pd.read_csv(tmp_path / "out/tables/curves.csv")) == 23 * 6
    again = tuning_report(storage, "search", tmp_path / "again")
    assert again.read_bytes() == page.read_bytes()


def tuned_study(
    builder: StudyBuilder, stage: str, *, same_hold_outs: Sequence[str] = ("portable",)
) -> Contents:
    store = Store.open(builder.write())
    plan = reader.read_plan(store, "covid_lung")
    search = {**CARRIED, "stage": stage, "validated_on": ON, "same_hold_outs": list(same_hold_outs)}
    plan["arms"]["frozen"]["tuned"] = [search]
    codec.write_json(store, layout.StudyFiles("covid_lung").plan, plan)
    return Contents(load_study(builder.folder, "covid_lung"))


@pytest.mark.component  # writes a study
def test_a_tuned_arm_is_compared_on_hold_outs_only_and_says_so(builder: StudyBuilder) -> None:
    contents = tuned_study(builder, "portable")
    tables = list(arms_against_baseline_tables(contents))
    portable = [table for table in tables if "stage portable" in table.title]
    assert portable
    assert all("portable.hold_out" in table.title for table in portable)
    assert all(any("Arm frozen was tuned" in note for note in table.notes) for table in portable)
    general = [table for table in tables if "stage general" in table.title]
    assert any("general.test" in table.title for table in general)  # that stage was not tuned
    assert not any("tuned" in note for table in general for note in table.notes)


@pytest.mark.component
@pytest.mark.parametrize("same", [[], ["general"]])
def test_a_tuned_arm_claims_nothing_where_its_search_held_out_others(
    builder: StudyBuilder, same: list[str]
) -> None:
    contents = tuned_study(builder, "portable", same_hold_outs=same)
    evaluated = EvaluationSet("portable", "portable", "hold_out")
    assert contents.against_baseline(evaluated) == []
    sides = (Side("baseline", evaluated), Side("frozen", evaluated))
    rows = contents.compare(*sides).rows
    assert set(rows["no_p"]) == {"tuned on these"}
    assert rows[["low", "high", "p"]].isna().all(axis=None)
    assert rows["difference"].notna().any()
    of_arm = contents.compare(Side("frozen", evaluated), Side("frozen", replace(evaluated, stage="general")))
    assert "tuned on these" not in set(of_arm.rows["no_p"])  # of one arm, no choice between arms
    claims = Claims("DICE", "portable.hold_out", 0.01, (PAIR,), declared=True)
    builder.claims = claims
    (verdict,) = verdicts_of(tuned_study(builder, "portable", same_hold_outs=same)).verdicts
    assert (verdict.kind, verdict.reason) == ("no claim", "tuned on these")


@pytest.mark.component
def test_a_tuned_arm_is_marked_beside_its_row(builder: StudyBuilder) -> None:
    contents = tuned_study(builder, "portable")
    for table in metrics_tables(contents, hold_out=False):
        arms = {group.labels[1] for group in table.groups if "," not in group.labels[2]}
        tuned = "stage portable" in table.title
        assert ("frozen (tuned)" in arms) == tuned
        assert any("Arm frozen was tuned" in note for note in table.notes) == tuned


def test_what_starts_from_a_tuned_stage_is_tuned(builder: StudyBuilder) -> None:
    stages = {"general": {"starts_from": None}, "portable": {"starts_from": "general"}}
    tuned: dict[str, Any] = {"stages": stages, "tuned": [{**CARRIED, "stage": "general"}]}
    plan: dict[str, Any] = {"arms": {"baseline": {"stages": stages}, "t": tuned}}
    assert list(tuned_arms(plan, "portable")) == list(tuned_arms(plan, "general")) == ["t"]
    tuned["tuned"] = [{**CARRIED, "stage": "portable"}]
    assert tuned_arms(plan, "general") == {}


def test_the_sentence_names_samples_patients_and_the_consequence() -> None:
    search = {**CARRIED, "validated_on": ON, "same_hold_outs": ["portable", "sb"]}
    sentence = tuned_sentence("t", search)
    assert sentence == (
        "Arm t was tuned in stage portable: best of 20 samples (random search, 12 of them stopped early) by "
        "the validation score of repetitions 1, 2 (18 to 19 patients each of portable). These are test "
        "patients of other repetitions, so it is compared with other arms only on hold-outs that the search "
        "held out, too: those of portable and sb."
    )
    assert tuned_sentence("t", {**search, "same_hold_outs": []}).endswith(
        "held out, too: none of this study."
    )


def test_every_search_of_an_arm_must_have_held_out_the_same() -> None:
    stages = {"general": {"starts_from": None}, "portable": {"starts_from": "general"}}
    searches = [
        {**CARRIED, "stage": "general", "same_hold_outs": ["a"]},
        {**CARRIED, "stage": "portable", "same_hold_outs": ["a", "b"]},
    ]
    plan = {"arms": {"baseline": {"stages": stages}, "t": {"stages": stages, "tuned": searches}}}
    on = {name: tuned_on(plan, EvaluationSet.of("portable", name)) for name in ("a.hold_out", "b.hold_out")}
    assert on == {"a.hold_out": frozenset(), "b.hold_out": {"t"}}
    assert tuned_on(plan, EvaluationSet.of("portable", "a+b.hold_out")) == {"t"}
    assert tuned_on(plan, EvaluationSet.of("general", "b.hold_out")) == {"t"}
    assert tuned_on(plan, EvaluationSet.of("portable", "a.test")) == {"t"}
    assert tuned_on({"arms": {"t": {"stages": stages}}}, EvaluationSet.of("portable", "a.test")) == set()
