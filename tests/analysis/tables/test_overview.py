"""What each arm is trained on: shares of labels as they are, and trainings that were cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.claims import verdicts_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.tables.overview import cohorts_table, training_table
from xferlab.metrics.claims import Claims, Place
from xferlab.records import codec, layout
from xferlab.records.store import Store


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A study without pixels whose stage `portable` ended by patience."""
    builder = StudyBuilder(tmp_path, pixels=False, images=2, missing=set(), patient=("portable",), epochs=2)
    return builder.write()


def test_shares_of_labels_are_what_was_asked_for_and_what_it_is(storage: Path) -> None:
    plan = codec.read_json(store := Store.open(storage), name := layout.StudyFiles(STUDY).plan)
    assert plan is not None
    plan["arms"]["frozen"]["stages"]["portable"] |= {"label_fraction": 0.1, "pool_patients": 12}
    plan["arms"]["baseline"]["stages"] = {**plan["arms"]["baseline"]["stages"]}
    codec.write_json(store, name, plan)
    results = load_study(storage, STUDY)
    few = (results.trials["arm"] == "frozen") & (results.trials["stage"] == "portable")
    results.trials.loc[few, "num_train"] = 12
    table = training_table(results)
    cells = {
        (group.labels[0], row.label): dict(zip(table.columns, row.cells, strict=True))
        for group in table.groups
        for row in group.rows
    }
    assert cells["portable", "frozen"]["Labels"] == "10 % (20 % of the images, 12 patients in all)"
    assert cells["portable", "baseline"]["Labels"] == "–"
    assert cells["general", "baseline, frozen"]["Cut off"] == "4 of 4"
    assert cells["portable", "baseline"]["Cut off"] == "0 of 4"
    in_csv = table.data.set_index(["stage", "arm"])["cut_off"]
    assert (in_csv["general", "baseline"], in_csv["portable", "baseline"]) == (4, 0)
    assert "of each planned repetition" in " ".join(table.caption)


def test_a_pathology_called_all_does_not_stand_for_the_whole_section(storage: Path) -> None:
    results = load_study(storage, STUDY)
    results.plan["data"]["portable"]["pathologies"] |= {"all": {"cases": 3, "patients": 2}}
    counts = cohorts_table(results).data.set_index(["section", "pathology"])["num_images"]
    assert (counts["portable", "all"], counts["portable", "covid19"]) == (100, 100)


def test_without_shares_there_is_no_column_of_labels(storage: Path) -> None:
    table = training_table(load_study(storage, STUDY))
    assert "Labels" not in table.columns
    assert "Cut off" in table.columns


def test_other_sets_are_named_and_shares_are_of_the_set_whose_labels_are_learnt(storage: Path) -> None:
    plan = codec.read_json(store := Store.open(storage), name := layout.StudyFiles(STUDY).plan)
    assert plan is not None
    images = {"name": "b", "data": "mri", "num_train": 40, "num_validation": 9, "train_patients": 30}
    few = {**images, "name": "b.labelled", "train_patients": 2, "num_validation": 1}
    for trial in plan["trials"]:
        if trial["stage"] == "portable":
            labelled = (
                [few | {"num_train": 1 + trial["repetition"] % 2 * 2}] if "frozen" in trial["arms"] else []
            )
            trial["others"] = [images, *labelled]
    for arm, share in (("baseline", 0.0), ("frozen", 0.05)):
        stages = plan["arms"][arm]["stages"]
        plan["arms"][arm]["stages"] = {**stages, "portable": {**stages["portable"], "label_fraction": share}}
    codec.write_json(store, name, plan)
    table = training_table(load_study(storage, STUDY))
    cells = {
        (group.labels[0], row.label): dict(zip(table.columns, row.cells, strict=True))
        for group in table.groups
        for row in group.rows
    }
    whole = "b (mri): 30 patients, 40 images, 9 for validation"
    assert cells["portable", "baseline"]["Other sets"] == whole
    assert cells["portable", "baseline"]["Labels"] == "0 % (none)"
    few_images = "labelled of b: 2 patients, 2.0 [1–3] images, 1 for validation"
    assert cells["portable", "frozen"]["Other sets"] == f"{whole}; {few_images}"
    assert cells["portable", "frozen"]["Labels"] == "5 % (5 % of the images of b)"
    assert cells["general", "baseline, frozen"]["Other sets"] == "–"


class Diverging(StudyBuilder):
    """Of stage `general`, the last epoch diverged in repetition 2, and another in repetition 1."""

    def history(self, stage: str, repetition: int, epoch: int) -> dict[str, float]:
        last = self.epochs - repetition % 2
        diverged = stage == "general" and (repetition, epoch) in ((2, last), (1, last - 1))
        own = {"diverged": float(diverged)} if stage == "general" else {}
        return super().history(stage, repetition, epoch) | own


def test_trainings_that_diverged_are_named_where_their_numbers_stand(tmp_path: Path) -> None:
    results = load_study(Diverging(tmp_path, pixels=False, images=2, missing=set()).write(), STUDY)
    named = "Diverged in the epoch whose weights are kept, and in all numbers: "
    note = f"{named}baseline/general/r02, frozen/general/r02."
    assert note in training_table(results).notes
    assert note in data_notes(results, ["portable"], ["portable"])  # which starts from it
    assert not any(named in each for each in data_notes(results, ["donor"], ["mri"]))
    assert len(results.cases[results.cases["stage"] == "general"]["repetition"].unique()) == 4


def test_a_verdict_says_how_many_trainings_diverged(tmp_path: Path) -> None:
    pair = (Place("frozen", "portable"), Place("baseline", "portable"))
    claims = Claims("DICE", "portable.hold_out", None, (pair,), declared=True)
    for builder, number in ((Diverging, 2), (StudyBuilder, 0)):
        own = tmp_path / builder.__name__
        built = builder(own, pixels=False, images=2, missing=set(), claims=claims)
        found = verdicts_of(Contents(load_study(built.write(), STUDY)))
        assert found is not None
        (verdict,) = found.verdicts
        assert verdict.num_diverged == number  # of stage general, which both start from
        _, point = found.point(verdict)
        said = f"{number} of {verdict.num_trained} trainings"
        assert (f"{said} diverged, and are in these numbers." in verdict.words) == bool(number)
        assert (f"Diverged: {said}." in point) == bool(number)
