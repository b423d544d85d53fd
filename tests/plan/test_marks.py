"""Sections that mark less than a stage learns: what the stage is then measured by, and what cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.plan.studies import HERE
from tests.studies import noise, write_pack
from xferlab.data.sources.registry import read_section
from xferlab.errors import StudyError
from xferlab.leakage.index import StudyIndex
from xferlab.plan.document import to_document
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.study.load import load
from xferlab.tasks import registry
from xferlab.tasks.segmentation.config import TASK

STUDY = """\
study: s
repetitions: 1
data:
  own: {source: phantom_cxr, count: 20, size_px: 32}
  other: {source: manifest, root: pack, labels: {lungs: [255]}, hold_out: 1.0}
stages:
  parts:
    data: own
    structures: [heart, left_lung, right_lung]
    evaluate_on: [own.test, other.hold_out]
"""
Planned = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    write_pack(tmp_path / "pack", ((noise(number, 32), noise(9 - number, 32)) for number in range(4)))

    def planned(*edits: tuple[str, str]) -> Plan:
        text = STUDY
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "s.yaml").write_text(text)
        loaded = load(tmp_path / "s.yaml", environ={})
        return expand(loaded, StudyIndex(loaded.base.data, memo_dir=tmp_path / "memo"), HERE)

    return planned


def labels(text: str) -> tuple[str, str]:
    return "{lungs: [255]}", text


@pytest.mark.parametrize(
    ("marked", "read"),
    [
        ("{lungs: [255]}", ("lungs",)),
        ("{right_lung: [255], heart: [85]}", ("heart", "right_lung")),
        ("{left_lung: [170], lungs: [255]}", ("left_lung",)),  # else the mean would count it twice
        ("{lungs: [255], heart: [85], spine: [1]}", ("heart", "lungs")),
        ("{right_lung: [255], heart: [85], left_lung: [1], lungs: [2]}", ()),  # all that is learnt
    ],
)
def test_a_set_is_read_with_what_it_marks_of_a_stages_structures(
    planned: Planned, marked: str, read: tuple[str, ...]
) -> None:
    plan = planned(labels(marked))
    (trial,) = plan.trials
    own, other = trial.evaluations
    assert (own.marks, other.marks) == ((), read)
    assert plan.loaded.base.section_of("parts", "own").targets == trial.targets
    assert plan.loaded.base.section_of("parts", "other").targets == (read or trial.targets)
    assert read_section(trial.data["other"]).targets == (read or trial.targets)
    assert TrialSpec.from_json(trial.to_json()) == trial
    stored = [evaluation.get("marks") for evaluation in to_document(plan)["trials"][0]["evaluations"]]
    assert stored == [None, read or None]
    assert plan.loaded.warnings == ()


def test_what_a_set_marks_is_in_the_identity_of_its_evaluation_and_of_nothing_else(planned: Planned) -> None:
    (first,), (second,) = (planned(labels(f"{{{name}: [255]}}")).trials for name in ("lungs", "heart"))
    assert first.trial_id == second.trial_id
    assert first.evaluations[0] == second.evaluations[0]
    assert first.evaluations[1].selection == second.evaluations[1].selection
    assert first.evaluations[1].evaluation_id != second.evaluations[1].evaluation_id


def test_sections_that_mark_the_same_are_one_set(planned: Planned) -> None:
    third = "  third: {source: manifest, root: pack, labels: {lungs: [255]}, hold_out: 1.0}\nstages:"
    (trial,) = planned(("stages:", third), ("other.hold_out]", "other+third.hold_out]")).trials
    assert [evaluation.marks for evaluation in trial.evaluations] == [(), ("lungs",)]


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (
            labels("{lung: [255]}"),
            "10: stage 'parts' is evaluated on section 'other', which has lung and marks nothing that the "
            "stage learns (heart, left_lung, right_lung, or lungs: left_lung and right_lung as one). Did you "
            "mean 'lungs'?",
        ),
        (
            ("data: own", "data: [own, other]"),
            "stage 'parts' reads the structure 'heart'; section 'other' has lungs.",
        ),
        (
            ("other.hold_out]", "own+other.hold_out]"),
            "stage 'parts' joins sections of which it reads different structures (own: heart and left_lung "
            "and right_lung, other: lungs); evaluate on each by itself",
        ),
        (
            ("[heart, left_lung, right_lung]", "[heart]"),
            "stage 'parts' reads the structure 'heart'; section 'other' has lungs.",
        ),
    ],
)
def test_sets_that_a_stage_cannot_be_measured_on(planned: Planned, edit: tuple[str, str], what: str) -> None:
    with pytest.raises(StudyError, match=re.escape(what)):
        planned(edit)


def test_a_task_that_needs_all_structures_is_evaluated_on_nothing_less(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "task", lambda name: replace(TASK, composed=None))
    with pytest.raises(StudyError, match="reads the structure 'left_lung'; section 'other' has heart"):
        planned(labels("{heart: [255]}"))


def test_a_name_that_is_nearly_one_of_the_stages_is_told(planned: Planned) -> None:
    (warning,) = planned(labels("{hart: [85], lungs: [255]}")).loaded.warnings
    what = "warning: section 'other' marks 'hart', which stage 'parts' does not learn. Did you mean 'heart'?"
    assert str(warning).endswith(what)
    assert planned(labels("{left_lung: [1], right_lung: [2], lung: [3]}")).loaded.warnings == ()
