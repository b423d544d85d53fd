from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import HERE, STUDY, PlanOf, phantom_cases, text_digest, with_case
from xferlab.errors import StudyError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec

ARMS = """\
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
  slow: {training.lr: 1e-4}
  late: {stages.portable.training.lr: 1e-4}
"""


def trial(plan: Plan, name: str) -> TrialSpec:
    return plan.by_id[plan.names[name]]


def evaluation_ids(plan: Plan) -> list[str]:
    return [one.evaluation_id for spec in plan.trials for one in spec.evaluations]


# --- the graph -------------------------------------------------------------------------------------


def test_names_cover_every_arm_stage_and_repetition(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    expected = {f"{arm}/donor/r01" for arm in ("baseline", "scratch", "slow", "late")}
    for arm in ("baseline", "scratch", "slow", "late"):
        for stage in ("general", "portable"):
            expected |= {f"{arm}/{stage}/r{repetition:02d}" for repetition in (1, 2, 3)}
    assert set(plan.names) == expected
    assert set(plan.names.values()) == set(plan.by_id)


def test_ids_are_16_hex_digits_and_belong_to_one_identity(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    ids = [spec.trial_id for spec in plan.trials]
    assert len(set(ids)) == len(ids) == len({repr(spec.identity) for spec in plan.trials})
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids + evaluation_ids(plan))


def test_arms_share_the_trials_they_agree_on(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    assert trial(plan, "baseline/donor/r01").arms == ("baseline", "scratch", "late")
    assert trial(plan, "baseline/general/r02").arms == ("baseline", "late")
    assert trial(plan, "baseline/portable/r02").arms == ("baseline",)
    assert trial(plan, "slow/donor/r01").arms == ("slow",)
    assert len(plan.trials) == 2 + 3 * 3 + 4 * 3  # donors, general, portable


def test_parents_come_first_and_repetitions_are_paired(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    seen: set[str] = set()
    for spec in plan.trials:
        assert set(spec.parents) <= seen
        seen.add(spec.trial_id)
    for repetition in (1, 2, 3):
        child = trial(plan, f"baseline/portable/r{repetition:02d}")
        assert child.parents == (plan.names[f"baseline/general/r{repetition:02d}"],)
        assert child.identity["parent"] == {"trials": list(child.parents)}


def test_all_repetitions_start_from_a_donor_of_one_repetition(plan_of: PlanOf) -> None:
    plan = plan_of()
    donor = plan.names["baseline/donor/r01"]
    assert [spec.parents for spec in plan.trials if spec.stage == "general"] == [(donor,)] * 3


def test_the_order_of_stages_in_the_file_does_not_matter(plan_of: PlanOf) -> None:
    head, _, stages = STUDY.partition("stages:\n")
    backwards = head + "stages:\n" + "".join(reversed(stages.splitlines(keepends=True)))
    assert plan_of(base=backwards).names == plan_of().names


def test_arms_train_on_the_same_patients(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    for repetition in (1, 2, 3):
        selections = {
            trial(plan, f"{arm}/general/r{repetition:02d}").selection
            for arm in ("baseline", "scratch", "slow")
        }
        assert len(selections) == 1
    assert trial(plan, "slow/general/r01").selection != trial(plan, "slow/general/r02").selection


def test_nobody_is_trained_on_and_evaluated_in_one_repetition(plan_of: PlanOf) -> None:
    plan = plan_of()
    patient_of = {c.digest: c.patient for cases in plan.cohort.sections.values() for c in cases}
    for repetition in (1, 2, 3):
        trained, evaluated = set(), set()
        for spec in plan.trials:
            if spec.repetition == repetition:
                trained |= {patient_of[digest] for digest in plan.selections[spec.selection].digests}
                for one in spec.evaluations:
                    evaluated |= {patient_of[digest] for digest in plan.selections[one.selection].digests}
        assert trained
        assert evaluated
        assert trained.isdisjoint(evaluated)


def test_the_hold_out_is_one_selection_for_all_repetitions(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    found = [one.selection for spec in plan.trials for one in spec.evaluations if one.part == "hold_out"]
    assert len(found) > 6
    assert len(set(found)) == 1


def test_every_selection_of_a_trial_is_in_the_plan_under_its_digest(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    for spec in plan.trials:
        for digest in (spec.selection, *(one.selection for one in spec.evaluations)):
            assert plan.selections[digest].identity() == digest


def test_an_evaluation_asked_for_twice_is_done_once(plan_of: PlanOf) -> None:
    once = plan_of()
    twice = plan_of(edits={"[fixed.test, portable": "[fixed.test, fixed.test, portable"})
    assert evaluation_ids(twice) == evaluation_ids(once)


# --- identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "edits"),
    [
        ("", {"study: s": "study: other"}),
        ("resources: {cpu: 2, gpu: 0.5}", {}),
        ("tracking: {wandb: {project: p}}", {}),
        ("retries: 5", {}),
        ("storage: /elsewhere", {}),
        ("note: hello", {}),
        ("compare_to: vidal2021", {}),
        ("training: {checkpoint_every_s: 1}", {}),
        ("training: {device: cpu}", {}),  # what `auto` means here
        ("training: {precision: float32}", {}),
        ("training: {deterministic: false}", {}),  # on the CPU always
        ("training: {lr: 0.001}", {}),  # the default
        ("", {"count: 60, seed: 1": "seed: 1, note: shown, count: 60"}),
        ("", {"{data: mri}": "{data: mri, resources: {cpu: 2}}"}),
        ("arms: {another: {}, baseline: {}}", {}),
    ],
)
def test_what_cannot_change_weights_renews_no_trial(
    plan_of: PlanOf, more: str, edits: dict[str, str]
) -> None:
    before, after = plan_of(), plan_of(more, edits=edits)
    assert set(after.by_id) == set(before.by_id)
    assert set(evaluation_ids(after)) == set(evaluation_ids(before))


def test_the_order_of_cases_renews_nothing(plan_of: PlanOf) -> None:
    def backwards(name: str, config: Any) -> Any:
        return list(reversed(phantom_cases(name, config)))

    assert set(plan_of(index=backwards).by_id) == set(plan_of().by_id)


@pytest.mark.parametrize(
    "more",
    [
        "training: {lr: 0.002}",
        "training: {loss: dice_as_printed}",
        "training: {smoothing: 2}",
        "training: {batch_size: 8}",
        "training: {max_epochs: 100}",
        "training: {patience: 5}",
        "training: {plateau: null}",
        "training: {plateau: {factor: 0.5}}",
        "training: {rotation: null}",
        "training: {rotation: {degrees: 5}}",
        "training: {intensity: unit}",
        "training: {precision: bfloat16}",
        "training: {compile: true}",
        "training: {threads: 2}",
        "training: {device: cuda}",
        "model: {image_size: 128}",
        "model: {init_features: 16}",
    ],
)
def test_what_can_change_weights_renews_every_trial(plan_of: PlanOf, more: str) -> None:
    before, after = plan_of(), plan_of(more)
    assert set(after.by_id).isdisjoint(before.by_id)
    assert set(evaluation_ids(after)).isdisjoint(evaluation_ids(before))


def test_another_number_of_channels_renews_every_trial(plan_of: PlanOf) -> None:
    grey = {"source: phantom_mri": "source: phantom_cxr"}
    before, after = plan_of(edits=grey), plan_of("model: {in_channels: 1}", edits=grey)
    assert set(after.by_id).isdisjoint(before.by_id)


def test_another_seed_renews_every_trial(plan_of: PlanOf) -> None:
    assert set(plan_of(edits={"seed: 7": "seed: 8"}).by_id).isdisjoint(plan_of().by_id)


@pytest.mark.parametrize("changed", [{"bfloat16": True}, {"device": "cuda"}, {"training_version": 2}])
def test_machine_and_numerics_renew_every_trial(plan_of: PlanOf, changed: dict[str, Any]) -> None:
    assert set(plan_of(setting=replace(HERE, **changed)).by_id).isdisjoint(plan_of().by_id)


def test_threads_count_on_the_cpu_and_determinism_on_cuda(plan_of: PlanOf) -> None:
    def ids(training: str) -> set[str]:
        return set(plan_of(f"training: {{{training}}}").by_id)

    assert ids("device: cuda, threads: 2") == ids("device: cuda")
    assert ids("device: cuda, deterministic: false") != ids("device: cuda")
    assert ids("threads: 2") != ids("threads: 1")


def test_metrics_and_overlays_renew_evaluations_alone(plan_of: PlanOf) -> None:
    before = plan_of()
    for after in (plan_of(setting=replace(HERE, metrics_version=2)), plan_of("overlay_cases: 5")):
        assert set(after.by_id) == set(before.by_id)
        assert set(evaluation_ids(after)).isdisjoint(evaluation_ids(before))


def test_another_evaluation_retrains_nothing_and_keeps_the_old_ones(plan_of: PlanOf) -> None:
    before, after = plan_of(), plan_of(edits={"[fixed.test, portable": "[fixed.test, fixed.train, portable"})
    assert set(after.by_id) == set(before.by_id)
    assert set(evaluation_ids(before)) < set(evaluation_ids(after))


def test_more_repetitions_keep_the_first_ones(plan_of: PlanOf) -> None:
    before, after = plan_of(), plan_of(edits={"repetitions: 3": "repetitions: 5"})
    assert before.names.items() < after.names.items()


def test_a_changed_image_renews_what_trains_on_it_and_what_descends_from_it(plan_of: PlanOf) -> None:
    before = plan_of()
    after = plan_of(index=with_case(phantom_cases, "fixed/0.png", digest=text_digest("mended")))
    renewed = {name for name in before.names if before.names[name] != after.names[name]}
    trained_on = {
        spec.repetition
        for spec in before.trials
        if spec.stage == "general"
        and phantom_cases("fixed", before.loaded.base.data["fixed"])[0].digest
        in before.selections[spec.selection].digests
    }
    assert trained_on  # else the test would prove nothing
    assert renewed == {f"baseline/{stage}/r{n:02d}" for stage in ("general", "portable") for n in trained_on}


def test_a_renamed_patient_that_keeps_its_part_renews_evaluations_alone(plan_of: PlanOf) -> None:
    """What an evaluation's record says of a case is part of its identity; a training sees the pixels only."""
    before = plan_of()
    after = plan_of(index=with_case(phantom_cases, "fixed/0.png", name="renamed.png"))
    assert before.names == after.names
    assert evaluation_ids(before) != evaluation_ids(after) or all(
        before.cohort.parts(n)[before.cohort.sections["fixed"][0].patient] != "test" for n in (1, 2, 3)
    )


@pytest.mark.parametrize(
    ("shareable", "evaluations"),
    [
        ("true", ["f78dd6ce3e84f99b", "021108528866f1f9"]),
        ("false", ["b34aceb7e4745381", "c4a312cd5f3793b9"]),  # of pseudonyms
    ],
)
def test_the_ids_of_a_small_study_stay_as_they_are(
    plan_of: PlanOf, shareable: str, evaluations: list[str]
) -> None:
    """Other ids mean that finished work runs again; they are renewed on purpose, by a version."""
    plan = plan_of(edits={"hold_out: 0.5": f"hold_out: 0.5, shareable: {shareable}"})
    assert [plan.names[f"baseline/{name}"] for name in ("donor/r01", "general/r01", "portable/r03")] == [
        "136731339ab56901",
        "5566f1c4f3010757",
        "7c63686f73609a7c",
    ]
    portable = trial(plan, "baseline/portable/r03")
    assert [one.evaluation_id for one in portable.evaluations] == evaluations


# --- given weights ---------------------------------------------------------------------------------

GIVEN = STUDY.replace("donor: {data: mri}", "donor: {weights: buda2019}").replace(
    "  mri: {source: phantom_mri, count: 20}\n", ""
)


def test_ids_are_provisional_until_the_donor_is_there(plan_of: PlanOf) -> None:
    absent = plan_of(base=GIVEN)
    assert absent.provisional == {one.trial_id for one in absent.trials}
    there = plan_of(base=GIVEN, setting=replace(HERE, donors={"buda2019": "a" * 64}))
    assert not there.provisional
    spec = trial(there, "baseline/general/r01")
    assert spec.donor is not None
    assert spec.donor["sha256"] == "a" * 64
    assert spec.parents == ()
    assert spec.identity["parent"] == {"weights": "a" * 64}
    assert set(absent.by_id).isdisjoint(there.by_id)


def test_a_digest_in_the_study_makes_ids_known_before_the_file_is_there(plan_of: PlanOf) -> None:
    told = GIVEN.replace("weights: buda2019", f"weights: {{name: buda2019, sha256: {'a' * 64}}}")
    there = plan_of(base=GIVEN, setting=replace(HERE, donors={"buda2019": "a" * 64}))
    assert plan_of(base=told).names == there.names


def test_weights_enter_by_content_and_not_by_path(plan_of: PlanOf) -> None:
    local = GIVEN.replace("weights: buda2019", "weights: {path: /d/w.pt}")
    there = plan_of(base=GIVEN, setting=replace(HERE, donors={"buda2019": "a" * 64}))
    assert plan_of(base=local, setting=replace(HERE, donors={"/d/w.pt": "a" * 64})).names == there.names


def test_arms_may_give_one_stage_different_weights(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, other: {stages.donor.weights: {path: /d/w.pt}}}"
    digests = {"buda2019": "a" * 64, "/d/w.pt": "b" * 64}
    plan = plan_of(arms, base=GIVEN, setting=replace(HERE, donors=digests))
    found = [trial(plan, f"{arm}/general/r01").identity["parent"] for arm in ("baseline", "other")]
    assert found == [{"weights": "a" * 64}, {"weights": "b" * 64}]
    provisional = plan_of(arms, base=GIVEN)
    assert provisional.names["baseline/general/r01"] != provisional.names["other/general/r01"]


# --- chaining --------------------------------------------------------------------------------------

BEST = {"starts_from: general,": "starts_from: general, chaining: best,"}


def test_best_feeds_all_children_from_all_parents(plan_of: PlanOf) -> None:
    plan = plan_of(edits=BEST)
    parents = tuple(sorted(plan.names[f"baseline/general/r0{n}"] for n in (1, 2, 3)))
    children = [spec for spec in plan.trials if spec.stage == "portable"]
    assert [child.parents for child in children] == [parents] * 3
    assert len({child.trial_id for child in children}) == 3


def test_more_parents_renew_the_children_of_the_best(plan_of: PlanOf) -> None:
    before, after = plan_of(edits=BEST), plan_of(edits={**BEST, "repetitions: 3": "repetitions: 4"})
    for n in (1, 2, 3):
        assert before.names[f"baseline/general/r0{n}"] == after.names[f"baseline/general/r0{n}"]
        assert before.names[f"baseline/portable/r0{n}"] != after.names[f"baseline/portable/r0{n}"]
    assert any("another number of repetitions renews" in warning.what for warning in after.warnings)
    assert not any("another number of repetitions renews" in warning.what for warning in plan_of().warnings)


SAME = STUDY.replace(
    "portable: {source: phantom_cxr, count: 40, seed: 2,",
    "portable: {source: phantom_cxr, count: 60, seed: 1,",
).replace("count: 60, seed: 1}", "count: 60, seed: 1, hold_out: 0.5}")


def test_what_a_parent_of_another_repetition_trained_on_is_marked(plan_of: PlanOf) -> None:
    """The same patients in both stages: paired, nobody is seen; the best parent may have seen a test part."""
    paired, best = plan_of(base=SAME), plan_of(base=SAME, edits=BEST)
    assert not any(one.parent_may_have_seen for spec in paired.trials for one in spec.evaluations)
    for n in (1, 2, 3):
        marks = {
            one.name: one.parent_may_have_seen for one in trial(best, f"baseline/portable/r0{n}").evaluations
        }
        assert marks == {"portable.test": True, "portable.hold_out": False}


def test_what_the_parent_of_the_same_repetition_trained_on_is_no_mark(plan_of: PlanOf) -> None:
    """Whoever evaluates on a training part knows that it was trained on."""
    plan = plan_of(base=SAME, edits={"[portable.test,": "[portable.train,"})
    assert not any(one.parent_may_have_seen for spec in plan.trials for one in spec.evaluations)


def test_best_parents_with_other_patients_have_seen_nobody(plan_of: PlanOf) -> None:
    plan = plan_of(edits=BEST)
    assert not any(one.parent_may_have_seen for spec in plan.trials for one in spec.evaluations)


def test_a_grandparent_may_have_seen_them_too(plan_of: PlanOf) -> None:
    donor_on_same = SAME.replace("donor: {data: mri}", "donor: {data: fixed}").replace(
        "  mri: {source: phantom_mri, count: 20}\n", ""
    )
    plan = plan_of(base=donor_on_same)  # the donor has one repetition, its descendants have three
    marks = {
        spec.repetition: [one.parent_may_have_seen for one in spec.evaluations]
        for spec in plan.trials
        if spec.stage == "portable"
    }
    assert marks == {1: [False, False], 2: [True, False], 3: [True, False]}


# --- arms with other cases -------------------------------------------------------------------------


def test_a_filter_of_an_arm_takes_a_subset_of_each_part(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, covid: {data.fixed.where: {pathology: covid19}}}")
    for n in (1, 2, 3):
        all_rows, rows = (
            set(plan.selections[trial(plan, f"{arm}/general/r0{n}").selection].rows)
            for arm in ("baseline", "covid")
        )
        assert rows < all_rows


def test_what_an_arm_adds_moves_nobody(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, more: {data.fixed.count: 120}}")
    for n in (1, 2, 3):
        some, more = (
            set(plan.selections[trial(plan, f"{arm}/general/r0{n}").selection].rows)
            for arm in ("baseline", "more")
        )
        assert some < more


def test_arms_that_share_a_trial_are_each_measured_on_their_own_cases(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, covid: {data.portable.where: {pathology: covid19}}}"
    plan = plan_of(arms, edits={"count: 40": "count: 120"})
    shared = trial(plan, "baseline/general/r01")
    assert shared.arms == ("baseline", "covid")
    asked = [(one.name, one.arms) for one in shared.evaluations]
    assert asked == [
        ("fixed.test", ("baseline", "covid")),
        ("portable.hold_out", ("baseline",)),
        ("portable.hold_out", ("covid",)),
    ]
    for one in shared.evaluations:
        config = shared.data[one.source or one.section]
        wanted = config["where"].get("pathology")
        cases = plan.selections[one.selection].cases()
        assert cases
        assert {case.pathology for case in cases} == (
            {wanted} if wanted else {"covid19", "normal", "pathological"}
        )


def test_an_arm_that_simulates_a_device_keeps_the_patients_parts(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, simulated: {data.fixed.simulate: portable}}")
    real, simulated = (trial(plan, f"{arm}/general/r01") for arm in ("baseline", "simulated"))
    assert real.trial_id != simulated.trial_id
    by_name = {c.digest: c.name for c in phantom_cases("fixed", plan.loaded.arms["baseline"].data["fixed"])}
    by_name |= {c.digest: c.name for c in phantom_cases("fixed", plan.loaded.arms["simulated"].data["fixed"])}
    one, other = (
        {(by_name[digest], part) for digest, part in plan.selections[spec.selection].rows}
        for spec in (real, simulated)
    )
    assert one == other


# --- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        (
            {"count: 60": "count: 2"},
            r"the (train|validation) part of section 'fixed' is empty in repetition 1; add",
        ),
        (
            {"count: 40": "count: 4"},
            r"evaluated on portable\.test, which has no case in repetition \d; add patients",
        ),
    ],
)
def test_an_empty_part_is_refused(plan_of: PlanOf, edits: dict[str, str], text: str) -> None:
    with pytest.raises(StudyError, match=text):
        plan_of(edits=edits)


def test_all_empty_parts_are_told_at_once(plan_of: PlanOf) -> None:
    with pytest.raises(StudyError) as caught:
        plan_of(edits={"count: 60": "count: 2", "count: 20": "count: 2"})
    whole = str(caught.value)
    assert "section 'fixed'" in whole
    assert "section 'mri'" in whole


FEW = {"count: 40": "count: 14"}  # 7 patients, of whom 3 or 4 are held out


def test_a_class_that_a_part_lacks_is_a_warning_and_an_error_where_required(plan_of: PlanOf) -> None:
    plan = plan_of(edits=FEW)
    lacking = [one for one in plan.warnings if "'portable'" in one.what]
    assert lacking
    assert all(one.severity == "warning" and one.where == "data.portable" for one in lacking)
    with pytest.raises(StudyError, match=r"'covid19' is in no \w+ case of section 'portable' .* asks for it"):
        plan_of("split: {require_classes: [covid19]}", edits=FEW)


def test_the_test_part_must_have_the_required_classes_too(plan_of: PlanOf) -> None:
    with pytest.raises(StudyError, match=r"is in no test case of section 'portable' in repetition"):
        plan_of("split: {require_classes: [covid19, normal, pathological]}", edits=FEW)


def test_a_required_class_that_nobody_has_is_refused_with_the_nearest(plan_of: PlanOf) -> None:
    with pytest.raises(StudyError, match=r"'covid-19', which no case has .*Did you mean 'covid19'\?"):
        plan_of("split: {require_classes: [covid-19]}")


def test_required_classes_that_all_parts_have_are_fine(plan_of: PlanOf) -> None:
    assert plan_of("split: {require_classes: [normal]}").names == plan_of().names


def test_splitting_images_is_reported_with_the_number_of_patients(plan_of: PlanOf) -> None:
    plan = plan_of("split: {group_by: null}")
    found = {one.where: one.what for one in plan.warnings if "group_by" in one.what}
    assert found.keys() == {"data.mri", "data.fixed", "data.portable"}
    parts = plan.cohort.parts(1)
    pairs = [plan.cohort.sections["fixed"][i : i + 2] for i in range(0, 60, 2)]
    unit = plan.cohort.unit
    straddling = sum(parts[unit(one)] != parts[unit(other)] for one, other in pairs)
    assert f"{straddling} of 30 patients have images in more than one part" in found["data.fixed"]
    assert not [one for one in plan_of().warnings if "group_by" in one.what]


def test_arms_share_the_work_of_choosing_cases(plan_of: PlanOf) -> None:
    """What keeps ten thousand trials quick: cases are divided once a repetition, not once a trial."""
    calls = 0

    def counted(name: str, config: Any) -> Any:
        nonlocal calls
        calls += 1
        return phantom_cases(name, config)

    arms = "arms:\n" + "".join(f"  a{n}: {{training.lr: {n + 1}e-6}}\n" for n in range(20))
    plan = plan_of(arms, index=counted)
    assert len(plan.trials) == 20 * (1 + 3 + 3)
    assert calls == 3
    assert len(plan.selections) == 2 + 2 * 3 + 2 * 3 + 1  # donor and stages: to fit, to test; the hold-out
