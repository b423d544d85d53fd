"""The shipped values are the paper's."""

from __future__ import annotations

import pytest

from xferlab.analysis.reference import reference
from xferlab.errors import UsageError
from xferlab.metrics.catalogue import CATALOGUE


def test_tables_are_complete() -> None:
    values = reference("vidal2021").values
    assert values.groupby("table").size().to_dict() == {"3": 9, "4": 9, "5": 27, "6": 27}
    assert set(values["metric"]) == {metric.name for metric in CATALOGUE if metric.in_paper}


@pytest.mark.parametrize(
    ("stage", "part", "pathology", "metric", "mean", "sd"),
    [
        ("general", "test", "all", "SENS", 0.6703, 0.2528),
        ("portable", "test", "all", "DICE", 0.9436, 0.0243),
        ("general", "hold_out", "pathological", "JACC", 0.7551, 0.1293),
        ("portable", "hold_out", "covid19", "F1", 0.9644, 0.0145),
    ],
)
def test_values_as_printed(stage, part, pathology, metric, mean, sd) -> None:
    section = "portable" if part == "hold_out" else stage
    rows = reference("vidal2021").rows(stage=stage, section=section, part=part)
    (row,) = rows[(rows["pathology"] == pathology) & (rows["metric"] == metric)].to_dict("records")
    assert (row["mean"], row["sd"]) == (mean, sd)


def test_table_3_is_printed_as_it_is_and_marked() -> None:
    paper = reference("vidal2021")
    rows = paper.rows(stage="general", section="general", part="test").set_index("metric")["mean"]
    bound = 2 * rows["SENS"] / (1 + rows["SENS"])
    assert rows["DICE"] > bound
    assert f"{bound:.3f}" in " ".join(paper.notes("3"))
    assert all("cohorts differ" in paper.notes(table)[0] for table in "3456")


def test_an_unknown_publication_names_the_known_one() -> None:
    with pytest.raises(UsageError, match=r"accepted: vidal2021.*Did you mean 'vidal2021'"):
        reference("vidal2012")
