"""Results site by site, where each repetition leaves another site out: a description, without intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from xferlab.analysis.aggregation import aggregate, deviations_withheld
from xferlab.analysis.contents import Contents
from xferlab.analysis.division import leaves_sites_out
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, heading_of
from xferlab.analysis.tables.notes import arm_names, data_notes, mean_and_deviation
from xferlab.metrics.metric import Metric

_HEAD = (("Site left out", "site"), ("Images", "images"), ("Patients", "patients"))
_ALL_SITES = "mean ± SD over sites"


def sites_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each test part of a study that leaves sites out."""
    if not leaves_sites_out(contents.results.plan):
        return
    for evaluated in contents.plain_sets:
        rows = evaluated.rows(contents.cases)
        if not evaluated.is_hold_out and len(rows):
            yield _table(contents, evaluated, _by_site(contents, rows))


def _by_site(contents: Contents, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns means and deviations of each site: what `aggregate` returns, with a column `site`."""
    trials = contents.results.plan["trials"]
    site_of = {trial["repetition"]: trial["coordinates"]["site"] for trial in trials}
    frames = [
        deviations_withheld(aggregate(part, planned={}, sets=contents.sets)).assign(site=site_of[number])
        for number, part in rows.groupby("repetition", sort=True)
    ]
    of_repetitions = ["sd_repetitions", "num_repetitions", "num_planned"]
    return pd.concat(frames, ignore_index=True).drop(columns=of_repetitions)


def _table(contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame) -> Table:
    results, metrics = contents.results, contents.results.metrics.main(frame["metric"].unique())
    layout = Layout(_HEAD, ("Arm", "arms"), [(heading_of(m), m.name) for m in metrics])
    return layout.fill(
        Table(
            name=f"sites_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"stage {evaluated.stage} on {evaluated.name}, site by site",
            caption=(
                "Each site was left out once: its patients test, and none of them trained or selected.",
                "Mean ± sample SD over the images of the site.",
                "Last lines: mean over sites of these means ± their sample SD; the unit is the site.",
                "A description of these sites: nothing is said of others, so there is no p.",
            ),
            notes=data_notes(results, [evaluated.stage], [evaluated.section]),
            data=frame,
            subject={"kind": "sites", **vars(evaluated)},
        ),
        _records(contents, evaluated, frame, metrics),
    )


def _records(
    contents: Contents, evaluated: EvaluationSet, frame: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[Record]:
    together = evaluated.rows(contents.aggregated).assign(site=_ALL_SITES)
    shown = pd.concat([frame, together], ignore_index=True)
    shown = shown[shown["pathology"] == ALL]
    for site in shown["site"].unique():
        for arms in contents.results.arms_by_evaluations(evaluated):
            rows = shown[(shown["site"] == site) & (shown["arm"] == arms[0])].set_index("metric")
            if not len(rows):
                continue
            deviation = "sd_repetitions" if site == _ALL_SITES else "sd_images"
            counts = {"images": rows["num_images"].max(), "patients": rows["num_patients"].max()}
            texts = {
                metric.name: mean_and_deviation(rows.loc[metric.name], metric.unit, deviation)
                if metric.name in rows.index
                else ABSENT
                for metric in metrics
            }
            yield {"site": site, "arms": arm_names(contents.results, arms), **counts, **texts}
