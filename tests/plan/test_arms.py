"""The arms that the project ships, planned over cases in memory: what is shared, and what enters which id."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plan import studies
from tests.plan.studies import HERE, PlanOf, parts, patients, phantom_cases
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
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


@pytest.fixture(scope="module")
def plan(plan_of: PlanOf) -> Plan:
    """Every shipped arm; patients of the target are enough for all shares of labels to differ."""
    arms = {"baseline": {}, **{name: SHIPPED[name] for name in NAMES}}
    return plan_of(
        yaml.safe_dump({"arms": arms}, default_flow_style=None, width=1000), edits={"count: 40": "count: 600"}
    )


def trial(plan: Plan, arm: str, stage: str, repetition: int = 2) -> TrialSpec:
    return studies.trial(plan, f"{arm}/{stage}/r{repetition:02d}")


def stored(spec: TrialSpec) -> dict[str, Any]:
    return spec.identity.to_json()


def arms_of(plan: Plan, stage: str, repetition: int = 2) -> list[set[str]]:
    """The arms of each trial of a stage in one repetition."""
    arms: dict[str, set[str]] = {}
    for arm in plan.loaded.arms:
        name = f"{arm}/{stage}/r{1 if stage == 'donor' else repetition:02d}"
        arms.setdefault(plan.names[name], set()).add(arm)
    return list(arms.values())


def digests(plan: Plan, spec: TrialSpec, part: str) -> set[str]:
    return {digest for digest, _ in studies.parts(plan, spec.name, part)}


def changed(spec: TrialSpec, other: TrialSpec) -> set[str]:
    """Fields of the identity that differ."""
    before, after = stored(spec), stored(other)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def test_arms_share_the_stages_that_they_do_not_change_and_no_target(plan: Plan) -> None:
    of_donor, of_general = arms_of(plan, "donor"), arms_of(plan, "general")
    all_but_study_wide = set(plan.loaded.arms) - set(STUDY_WIDE)
    assert all_but_study_wide in of_donor
    assert sorted(map(len, of_donor)) == [1] * len(STUDY_WIDE) + [len(all_but_study_wide)]
    only_target = {"baseline", "portable_only", "skip_general", *LABELS}
    assert only_target in of_general
    assert sorted(map(len, of_general)) == [1] * (len(STUDY_WIDE) + len(GENERAL)) + [len(only_target)]
    assert {len(group) for group in arms_of(plan, "portable")} == {1}
    ids = {trial(plan, arm, "portable", n).trial_id for arm in plan.loaded.arms for n in (1, 2, 3)}
    assert len(ids) == 3 * len(plan.loaded.arms)


@pytest.mark.parametrize("name", ["domain_translator", "frozen_encoder", "late_encoder", "gradual_encoder"])
def test_what_is_frozen_enters_the_identity_of_its_stage(plan: Plan, name: str) -> None:
    general = trial(plan, name, "general")
    asked = SHIPPED[name]["stages.general.adapt"]
    assert stored(general)["adapt"] == asked
    assert "adapt" not in stored(trial(plan, name, "donor", 1))
    expected = {"adapt", "model"} if name == "domain_translator" else {"adapt"}
    assert changed(trial(plan, "baseline", "general"), general) == expected


def test_descendants_know_an_adaptation_by_their_parent_alone(plan: Plan) -> None:
    for name in ("gradual_encoder", "matched_control"):
        child, usual = trial(plan, name, "portable"), trial(plan, "baseline", "portable")
        assert changed(usual, child) == {"parent"}
        assert child.parents == (trial(plan, name, "general").trial_id,)


def test_the_identity_of_an_unadapted_stage_does_not_mention_adaptations(plan: Plan) -> None:
    for spec in plan.trials:
        if spec.arms[0] not in GENERAL:
            assert "adapt" not in stored(spec)
            assert "translator" not in stored(spec)["model"]
        if spec.arms[0] != "strong_augmentation":
            assert "augmentation" not in stored(spec)["training"]


def test_what_is_folded_or_translated_stays_so_down_the_chain(plan: Plan) -> None:
    def chain(arm: str) -> list[dict[str, Any]]:
        stages = (("donor", 1), ("general", 2), ("portable", 2))
        return [stored(trial(plan, arm, *stage)) for stage in stages]

    for name in FOLDED:
        assert [identity["model"]["in_channels"] for identity in chain(name)] == [3, 1, 1]
        adapted = {"fold": name.split("_")[1]}
        assert [identity.get("adapt") for identity in chain(name)] == [None, adapted, None]
    layers = {"depth": 2, "width": 32, "kernel": 3}
    translators = [identity["model"].get("translator") for identity in chain("domain_translator")]
    assert translators == [None, layers, layers]


def test_fewer_labels_change_the_training_part_and_nothing_else(plan: Plan) -> None:
    patient_of = patients(plan)
    for repetition in (1, 2, 3):
        whole = trial(plan, "baseline", "portable", repetition)
        few = [trial(plan, name, "portable", repetition) for name in LABELS]
        trained = [digests(plan, spec, "train") for spec in (*few, whole)]
        assert all(smaller < larger for smaller, larger in pairwise(trained))
        for spec, kept in zip(few, trained, strict=False):
            assert changed(whole, spec) <= {"selection"}
            assert digests(plan, spec, "validation") == digests(plan, whole, "validation")
            tested, of_whole = ([(e.name, e.selection) for e in each.evaluations] for each in (spec, whole))
            assert tested == of_whole
            left_out = {patient_of[digest] for digest in trained[-1] - kept}
            assert left_out.isdisjoint(patient_of[digest] for digest in kept)


def test_labels_without_strata_are_a_share_of_all_patients(plan_of: PlanOf) -> None:
    """Of 18 training patients of three pathologies, a twentieth is one, and not one of each."""
    fields = "stages.general.label_fraction: 0.05"
    plan = plan_of(f"arms: {{each: {{{fields}}}, any: {{{fields}, stages.general.stratified: false}}}}\n")
    patient_of = patients(plan)
    for repetition in (1, 2, 3):
        kept = {
            arm: {patient_of[digest] for digest, _ in parts(plan, f"{arm}/general/r0{repetition}", "train")}
            for arm in ("each", "any")
        }
        assert {arm: len(chosen) for arm, chosen in kept.items()} == {"each": 3, "any": 1}
        assert kept["any"] < kept["each"]
    first = [parts(plan, f"any/general/r0{repetition}", "train") for repetition in (1, 2, 3)]
    assert first[0] != first[1] or first[1] != first[2]


def test_labels_of_another_stage_are_chosen_by_that_stage(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, few: {stages.general.label_fraction: 0.2}}\n")
    assert changed(trial(plan, "baseline", "general"), trial(plan, "few", "general")) == {"selection"}
    assert changed(trial(plan, "baseline", "portable"), trial(plan, "few", "portable")) == {"parent"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        *(
            ("", f"stages.general.adapt: {nothing}")
            for nothing in ("null", "{}", "{freeze: null}", "{fold: null, translator: null}")
        ),
        ("", "stages.portable.label_fraction: 1.0"),
        (
            "stages.general.adapt: {translator: {}, freeze: {part: donor}}",
            "stages.general.adapt: {translator: {depth: 2, width: 32, kernel: 3}, "
            "freeze: {part: donor, unfreeze_after: null}}",
        ),
    ],
)
def test_nothing_all_and_defaults_renew_nothing(plan_of: PlanOf, change: str, same: str) -> None:
    """The same cases and fields are the same trial: nothing is trained twice."""
    plan = plan_of(f"arms: {{a: {{{change}}}, b: {{{same}}}}}\n")
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
        [f"{{translator: {{{field}}}}}" for field in ("depth: 1", "depth: 3", "width: 8", "kernel: 1")],
        [f"{{freeze: {{part: encoder, unfreeze_after: {after}}}}}" for after in ("1", "2", "{encoder1: 2}")],
    ],
)
def test_any_difference_in_an_adaptation_is_another_trial(plan_of: PlanOf, others: list[str]) -> None:
    arms = {f"a{n}": {"stages.general.adapt": yaml.safe_load(text)} for n, text in enumerate(others)}
    plan = plan_of(yaml.safe_dump({"arms": arms}))
    assert [len(group) for group in arms_of(plan, "general")] == [1] * len(others)
    assert [len(group) for group in arms_of(plan, "portable")] == [1] * len(others)


def test_the_job_has_every_arm_that_phantoms_allow_and_plans() -> None:
    plan = expand(load(ROOT / "jobs" / "ablations.yaml", environ={}), phantom_cases, HERE)
    included = {arm for arm in plan.loaded.arms if arm in SHIPPED}
    assert included == set(NAMES)
    # Of so few drawn patients, 5 and 10 % of the labels are one of each pathology.
    assert [warning.kind for warning in plan.warnings] == ["shares of labels that are nearly equal"]
    assert {"baseline", "portable_only", *LABELS} <= set(trial(plan, "baseline", "general").arms)
