"""Tables of repredicted cases, of networks whose values are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.reprediction import Reprediction, Repredictor, Scaled
from xferlab.analysis.tables.ensembles import ensembles_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.temperature import temperature_tables

pytestmark = pytest.mark.component


def known(folder: Path, repredictor: Repredictor, **changes: object) -> Contents:
    """What the tables of a study are made of."""
    study = StudyBuilder(folder, **{"missing": set(), "pixels": False, "compare_to": None, **changes})
    return Contents(load_study(study.write(), STUDY), repredictor)


def tables(folder: Path, **changes: object) -> tuple[dict[str, Table], list[list[Reprediction]], list[str]]:
    """The tables by name where each mean of n networks has a Dice of n / 10, what was asked, and problems."""
    asked: list[list[Reprediction]] = []

    def measure(members: list[Reprediction]) -> Mapping[str, Mapping[str, float]]:
        asked.append(members)
        digests = sorted(frozenset[str]().union(*(member.digests for member in members)))
        return {case: {"DICE": sum(case in m.digests for m in members) / 10} for case in digests}

    contents = known(folder, Repredictor(measure), **changes)
    return {table.name: table for table in ensembles_tables(contents)}, asked, contents.results.problems


def test_an_image_counts_once_with_those_that_measured_it(tmp_path: Path) -> None:
    """Test parts have 12 images and move on by 5 a repetition: some are in one, two or three of them."""
    found, _, problems = tables(tmp_path, images=12, arms=("baseline",), epochs=2)
    assert not problems
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
    assert (single.label, together.label) == ("4 single networks", "ensemble")
    assert together.cells[0] == f"{(13 * 0.2 + 4 * 0.3) / 17:.4f}"
    assert set(together.cells[1:]) == {"–"}
    assert " ± " in single.cells[0]


@pytest.mark.parametrize(("group_by", "whom"), [("patient_id", "its patient"), (None, "it")])
def test_whom_no_network_saw_is_what_the_split_divides(
    tmp_path: Path, group_by: str | None, whom: str
) -> None:
    measure = Repredictor(lambda members: {case: {"DICE": 0.5} for case in members[0].digests})
    contents = known(tmp_path, measure, repetitions=2, images=4, epochs=2)
    contents.results.plan["split"] = {"group_by": group_by}
    captions = [" ".join(table.caption) for table in ensembles_tables(contents)]
    assert captions
    assert all(f"only by networks that never saw {whom};" in caption for caption in captions)


def test_an_ensemble_of_a_hold_out_stands_by_pathology_without_a_deviation(tmp_path: Path) -> None:
    found, asked, _ = tables(tmp_path, missing={"baseline/portable/r03"}, repetitions=3, images=9, epochs=2)
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


def test_without_an_image_of_two_networks_there_is_no_table_and_the_reason_is_noted(tmp_path: Path) -> None:
    """As in a cross-validation without repeats: each image is tested once."""
    found, asked, problems = tables(tmp_path, images=5, arms=("baseline",), epochs=2)
    assert list(found) == [
        "ensembles_general_on_portable_hold_out",
        "ensembles_portable_on_portable_hold_out",
    ]
    assert len(asked) == 2
    assert problems == [
        f"ensemble of baseline, stage {stage} on {stage}.test: each of the 20 images is in the test part of "
        "one repetition only, and an ensemble needs 2 networks that never saw its patient; it is left out"
        for stage in ("general", "portable")
    ]


def test_a_table_says_which_temperatures_are_none_and_which_images_took_no_part(tmp_path: Path) -> None:
    none = Scaled(float("nan"), {}, 8, 8)

    def scaled_by(*fits: Scaled | None) -> tuple[dict[str, Table], list[str]]:
        def scale(asked: Reprediction) -> Scaled | None:
            fit = fits[repetitions[asked.trial_id] - 1]
            return fit and fit._replace(values={case: {"ECE": 0.1} for case in asked.digests})

        contents = known(tmp_path, Repredictor(scaled=scale), arms=("baseline",), images=12, epochs=2)
        repetitions = {each["trial_id"]: each["repetition"] for each in contents.results.plan["trials"]}
        return {table.name: table for table in temperature_tables(contents)}, contents.results.problems

    found, problems = scaled_by(Scaled(1.5, {}, 8, 0), none, Scaled(99.9995, {}, 8, 3), None)
    assert not problems
    table = found["temperature_general_on_general_test"]
    assert table.notes[:3] == (
        "Not fitted to validation images whose patients a parent network may have learned from in another "
        "repetition: baseline, repetition 2 (8 of 8), baseline, repetition 3 (3 of 8).",
        "No validation image to fit to, so in no number: baseline, repetition 2.",
        "At a bound (0.01 or 100), so that this is no best fit: baseline, repetition 3.",
    )
    assert table.groups[0].labels == ("all", "baseline", "2 of 4", "22", "22", "50.75 (1.50 to 100.00)")
    found, problems = scaled_by(none, none, none, none)
    assert not found
    assert "there is no validation image to fit a temperature to; of 32, 32 are" in problems[-1]
