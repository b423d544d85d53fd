"""What stands under tables."""

from __future__ import annotations

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.tables.arms import arms_tables
from xferlab.analysis.tables.notes import cut_off
from xferlab.analysis.tables.overview import times_tables, training_table


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


def test_the_whole_time_of_a_trial_that_continues_is_explained(builder: StudyBuilder) -> None:
    def notes() -> tuple[str, ...]:
        (table,) = times_tables(Contents(load_study(builder.write(), builder.study)))
        return tuple(table.notes)

    assert not any("continue" in note for note in notes())
    builder.continues = True
    # A donor, eight trials of stage general, and those of stage portable but the missing one.
    assert "16 trials continue shorter ones, whose epochs are in no whole repetition." in notes()
