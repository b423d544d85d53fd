"""All tables of a report: what holds for the files of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from tests.analysis.staged import Staged
from tests.analysis.tables.test_gates import Gated
from tests.analysis.test_claims import DICE
from xferlab.analysis import load_study
from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.sections import Tables
from xferlab.analysis.tables.fractions import fractions_tables
from xferlab.analysis.tables.gates import gates_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.sites import sites_tables
from xferlab.metrics.claims import Claims, Place
from xferlab.metrics.measuring import metrics_of
from xferlab.metrics.metric import PASSED

pytestmark = pytest.mark.component
NAMES = ("heart", "left_lung")
PAIR = (Place("frozen", "portable"), Place("baseline", "portable"))
CLAIMS = Claims("DICE", "portable.hold_out", None, (PAIR,), declared=True)


def whole(contents: Contents) -> Iterator[Table]:
    for _, tables in Tables(contents).by_section():
        yield from tables


def by_site(contents: Contents) -> Iterator[Table]:
    contents.results.plan["split"] = {"by": "source"}
    for trial in contents.results.plan["trials"]:
        trial["coordinates"] = {"site": f"site {trial['repetition']}"}
    return sites_tables(contents)


@pytest.mark.parametrize(
    ("study", "fields", "make"),
    [
        (StudyBuilder, {"structures": NAMES, "metrics": metrics_of(NAMES, DICE), "claims": CLAIMS}, whole),
        (StudyBuilder, {"metrics": DICE}, by_site),
        (Gated, {"metrics": (*DICE, PASSED)}, gates_tables),
        (Staged, {}, fractions_tables),
    ],
)
def test_no_file_has_deviations_of_few_patients(
    tmp_path: Path,
    study: type[StudyBuilder],
    fields: dict[str, Any],
    make: Callable[[Contents], Iterable[Table]],
) -> None:
    usual = {"images": MIN_PATIENTS - 1, "repetitions": 2, "pixels": False, "missing": set()}
    contents = Contents(load_study(study(tmp_path, **usual, compare_to=None, **fields).write(), STUDY))
    frames = [table.data for table in make(contents) if "num_patients" in table.data]
    few = [frame[frame["num_patients"] < MIN_PATIENTS] for frame in frames]
    assert sum(map(len, few))
    for frame in few:
        assert frame.filter(regex="^sd_(repetitions|images)$").isna().all(axis=None)
