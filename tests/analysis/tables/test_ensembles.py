"""Tables of ensembles, of networks whose mean is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.again import Again, Predicting
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.ensembles import ensembles_tables
from xferlab.analysis.tables.model import Table

pytestmark = pytest.mark.component


def tables(folder: Path, **changes: object) -> tuple[dict[str, Table], list[list[Again]]]:
    """The tables by name where each mean of n networks has a Dice of n / 10, and what was asked."""
    asked: list[list[Again]] = []

    def measure(members: list[Again]) -> Mapping[str, Mapping[str, float]]:
        asked.append(members)
        digests = sorted(frozenset[str]().union(*(member.digests for member in members)))
        return {case: {"DICE": sum(case in m.digests for m in members) / 10} for case in digests}

    study = StudyBuilder(folder, **{"missing": set(), "pixels": False, "compare_to": None, **changes})
    contents = Contents(load_study(study.write(), STUDY), Predicting(measure))
    return {table.name: table for table in ensembles_tables(contents)}, asked


def test_an_image_counts_once_with_those_that_measured_it(tmp_path: Path) -> None:
    """Test parts have 12 images and move on by 5 a repetition: some are in one, two or three of them."""
    found, _ = tables(tmp_path, images=12, arms=("baseline",), epochs=2)
    assert list(found) == [
        "ensembles_general_on_general_test", "ensembles_portable_on_portable_test",
        "ensembles_general_on_portable_hold_out", "ensembles_portable_on_portable_hold_out",
    ]  # fmt: skip
    table = found["ensembles_general_on_general_test"]
    (group,) = table.groups
    # Numbers 5 to 16, 10 to 21, 15 to 26 and 20 to 31: 10 to 14, 17 to 19 and 22 to 26 are in two, 15 and 16,
    # and 20 and 21, in three, and ten at both ends in one.
    assert group.labels == ("all", "baseline", "2 to 3", "17", "17", "10")
    single, together = group.rows
    assert (single.label, together.label) == ("4 single networks", "ensemble of 4")
    assert together.cells[0] == f"{(13 * 0.2 + 4 * 0.3) / 17:.4f}"
    assert set(together.cells[1:]) == {"–"}
    assert " ± " in single.cells[0]


def test_an_ensemble_of_a_hold_out_stands_by_pathology_without_a_deviation(tmp_path: Path) -> None:
    found, asked = tables(tmp_path, missing={"baseline/portable/r03"}, repetitions=3, images=9, epochs=2)
    table = found["ensembles_portable_on_portable_hold_out"]
    assert [group.labels[:3] for group in table.groups] == [
        (pathology, arm, number)
        for pathology in ("all", "covid19", "normal", "pathological")
        for arm, number in (("baseline", "2"), ("frozen", "3"))
    ]
    assert [row.cells[0] for row in table.groups[0].rows][1:] == ["0.2000"]
    of_one = table.data[table.data["by"] == "ensemble"]
    assert of_one[["sd_repetitions", "num_repetitions", "num_planned"]].isna().all(axis=None)
    assert all(len(members) > 1 for members in asked)


def test_images_that_no_two_networks_may_predict_are_counted_and_nothing_is_predicted(tmp_path: Path) -> None:
    found, asked = tables(tmp_path, images=5, arms=("baseline",), epochs=2)
    (group,) = found["ensembles_general_on_general_test"].groups
    assert group.labels == ("all", "baseline", "–", "0", "0", "20")
    assert all(len(member.digests) == 5 for members in asked for member in members)
    assert len(asked) == 2  # of the hold-out, after two stages
