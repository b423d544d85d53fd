"""The arms that the project ships, planned over cases in memory: what is shared, and what enters which id."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plan.studies import HERE, PlanOf, phantom_cases
from xferlab.plan.expand import Plan, expand
from xferlab.plan.spec import TrialSpec
from xferlab.study.load import load

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "search_spaces" / "ablations.yaml").read_text())
REAL_ONLY = ("kermany_only",)  # needs a column that phantoms lack
NAMES = [name for name in SHIPPED if name not in REAL_ONLY]
STUDY_WIDE = [name for name in NAMES if any(key.startswith(("training", "model")) for key in SHIPPED[name])]
LABELS = ["labels_5", "labels_10", "labels_20", "labels_50"]
GENERAL = [name for name in NAMES if any(key.startswith("stages.general") for key in SHIPPED[name])]
FOLDED = ["folded_sum", "folded_mean", "folded_luminance"]


@pytest.fixture
def plan(plan_of: PlanOf) -> Plan:
    """Every shipped arm; patients of the target are enough for all shares of labels to differ."""
    arms = {"baseline": {}, **{name: SHIPPED[name] for name in NAMES}}
    return plan_of(
        yaml.safe_dump({"arms": arms}, default_flow_style=None, width=1000), edits={"count: 40": "count: 600"}
    )


def trial(plan: Plan, arm: str, stage: str, repetition: int = 2) -> TrialSpec:
    return plan.by_id[plan.names[f"{arm}/{stage}/r{repetition:02d}"]]


def arms_of(plan: Plan, stage: str, repetition: int = 2) -> list[set[str]]:
    """The arms of each trial of a stage in one repetition."""
    found: dict[str, set[str]] = {}
    for arm in plan.loaded.arms:
        name = f"{arm}/{stage}/r{1 if stage == 'donor' else repetition:02d}"
        found.setdefault(plan.names[name], set()).add(arm)
    return list(found.values())


def rows(plan: Plan, spec: TrialSpec, part: str) -> set[str]:
    return {row[0] for row in plan.selections[spec.selection].rows if row[1] == part}


def changed(plan: Plan, one: TrialSpec, other: TrialSpec) -> set[str]:
    """Fields of the identity that differ."""
    before, after = one.identity.to_json(), other.identity.to_json()
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def test_the_donor_is_shared_by_all_that_train_it_alike(plan: Plan) -> None:
    shared = set(plan.loaded.arms) - set(STUDY_WIDE)
    assert sorted(map(len, arms_of(plan, "donor"))) == [1] * len(STUDY_WIDE) + [len(shared)]
    assert shared in arms_of(plan, "donor")


def test_general_is_shared_by_all_that_change_the_target_alone(plan: Plan) -> None:
    target = {"baseline", "portable_only", "skip_general", *LABELS}
    groups = arms_of(plan, "general")
    assert target in groups
    assert sorted(map(len, groups)) == [1] * (len(STUDY_WIDE) + len(GENERAL)) + [len(target)]


def test_no_two_arms_share_their_target(plan: Plan) -> None:
    assert {len(group) for group in arms_of(plan, "portable")} == {1}
    ids = {trial(plan, arm, "portable", n).trial_id for arm in plan.loaded.arms for n in (1, 2, 3)}
    assert len(ids) == 3 * len(plan.loaded.arms)


@pytest.mark.parametrize("name", ["domain_translator", "frozen_encoder", "late_encoder", "gradual_encoder"])
def test_what_rests_enters_the_identity_of_its_stage(plan: Plan, name: str) -> None:
    general = trial(plan, name, "general")
    asked = SHIPPED[name]["stages.general.adapt"]
    assert general.identity.to_json()["adapt"] == asked
    assert "adapt" not in trial(plan, name, "donor", 1).identity.to_json()
    expected = {"adapt", "model"} if name == "domain_translator" else {"adapt"}
    assert changed(plan, trial(plan, "baseline", "general"), general) == expected


def test_descendants_know_an_adaptation_by_their_parent_alone(plan: Plan) -> None:
    for name in ("gradual_encoder", "matched_control"):
        child, usual = trial(plan, name, "portable"), trial(plan, "baseline", "portable")
        assert changed(plan, usual, child) == {"parent"}
        assert child.parents == (trial(plan, name, "general").trial_id,)


def test_an_unadapted_study_has_no_word_of_it(plan: Plan) -> None:
    for spec in plan.trials:
        if spec.arms[0] not in GENERAL:
            assert "adapt" not in spec.identity.to_json()
            assert "translator" not in spec.identity.to_json()["model"]
        if spec.arms[0] != "strong_augmentation":
            assert "augmentation" not in spec.identity.to_json()["training"]


def test_what_is_folded_or_translated_stays_so_down_the_chain(plan: Plan) -> None:
    for name in FOLDED:
        stages = [trial(plan, name, "donor", 1), trial(plan, name, "general"), trial(plan, name, "portable")]
        assert [one.identity.to_json()["model"]["in_channels"] for one in stages] == [3, 1, 1]
        assert [one.identity.to_json().get("adapt") for one in stages] == [
            None,
            {"fold": name.split("_")[1]},
            None,
        ]
    layers = {"depth": 2, "width": 32, "kernel": 3}
    shapes = [
        trial(plan, "domain_translator", *at).identity.to_json()["model"].get("translator")
        for at in (("donor", 1), ("general", 2), ("portable", 2))
    ]
    assert shapes == [None, layers, layers]


def test_fewer_labels_change_the_training_part_and_nothing_else(plan: Plan) -> None:
    for repetition in (1, 2, 3):
        whole = trial(plan, "baseline", "portable", repetition)
        few = [trial(plan, name, "portable", repetition) for name in LABELS]
        parts = [rows(plan, one, "train") for one in (*few, whole)]
        for smaller, larger in pairwise(parts):
            assert smaller < larger
        for one in few:
            assert changed(plan, whole, one) <= {"selection"}
            assert rows(plan, one, "validation") == rows(plan, whole, "validation")
            theirs, usual = ([(e.name, e.selection) for e in spec.evaluations] for spec in (one, whole))
            assert theirs == usual
            patient_of = {c.digest: c.patient for cases in plan.cohort.sections.values() for c in cases}
            kept = {patient_of[digest] for digest in rows(plan, one, "train")}
            left_out = {patient_of[d] for d in rows(plan, whole, "train") - rows(plan, one, "train")}
            assert kept.isdisjoint(left_out)


def test_all_labels_are_no_fewer(plan_of: PlanOf) -> None:
    """The same cases are the same trial: nothing is trained twice."""
    plan = plan_of("arms: {baseline: {}, all: {stages.portable.label_fraction: 1.0}}\n")
    assert arms_of(plan, "portable") == [{"baseline", "all"}]


def test_labels_of_another_stage_are_chosen_by_that_stage(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, few: {stages.general.label_fraction: 0.2}}\n")
    assert changed(plan, trial(plan, "baseline", "general"), trial(plan, "few", "general")) == {"selection"}
    assert changed(plan, trial(plan, "baseline", "portable"), trial(plan, "few", "portable")) == {"parent"}


@pytest.mark.parametrize("nothing", ["null", "{}", "{freeze: null}", "{fold: null, translator: null}"])
def test_an_adaptation_that_changes_nothing_renews_nothing(plan_of: PlanOf, nothing: str) -> None:
    plan = plan_of(f"arms: {{baseline: {{}}, same: {{stages.general.adapt: {nothing}}}}}\n")
    assert {spec.arms for spec in plan.trials} == {("baseline", "same")}


def test_a_field_with_its_default_renews_nothing(plan_of: PlanOf) -> None:
    short = "{translator: {}, freeze: {part: donor}}"
    long = "{translator: {depth: 2, width: 32, kernel: 3}, freeze: {part: donor, unfreeze_after: null}}"
    plan = plan_of(f"arms: {{a: {{stages.general.adapt: {short}}}, b: {{stages.general.adapt: {long}}}}}\n")
    assert {spec.arms for spec in plan.trials} == {("a", "b")}


@pytest.mark.parametrize(
    "others",
    [
        [
            "{fold: sum}",
            "{fold: mean}",
            "{control: matched}",
            "{translator: {}}",
            "{freeze: {part: encoder}}",
        ],
        [f"{{translator: {{{one}}}}}" for one in ("depth: 1", "depth: 3", "width: 8", "kernel: 1")],
        [f"{{freeze: {{part: encoder, unfreeze_after: {one}}}}}" for one in ("1", "2", "{encoder1: 2}")],
    ],
)
def test_whatever_differs_in_an_adaptation_is_another_trial(plan_of: PlanOf, others: list[str]) -> None:
    arms = {f"a{number}": {"stages.general.adapt": yaml.safe_load(one)} for number, one in enumerate(others)}
    plan = plan_of(yaml.safe_dump({"arms": arms}))
    assert [len(group) for group in arms_of(plan, "general")] == [1] * len(others)
    assert [len(group) for group in arms_of(plan, "portable")] == [1] * len(others)


def job() -> Plan:
    def index(name: str, config: Any) -> Any:
        return phantom_cases(name, config)

    return expand(load(ROOT / "jobs" / "ablations.yaml", environ={}), index, HERE)


def test_the_job_has_every_arm_that_phantoms_allow_and_plans() -> None:
    plan = job()
    included = {arm for arm in plan.loaded.arms if arm in SHIPPED}
    assert included == set(NAMES)
    assert plan.warnings == ()
    assert {"baseline", "portable_only", *LABELS} <= set(trial(plan, "baseline", "general").arms)
