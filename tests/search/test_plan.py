"""Samples are trials of the study with other parameters: parents and validation cases are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plan.studies import HERE, STUDY, phantom_cases
from tests.refusals import problems_of
from tests.tasks.labelled import added
from xferlab.cohort import Case
from xferlab.errors import RecordError, StudyError, UsageError
from xferlab.plan.document import to_document
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.selection import CaseSelector
from xferlab.search.plan import Tuning, Wanted, only, wanted_stage
from xferlab.study.load import LoadedStudy, load
from xferlab.study.space import load_space
from xferlab.study.tuned import Tuned

LR = "stages.portable.training.lr"


TuningOf = Callable[..., Tuning]


@pytest.fixture
def tuning_of(tmp_path: Path) -> TuningOf:
    def tuning_of(
        text: str = "training.lr: {loguniform: [1e-4, 1e-2]}",
        *,
        parents: int = 3,
        more: str = "",
        **changes: Any,
    ) -> Tuning:
        wanted = {"arm": "baseline", "stage": "portable", "repetitions": 2, "search": "random", "asha": False}
        asked = Wanted(**{**wanted, "seed": 1, **changes})
        loaded = study(tmp_path, more, parents=parents)
        (tmp_path / "space.yaml").write_text(text)
        space = load_space(tmp_path / "space.yaml", loaded.arms["baseline"], stage=asked.stage)
        return Tuning(loaded, space, asked, index=phantom_cases, setting=HERE)

    return tuning_of


def study(folder: Path, more: str = "", *, parents: int = 3) -> LoadedStudy:
    path = folder / "study.yaml"
    path.write_text(STUDY.replace("starts_from: donor", f"starts_from: donor, repetitions: {parents}") + more)
    return load(path, environ={})


def planned(folder: Path, arm: dict[str, Any]) -> Plan:
    return expand(study(folder, yaml.safe_dump({"arms": {"t": arm}})), phantom_cases, HERE)


def test_a_sample_is_what_an_arm_with_its_parameters_would_train(tuning_of: TuningOf, tmp_path: Path) -> None:
    sample = tuning_of().sample(3, {LR: 0.005})
    plan = planned(tmp_path, {LR: 0.005})
    for trial, repetition in zip(sample.trials, (1, 2), strict=True):
        same = plan.by_id[plan.names[f"t/portable/r{repetition:02d}"]]
        assert (trial.trial_id, trial.parents, trial.identity) == (same.trial_id, same.parents, same.identity)


@pytest.mark.parametrize(
    ("arms", "profile"),
    [
        ("still: {training.loss: cross_entropy, training.rotation: null}", None),
        ("still: {stages.portable.training: {loss: cross_entropy, lr: 0.1}}", None),
        ("still: {include: '#other', training.loss: cross_entropy}\n  other: {training.lr: 0.5}", None),
        ("still: {stages.more.training.loss: cross_entropy, training.rotation: null}", "small"),
    ],
)
def test_a_winner_s_arm_is_the_searched_arm_with_the_winner_s_parameters(
    tmp_path: Path, arms: str, profile: str | None
) -> None:
    """Also of stages that only the profile of the search leaves out."""
    path, space = tmp_path / "study.yaml", tmp_path / "space.yaml"
    text = STUDY.replace("stages:\n", "stages:\n  more: {data: fixed}\n")
    text += f"profiles: {{small: {{stages.more: null}}}}\narms:\n  baseline: {{}}\n  {arms}\n"
    path.write_text(text)
    space.write_text("training.lr: {loguniform: [1e-4, 1e-2]}")
    loaded = load(path, environ={}, profile=profile)
    wanted = Wanted("still", "portable", 2, "random", asha=False, seed=1)
    tuning = Tuning(
        loaded, load_space(space, loaded.arms["still"], stage="portable"), wanted,
        index=phantom_cases, setting=HERE,
    )  # fmt: skip
    winner = tuning.overrides({LR: 0.005})
    path.write_text(f"{text}  tuned: {yaml.safe_dump(winner, default_flow_style=True)}")
    plan = expand(load(path, environ={}), phantom_cases, HERE)
    names = [plan.names[f"tuned/portable/r0{repetition}"] for repetition in (1, 2)]
    assert [trial.trial_id for trial in tuning.sample(1, {LR: 0.005}).trials] == names
    for stage in ("donor", "general", "more"):
        assert plan.names[f"tuned/{stage}/r01"] == plan.names[f"still/{stage}/r01"]


def test_a_sample_reads_training_and_validation_cases_only(tuning_of: TuningOf, tmp_path: Path) -> None:
    tuning = tuning_of()
    sample, plan = tuning.sample(1, {LR: 0.005}), planned(tmp_path, {})
    for trial in sample.trials:
        assert trial.evaluations == ()
        assert set(trial.data) == {"portable"}
        rows = tuning.selections[trial.selection].rows
        assert {row[1] for row in rows} == {"train", "validation"}
        whole = plan.by_id[plan.names[f"t/portable/r{trial.repetition:02d}"]]
        held = [plan.selections[part.selection].digests for part in whole.evaluations]
        assert len(held) == 2
        assert all({row[0] for row in rows}.isdisjoint(digests) for digests in held)


def test_parents_are_the_study_s_own_trials(tuning_of: TuningOf, tmp_path: Path) -> None:
    plan = planned(tmp_path, {})
    expected = {plan.names[f"t/general/r{n:02d}"]: f"baseline/general/r{n:02d}" for n in (1, 2)}
    assert tuning_of().parents == expected


@pytest.mark.parametrize(("split", "number"), [("{folds: 3, repeats: 2}", 6), ("{by: pathology}", 3)])
def test_a_sample_of_folds_or_sites_trains_the_first_of_them(tmp_path: Path, split: str, number: int) -> None:
    def index(name: str, config: Any) -> list[Case]:
        cases = phantom_cases(name, config)
        return [
            replace(case, columns={"pathology": case.pathology} if name != "mri" else {}) for case in cases
        ]

    path = tmp_path / "study.yaml"
    text = STUDY.replace("repetitions: 3\n", "").replace("portable.test, ", "")
    path.write_text(f"{text}split: {split}\n")
    loaded = CaseSelector(load(path, environ={}), index).loaded
    assert loaded.arms["baseline"].stages["portable"].repetitions == number
    (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1e-4, 1e-2]}")
    space = load_space(tmp_path / "space.yaml", loaded.arms["baseline"], stage="portable")
    wanted = Wanted("baseline", "portable", 2, "random", asha=False, seed=1)
    sample = Tuning(loaded, space, wanted, index=index, setting=HERE).sample(1, {LR: 0.005})
    assert [trial.repetition for trial in sample.trials] == [1, 2]
    plan = expand(loaded, index, HERE)
    assert [trial.parents[0] for trial in sample.trials] == [
        plan.names[f"baseline/general/r0{repetition}"] for repetition in (1, 2)
    ]


STARTS = "changes what stage 'portable' takes from other trials; a search tunes one stage on given weights"
NOTHING = "changes nothing in a training of stage 'portable'; leave it out"


@pytest.mark.parametrize(
    ("text", "words", "changes"),
    [
        ("stages.general.training.lr: {uniform: [0.1, 0.2]}", STARTS, {}),
        ("model.init_features: {choice: [8, 16]}", STARTS, {}),
        ("stages.portable.starts_from: {choice: [general, null]}", STARTS, {}),
        ("resources.cpu: {choice: [1, 2]}", NOTHING, {}),
        ("training.checkpoint_every_s: {uniform: [1.0, 2.0]}", NOTHING, {}),
        ("data.portable.where: {choice: [{}, {pathology: normal}]}", "changes the validation cases", {}),
        (
            "model.image_size: {choice: [128, 256]}",
            "changes the image size, at which samples are compared",
            {"stage": "donor", "repetitions": 1},
        ),
        (
            "stages.portable.repetitions: {int: [1, 2]}",
            "changes the number of repetitions; give it by --repeats",
            {"parents": 1},
        ),
    ],
)
def test_what_samples_must_have_in_common_may_not_vary(
    tuning_of: TuningOf, text: str, words: str, changes: dict[str, Any]
) -> None:
    refused = problems_of(StudyError, tuning_of, "\n" + text, **changes)
    assert any(words in str(problem) for problem in refused)
    assert refused[0].where.endswith("space.yaml:2")


def test_samples_are_judged_by_the_untuned_arm_s_loss_and_batch_size(tuning_of: TuningOf) -> None:
    tuning = tuning_of(
        "training.loss: {choice: [dice, dice_as_printed]}\ntraining.batch_size: {choice: [4, 8]}"
    )
    point = {parameter.path: parameter.values[1] for parameter in tuning.space.parameters}
    sample = tuning.sample(1, point)
    assert sample.judge == {
        "loss": "dice",
        "smoothing": 1.0,
        "class_weights": None,
        "score": None,
        "batch_size": 16,
    }
    assert sample.trials[0].identity.training.loss == "dice_as_printed"


def test_the_search_s_id_changes_with_what_decides_its_samples(tuning_of: TuningOf) -> None:
    base = tuning_of().tuning_id
    assert tuning_of().tuning_id == base
    others = [
        tuning_of("training.lr: {loguniform: [1e-4, 2e-2]}"),
        tuning_of(seed=2),
        tuning_of(repetitions=1),
        tuning_of(search="optuna"),
        tuning_of(asha=True),
    ]
    assert len({base, *(tuning.tuning_id for tuning in others)}) == 6


def test_the_document_says_on_what_samples_were_compared(tuning_of: TuningOf) -> None:
    document = tuning_of(asha=True).to_json()
    assert document["asha"] == {"grace_epochs": 7, "reduction": 3}
    for part in document["validated_on"]:
        assert part["section"] == "portable"
        assert part["patients"] * 2 == part["cases"] > 0
    assert len({part["sha256"] for part in document["validated_on"]}) == 2


@pytest.mark.parametrize(
    ("edits", "same"),
    [
        ({}, ["portable"]),
        ({"repetitions: 3\n": "repetitions: 5\n", "study: s": "study: other"}, ["portable"]),
        ({"portable": "devices"}, ["devices"]),
        ({"seed: 7": "seed: 8"}, []),
        ({"hold_out: 0.5": "hold_out: 0.4"}, []),
        ({"count: 40": "count: 60"}, []),
        ({"hold_out: 0.5}": "hold_out: 0.5}\n  more: {source: phantom_cxr, count: 40, seed: 3, hold_out: 1}"},
         ["portable"]),
    ],
)  # fmt: skip
def test_a_study_knows_which_of_its_hold_outs_a_search_held_out(
    tuning_of: TuningOf, tmp_path: Path, edits: dict[str, str], same: list[str]
) -> None:
    """Elsewhere the hold-out may hold patients on whom the search trained or chose; the plan warns."""
    document = {**tuning_of().to_json(), "num_samples": 2, "sample": 1, "score": 0.5}
    carried = {name: document[name] for name in Tuned.model_fields if name in document}
    text = yaml.safe_dump({"arms": {"baseline": {}, "t": {LR: 0.005, "tuned": carried}}})
    path = tmp_path / "study.yaml"
    base = STUDY
    for old, new in edits.items():
        assert old in base
        base, text = base.replace(old, new), text.replace(LR, LR.replace(old, new))
    path.write_text(base + text)
    plan = expand(load(path, environ={}), phantom_cases, HERE)
    (search,) = to_document(plan)["arms"]["t"]["tuned"]
    assert search["same_hold_outs"] == same
    assert "held_out" not in search
    warned = [warning.what for warning in plan.warnings if warning.where == "arms.t"]
    assert bool(warned) == (not same)
    for what in warned:
        assert what.startswith(
            "the search of arm 't' (study 's', stage 'portable') is not known to have held"
        )
        assert "the patients of portable.hold_out" in what


def test_values_that_are_not_valid_together_make_no_sample_and_are_told_in_full(tuning_of: TuningOf) -> None:
    tuning = tuning_of(
        "training.plateau: {choice: [null, {patience: 3}]}\n"
        "training.milestones: {choice: [null, {epochs: [5], factor: 0.5}]}",
        more="training: {plateau: null}",
    )
    values = {parameter.path: parameter.values[1] for parameter in tuning.space.parameters}
    with pytest.raises(StudyError) as raised:
        tuning.sample(2, values)
    record = tuning.invalid(2, values, raised.value)
    assert '.plateau {"patience": 3}, ' in record.reason
    assert '.milestones {"epochs": [5], "factor": 0.5}: ' in record.reason
    assert (record.outcome, record.score, record.num_epochs) == ("invalid", None, 0)
    assert type(record).from_json(record.to_json()) == record
    assert tuning.sample(2, dict.fromkeys(values)).number == 2


def test_a_sample_survives_json(tuning_of: TuningOf) -> None:
    sample = tuning_of().sample(1, {LR: 0.005})
    assert SampleSpec.from_json(sample.to_json()) == sample
    older = {**sample.trials[0].to_json(), "version": 99}
    with pytest.raises(RecordError, match="version 99"):
        SampleSpec.from_json({**sample.to_json(), "trials": [older]})


def test_the_stage_is_the_last_unless_it_is_named(tmp_path: Path) -> None:
    base = study(tmp_path).base
    assert wanted_stage(base, None) == "portable"
    assert wanted_stage(base, "general") == "general"
    with pytest.raises(UsageError, match="Did you mean 'general'"):
        wanted_stage(base, "genral")
    assert list(only(base, "general", 2).stages) == ["donor", "general"]


def test_there_are_no_more_repetitions_than_those_of_the_study(tuning_of: TuningOf) -> None:
    with pytest.raises(UsageError, match="--repeats 4: stage 'portable' has 3 repetitions in this study"):
        tuning_of(repetitions=4)


ROLES = """\
study: s
seed: 7
repetitions: 3
data: {a: {source: phantom_cxr, count: 60, seed: 1}}
stages:
  lungs: {data: a}
  whole:
    data: a
    task: duet
    masks: {from: baseline.lungs, out_of_fold: 2}
    gate: {from: wide.views, keep: normal}
  views: {data: a, task: labelled, classes: {names: {normal: [normal], ill: [covid19, pathological]}}}
