from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.plan.studies import HERE, STUDY, PlanOf, phantom_cases
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


def test_what_a_report_must_know_of_the_study(plan_of: PlanOf) -> None:
    document = to_document(plan_of(ARMS, profile="quick"))
    told = {key: document[key] for key in ("version", "study", "seed", "profile", "repetitions", "device")}
    assert told == {
        "version": 2, "study": "s", "seed": 7, "profile": "quick", "repetitions": 3, "device": "cpu",
    }  # fmt: skip
    assert document["note"] == "a study"
    assert document["tracking"]["project"] == "p"
    assert document["stages"] == ["donor", "general", "portable"]
    assert document["split"]["group_by"] == "patient_id"
    assert document["retries"] == 1
    assert document["compare_to"] is None
    assert {trial["max_epochs"] for trial in document["trials"]} == {5}


def test_cases_and_patients_are_counted_by_pathology(plan_of: PlanOf) -> None:
    plan = plan_of()
    told = to_document(plan)["data"]["portable"]
    cases = phantom_cases("portable", plan.loaded.base.data["portable"])
    assert (told["cases"], told["patients"], told["hold_out"]) == (40, 20, 0.5)
    counts = Counter(case.pathology for case in cases)
    assert {name: one["cases"] for name, one in told["pathologies"].items()} == counts
    assert told["pathologies"]["covid19"]["patients"] == 7
    assert told["source"] == "phantom_cxr"
    assert told["shareable"] is False


def test_training_patients_are_counted_also_of_a_share_of_the_labels(plan_of: PlanOf) -> None:
    few = "arms:\n  baseline: {}\n  few: {stages.portable.label_fraction: 0.5}\n"
    plan = plan_of(few)
    document = to_document(plan)
    patients = {case.digest: case.patient for cases in plan.cohort.sections.values() for case in cases}
    for told, trial in zip(document["trials"], plan.trials, strict=True):
        rows = plan.selections[trial.selection].rows
        trained = [patients[digest] for digest, part in rows if part == "train"]
        assert (told["num_train"], told["train_patients"]) == (len(trained), len(set(trained)))
    by_arm = {
        t["arms"][0]: t for t in document["trials"] if t["stage"] == "portable" and t["repetition"] == 1
    }
    assert 2 * by_arm["few"]["train_patients"] == pytest.approx(by_arm["baseline"]["train_patients"], abs=1)


def test_the_pool_of_training_patients_is_counted_over_the_repetitions(plan_of: PlanOf) -> None:
    few = "arms:\n  baseline: {}\n  few: {stages.portable.label_fraction: 0.5}\n"
    plan = plan_of(few)
    patients = {case.digest: case.patient for cases in plan.cohort.sections.values() for case in cases}
    arms = to_document(plan)["arms"]
    for arm in ("baseline", "few"):
        for stage in ("donor", "general", "portable"):
            pool = {
                patients[digest]
                for trial in plan.trials
                if arm in trial.arms and trial.stage == stage
                for digest, part in plan.selections[trial.selection].rows
                if part == "train"
            }
            assert arms[arm]["stages"][stage]["pool_patients"] == len(pool)


def test_every_arm_tells_its_stages(plan_of: PlanOf) -> None:
    arms = to_document(plan_of(ARMS))["arms"]
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


def test_every_arm_tells_what_it_changes_as_written(plan_of: PlanOf) -> None:
    arms = to_document(plan_of(ARMS, profile="quick"))["arms"]
    assert arms["baseline"]["description"] == {}
    assert arms["scratch"]["description"] == {"stages.general.starts_from": None}
    assert to_document(plan_of())["arms"]["baseline"]["description"] == {}


def test_trials_refer_to_each_other_and_to_all_of_their_names(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    trials = {trial["trial_id"]: trial for trial in to_document(plan)["trials"]}
    assert {name: key for key, trial in trials.items() for name in trial["names"]} == plan.names
    for trial in trials.values():
        assert set(trial["parents"]) <= set(trials)
        assert {name.split("/")[0] for name in trial["names"]} == set(trial["arms"])
        sizes = Counter(part for _, part in plan.selections[plan.by_id[trial["trial_id"]].selection].rows)
        assert (trial["num_train"], trial["num_validation"]) == (sizes["train"], sizes["validation"])
        for one in trial["evaluations"]:
            assert one["selection"] in plan.selections
            assert set(one["arms"]) == set(trial["arms"])


def test_an_evaluation_tells_which_arms_ask_for_it(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, covid: {data.portable.where: {pathology: covid19}}}"
    document = to_document(plan_of(arms, edits={"count: 40": "count: 120"}))
    shared = next(trial for trial in document["trials"] if "baseline/general/r01" in trial["names"])
    found = [(one["section"], one["part"], one["arms"]) for one in shared["evaluations"]]
    assert found == [
        ("fixed", "test", ["baseline", "covid"]),
        ("portable", "hold_out", ["baseline"]),
        ("portable", "hold_out", ["covid"]),
    ]


def test_a_donor_that_is_given_is_told_with_its_digest(plan_of: PlanOf) -> None:
    given = STUDY.replace("donor: {data: mri}", "donor: {weights: buda2019}").replace(
        "  mri: {source: phantom_mri, count: 20}\n", ""
    )
    document = to_document(plan_of(base=given, setting=replace(HERE, donors={"buda2019": "a" * 64})))
    first = document["trials"][0]
    assert first["stage"] == "general"
    assert first["donor"]["name"] == "buda2019"
    assert first["donor"]["sha256"] == "a" * 64
    assert document["arms"]["baseline"]["stages"]["donor"]["repetitions"] is None
    assert document["arms"]["baseline"]["stages"]["donor"]["pool_patients"] is None


def test_totals_are_upper_bounds_on_the_work(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, profile="quick")
    found = totals(plan.trials, plan)
    document = to_document(plan)
    assert found == {
        "trials": len(plan.trials),
        "max_epochs": 5 * len(plan.trials),
        "max_images": sum(5 * trial["num_train"] for trial in document["trials"]),
        "evaluations": sum(len(trial["evaluations"]) for trial in document["trials"]),
    }
    assert totals([], plan) == dict.fromkeys(found, 0)


def test_warnings_are_told_as_lines(plan_of: PlanOf) -> None:
    warnings = to_document(plan_of("split: {group_by: null}"))["warnings"]
    assert any(line.startswith("data.fixed: warning: split.group_by is null") for line in warnings)
