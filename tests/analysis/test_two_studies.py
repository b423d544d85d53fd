"""Two studies side by side: what differs, what pairs, and the same numbers as two arms of one study."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder, contents_of
from xferlab.analysis import StudyResults, load_study
from xferlab.analysis.design import Side
from xferlab.analysis.report import write_report
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.two_studies import two_studies_tables
from xferlab.analysis.two_studies import TwoStudies
from xferlab.plan.identity import short_id

pytestmark = pytest.mark.component

HOLD_OUT = EvaluationSet("portable", "portable", "hold_out")
TEST = EvaluationSet("portable", "portable", "test")
FEW: dict[str, Any] = {
    "missing": set(), "pixels": False, "epochs": 2, "images": 15, "noise": 0.05, "repetitions": 5,
    "compare_to": None,
}  # fmt: skip


@dataclass
class Version(StudyBuilder):
    """Another version of the study: its `baseline` has the values of `frozen`, in trials of its own."""

    selections: dict[str, str] = field(default_factory=dict)
    """Other images of parts."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the plan."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        moved = "frozen" if arm == "baseline" else arm
        return super().value(arm=moved, stage=stage, repetition=repetition, image=image, metric=metric)

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        trial = super()._trial(arms, stage, repetition, parent)
        if stage == "donor":  # the same one
            return {**trial, "trial_id": super()._trial(["baseline", "frozen"], stage, 1, "")["trial_id"]}
        trial["trial_id"] = short_id([trial["trial_id"], "version"])
        for evaluation in trial["evaluations"]:
            evaluation["evaluation_id"] = short_id([evaluation["evaluation_id"], "version"])
            evaluation["selection"] = self.selections.get(evaluation["part"], evaluation["selection"])
        return trial

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        return {**super()._plan(trials), **self.changes}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    return contents_of(tmp_path_factory.mktemp("here"), **FEW).results


def other(folder: Path, **changes: Any) -> StudyResults:
    return load_study(Version(folder, **{**FEW, "arms": ("baseline",), **changes}).write(), STUDY)


def test_the_difference_is_that_of_two_arms_of_one_study(here: StudyResults, tmp_path: Path) -> None:
    """Of a hold-out and of test parts, to the last bit: interval, p, and what both reach."""
    both = TwoStudies(here, other(tmp_path))
    single = contents_of(tmp_path / "single", **FEW)
    for evaluated in (HOLD_OUT, TEST):
        assert both.reason("baseline", evaluated) == ""
        found = both.contrast("baseline", evaluated).rows
        expected = single.compare(Side("frozen", evaluated), Side("baseline", evaluated)).rows
        pd.testing.assert_frame_equal(found, expected)
        assert found["p"].notna().any()


def test_what_both_reach_stands_beside_each_other(here: StudyResults, tmp_path: Path) -> None:
    tables = {table.name: table for table in two_studies_tables(TwoStudies(here, other(tmp_path)))}
    assert [*tables][:3] == [
        "two_studies_general_on_portable_hold_out",
        "two_studies_portable_on_portable_hold_out",
        "two_studies_donor_on_mri_test",
    ]
    table = tables["two_studies_portable_on_portable_hold_out"]
    (dice,) = (group.rows for group in table.groups if group.labels == ("Dice",))
    (line,) = dice  # the other study has no arm `frozen`
    reached = dict(zip(table.columns, line.cells, strict=True))
    rows = HOLD_OUT.rows(here.cases)
    rows = rows[rows["metric"] == "DICE"]
    baseline, frozen = (rows.loc[rows["arm"] == arm, "value"].mean() for arm in ("baseline", "frozen"))
    assert reached["This study"].startswith(f"{baseline:.4f} ± ")
    assert reached["Other study"].startswith(f"{frozen:.4f} ± ")
    assert reached["Difference"] == f"{baseline - frozen:+.4f}".replace("-", "−")
    assert reached["95 % CI"].startswith("[")
    assert reached["Repetitions, images (patients)"] == "5 of 5, 15 (15) / 5 of 5, 15 (15)"
    assert {"mean", "sd_repetitions", "low", "high", "p"} <= set(table.data.columns)


