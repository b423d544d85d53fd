"""Cases to look at in the run of a study: what is chosen, and what the offline files hold of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.records import stored
from tests.tracking.mirror_cases import WHO, arrays, epochs, spec, store_plan, store_trial, wandb_settings
from tests.tracking.wandb_files import OfflineRun, all_bytes, offline_runs
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import CaseOutputs
from xferlab.records.store import Store
from xferlab.tracking.overlays import COLUMNS, MAX_OVERLAYS, Overlay, overlays
from xferlab.tracking.rebuild import mirror_study
from xferlab.tracking.study_run import StudyContent
from xferlab.tracking.summary import Headline

RESULTS = StudyContent(headline=lambda trial: Headline("DICE"), epochs=[{"epoch": 1, "loss": 0.5}])
VALUES = stored.VALUES["DICE"]


def chosen(store: Store, trials: list[TrialSpec], *, images: int, shareable: bool = True) -> list[Overlay]:
    data = {"lungs": {"shareable": shareable}}
    trials = [replace(trial, data=data) for trial in trials]
    return overlays(store, trials, images=images, metric=lambda trial: "DICE")


def store_cases(store: Store, trial: TrialSpec, pathologies: list[str]) -> None:
    outputs = [
        CaseOutputs(case=f"c{number}", **{**WHO, "pathology": pathology, "name": f"n{number}"}, arrays=pixels)
        for number, (pathology, pixels) in enumerate(zip(pathologies, arrays(len(pathologies)), strict=True))
    ]
    stored.store_trial(store, trial, epochs(1, 2), outputs=outputs)


def test_the_first_cases_are_of_different_pathologies(empty: Store) -> None:
    store_cases(empty, spec(), ["covid19", "covid19", "normal", "normal", "covid19"])
    names = [overlay.labels[COLUMNS.index("case")] for overlay in chosen(empty, [spec()], images=3)]
    assert names == ["n0", "n2", "n1"]
    assert chosen(empty, [spec()], images=0) == []
    assert chosen(empty, [spec()], images=3, shareable=False) == []


@pytest.mark.parametrize("num_trials", [1, 9, 66])
def test_all_sets_share_their_number(empty: Store, num_trials: int) -> None:
    trials = [spec(seed=number) for number in range(num_trials)]
    for trial in trials:
        store_cases(empty, trial, ["covid19"] * 40)
    shown = chosen(empty, trials, images=40)
    assert len(shown) == {1: 40, 9: 63, 66: MAX_OVERLAYS}[num_trials]


def test_the_digest_changes_with_a_pixel_or_a_value(empty: Store) -> None:
    store_cases(empty, spec(), ["covid19", "normal"])
    first, second = chosen(empty, [spec()], images=2)
    other = replace(first, labels=(*first.labels[:-1], 0.25))
    changed = replace(first.case, arrays={**first.case.arrays, "image": 255 - first.case.arrays["image"]})
    digests = {each.digest for each in (first, second, other, replace(first, case=changed))}
    assert len(digests) == 4


def picture_rows(run: OfflineRun) -> list[dict[str, object]]:
    body = json.loads(run.stored["overlays.table.json"].read_text())
    return [dict(zip(body["columns"], row, strict=True)) for row in body["data"]]


@pytest.mark.component
def test_the_offline_files_hold_the_pictures_of_shareable_sections(empty: Store, tmp_path: Path) -> None:
    trial, folder = spec(shareable=True), tmp_path / "mirror"
    store_cases(empty, trial, ["covid19", "normal", "covid19", "normal", "normal"])
    store_plan(empty, [trial], tracking=wandb_settings(images=3))
    mirror_study(empty, "covid", directory=folder, results=RESULTS)
    (run,) = (run for run in offline_runs(folder) if run.run.job_type == "study")
    rows = picture_rows(run)
    assert [row["pathology"] for row in rows] == ["covid19", "normal", "covid19"]
    assert {(row["arm"], row["stage"], row["set"], row["metric"]) for row in rows} == {
        ("baseline, frozen", "general", "lungs.test", "DICE")
    }
    for row, pixels in zip(rows, [arrays(5)[number] for number in (0, 1, 2)], strict=True):
        picture = row["picture"]
        assert isinstance(picture, dict)
        with PIL.Image.open(run.stored[picture["path"]]) as image:
            assert np.array_equal(np.asarray(image), pixels["image"])
        assert picture["masks"].keys() == {"target", "probability"}
    assert mirror_study(empty, "covid", directory=folder, results=RESULTS).written == []


@pytest.mark.component
def test_private_sections_show_no_picture_and_the_run_says_so(empty: Store, tmp_path: Path) -> None:
    trial, folder = spec(shareable=False), tmp_path / "mirror"
    store_trial(empty, trial)
    store_plan(empty, [trial])
    mirror_study(empty, "covid", directory=folder, results=RESULTS)
    (run,) = (run for run in offline_runs(folder) if run.run.job_type == "study")
    assert "of lungs are withheld" in run.run.notes
    assert run.config["withheld"] == ["lungs"]
    assert not [name for name in run.stored if "overlays" in name]
    assert b"PNG" not in all_bytes(folder)
