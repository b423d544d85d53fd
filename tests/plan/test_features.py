"""Which cases show features, and that asking for them changes nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.plan.studies import HERE, STUDY, PlanOf, phantom_cases
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.document import to_document
from xferlab.plan.features import stratified
from xferlab.plan.identity import short_id
from xferlab.plan.selection import without_patients
from xferlab.plan.spec import TrialSpec
from xferlab.search.plan import Tuning, Wanted
from xferlab.study.load import load
from xferlab.study.space import load_space
from xferlab.tasks.segmentation.sections import Model

ASKED = "features: {on: portable.hold_out, cases: 8}\n"
OTHER_PIXELS = "arms: {baseline: {}, simulated: {data.portable.simulate: portable}}\n"


def test_asking_changes_no_trial_and_no_evaluation_and_specs_survive_json(plan_of: PlanOf) -> None:
    plain, asking = plan_of(OTHER_PIXELS), plan_of(OTHER_PIXELS + ASKED)
    assert all(spec.features is None and "features" not in spec.to_json() for spec in plain.trials)
    assert not any("features" in trial for trial in to_document(plain)["trials"])
    for spec, planned in zip(asking.trials, to_document(asking)["trials"], strict=True):
        assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert json.loads(json.dumps(planned["features"])) == planned["features"]
    assert dict(plain.names) == dict(asking.names)
    assert [spec.evaluations for spec in plain.trials] == [spec.evaluations for spec in asking.trials]
    assert plain.selections.items() <= asking.selections.items()


def test_all_trials_show_the_same_cases_of_the_hold_out(plan_of: PlanOf) -> None:
    plan = plan_of(OTHER_PIXELS + ASKED)
    asked = [spec.features for spec in plan.trials]
    (digest,) = {features.selection for features in asked if features}
    chosen = plan.selections[digest].cases()
    assert len(chosen) == 8
    held_out = {case.digest for case in phantom_cases("portable", plan.loaded.base.data["portable"])}
    assert {case.digest for case in chosen} <= held_out
    trained = {digest for spec in plan.trials for digest in plan.selections[spec.selection].digests}
    assert not trained & {case.digest for case in chosen}
    assert len({features.features_id for features in asked if features}) == len(plan.trials) == len(asked)
    of_study = without_patients(plan.loaded.base.data["portable"])
    for spec in plan.trials:
        assert spec.features is not None
        # Also for the arm that sees other cases under the same name.
        assert spec.data[spec.features.source] == of_study
    sources = {
        spec.arms: spec.features.source for spec in plan.trials if spec.stage == "portable" and spec.features
    }
    assert sources == {("baseline",): "portable", ("simulated",): "portable@"}


def test_the_features_id_is_of_trial_cases_resolution_layers_and_version(plan_of: PlanOf) -> None:
    spec = plan_of(ASKED).trials[-1]
    assert spec.features is not None
    assert spec.features.features_id == short_id(
        {
            "trial": spec.trial_id,
            "selection": spec.features.selection,
            "resolution": 256,
            "layers": list(Model().layers),
            "features": 1,
        }
    )


def test_samples_of_a_search_show_none(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY + ASKED)
    (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1e-4, 1e-2]}")
    loaded = load(tmp_path / "study.yaml", environ={})
    space = load_space(tmp_path / "space.yaml", loaded.arms["baseline"], stage="general")
    wanted = Wanted("baseline", "general", 2, search="random", asha=False, seed=1)
    tuning = Tuning(loaded, space, wanted, index=phantom_cases, setting=HERE)
    sample = tuning.sample(1, {"stages.general.training.lr": 1e-3})
    assert [trial.features for trial in (*tuning.base, *sample.trials)] == [None] * 4
    assert all(list(trial.data) == ["fixed"] for trial in sample.trials)


def cases_of(**counts: int) -> list[Case]:
    return [
        Case(f"{pathology} {number}", f"{number}.png", f"p{number}", pathology)
        for pathology, count in counts.items()
        for number in range(count)
    ]


def test_pathologies_come_by_their_share_in_any_order() -> None:
    cases = cases_of(covid19=40, normal=40, pathological=20)
    chosen = stratified(cases, 10)
    assert Counter(case.pathology for case in chosen) == {"covid19": 4, "normal": 4, "pathological": 2}
    assert set(stratified(reversed(cases), 10)) == set(chosen)
    assert chosen != stratified(cases, 100)[:10]


@pytest.mark.parametrize(("number", "expected"), [(64, 7), (7, 7), (5, 5)])
def test_no_more_cases_than_there_are(number: int, expected: int) -> None:
    chosen = stratified(cases_of(covid19=6, normal=1), number)
    assert len(set(chosen)) == len(chosen) == expected


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("{on: portable.test}", r"features\.on: 'portable\.test' is not `section\.hold_out`"),
        ("{on: portabel.hold_out}", r"names no data section of this study .*Did you mean 'portable'"),
        ("{on: fixed.hold_out}", r"'fixed\.hold_out' is empty: set data\.fixed\.hold_out"),
        ("{on: portable.hold_out, cases: 65}", r"features\.cases"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(plan_of: PlanOf, features: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        plan_of(f"features: {features}\n")


def test_an_arm_cannot_ask_for_other_features(plan_of: PlanOf) -> None:
    with pytest.raises(StudyError, match="belongs to the study as a whole"):
        plan_of("arms: {baseline: {features.cases: 4}}\n" + ASKED)
