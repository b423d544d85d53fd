from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from tests.plan.studies import GIVEN, HERE, PlanOf, parts, patients, phantom_cases
from xferlab.plan.changes import changes
from xferlab.plan.document import to_document, totals

ARMS = """\
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
profiles:
  quick: {training.max_epochs: 5, training.patience: 5}
tracking: {wandb: {project: p}}
note: a study
"""


def test_the_document_survives_json_and_is_the_same_twice(plan_of: PlanOf) -> None:
    document = to_document(plan_of(ARMS))
    assert json.loads(json.dumps(document)) == document
    assert to_document(plan_of(ARMS)) == document
    warnings = to_document(plan_of("split: {group_by: null}"))["warnings"]
    assert any(line.startswith("data.fixed: warning: split.group_by is null") for line in warnings)


def test_what_a_report_must_know_of_the_study(plan_of: PlanOf) -> None:
    document = to_document(plan_of(ARMS, profile="quick"))
    expected = {
        "version": 4, "study": "s", "seed": 7, "profile": "quick", "repetitions": 3, "device": "cpu",
        "note": "a study", "stages": ["donor", "general", "portable"], "retries": 1, "compare_to": None,
    }  # fmt: skip
    assert {key: document[key] for key in expected} == expected
    assert document["tracking"]["project"] == "p"
    assert document["split"]["group_by"] == "patient_id"
    assert {trial["max_epochs"] for trial in document["trials"]} == {5}


def test_cases_and_patients_are_counted_by_pathology(plan_of: PlanOf) -> None:
    plan = plan_of()
    section = to_document(plan)["data"]["portable"]
    cases = phantom_cases("portable", plan.loaded.base.data["portable"])
    assert (section["cases"], section["patients"], section["hold_out"]) == (40, 20, 0.5)
    counts = Counter(case.pathology for case in cases)
    assert {name: count["cases"] for name, count in section["pathologies"].items()} == counts
    assert section["pathologies"]["covid19"]["patients"] == 7
    assert (section["source"], section["shareable"]) == ("phantom_cxr", False)


def test_each_arm_says_which_of_its_data_may_leave(plan_of: PlanOf) -> None:
    arms = (
        "arms:\n  baseline: {}\n  said: {data.fixed.shareable: true, data.portable.shareable: false}\n"
        "  other: {data.portable: {source: phantom_cxr, hold_out: 0.5, count: 40, seed: 2}}\n"
    )
    plan = plan_of(arms, edits={"seed: 2, hold_out": "seed: 2, shareable: true, hold_out"})
    baseline = {"mri": False, "fixed": False, "portable": True}
    assert {arm: entry["shareable"] for arm, entry in to_document(plan)["arms"].items()} == {
        "baseline": baseline,
        "said": {"mri": False, "fixed": True, "portable": False},
        "other": {**baseline, "portable": False},
    }


def test_training_patients_are_counted_by_trial_and_over_the_repetitions(plan_of: PlanOf) -> None:
    plan = plan_of("arms:\n  baseline: {}\n  few: {stages.portable.label_fraction: 0.5}\n")
    document, patient_of = to_document(plan), patients(plan)
    pools: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry, trial in zip(document["trials"], plan.trials, strict=True):
        trained = [patient_of[digest] for digest, _ in parts(plan, trial.name, "train")]
        assert (entry["num_train"], entry["train_patients"]) == (len(trained), len(set(trained)))
        for arm in trial.arms:
            pools[arm, trial.stage].update(trained)
    for (arm, stage), pool in pools.items():
        assert document["arms"][arm]["stages"][stage]["pool_patients"] == len(pool)
    first = [
        trial for trial in document["trials"] if (trial["stage"], trial["repetition"]) == ("portable", 1)
    ]
    patients_of = {trial["arms"][0]: trial["train_patients"] for trial in first}
    assert 2 * patients_of["few"] == pytest.approx(patients_of["baseline"], abs=1)


def test_every_arm_has_its_stages_and_its_changes_as_written(plan_of: PlanOf) -> None:
    arms = to_document(plan_of(ARMS, profile="quick"))["arms"]
    assert list(arms) == ["baseline", "scratch"]
    assert arms["baseline"]["stages"]["general"] == {
        "data": "fixed",
        "starts_from": "donor",
        "repetitions": 3,
        "evaluate_on": ["fixed.test", "portable.hold_out"],
        "pool_patients": 28,
    }
    assert arms["scratch"]["stages"]["general"]["starts_from"] is None
    assert arms["baseline"]["stages"]["donor"]["repetitions"] == 1
    assert arms["baseline"]["description"] == {}
    assert arms["scratch"]["description"] == {"stages.general.starts_from": None}
    assert to_document(plan_of())["arms"]["baseline"]["description"] == {}


def test_an_arm_that_gives_a_section_as_a_whole_names_no_patients(plan_of: PlanOf) -> None:
    names = "same_patient: [[P 1, P 2]], different_patients: [[P 3, P 4]]"
    section = f"{{source: phantom_cxr, count: 60, seed: 1, {names}}}"
    arms = f"arms: {{baseline: {{}}, whole: {{data.fixed: {section}}}}}\n"
    plan = plan_of(arms, edits={"{source: phantom_cxr, count: 60, seed: 1}": section})
    document = to_document(plan)
    assert document["arms"]["whole"]["description"] == {
        "data.fixed": {"source": "phantom_cxr", "count": 60, "seed": 1}
    }
    assert not {"P 1", "P 3"} & set(json.dumps(document).split('"'))
    assert changes(plan.loaded, document, None, fields=lambda old, new: ()) == []


def test_trials_refer_to_each_other_and_to_all_of_their_names(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    trials = {trial["trial_id"]: trial for trial in to_document(plan)["trials"]}
    assert {name: key for key, trial in trials.items() for name in trial["names"]} == plan.names
    for trial in trials.values():
        assert {id_ for given in trial["inputs"] for id_ in given["trials"]} <= set(trials)
        assert {name.split("/")[0] for name in trial["names"]} == set(trial["arms"])
        sizes = Counter(part for _, part in plan.selections[plan.by_id[trial["trial_id"]].selection].rows)
        assert (trial["num_train"], trial["num_validation"]) == (sizes["train"], sizes["validation"])
        for evaluation in trial["evaluations"]:
            assert evaluation["selection"] in plan.selections
            assert set(evaluation["arms"]) == set(trial["arms"])


def test_a_given_donor_has_its_digest(plan_of: PlanOf) -> None:
    document = to_document(plan_of(base=GIVEN, setting=replace(HERE, donors={"buda2019": "a" * 64})))
    first = document["trials"][0]
    assert first["stage"] == "general"
    assert first["inputs"][0]["donor"] == {
        "stage": "donor",
        "name": "buda2019",
        "path": None,
        "sha256": "a" * 64,
    }
    stage = document["arms"]["baseline"]["stages"]["donor"]
    assert (stage["repetitions"], stage["pool_patients"]) == (None, None)


def test_totals_are_upper_bounds_on_the_work(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, profile="quick")
    trials = to_document(plan)["trials"]
    expected = {
        "trials": len(trials),
        "max_epochs": 5 * len(trials),
        "max_images": sum(5 * trial["num_train"] for trial in trials),
        "evaluations": sum(len(trial["evaluations"]) for trial in trials),
    }
    assert totals(plan.trials, plan) == expected
    assert totals([], plan) == dict.fromkeys(expected, 0)
