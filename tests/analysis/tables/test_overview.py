"""What each arm is trained on: shares of labels as they are, and trainings that were cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.tables.overview import training_table
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


def test_without_shares_there_is_no_column_of_labels(storage: Path) -> None:
    table = training_table(load_study(storage, STUDY))
    assert "Labels" not in table.columns
    assert "Cut off" in table.columns
