"""Tables by subgroup, of metrics of images, of structures, and of sets of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.analysis.conftest import STUDY, StudyBuilder
from tests.analysis.test_told import NAMES, Classes
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.subgroups import subgroups_tables
from xferlab.metrics.classes import metrics_of_classes
from xferlab.metrics.measuring import metrics_of

pytestmark = pytest.mark.component
IMAGES = 18
SITES: dict[str, Iterable[int]] = {"all": range(6), "north": range(6, 15), "tiny": (15,)}
"""Numbers of images by site; one is called as the lines of all are, and two images have none."""


def grouped(
    kind: type[StudyBuilder], folder: Path, *, sites: Mapping[str, Iterable[int]] = SITES, **fields: Any
) -> Contents:
    class Grouped(kind):  # type: ignore[valid-type, misc]
        def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
            values = {site: [f"portable-hold_out-{n}" for n in numbers] for site, numbers in sites.items()}
            plan: dict[str, Any] = super()._plan(trials)
            return {**plan, "subgroups": {"site": values}}

    builder = Grouped(folder, pixels=False, images=IMAGES, compare_to=None, missing=set(), **fields)
    builder.write()
    return Contents(load_study(folder, STUDY))


def cells(contents: Contents, metric: str) -> dict[tuple[str, ...], str]:
    """The cells of a column after the last stage, by value, images, patients, target if any, and arm."""
    titles = [table.title for table in subgroups_tables(contents)]
    assert titles == [f"stage {stage} on portable.hold_out, by site" for stage in ("general", "portable")]
    table = list(subgroups_tables(contents))[1]
    column = table.columns.index(metric)
    return {(*g.labels, row.label): row.cells[column] for g in table.groups for row in g.rows}


def test_values_of_images_are_those_of_their_group(tmp_path: Path) -> None:
    lines = cells(grouped(StudyBuilder, tmp_path, arms=("baseline",)), "Dice")
    # 0.9 + 0.01 r + 0.001 i: repetitions 1 to 4 give 0.925 ± 0.0129.
    assert lines == {
        ("all", "6", "6", "baseline"): "0.9275 ± 0.0129",
        ("north", "9", "9", "baseline"): "0.9350 ± 0.0129",
        ("tiny", "1", "1", "baseline"): "0.9400",
        ("unknown", "2", "2", "baseline"): "0.9415",
        ("all images", "18", "18", "baseline"): "0.9335 ± 0.0129",
    }


def test_few_patients_have_no_deviation_in_the_file_either(tmp_path: Path) -> None:
    data = list(subgroups_tables(grouped(StudyBuilder, tmp_path)))[1].data
    few = data[data["num_patients"] < 5]
    assert set(few["value"]) == {"tiny", "unknown"}
    assert few[["sd_repetitions", "sd_images"]].isna().all(axis=None)
    assert set(data["column"]) == {"site"}


@pytest.mark.parametrize(("num_named", "is_told"), [(IMAGES, False), (IMAGES - 1, True)])
def test_the_caption_tells_of_unknown_values_where_there_are_any(
    tmp_path: Path, num_named: int, is_told: bool
) -> None:
    contents = grouped(StudyBuilder, tmp_path, sites={"north": range(num_named)})
    for table in subgroups_tables(contents):
        assert ("unknown: site is not given." in table.caption) == is_told


def test_structures_have_lines_of_their_own(tmp_path: Path) -> None:
    names = ("heart", "left_lung")
    contents = grouped(
        StudyBuilder, tmp_path, arms=("baseline",), structures=names, metrics=metrics_of(names)
    )
    lines = cells(contents, "Dice")
    assert lines["north", "9", "9", "all", "baseline"] == "0.9350 ± 0.0129"
    assert lines["north", "9", "9", "heart", "baseline"] == "0.8850 ± 0.0129"
    assert lines["tiny", "1", "1", "left_lung", "baseline"] == "0.8400"


def test_metrics_of_sets_are_computed_within_each_group(tmp_path: Path) -> None:
    declared = metrics_of_classes(NAMES, thresholds=("YOUDEN", "SENSITIVE"))
    contents = grouped(Classes, tmp_path, arms=("baseline",), structures=NAMES, metrics=declared)
    lines = cells(contents, "AUC")
    cases = contents.results.cases
    rows = cases[(cases["stage"] == "portable") & (cases["part"] == "hold_out")]
    rows = rows[rows["case"].isin([f"portable-hold_out-{n}" for n in SITES["north"]])]
    areas = []
    for _, each in rows.groupby("repetition"):
        wide = each.pivot_table(index="case", columns="metric", values="value", observed=True)
        areas.append([roc_auc_score(wide[f"IS_{name}"], wide[f"P_{name}"]) for name in NAMES])
    single, whole = np.array(areas)[:, 1], np.mean(areas, axis=1)
    assert lines["north", "9", "9", "ill", "baseline"] == f"{single.mean():.4f} ± {single.std(ddof=1):.4f}"
    assert lines["north", "9", "9", "all", "baseline"] == f"{whole.mean():.4f} ± {whole.std(ddof=1):.4f}"
    assert lines["tiny", "1", "1", "all", "baseline"] == "–"  # one image has no pairs


def test_a_study_without_subgroups_has_no_such_table(tmp_path: Path) -> None:
    StudyBuilder(tmp_path, pixels=False, repetitions=1, missing=set()).write()
    assert list(subgroups_tables(Contents(load_study(tmp_path, STUDY)))) == []
