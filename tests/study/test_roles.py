"""What stages may take from each other, and what a user reads where they may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.refusals import problems_of
from xferlab.errors import StudyError
from xferlab.study.editors import json_schema
from xferlab.study.load import LoadedStudy, load
from xferlab.tasks import registry

pytestmark = pytest.mark.usefixtures("added_tasks")

STUDY = """\
study: s
repetitions: 2
data:
  a: {source: phantom_cxr, count: 60}
stages:
  donor: {weights: buda2019}
  lungs: {data: a}
  views: {data: a, task: labelled}
  first: {data: a, task: duet}
  whole:
    data: a
    task: duet
    masks: {from: lungs, structures: [lung]}
    gate: {from: views, keep: normal}
    starts_from: {second: first}
"""
MASKS = "{from: lungs, structures: [lung]}"
GATE = "{from: views, keep: normal}"
START = "{second: first}"


def loaded(folder: Path, text: str) -> LoadedStudy:
    path = folder / "study.yaml"
    path.write_text(text)
    return load(path, environ={})


def test_what_a_stage_takes(tmp_path: Path) -> None:
    study = loaded(tmp_path, STUDY).base
    masks = study.masks_of("whole")
    assert masks is not None
    assert (masks.num_folds, masks.added) == (0, {"keep": "inside"})
    gate = study.stages["whole"].gate
    assert gate is not None
    assert gate.classes == ("normal",)
    assert study.stages["whole"].producers == (("masks", "", "lungs"), ("gate", "", "views"))
    assert study.needs("whole") == ["first", "lungs", "views"]
    assert [study.stages[name].repetitions for name in ("lungs", "views", "first", "whole")] == [2, 2, 1, 2]


@pytest.mark.parametrize(("written", "folds"), [("true", 5), ("7", 7), ("false", 0)])
def test_a_number_of_folds(tmp_path: Path, written: str, folds: int) -> None:
    text = STUDY.replace("[lung]}", f"[lung], out_of_fold: {written}}}")
    masks = loaded(tmp_path, text).base.masks_of("whole")
    assert masks is not None
    assert masks.num_folds == folds


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        (
            MASKS, "{from: lunge}", 13,
            "stage 'whole' takes its masks from 'lunge', which is no stage of this study (there is lungs). "
            "Did you mean 'lungs'?",
        ),
        (
            MASKS, "{from: views}", 13,
            "stage 'whole' takes its masks from 'views', whose task 'labelled' gives no masks; name a stage "
            "that does (lungs)",
        ),
        (
            MASKS, "{from: donor}", 13,
            "stage 'whole' takes its masks from 'donor', whose weights are given: without a trial, it "
            "predicts nothing. Add a stage that starts from it and is trained, and name that one",
        ),
        (
            MASKS, "{from: lungs, structures: [heart]}", 13,
            "stage 'whole' takes 'heart' of the masks from 'lungs', which learns lung.",
        ),
        (MASKS, "{from: 'lungs '}", 13, "stages.whole.masks.from is 'lungs '; it must be text of the form"),
        (MASKS, "{structures: [lung]}", 13, "the field 'stages.whole.masks.from' is missing"),
        (
            MASKS, "{from: lungs, kep: inside}", 13,
            "unknown field 'kep' in stages.whole.masks. Did you mean 'keep'?",
        ),
        (MASKS, "{from: lungs, threshold: 1.5}", 13, "stages.whole.masks.threshold is 1.5; it must be less"),
        (MASKS, "{from: lungs, out_of_fold: 1}", 13, "stages.whole.masks.out_of_fold is 1; it must be "),
        (
            "lungs: {data: a}", "lungs: {data: a, masks: {from: first}}", 7,
            "stages of task 'segmentation' read no masks that another stage predicts; leave masks out",
        ),
        (
            "lungs: {data: a}", "lungs: {data: a, repetitions: 1}", 10,
            "stage 'whole' has 2 repetitions and takes its masks from 'lungs', which has 1. Each takes them",
        ),
        (
            GATE, "{from: lungs, keep: normal}", 14,
            "stage 'whole' takes its gate from 'lungs', whose task 'segmentation' gives no probabilities of "
            "classes; name a stage that does (views)",
        ),
        (
            "task: labelled", "task: labelled, classes: {names: {well: [normal], ill: [covid19]}}", 14,
            "stage 'whole' takes 'normal' of the gate from 'views', which learns well, ill.",
        ),
        (GATE, "{from: views}", 14, "the field 'stages.whole.gate.keep' is missing"),
        (
            START, "{scond: first}", 15,
            "stage 'whole' starts its network 'scond' from 'first'; task 'duet' has no network of this name "
            "that can start from a stage (there is segmenter, second). Did you mean 'second'?",
        ),
        (
            START, "{segmenter: first}", 15,
            "stage 'whole' starts its network 'segmenter' from 'first', whose task 'duet' gives no masks; "
            "name a stage that does",
        ),
        (START, "{second: furst}", 15, "stage 'whole' starts from 'furst', which is no stage of this study"),
        (
            START, "{second: views}", 15,
            "stage 'whole' has task 'duet' and starts from 'views', which has task 'labelled'; weights carry",
        ),
        (
            START, "{segmenter: lungs}", 15,
            "init_features is 4, and 32 in its segmenter",
        ),
        (
            "views: {data: a, task: labelled}",
            "views: {data: a, task: labelled}\n  more: {data: a, starts_from: {network: lungs}}", 9,
            "stages of task 'segmentation' start from one stage; write `starts_from: lungs`",
        ),
        (
            "views: {data: a, task: labelled}",
            "views: {data: a, task: labelled, gate: {from: views, keep: normal}}", 8,
            "stages need each other in a circle (gate): views -> views",
        ),
        (
            "first: {data: a, task: duet}",
            "first: {data: a, task: duet, starts_from: {second: whole}}", 9,
            "stages start from each other in a circle: first -> whole -> first",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    text = STUDY.replace(old, new)
    assert text != STUDY
    (problem,) = problems_of(StudyError, loaded, tmp_path, text)
    assert str(problem).startswith(f"{tmp_path}/study.yaml:{line}: {what}")


CLASSES = "classes: {names: {normal: [normal], covid19: [covid19]}}"


def with_classes(names: str) -> str:
    """The study whose `first` learns two classes, and `whole` these."""
    text = STUDY.replace("first: {data: a, task: duet", f"first: {{data: a, task: duet, {CLASSES}")
    return text.replace("    masks: {", f"    classes: {{names: {names}}}\n    masks: {{")


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets `duet` learn classes."""
    monkeypatch.setattr("xferlab.tasks.duet.config.TASK", replace(registry.task("duet"), targets="classes"))
    registry.task.cache_clear()
    yield
    registry.task.cache_clear()


