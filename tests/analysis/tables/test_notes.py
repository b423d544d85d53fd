"""What stands under tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.claims import verdicts_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.tables.arms import arms_tables
from xferlab.analysis.tables.model import ABSENT
from xferlab.analysis.tables.notes import cut_off, mean_and_deviations
from xferlab.analysis.tables.overview import times_tables, training_table
from xferlab.metrics.claims import Claims, Place


def test_what_ended_by_max_epochs_is_said_of_its_stage(builder: StudyBuilder) -> None:
    """Odd repetitions have five epochs, even ones six; two arms share the donor's only repetition."""
    builder.patient = ("portable",)
    results = load_study(builder.write(), builder.study)
    more = "and not by patience; longer trainings may give other numbers."
    general = f"Stage general: 8 of 8 trainings ended by max_epochs (5 to 6 epochs) {more}"
    donor = f"Stage donor: 1 of 1 trainings ended by max_epochs (5 epochs) {more}"
    assert cut_off(results, ["portable"]) == (donor, general)  # it starts from them
    assert cut_off(results, ["donor"]) == (donor,)
    assert cut_off(results, []) == ()
    assert general in training_table(results).notes
    contents = Contents(results)
    notes = {table.name: table.notes for table in arms_tables(contents)}
    assert general in notes["all_arms_general_on_portable_hold_out"]
    told = [note for note in notes["all_arms_portable_on_portable_hold_out"] if more in note]
    assert told == [donor, general]
    captions = {picture.name: picture.caption for picture in loss_pictures(contents)}
    assert general in captions["loss_general_baseline"]


def test_what_is_undefined_has_no_deviation() -> None:
    row = {"mean": np.nan, "sd_repetitions": np.nan, "sd_images": np.nan, "num_patients": 12}
    assert mean_and_deviations(row, "") == ABSENT
    assert mean_and_deviations({**row, "num_patients": 3}, "") == ABSENT


class Unscored(StudyBuilder):
    """No training has a score, so that all run to their end."""

    def best_score(self, score: float) -> None:
        return None


def test_a_training_without_a_score_is_not_cut_off(tmp_path: Path) -> None:
    pair = (Place("frozen", "portable"), Place("baseline", "portable"))
    claims = Claims("DICE", "portable.hold_out", None, (pair,), declared=True)
    few = {"pixels": False, "images": 2, "missing": set(), "epochs": 2, "claims": claims}
    scored = load_study(StudyBuilder(tmp_path / "scored", **few).write(), "covid_lung")
    results = load_study(Unscored(tmp_path / "unscored", **few).write(), "covid_lung")
    assert (len(cut_off(scored, scored.stages)), cut_off(results, results.stages)) == (3, ())
    (cells,) = {row.cells[-1] for group in training_table(results).groups[1:] for row in group.rows}
    assert cells == "0 of 4"
    found = verdicts_of(Contents(results))
    assert found is not None
    assert (found.verdicts[0].num_cut_off, found.verdicts[0].num_trained) == (0, 17)


def test_the_whole_time_of_a_trial_that_continues_is_explained(builder: StudyBuilder) -> None:
    def notes() -> tuple[str, ...]:
        (table,) = times_tables(Contents(load_study(builder.write(), builder.study)))
        return tuple(table.notes)

    assert not any("continue" in note for note in notes())
    builder.continues = True
    # A donor, eight trials of stage general, and those of stage portable but the missing one.
    assert "16 trials continue shorter ones, whose epochs are in no whole repetition." in notes()