@pytest.mark.parametrize(
    ("selections", "reason", "sentence"),
    [
        ({"hold_out": "1" * 64}, "other images", "the studies are measured on other images"),
        ({"test": "1" * 64}, "other splits", "a repetition has other patients in the other study"),
    ],
)
def test_what_pairs_no_images_or_repetitions_has_no_interval_and_says_why(
    here: StudyResults, tmp_path: Path, selections: dict[str, str], reason: str, sentence: str
) -> None:
    both = TwoStudies(here, other(tmp_path, selections=selections))
    assert both.reason("baseline", HOLD_OUT) == reason
    tables = {table.name: table for table in two_studies_tables(both)}
    table = tables["two_studies_portable_on_portable_hold_out"]
    assert {line.cells[-2:] for group in table.groups for line in group.rows} == {("–", reason)}
    assert any(note.startswith(f"{reason}: no interval, since {sentence}") for note in table.notes)
    assert "low" not in table.data


def test_other_seeds_per_split_pair_no_repetitions(here: StudyResults, tmp_path: Path) -> None:
    both = TwoStudies(here, other(tmp_path, changes={"split": {"seeds_per_split": 5}}))
    assert both.reason("baseline", HOLD_OUT) == "other splits"


def test_a_copy_differs_in_nothing(here: StudyResults, tmp_path: Path) -> None:
    both = TwoStudies(here, contents_of(tmp_path, **FEW).results)
    assert both.differences == []
    assert both.only == ([], [])
    assert {both.reason(arm, each) for each, arms in both.common.items() for arm in arms} == {"same trials"}
    names = [table.name for table in two_studies_tables(both)]
    assert "two_studies_settings" not in names
    assert len(names) == 5


def test_settings_that_differ_and_what_only_one_has_are_listed(here: StudyResults, tmp_path: Path) -> None:
    changes = {"seed": 7, "profile": None, "split": {"test": 0.3}}
    both = TwoStudies(here, other(tmp_path, changes=changes, selections={"hold_out": "1" * 64}))
    assert both.differences == [
        ("profile", "cpu", None),
        ("seed", 2021, 7),
        ("images.portable.hold_out", "0" * 12, "1" * 12),
        ("split.test", None, 0.3),
    ]
    assert both.only[1] == []
    assert both.only[0][-1] == "frozen/portable on portable.hold_out"
    assert all(name.startswith("frozen/") for name in both.only[0])


def test_the_report_has_a_section_with_its_files(here: StudyResults, tmp_path: Path) -> None:
    storage = StudyBuilder(tmp_path / "storage", **FEW).write()
    path = write_report(storage, STUDY, tmp_path / "out", other=other(tmp_path / "other"))
    alone = write_report(storage, STUDY, tmp_path / "alone")
    for text in (path.read_text("utf-8"), path.with_name("index.html").read_text("utf-8")):
        assert "Against another study" in text
        assert "The other study: covid_lung, profile cpu; 11 of 11 trials are complete." in text
        assert "Only this study measures:" in text
    assert "Against another study" not in alone.read_text("utf-8")
    (csv,) = (tmp_path / "out" / "tables").glob("*_two_studies_portable_on_portable_hold_out.csv")
    frame = pd.read_csv(csv)
    assert set(frame["arm"]) == {"baseline", "baseline (other study)"}


def test_nothing_in_common_is_said(here: StudyResults, tmp_path: Path) -> None:
    there = load_study(StudyBuilder(tmp_path / "s", **{**FEW, "arms": ("new",)}).write(), STUDY)
    assert TwoStudies(here, there).common.keys() <= {EvaluationSet("donor", "mri", "test")}
