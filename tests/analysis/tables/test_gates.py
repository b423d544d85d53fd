"""Gates: differences are of cases that passed in every paired repetition, and a table has the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.design import Side
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.differences import arms_against_baseline_tables
from xferlab.analysis.tables.gates import gates_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.metrics.measuring import METRICS
from xferlab.metrics.metric import PASSED

HOLD_OUT = EvaluationSet("portable", "portable", "hold_out")
IMAGES, REPETITIONS = 20, 4


def passes(arm: str, repetition: int, image: int) -> bool:
    """The arm `frozen` refuses image 3 always, and image r in repetition r; the baseline refuses image 10."""
    return image not in ((3, repetition) if arm == "frozen" else (10,))


@dataclass
class Gated(StudyBuilder):
    """A study whose stages have a gate."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        if metric == PASSED.name:
            return float(passes(arm, repetition, image))
        return super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=metric)


def gated(folder: Path, kind: type[Gated] = Gated, **changes: object) -> Contents:
    study = {"missing": set(), "pixels": False, "compare_to": None, "metrics": (*METRICS, PASSED), **changes}
    builder = kind(folder, images=IMAGES, repetitions=REPETITIONS, **study)  # type: ignore[arg-type]
    return Contents(load_study(builder.write(), STUDY))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return gated(tmp_path_factory.mktemp("gated"))


def dice(arm: str, repetition: int, image: int) -> float:
    return 0.9 - 0.02 * (arm == "frozen") + 0.01 * repetition + 0.001 * image


def test_a_difference_is_of_cases_that_passed_in_every_paired_repetition_of_both_sides(
    contents: Contents,
) -> None:
    contrast = contents.compare(Side("baseline", HOLD_OUT), Side("frozen", HOLD_OUT))
    rows = contrast.rows[contrast.rows["metric"] == "DICE"].set_index("pathology")
    kept = [
        image
        for image in range(IMAGES)
        if all(passes(arm, r, image) for arm in ("baseline", "frozen") for r in range(1, REPETITIONS + 1))
    ]
    assert len(kept) == IMAGES - 5  # 1, 2, 3, 4 and 10
    assert rows.loc["all", "num_images"] == len(kept)
    assert rows.loc["all", "num_lost"] == 0
    assert set(rows["num_refused"]) == {5}
    expected = np.mean([dice("frozen", r, image) for r in range(1, 5) for image in kept])
    assert rows.loc["all", "second_mean"] == pytest.approx(expected)
    assert rows.loc["all", "difference"] == pytest.approx(-0.02)
    assert PASSED.name not in set(contrast.rows["metric"])


class Otherwise(Gated):
    """Arm `frozen` reads the same images otherwise."""

    def _case(self, evaluation: Mapping[str, Any], repetition: int, image: int) -> tuple[str, str, str, str]:
        case, *rest = super()._case(evaluation, repetition, image)
        return (f"{case}{'-own' * ('frozen' in evaluation['arms'])}", *rest)


def test_images_that_one_side_reads_otherwise_are_refused_on_both(contents: Contents, tmp_path: Path) -> None:
    sides = Side("baseline", HOLD_OUT), Side("frozen", HOLD_OUT)
    (expected, found) = (each.compare(*sides).rows for each in (contents, gated(tmp_path, Otherwise)))
    pd.testing.assert_frame_equal(found, expected)


def test_a_repetition_that_only_one_side_has_refuses_nothing(tmp_path: Path) -> None:
    contents = gated(tmp_path, missing={"baseline/portable/r04"})
    contrast = contents.compare(Side("baseline", HOLD_OUT), Side("frozen", HOLD_OUT))
    assert set(contrast.rows["num_refused"]) == {4}


def test_tables_have_the_images_that_passed_and_one_table_the_others(contents: Contents) -> None:
    table = next(t for t in gates_tables(contents) if t.name == "gate_portable_on_portable_hold_out")
    assert table.title == "what the gate of stage portable lets pass on portable.hold_out"
    lines = {(group.labels[0], row.label): row.cells for group in table.groups for row in group.rows}
    # Images 3 and r are refused in repetition r: the same one in repetition 3.
    refused = [(r, image) for r in range(1, 5) for image in {3, r}]
    means = pd.DataFrame([(r, dice("frozen", r, image)) for r, image in refused]).groupby(0).mean()
    column = table.columns.index("Dice")
    assert lines["frozen", "did not pass"][0] == "1.75"
    assert lines["frozen", "did not pass"][column] == f"{means[1].mean():.4f}"
    assert lines["frozen", "passed"][0] == "18.25"
    assert lines["frozen", "all"][:2] == ("20", "20")
    assert lines["baseline", "did not pass"][:2] == ("1", "1")
    assert lines["baseline", "did not pass"][column] == f"{0.9 + 0.025 + 0.01:.4f}"
    (plain,) = [t for t in metrics_tables(contents, hold_out=True) if t.name.startswith("portable_hold_out")][
        :1
    ]
    assert all(PASSED.label not in t.columns for t in metrics_tables(contents, hold_out=True))
    by_arm = {group.labels[1]: group for group in plain.groups if group.labels[0] == "all"}
    passed = [
        np.mean([dice("frozen", r, image) for image in range(IMAGES) if passes("frozen", r, image)])
        for r in range(1, 5)
    ]
    assert by_arm["frozen"].rows[0].cells[plain.columns.index("Dice")] == f"{np.mean(passed):.4f}"


def test_where_all_pass_the_line_of_the_others_is_empty(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, missing=set(), pixels=False, compare_to=None, metrics=(*METRICS, PASSED))
    builder.value = lambda *, metric, **place: (  # type: ignore[method-assign]
        1.0 if metric == PASSED.name else StudyBuilder.value(builder, metric=metric, **place)
    )
    contents = Contents(load_study(builder.write(), STUDY))
    table = next(iter(gates_tables(contents)))
    assert table.groups[0].rows[1].label == "did not pass"
    assert set(table.groups[0].rows[1].cells) == {"0", "–"}
    contrast = contents.compare(Side("baseline", HOLD_OUT), Side("frozen", HOLD_OUT))
    assert "num_refused" not in contrast.rows


def test_the_notes_say_what_is_left_out(contents: Contents) -> None:
    tables = list(arms_against_baseline_tables(contents))
    notes = [note for table in tables for note in table.notes]
    assert "Left out: 5 images that a gate does not let pass in all repetitions." in notes
    assert all("num_refused" in table.data for table in tables)


def test_without_a_gate_there_is_no_table_and_nothing_is_refused(contents: Contents, tmp_path: Path) -> None:
    plain = Contents(load_study(StudyBuilder(tmp_path, pixels=False).write(), STUDY))
    assert list(gates_tables(plain)) == []
    assert plain.refused.empty
