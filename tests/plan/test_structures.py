"""Structures of stages: a trial's identity holds the masks that it reads, and nothing of the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import Folder, make_image, write_rows
from tests.plan.studies import HERE
from xferlab.cohort import STEPS
from xferlab.errors import StudyError
from xferlab.leakage.index import StudyIndex
from xferlab.plan.document import to_document
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.study.load import load
from xferlab.tasks import registry
from xferlab.tasks.segmentation.config import TASK

STUDY = """\
study: s
repetitions: 2
data:
  own:
    source: manifest
    root: pack
    labels: {heart: [85], lung: [170, 255]}
    structures: {clavicles: mask_clavicles, chest: [heart, lung]}
stages:
  heart: {data: own, structures: [heart]}
  lung: {data: own, structures: [lung], starts_from: heart}
  chest: {data: own, structures: [chest]}
  clavicles: {data: own, structures: [clavicles]}
"""
COLUMNS = ("image", "mask", "mask_clavicles", "patient_id", "pathology")


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """Plans the study over fifteen images, of which the last five have no mask of the clavicles."""
    folder = Folder(tmp_path / "pack", 0)
    for number in range(15):
        mask, clavicles = np.zeros((40, 30), np.uint8), np.zeros((40, 30), np.uint8)
        mask[10:20, 10:16], mask[5:30, number], clavicles[4:8, number : number + 9] = 85, 170, 255
        folder.rows.append(folder.put(str(number), make_image(number), mask))
        Image.fromarray(clavicles).save(folder.root / f"masks/{number}-clavicles.png")
        folder.rows[-1]["mask_clavicles"] = f"masks/{number}-clavicles.png" if number < 10 else ""
    write_rows(folder.root, folder.rows, COLUMNS)

    def plan(text: str = STUDY) -> Plan:
        path = tmp_path / "s.yaml"
        path.write_text(text)
        loaded = load(path, environ={})
        return expand(loaded, StudyIndex(loaded.base.data, memo_dir=tmp_path / "memo"), HERE)

    return plan


def renewed(before: Plan, after: Plan) -> set[str]:
    """The stages whose trials have other ids."""
    return {name.split("/")[1] for name, trial_id in before.names.items() if after.names[name] != trial_id}


def test_a_corrected_mask_renews_those_that_read_it_and_their_children(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    before = planned()
    mask = tmp_path / "pack/masks/3-clavicles.png"
    Image.fromarray(np.asarray(Image.open(mask))[::-1].copy()).save(mask)
    second = planned()
    assert renewed(before, second) == {"clavicles"}
    mask = tmp_path / "pack/masks/3.png"
    Image.fromarray(np.asarray(Image.open(mask))[::-1].copy()).save(mask)
    assert renewed(second, planned()) == {"heart", "lung", "chest"}


def test_other_values_of_a_structure_renew_those_that_read_it(planned: Callable[..., Plan]) -> None:
    assert renewed(planned(), planned(STUDY.replace("lung: [170, 255]", "lung: [170]"))) == {"lung", "chest"}
    renamed = STUDY.replace("chest: [heart", "whole: [heart").replace("[chest]", "[whole]")
    assert renewed(planned(), planned(renamed)) == set()


def test_parts_are_the_same_whatever_is_read_and_images_without_masks_are_left_out(
    planned: Callable[..., Plan],
) -> None:
    plan = planned()
    images = {case.digest: case.name for _, case, _ in plan.selector.listed()}

    def parts(stage: str) -> dict[str, str]:
        trial = plan.by_id[plan.names[f"baseline/{stage}/r01"]]
        return {images[digest]: part for digest, part in plan.selections[trial.selection].rows}

    whole, few = parts("heart"), parts("clavicles")
    assert parts("lung") == parts("chest") == whole
    assert few.items() < whole.items()
    assert set(whole) - set(few) == {name for name in whole if int(Path(name).stem) >= 10}


def test_a_plan_says_what_is_done_to_images(planned: Callable[..., Plan]) -> None:
    (section,) = to_document(planned(STUDY))["data"].values()
    steps = {"crop_black_band": True, "degrade_to": 24, "equalise": True, "gamma": 0.5}
    assert steps.keys() == set(STEPS)
    assert not steps.keys() & section.keys()
    written = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in steps.items())
    (section,) = to_document(planned(STUDY.replace("    root: pack\n", f"    root: pack\n{written}")))[
        "data"
    ].values()
    assert steps.items() <= section.items()


def test_a_plan_says_which_arms_have_other_images(planned: Callable[..., Plan]) -> None:
    changes = {
        "plain": "data.own.equalise: false",
        "bright": "data.own.gamma: 0.5",
        "few": "stages.lung.label_fraction: 0.5",
    }
    arms = "".join(f"  {arm}: {{{change}}}\n" for arm, change in changes.items())
    text = STUDY.replace("    root: pack\n", "    root: pack\n    equalise: true\n") + f"arms:\n{arms}"
    steps = {arm: entry.get("steps") for arm, entry in to_document(planned(text))["arms"].items()}
    bright = {"own": {"equalise": True, "gamma": 0.5}}
    assert steps == {"plain": {"own": {}}, "bright": bright, "few": None}


def test_a_task_that_reads_no_masks_is_renewed_by_none(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = replace(TASK, reads_masks=False, check=lambda stage: iter(()))
    monkeypatch.setattr(registry, "task", lambda name: blind)
    study = re.sub(r", structures: \[\w+\]", "", STUDY)
    before = planned(study)
    for path in (tmp_path / "pack/masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert renewed(before, planned(study)) == set()
    trial = before.by_id[before.names["baseline/heart/r01"]]
    digests = {row[0] for row in before.selections[trial.selection].rows}
    assert len(digests) == 12  # of fifteen images, three are tested on


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (
            "[heart]}",
            "[hart]}",
            "reads the structure 'hart'; section 'own' has heart, lung, clavicles, chest.",
        ),
        (
            "[heart]}",
            "[heart, lung]}",
            "stage 'lung' learns one structure, and 'heart', which it starts from, 2 overlapping structures: "
            "its last layer does not fit; set adapt: {head: new}",
        ),
        (
            "chest: {data: own, structures: [chest]}",
            "chest: {data: own, structures: [chest], evaluate_on: [other.test]}",
            "stage 'chest' reads the structure 'chest'; section 'other' has lung, left_lung,",
        ),
        (
            "starts_from: heart}",
            "starts_from: heart, adapt: {head: new, freeze: {part: donor, unfreeze_after: {decoder1: 0}}}}",
            "the new head is frozen for good, with the random weights that it starts from; let it train",
        ),
        ("[heart]}", "[]}", "stage 'heart' reads no structure, and segmentation learns one"),
    ],
)
def test_structures_that_a_stage_cannot_learn(
    planned: Callable[..., Plan], old: str, new: str, what: str
) -> None:
    other = "stages:", "  other: {source: phantom_cxr, count: 30, size_px: 32}\nstages:"
    with pytest.raises(StudyError, match=re.escape(what)):
        planned(STUDY.replace(*other).replace(old, new))


ORDER = """\
study: s
data: {a: {source: phantom_cxr, count: 20}}
stages:
  first: {data: a, structures: [left_lung, right_lung]}
  second: {data: a, structures: [right_lung, left_lung], starts_from: first}
