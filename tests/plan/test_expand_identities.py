"""What renews a trial or an evaluation, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import (
    HERE,
    STUDY,
    PlanOf,
    evaluation_ids,
    phantom_cases,
    text_digest,
    trial,
    with_case,
)
from xferlab.plan.document import to_document, totals
from xferlab.plan.plan import Plan
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.study.evaluated import OBJECTS, VARIANTS
from xferlab.tasks import registry
from xferlab.tasks.segmentation.config import TASK


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
        ("training: {validation_precision: same}", {}),  # float32 here
        ("training: {lr: 0.001}", {}),  # the default
        (
            "training: {weight_decay: 0, score: loss, plateau: {of: score}, milestones: null}",
            {},
        ),  # so are these
        ("training: {augmentation: {}}", {}),  # it varies nothing
        ("", {"count: 60, seed: 1": "seed: 1, note: shown, count: 60"}),
        ("", {"{data: mri}": "{data: mri, resources: {cpu: 2}}"}),
        ("arms: {another: {}, baseline: {}}", {}),
        ("", {"[fixed.test, portable": "[fixed.test, fixed.test, portable"}),
    ],
)
def test_what_cannot_change_weights_renews_no_trial(
    plan_of: PlanOf, more: str, edits: dict[str, str]
) -> None:
    before, after = plan_of(), plan_of(more, edits=edits)
    assert set(after.by_id) == set(before.by_id)
    assert set(evaluation_ids(after)) == set(evaluation_ids(before))


def test_the_order_of_cases_and_of_stages_renews_nothing(plan_of: PlanOf) -> None:
    def backwards(name: str, config: Any) -> Any:
        return list(reversed(phantom_cases(name, config)))

    head, _, stages = STUDY.partition("stages:\n")
    base = head + "stages:\n" + "".join(reversed(stages.splitlines(keepends=True)))
    assert plan_of(base=base, index=backwards).names == plan_of().names


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
        "training: {plateau: {of: training_loss}}",
        "training: {plateau: null, milestones: {epochs: [7]}}",
        "training: {weight_decay: 1.0e-6}",
        "training: {score: jaccard}",
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


def test_of_a_densenet_what_it_does_not_read_and_its_defaults_renew_no_trial(plan_of: PlanOf) -> None:
    def ids(model: str) -> set[str]:
        return set(plan_of(f"model: {{name: fc_densenet67, {model}}}").by_id)

    plain = ids("image_size: 256")
    assert ids("init_features: 16") == ids("growth: 16") == plain
    assert ids("growth: 8").isdisjoint(plain)
    assert set(plan_of("model: {name: fc_densenet103}").by_id).isdisjoint(plain)


def test_of_a_network_on_vgg16_what_it_does_not_read_and_its_defaults_renew_no_trial(plan_of: PlanOf) -> None:
    def ids(model: str) -> set[str]:
        return set(plan_of(f"model: {{name: segnet, {model}}}").by_id)

    plain = ids("image_size: 256")
    assert ids("init_features: 16") == ids("width: 1") == plain
    assert ids("width: 0.5").isdisjoint(plain)


GREY = {"source: phantom_mri": "source: phantom_cxr"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"edits": GREY}, {"more": "model: {in_channels: 1}", "edits": GREY}),
        ({}, {"edits": {"seed: 7": "seed: 8"}}),
        ({}, {"setting": replace(HERE, bfloat16=True)}),
        ({}, {"setting": replace(HERE, device="cuda")}),
    ],
    ids=["channels", "seed", "numerics", "machine"],
)
def test_channels_seed_machine_and_numerics_renew_every_trial(
    plan_of: PlanOf, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert set(plan_of(**after).by_id).isdisjoint(plan_of(**before).by_id)


def test_threads_count_on_the_cpu_and_determinism_on_cuda(plan_of: PlanOf) -> None:
    def ids(training: str) -> set[str]:
        return set(plan_of(f"training: {{{training}}}").by_id)

    assert ids("device: cuda, threads: 2") == ids("device: cuda")
    assert ids("device: cuda, deterministic: false") != ids("device: cuda")
    assert ids("threads: 2") != ids("threads: 1")


def test_versions_of_a_task_renew_trials_and_those_of_metrics_and_overlays_evaluations_alone(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, more_overlays = plan_of(), plan_of("overlay_cases: 5")
    monkeypatch.setattr(
        registry, "task", lambda name: replace(TASK, metrics_version=TASK.metrics_version + 1)
    )
    for after in (plan_of(), more_overlays):
        assert set(after.by_id) == set(before.by_id)
        assert set(evaluation_ids(after)).isdisjoint(evaluation_ids(before))
    monkeypatch.setattr(registry, "task", lambda name: replace(TASK, version=TASK.version + 1))
    assert set(plan_of().by_id).isdisjoint(before.by_id)


def test_more_evaluations_and_repetitions_keep_the_old_ones(plan_of: PlanOf) -> None:
    before, after = plan_of(), plan_of(edits={"[fixed.test, portable": "[fixed.test, fixed.train, portable"})
    assert set(after.by_id) == set(before.by_id)
    assert set(evaluation_ids(before)) < set(evaluation_ids(after))
    assert before.names.items() < plan_of(edits={"repetitions: 3": "repetitions: 5"}).names.items()


def test_a_changed_image_renews_what_trains_on_it_and_what_descends_from_it(plan_of: PlanOf) -> None:
    before = plan_of()
    after = plan_of(index=with_case(phantom_cases, "fixed/0.png", digest=text_digest("corrected")))
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
        before.selector.cohort.parts(n)[before.selector.cohort.sections["fixed"][0].patient] != "test"
        for n in (1, 2, 3)
    )


@pytest.mark.parametrize(
    ("shareable", "evaluations"),
    [
        ("true", ["8eab015db1b67170", "074f8953e5656bbc"]),
        ("false", ["0f62ddf383108749", "761628848ef89e03"]),  # of pseudonyms
    ],
)
def test_the_ids_of_a_small_study_stay_as_they_are(
    plan_of: PlanOf, shareable: str, evaluations: list[str]
) -> None:
    """Other ids mean that finished work runs again; they are renewed on purpose, by a version."""
    plan = plan_of(edits={"hold_out: 0.5": f"hold_out: 0.5, shareable: {shareable}"})
    assert [plan.names[f"baseline/{name}"] for name in ("donor/r01", "general/r01", "portable/r03")] == [
        "e5b4a9bddf86bff5",
        "2c4b694f7995be47",
        "7fe3a8a3bd951392",
    ]
    portable = trial(plan, "baseline/portable/r03")
    assert [evaluation.evaluation_id for evaluation in portable.evaluations] == evaluations


def test_images_that_one_of_two_arms_calls_private_are_private_to_the_trial_of_both(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, mine: {data.portable.shareable: false}}"
    plan = plan_of(arms, edits={"hold_out: 0.5": "hold_out: 0.5, shareable: true"})
    shared = trial(plan, "baseline/portable/r01")
    assert shared.arms == ("baseline", "mine")
    assert shared.data["portable"]["shareable"] is False


# --- the same cases in another way -----------------------------------------------------------------------


PLAIN = "portable: {data: portable, starts_from: general, evaluate_on: [portable.test, portable.hold_out]}"
MANY = PLAIN.replace(
    "hold_out]", ", ".join(["hold_out", *(f"portable.hold_out@{v}" for v in VARIANTS)]) + "]"
)
NAME = "baseline/portable/r01"
ARMS = "arms: {baseline: {}, native: {model.image_size: native}}"


def evaluations(plan: Plan, name: str) -> dict[str, EvaluationSpec]:
    return {evaluation.name: evaluation for evaluation in trial(plan, name).evaluations}


def test_variants_renew_no_trial_and_no_other_evaluation(plan_of: PlanOf) -> None:
    some, more = plan_of(ARMS), plan_of(ARMS, edits={PLAIN: MANY})
    assert some.names == more.names
    for name in some.names:
        assert evaluations(some, name).items() <= evaluations(more, name).items()


def test_variants_are_the_same_cases_under_ids_of_their_own(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    held_out = [item for item in evaluations(plan, NAME).values() if item.part == "hold_out"]
    assert [evaluation.variant for evaluation in held_out] == ["", *VARIANTS]
    assert len({evaluation.evaluation_id for evaluation in held_out}) == len(held_out)
    assert len({evaluation.selection for evaluation in held_out}) == 1
    spec = trial(plan, NAME)
    assert TrialSpec.from_json(spec.to_json()) == spec
    (planned,) = (item for item in to_document(plan)["trials"] if item["trial_id"] == spec.trial_id)
    assert [evaluation["variant"] for evaluation in planned["evaluations"]] == ["", "", *VARIANTS]


def test_at_native_size_the_original_size_is_the_plain_evaluation(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    by_name = evaluations(plan, "native/portable/r01")
    plain, original = by_name["portable.hold_out"], by_name["portable.hold_out@original"]
    assert plain.evaluation_id == original.evaluation_id
    number = len({evaluation.evaluation_id for evaluation in by_name.values()})
    assert number == len(by_name) - 1
    assert totals([trial(plan, "native/portable/r01")], plan)["evaluations"] == number


def test_another_version_of_the_objects_renews_evaluations_with_objects(plan_of: PlanOf) -> None:
    first, second = (
        evaluations(plan_of(ARMS, edits={PLAIN: MANY}, setting=replace(HERE, objects_version=version)), NAME)
        for version in (1, 2)
    )
    assert {before.variant for name, before in first.items() if second[name] != before} == set(OBJECTS)


def test_each_trial_gives_the_size_at_which_it_takes_images(plan_of: PlanOf) -> None:
    trials = to_document(plan_of(ARMS))["trials"]
    sizes = {arm: trial["image_size"] for trial in trials for arm in trial["arms"]}
    assert sizes["native"] == "native"
    assert isinstance(sizes["baseline"], int)