@pytest.mark.usefixtures("learning")
def test_a_single_network_is_for_as_many_classes(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        loaded(tmp_path, with_classes("{normal: [normal], covid19: [covid19], other: [x]}"))
    (problem,) = caught.value.problems
    assert problem.where.endswith(":16")
    assert "'first', which it starts from (network 'second'), normal, covid19: its last layer" in problem.what


@pytest.mark.usefixtures("learning")
def test_a_single_network_is_for_classes_in_their_order(tmp_path: Path) -> None:
    warnings = loaded(tmp_path, with_classes("{covid19: [covid19], normal: [normal]}")).warnings
    told = "(network 'second'), normal, covid19: each output starts as that of another one"
    assert [told in warning.what for warning in warnings].count(True) == 1


def test_masks_of_the_data_are_named_by_tasks_that_read_them(tmp_path: Path) -> None:
    text = STUDY.replace(
        "views: {data: a, task: labelled}", "views: {data: a, task: labelled, structures: [lung]}"
    )
    what = r"study\.yaml:8: stages of task 'labelled' read no masks of the data"
    with pytest.raises(StudyError, match=what):
        loaded(tmp_path, text)


def test_who_needs_masks_to_predict_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    giving = replace(registry.task("duet"), targets="structures")
    monkeypatch.setattr("xferlab.tasks.duet.config.TASK", giving)
    registry.task.cache_clear()
    text = STUDY.replace("task: duet}", "task: duet, repetitions: 2, masks: {from: lungs}}")
    with pytest.raises(StudyError, match="which itself needs masks of another stage to predict; take them"):
        loaded(tmp_path, text.replace(MASKS, "{from: first}"))
    registry.task.cache_clear()


ARMS = """\
arms:
  baseline: {}
  wide: {stages.lungs.training.max_epochs: 5}
  theirs: {stages.whole.masks.from: wide.lungs}
"""


def test_a_stage_of_another_arm_predicts(tmp_path: Path) -> None:
    study = loaded(tmp_path, STUDY + ARMS).arms["theirs"]
    (masks, _) = study.stages["whole"].producers
    assert (masks.arm, masks.stage) == ("wide", "lungs")


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        (
            "wide.lungs", "wilde.lungs", 19,
            "arm 'theirs': stage 'whole' takes predictions of arm 'wilde', which is no arm (there is "
            "baseline, wide, theirs). Did you mean 'wide'?",
        ),
        (
            "wide.lungs", "wide.lunge", 19,
            "arm 'theirs': stage 'whole' takes its masks from 'wide.lunge', which is no stage of that arm",
        ),
        (
            "stages.lungs.training.max_epochs: 5", "stages.lungs.repetitions: 1", 18,
            "arm 'wide': stage 'whole' has 2 repetitions and takes its masks from 'lungs', which has 1.",
        ),
        (
            "wide: {", "wide: {stages.lungs.gate: {from: theirs.views, keep: normal}, stages.views.gate: "
            "{from: wide.views, keep: normal}, ", 18,
            "arm 'wide': stages need each other in a circle (gate): wide.views -> wide.views",
        ),
    ],
)  # fmt: skip
def test_a_mistake_between_arms(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    text = (STUDY + ARMS).replace(old, new)
    assert str(problems_of(StudyError, loaded, tmp_path, text)[0]).startswith(
        f"{tmp_path}/study.yaml:{line}: {what}"
    )


COLOURED = STUDY.replace("stages:", "  m: {source: phantom_mri, count: 60}\nstages:").replace(
    "    data: a", "    data: m"
)
GREY = "lungs: {data: a, model: {in_channels: 1}}"


@pytest.mark.parametrize(
    ("text", "line", "arm"),
    [
        (COLOURED.replace("lungs: {data: a}", GREY), 12, ""),
        (
            (COLOURED + ARMS).replace(
                "stages.lungs.training.max_epochs: 5", "stages.lungs.model: {in_channels: 1}"
            ),
            19,
            "arm 'wide': ",
        ),
    ],
)
def test_images_that_the_network_of_masks_cannot_read(tmp_path: Path, text: str, line: int, arm: str) -> None:
    assert str(problems_of(StudyError, loaded, tmp_path, text)[0]).startswith(
        f"{tmp_path}/study.yaml:{line}: {arm}the images of 'm' have 3 channels, and the network of stage "
        "'lungs' takes 1; set model.in_channels: 3, and"
    )
    loaded(tmp_path, text.replace("in_channels: 1", "in_channels: 3"))


@pytest.mark.parametrize(
    ("seen", "arms", "line", "arm"),
    [
        ("", "", 10, ""),
        (", masks: {from: lungs}", "arms: {bare: {stages.seen.masks: null}}\n", 17, "arm 'bare': "),
    ],
)
def test_a_task_may_need_masks(tmp_path: Path, seen: str, arms: str, line: int, arm: str) -> None:
    stage = f"  seen: {{data: a, task: masked{seen}}}\n"
    text = STUDY.replace("  whole:\n", stage + "  whole:\n") + arms
    (problem,) = problems_of(StudyError, loaded, tmp_path, text)
    what = f"{arm}stage 'seen' sees images through masks only; set masks: {{from: STAGE}}"
    assert str(problem) == f"{tmp_path}/study.yaml:{line}: {what}"


def test_a_stage_of_given_weights_takes_nothing(tmp_path: Path) -> None:
    text = STUDY.replace("{weights: buda2019}", f"{{weights: buda2019, gate: {GATE}}}")
    with pytest.raises(StudyError, match=r"a stage with given weights has no .*masks, gate"):
        loaded(tmp_path, text)


def test_editors_know_the_roles() -> None:
    definitions = json_schema()["$defs"]
    stage = definitions["Stage"]["properties"]
    references = [option.get("$ref", "").rpartition("/")[2] for option in stage["masks"]["anyOf"]]
    assert {"from", "structures", "threshold", "out_of_fold", "keep", "region"} == definitions[references[0]][
        "properties"
    ].keys()
    assert definitions["Gate"]["required"] == ["from", "keep"]
    assert {"type": "null"} in stage["masks"]["anyOf"]