"""


def warned(folder: Path, text: str) -> list[str]:
    path = folder / "s.yaml"
    path.write_text(text)
    return [str(warning) for warning in load(path, environ={}).warnings]


def test_an_output_that_starts_as_that_of_another_structure_is_told(tmp_path: Path) -> None:
    (warning,) = warned(tmp_path, ORDER)
    assert warning == (
        f"{tmp_path}/s.yaml:5: warning: stage 'second' learns right_lung, left_lung, and 'first', which it "
        "starts from, left_lung, right_lung: each output starts as that of another one; name the same "
        "structures in the same order, or start that layer anew (adapt: {head: new})"
    )
    arm = "arms: {turned: {stages.second.structures: [heart, clavicles]}, baseline: {}}\n"
    same = ORDER.replace("[right_lung, left_lung]", "[left_lung, right_lung]")
    (warning,) = warned(tmp_path, same + arm)
    assert warning.startswith(
        f"{tmp_path}/s.yaml:6: warning: arm 'turned': stage 'second' learns heart, clavicles, and"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[right_lung, left_lung]", "[left_lung, right_lung]"),
        ("starts_from: first", "starts_from: first, adapt: {head: new}"),
        ("starts_from: first", "starts_from: first, adapt: {translator: {depth: 1}}"),
    ],
)
def test_outputs_that_fit_are_not_told(tmp_path: Path, old: str, new: str) -> None:
    assert warned(tmp_path, ORDER.replace(old, new)) == []


def test_a_single_structure_carries_over_to_another_one(tmp_path: Path) -> None:
    single = ORDER.replace("[left_lung, right_lung]", "[heart]").replace("[right_lung, left_lung]", "[lung]")
    assert warned(tmp_path, single) == []


def test_a_trial_of_several_structures_has_their_number_in_its_identity_and_their_names_beside_it(
    planned: Callable[..., Plan],
) -> None:
    several = STUDY.replace(", structures: [heart]", "").replace(
        "starts_from: heart", "starts_from: heart, adapt: {head: new}"
    )
    plan, one = planned(several), planned()
    trial, single = (each.by_id[each.names["baseline/heart/r01"]] for each in (plan, one))
    model = trial.identity.to_json()["model"]
    assert (model["structures"], model["outputs"]) == (4, "overlapping")
    assert {"structures", "outputs"}.isdisjoint(single.identity.to_json()["model"])
    assert trial.targets == ("heart", "lung", "clavicles", "chest")
    assert single.targets == ("heart",)
    renamed = planned(several.replace("chest: [heart", "whole: [heart").replace("[chest]", "[whole]"))
    assert renewed(plan, renamed) == set()
    evaluation, other = (
        each.by_id[each.names["baseline/heart/r01"]].evaluations[0] for each in (plan, renamed)
    )
    assert evaluation.selection == other.selection
    assert evaluation.evaluation_id != other.evaluation_id
    exclusive = planned(several + "model: {outputs: exclusive}\n")
    assert renewed(plan, exclusive) == {"heart", "lung", "chest", "clavicles"}
    first = planned(several + "model: {outputs: exclusive_first}\n")
    assert renewed(exclusive, first) == {"heart", "lung"}
    assert renewed(plan, planned(several + "model: {outputs: overlapping}\n")) == set()


def test_other_sections_are_read_as_the_one_that_is_trained_on(planned: Callable[..., Plan]) -> None:
    text = STUDY.replace("[chest]}", "[lung, heart], evaluate_on: [own.test, other.test]}").replace(
        "stages:", "  other: {source: phantom_cxr, count: 30, size_px: 32}\nstages:"
    )
    study = planned(text).loaded.base
    assert study.section_of("chest", "other").targets == ("lung", "heart")
    single = planned(text.replace("[lung, heart]", "[lung]")).loaded.base
    assert single.section_of("chest", "other") is single.data["other"]