model: {image_size: 64}
arms:
  baseline: {}
  wide: {stages.lungs.training: {lr: 0.5}}
  chain: {stages.whole.masks.from: baseline.lungs, stages.whole.gate.from: back.views}
  back: {stages.views.gate: {from: chain.views, keep: normal}, stages.views.training: {lr: 0.1}}
"""


def labelled_cases(name: str, config: Any) -> list[Case]:
    return [replace(case, columns={"pathology": case.pathology}) for case in phantom_cases(name, config)]


def test_a_stage_with_masks_is_tuned_on_those_of_the_study(tmp_path: Path) -> None:
    with added():
        (tmp_path / "study.yaml").write_text(ROLES)
        (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1e-4, 1e-2]}")
        loaded = load(tmp_path / "study.yaml", environ={})
        space = load_space(tmp_path / "space.yaml", loaded.arms["baseline"], stage="whole")
        wanted = Wanted("baseline", "whole", 2, "random", asha=False, seed=1)
        tuning = Tuning(loaded, space, wanted, index=labelled_cases, setting=HERE)
        plan = expand(loaded, labelled_cases, HERE)
        sample = tuning.sample(1, {"stages.whole.training.lr": 0.005})
    names = [f"baseline/lungs/r0{r}{fold}" for r in (1, 2) for fold in ("", "/f1", "/f2")]
    names += ["baseline/views/r01", "baseline/views/r02"]
    assert tuning.parents.keys() == {plan.names[name] for name in names}
    untuned = [plan.by_id[plan.names[f"baseline/whole/r0{r}"]] for r in (1, 2)]
    assert [trial.predicted for trial in sample.trials] == [trial.predicted for trial in untuned]
    needed = {each.selection for trial in sample.trials for each in trial.predicted}
    assert needed <= tuning.selections.keys()


@pytest.mark.parametrize(
    ("arm", "stage"),
    [("baseline", "views"), ("baseline", "lungs"), ("chain", "whole"), ("chain", "views"), ("back", "views")],
)
def test_every_stage_of_every_arm_can_be_tuned(tmp_path: Path, arm: str, stage: str) -> None:
    with added():
        (tmp_path / "study.yaml").write_text(ROLES)
        (tmp_path / "space.yaml").write_text("training.lr: {loguniform: [1e-4, 1e-2]}")
        loaded = load(tmp_path / "study.yaml", environ={})
        space = load_space(tmp_path / "space.yaml", loaded.arms[arm], stage=stage)
        wanted = Wanted(arm, stage, 2, "random", asha=False, seed=1)
        tuning = Tuning(loaded, space, wanted, index=labelled_cases, setting=HERE)
        plan = expand(loaded, labelled_cases, HERE)
        sample = tuning.sample(1, {f"stages.{stage}.training.lr": 0.005})
    names = [f"{arm}/{stage}/r0{repetition}" for repetition in (1, 2)]
    assert [trial.trial_id for trial in tuning.base] == [plan.names[name] for name in names]
    assert [trial.repetition for trial in sample.trials] == [1, 2]
