"""What a plan says of the repetitions of a comparison: shares, pools, donors."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import StudyResults, load_study
from xferlab.analysis.design import Design, Side, design_of
from xferlab.analysis.results import EvaluationSet


def side(arm: str, stage: str = "portable") -> Side:
    return Side(arm, EvaluationSet(stage, "portable", "hold_out"))


CHAIN = ("general", "portable")
BASELINE, FROZEN, SCRATCH = side("baseline"), side("frozen"), side("scratch")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    folder, arms = tmp_path_factory.mktemp("design"), ("baseline", "frozen", "scratch")
    builder = StudyBuilder(folder, arms=arms, repetitions=3, missing=set(), pixels=False, images=1)
    builder.epochs = 2
    return load_study(builder.write(), "covid_lung")


@pytest.fixture
def results(loaded: StudyResults) -> StudyResults:
    """Donor (one training) -> general -> portable, three repetitions; `scratch` starts without the donor."""
    results = replace(loaded, plan=deepcopy(loaded.plan))
    for trial in trials(results, "scratch", "general"):
        trial["inputs"] = []
    return results


def trials(results: StudyResults, arm: str, stage: str) -> list[dict[str, Any]]:
    return [one for one in results.plan["trials"] if arm in one["arms"] and one["stage"] == stage]


def stage(results: StudyResults, arm: str, name: str) -> dict[str, Any]:
    return results.plan["arms"][arm]["stages"][name]


def test_both_trained_stages_count_and_the_donor_does_not(results: StudyResults) -> None:
    for arm in ("baseline", "frozen", "scratch"):
        stage(results, arm, "donor")["pool_patients"] = 48  # a share of 1, of a training that is not repeated
    assert design_of(results, BASELINE, FROZEN) == Design(
        planned=3,
        share=48 / 80,
        num_train=60,
        pools=(("general", 80), ("portable", 80)),
        donor="donor",
        donors_differ=False,
    )


def test_the_largest_share_of_both_sides_and_of_all_stages_counts(results: StudyResults) -> None:
    for number, trial in enumerate(trials(results, "frozen", "general")):
        trial |= {"train_patients": 10 + number, "num_train": 14}
    stage(results, "frozen", "general")["pool_patients"] = 12
    found = design_of(results, BASELINE, FROZEN)
    assert found.share == pytest.approx(11 / 12)
    assert found.num_train == 60  # of the stage that is measured
    assert found.pools == (("general", 12), ("general", 80), ("portable", 80))
    assert found.share_of_few == 0.0
    for trial in trials(results, "frozen", "general"):
        trial["train_patients"] = 9
    assert design_of(results, BASELINE, FROZEN).share_of_few == pytest.approx(9 / 12)
    for number, trial in enumerate(trials(results, "frozen", "general")):
        trial["train_patients"] = 10 + number
    swapped = design_of(results, FROZEN, BASELINE)
    results.plan["split"] = {"test": 0.2}
    assert design_of(results, BASELINE, FROZEN).ratio_elsewhere == pytest.approx(0.2 / (48 / 80))
    results.plan["split"] = {"folds": 5}
    stage(results, "frozen", "general")["pool_patients"] = 110
    assert design_of(results, BASELINE, FROZEN).ratio_elsewhere == pytest.approx(0.2 / (11 / 110))
    results.plan["split"] = {}
    assert (swapped.share, swapped.num_train) == (found.share, found.num_train)


@pytest.mark.parametrize(
    ("first", "second", "donor", "differ"),
    [
        (side("baseline", "general"), BASELINE, "donor", False),  # a stage with its parent
        (BASELINE, SCRATCH, "", True),  # a donor on one side only
        (SCRATCH, SCRATCH, "", False),
    ],
)
def test_sides_share_a_donor_or_not(
    results: StudyResults, first: Side, second: Side, donor: str, differ: bool
) -> None:
    design = design_of(results, first, second)
    assert (design.share, design.donor, design.donors_differ) == (0.6, donor, differ)


def started_from(ids: Sequence[str] = (), donor: object = None) -> list[dict[str, object]]:
    return [{"role": "starts_from", "trials": list(ids), "donor": donor}]


def test_given_weights_are_known_by_their_digest(results: StudyResults) -> None:
    for arm, digest in (("baseline", "a" * 64), ("frozen", "a" * 64), ("scratch", "b" * 64)):
        for trial in trials(results, arm, "general"):
            trial["inputs"] = started_from(
                donor={"stage": "brain", "name": "x", "path": None, "sha256": digest}
            )
    same, other = design_of(results, BASELINE, FROZEN), design_of(results, BASELINE, SCRATCH)
    assert (same.donor, same.donors_differ) == ("donor", False)
    assert (other.donor, other.donors_differ) == ("", True)


def test_the_best_of_several_trainings_is_one_donor(results: StudyResults) -> None:
    ids = sorted(trial["trial_id"] for trial in trials(results, "frozen", "general"))
    for trial in trials(results, "frozen", "portable"):
        trial["inputs"] = started_from(ids)
    found = design_of(results, FROZEN, FROZEN)
    assert found.donor == "general"
    assert found.pools == (("portable", 80),)  # how the donor was trained is no matter of the repetitions
    assert design_of(results, BASELINE, FROZEN).donors_differ
    # Before and after: what portable gained, from one training of general.
    assert design_of(results, side("frozen", "general"), FROZEN).donors_differ


def test_a_donor_that_is_trained_in_every_repetition_is_a_stage(results: StudyResults) -> None:
    donor = trials(results, "baseline", "donor")[0]
    for number, trial in enumerate(trials(results, "baseline", "general")):
        copy = {**donor, "trial_id": f"donor{number}", "train_patients": 9}
        results.plan["trials"].append(copy)
        trial["inputs"] = started_from([copy["trial_id"]])
    stage(results, "baseline", "donor")["pool_patients"] = 10
    found = design_of(results, BASELINE, BASELINE)
    assert (found.share, found.donor) == (0.9, "")


def test_fewer_repetitions_of_one_side_are_all_that_can_pair(results: StudyResults) -> None:
    donor, held = (trials(results, "baseline", name)[0]["evaluations"] for name in ("donor", "portable"))
    donor.append({**held[-1], "evaluation_id": "of the donor"})
    assert design_of(results, side("baseline", "donor"), BASELINE).planned == 1


def test_only_repetitions_that_are_to_be_measured_can_pair(results: StudyResults) -> None:
    """As where a split leaves sites out, and a section lacks one of them."""
    for arm, number in (("baseline", 0), ("frozen", 0), ("frozen", 2)):
        trial = trials(results, arm, "portable")[number]
        trial["evaluations"] = [each for each in trial["evaluations"] if each["part"] == "test"]
    assert design_of(results, BASELINE, SCRATCH).planned == 2
    assert design_of(results, BASELINE, FROZEN).planned == 1
    before, after = (Side("baseline", EvaluationSet(name, "portable", "hold_out")) for name in CHAIN)
    assert design_of(results, before, after).planned == 2


def test_parents_of_a_single_repetition_are_no_donors(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, repetitions=1, missing=set(), pixels=False, images=1, epochs=2)
    found = design_of(load_study(builder.write(), "covid_lung"), BASELINE, FROZEN)
    assert (found.planned, found.donor, found.donors_differ) == (1, "", False)


def test_who_predicts_counts_as_those_do_that_a_side_descends_from(results: StudyResults) -> None:
    ids = [trial["trial_id"] for trial in trials(results, "frozen", "general")]
    for trial, predictor in zip(trials(results, "scratch", "portable"), ids, strict=True):
        given = {"role": "masks", "trials": [predictor], "donor": None}
        trial["inputs"] = [given, *trial["inputs"]]
    for trial in trials(results, "frozen", "general"):
        trial |= {"train_patients": 30, "num_train": 31}
    stage(results, "frozen", "general")["pool_patients"] = 40
    results.plan["split"] = {"test": 0.15}
    design = design_of(results, SCRATCH, SCRATCH)
    assert (design.share, design.num_train) == (0.75, 60)
    assert design.ratio_elsewhere == pytest.approx(0.15 / 0.6)  # in the stage before
    assert design.pools == (("general", 40), ("general", 80), ("portable", 80))
    assert (design.donor, design.donors_differ) == ("donor", False)  # of those who predict
    without = replace(results, plan=deepcopy(results.plan))
    for trial in trials(without, "scratch", "portable"):
        trial["inputs"] = trial["inputs"][1:]
    assert design_of(without, SCRATCH, SCRATCH).donor == ""


def test_single_networks_from_other_donors(results: StudyResults) -> None:
    for arm, name in (("baseline", "a"), ("frozen", "b")):
        for trial in trials(results, arm, "portable"):
            donor = {"stage": "brain", "name": name, "path": None, "sha256": None}
            trial["inputs"] = [{"role": "starts_from.segmenter", "trials": [], "donor": donor}]
        stage(results, arm, "portable")["networks"] = {"segmenter": "brain"}
    assert design_of(results, BASELINE, FROZEN).donors_differ
    assert design_of(results, BASELINE, BASELINE).donor == "brain"


def test_only_stages_that_train_on_a_section_are_counted_by_its_images(results: StudyResults) -> None:
    for trial in trials(results, "baseline", "portable"):
        trial |= {"train_patients": 8, "num_train": 7}  # few, and of another section
    results.plan["split"] = {"test": 0.2}
    general, portable = (Side("baseline", EvaluationSet(stage, "general", "test")) for stage in CHAIN)
    found = design_of(results, general, portable)
    assert (found.num_train, found.ratio_elsewhere) == (60, pytest.approx(0.2 / (8 / 80)))
    # Of a set of sections, test images of one of them are fewer than those of all that train.
    for trial in trials(results, "baseline", "portable"):
        trial |= {"train_patients": 48, "data": "general+portable"}
    found = design_of(results, portable, portable)
    assert (found.num_train, found.ratio_elsewhere) == (60, pytest.approx(0.2 / (48 / 80)))
    elsewhere = Side("baseline", EvaluationSet("portable", "mri", "test"))
    assert design_of(results, elsewhere, elsewhere).num_train == float("inf")


def test_where_a_file_divides_the_plan_says_how_many_test(results: StudyResults) -> None:
    results.plan["split"] = {"file": "splits.csv"}
    for section, number in (("general", 10.0), ("portable", 6.0)):
        results.plan["data"][section] = {**results.plan["data"][section], "test_patients": number}
    before, after = (Side("baseline", EvaluationSet(stage, "portable", "test")) for stage in CHAIN)
    assert design_of(results, before, after).ratio_elsewhere == pytest.approx(10 / 48)
    for trial in trials(results, "baseline", "portable"):
        trial["data"] = "general+portable"
    assert design_of(results, after, after).ratio_elsewhere == pytest.approx(16 / 48)
    del results.plan["data"]["portable"]["test_patients"]  # as in a plan of an earlier version
    assert design_of(results, after, after).ratio_elsewhere == pytest.approx((80 - 48) / 48)


def test_images_that_are_divided_leave_patients_on_both_sides(results: StudyResults) -> None:
    for group_by, patients, divides in (
        ("patient_id", 80, False),
        (None, 80, True),
        (None, 100, False),  # one image each
    ):
        results.plan["split"] = {"group_by": group_by}
        results.plan["data"]["portable"] |= {"cases": 100, "patients": patients}
        assert design_of(results, BASELINE, FROZEN).divides_patients == divides
