"""Two studies side by side: what differs, what pairs, and the same numbers as two arms of one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    dice = table.data.query("metric == 'DICE' and pathology == 'all'").set_index("arm")
    (line,) = next(group.rows for group in table.groups if group.labels == ("Dice",))
    ours, theirs = dice.loc["baseline"], dice.loc["baseline (other study)"]
    assert (ours["difference"], ours["no_p"]) == (pytest.approx(ours["mean"] - theirs["mean"]), reason)
    assert line.cells[3] == f"{ours['difference']:+.4f}".replace("-", "−")
    assert theirs[["difference", "no_p"]].isna().all()


@pytest.mark.parametrize("tuned_there", [False, True])
def test_a_tuned_arm_has_an_interval_only_where_both_searches_spared_the_patients(
    here: StudyResults, tmp_path: Path, tuned_there: bool
) -> None:
    search = {
        "stage": "portable",
        "search": "random",
        "num_samples": 20,
        "same_hold_outs": ["portable"],
        "validated_on": [{"repetition": 1, "patients": 16, "section": "portable"}],
    }

    def tuned(results: StudyResults, **changes: Any) -> StudyResults:
        arms = results.plan["arms"]
        entry = {**arms["baseline"], "tuned": [{**search, **changes}]}
        return replace(results, plan={**results.plan, "arms": {**arms, "baseline": entry}})

    plain = here, other(tmp_path)
    both = TwoStudies(*(tuned(each) if (each is not here) == tuned_there else each for each in plain))
    assert both.reason("baseline", TEST) == "tuned on these"
    assert both.reason("baseline", HOLD_OUT) == ""
    tables = {table.name: table for table in two_studies_tables(both)}
    table = tables["two_studies_portable_on_portable_test"]
    assert {line.cells[-2:] for group in table.groups for line in group.rows} == {("–", "tuned on these")}
    assert any(note.startswith("Arm baseline was tuned in stage portable") for note in table.notes)
    moved = TwoStudies(
        *(tuned(each, same_hold_outs=[]) if (each is not here) == tuned_there else each for each in plain)
    )
    assert moved.reason("baseline", HOLD_OUT) == "tuned on these"


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


@pytest.mark.slow
def test_the_report_has_a_section_with_its_files(here: StudyResults, tmp_path: Path) -> None:
    storage = StudyBuilder(tmp_path / "storage", **FEW).write()
    path = write_report(storage, STUDY, tmp_path / "out", other=other(tmp_path / "other"))
    for text in (path.read_text("utf-8"), path.with_name("index.html").read_text("utf-8")):
        assert "Against another study" in text
        assert "The other study: covid_lung, profile cpu; 11 of 11 trials are complete." in text
        assert "Only this study measures:" in text
    (csv,) = (tmp_path / "out" / "tables").glob("*_two_studies_portable_on_portable_hold_out.csv")
    frame = pd.read_csv(csv)
    assert set(frame["arm"]) == {"baseline", "baseline (other study)"}


def test_nothing_in_common_is_said(tmp_path: Path) -> None:
    few = {**FEW, "repetitions": 2}
    missing = {"baseline/donor/r01"}
    here = contents_of(tmp_path / "here", **{**few, "arms": ("baseline",), "missing": missing}).results
    there = contents_of(tmp_path / "there", **{**few, "arms": ("baseline", "new")}).results
    assert "No arm of the same name is measured on the same section and part in both." not in [
        *TwoStudies(here, there).told()
    ]
    trials = [trial for trial in there.plan["trials"] if trial["arms"] == ["new"]]
    both = TwoStudies(here, replace(there, plan={**there.plan, "trials": trials}, cases=_of(there, "new")))
    assert both.common == {}
    assert "No arm of the same name is measured on the same section and part in both." in [*both.told()]


def _of(results: StudyResults, arm: str) -> pd.DataFrame:
    return results.cases[results.cases["arm"] == arm]


@dataclass
class Divided(Version):
    """A version whose trials tell what they trained on, and are measured on some parts alone."""

    parts: tuple[str, ...] = ("hold_out",)
    trained_on: str = "a"

    def identity(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        return {"selection": f"{self.trained_on}{trial['repetition']}".ljust(64, "0")}

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        trial = super()._trial(arms, stage, repetition, parent)
        trial["trial_id"] = short_id([trial["trial_id"], str(self.folder)]) if parent else trial["trial_id"]
        kept = [each for each in trial["evaluations"] if not parent or each["part"] in self.parts]
        for each in kept:
            each["evaluation_id"] = short_id([each["evaluation_id"], str(self.folder)])
        return {**trial, **self.identity(trial), "evaluations": kept}


def divided(folder: Path, **changes: Any) -> StudyResults:
    return load_study(Divided(folder, **{**FEW, "arms": ("baseline",), **changes}).write(), STUDY)


def test_a_lost_trial_or_part_makes_no_other_split(tmp_path: Path) -> None:
    here = divided(tmp_path / "here")
    lost = divided(tmp_path / "lost", missing={"baseline/portable/r02"})
    tested = divided(tmp_path / "tested", parts=("test", "hold_out"))
    assert TwoStudies(here, divided(tmp_path / "there")).reason("baseline", HOLD_OUT) == ""
    assert TwoStudies(here, lost).reason("baseline", HOLD_OUT) == ""
    assert TwoStudies(here, tested).reason("baseline", HOLD_OUT) == ""
    others = divided(tmp_path / "others", trained_on="b")
    assert TwoStudies(here, others).reason("baseline", HOLD_OUT) == "other splits"


def test_more_repetitions_of_the_same_trials_are_no_contrast(here: StudyResults, tmp_path: Path) -> None:
    more = contents_of(tmp_path, **{**FEW, "repetitions": 7}).results
    assert TwoStudies(here, more).reason("baseline", HOLD_OUT) == "same trials"


def test_without_a_common_repetition_there_is_no_pair(tmp_path: Path) -> None:
    first, rest = {"baseline/portable/r01"}, {f"baseline/portable/r0{number}" for number in range(2, 6)}
    both = TwoStudies(divided(tmp_path / "a", missing=first), divided(tmp_path / "b", missing=rest))
    assert both.reason("baseline", HOLD_OUT) == "no common repetition"
    tables = {table.name: table for table in two_studies_tables(both)}
    notes = tables["two_studies_portable_on_portable_hold_out"].notes
    assert "no common repetition: no interval, since no repetition is complete in both studies." in notes


def test_problems_of_both_are_those_of_the_report(tmp_path: Path) -> None:
    here, there = divided(tmp_path / "here"), divided(tmp_path / "there")
    there.note("an early one")
    both = TwoStudies(here, there)
    both.contents.results.note("a late one")
    assert here.problems == ["an early one", "a late one"]
