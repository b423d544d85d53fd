"""Arms against the baseline by the signed-rank test on images, as a paper has it, with the paper's marks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.comparison import paired
from xferlab.analysis.contents import Contents
from xferlab.analysis.estimates import holm
from xferlab.analysis.published.paper import Paper, marks_of
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.model import ABSENT, STARS, Layout, Record, Table, file_name, number, starred
from xferlab.analysis.tables.notes import arm_names, data_notes
from xferlab.metrics.metric import Metric

_COLUMNS = (
    *(("Repetitions", "repetitions"), ("Images", "num_images"), ("Patients", "num_patients")),
    *(("Baseline", "first_mean"), ("Arm", "second_mean"), ("Median difference", "median")),
    *(("p", "p"), ("p (Holm)", "p_holm"), ("Published mark", "published")),
)


def signed_rank_tables(contents: Contents) -> Iterator[Table]:
    """Yields a table for each test part and hold-out, where the study's paper has such tests."""
    if contents.paper is not None and contents.paper.signed_rank:
        for evaluated in contents.plain_sets:
            if evaluated.plain.part in ("test", "hold_out") and len(rows := _rows(contents, evaluated)):
                yield _table(contents, contents.paper, evaluated, rows)


def signed_rank(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any] | None:
    """Returns Wilcoxon's signed-rank test of two sides, image by image; None without a common image.

    The value of an image is its mean over the repetitions in which both sides have it. Equal values are left
    out of the ranks (`scipy.stats.wilcoxon`); p is NaN where all are equal, and of fewer than `MIN_PATIENTS`
    patients.

    Args:
        first: Columns repetition, case, name, patient, value; undefined values are no pairs.
        second: The same of the other side.
    """
    from scipy import stats

    pairs = paired(first, second, on=["repetition"]).dropna()
    if not len(pairs):
        return None
    images = pairs.groupby("case", observed=True, sort=True)[["value_first", "value_second"]].mean()
    differences = images["value_second"] - images["value_first"]
    num_patients = pairs["patient"].nunique()
    is_tested = num_patients >= MIN_PATIENTS and differences.any()
    p = stats.wilcoxon(differences).pvalue if is_tested else float("nan")
    return {
        "num_repetitions": pairs["repetition"].nunique(),
        "num_images": len(images),
        "num_patients": num_patients,
        "first_mean": images["value_first"].mean(),
        "second_mean": images["value_second"].mean(),
        "median": differences.median(),
        "p": float(p),
    }


def _metrics(contents: Contents, evaluated: EvaluationSet) -> Iterator[Metric]:
    """Yields what is tested: of each metric the targets of which the paper has values, else all together."""
    metrics = contents.results.metrics
    published = dict.fromkeys(contents.published(evaluated)["metric"])
    for name in contents.paper.signed_rank if contents.paper else ():
        single = {each.name: each for each in metrics.apart if each.whole == name}
        yield from [single[each] for each in published if each in single] or [metrics.named(name)]


def _rows(contents: Contents, evaluated: EvaluationSet) -> pd.DataFrame:
    """Returns a row for each metric and arm that differs from the baseline."""
    compared = [contrast.comparison for contrast in contents.against_baseline(evaluated)]
    planned = {comparison.second.arm: comparison.design.planned for comparison in compared}
    groups = [arms for arms in contents.results.arms_by_evaluations(evaluated) if set(arms) & set(planned)]
    cases = evaluated.rows(pd.concat([contents.cases, contents.apart]))
    rows = []
    for metric in _metrics(contents, evaluated):
        of_metric = cases.loc[cases["metric"] == metric.name]
        sides = {str(arm): rows[_PAIRED] for arm, rows in of_metric.groupby("arm", observed=True)}
        baseline = sides.get(contents.results.baseline)
        for arms in groups:
            if baseline is not None and arms[0] in sides:
                tested = signed_rank(baseline, sides[arms[0]])
                num_planned = next(planned[arm] for arm in arms if arm in planned)
                labels = {"metric": metric.name, "arms": arms, "num_planned": num_planned}
                rows += [labels | tested] if tested else []
    frame = pd.DataFrame(rows)
    if len(frame):
        frame["p_holm"] = frame.groupby("metric")["p"].transform(lambda p: holm(list(p)))
    return frame


_PAIRED = ["repetition", "case", "name", "patient", "value"]


def _table(contents: Contents, paper: Paper, evaluated: EvaluationSet, rows: pd.DataFrame) -> Table:
    results, given = contents.results, evaluated.rows(paper.significance)
    places = zip(rows["metric"], rows["arms"], strict=True)
    marks = [marks_of(given, metric, results.baseline, arms) for metric, arms in places]
    rows = rows.assign(published=marks)
    return Layout((("Metric", "heading"),), ("Arm", "arm"), _COLUMNS).fill(
        Table(
            name=f"signed_rank_{evaluated.stage}_on_{file_name(evaluated.stem)}",
            title=f"arms against {results.baseline} as {paper.name} tests, stage {evaluated.stage} on "
            f"{evaluated.name}",
            caption=(
                "Wilcoxon's signed-rank test on images; the value of an image is its mean over the "
                "repetitions in which both arms measure it. Equal values are left out of the ranks; where "
                "all are equal, there is no p. It is exact for up to 50 images without ties and equal "
                "values, and for up to 13 with them, else by the normal approximation without continuity "
                "correction.",
                f"Fewer than {MIN_PATIENTS} patients: no p. Repetitions: those in which both arms "
                "are measured, of those that both plan.",
                f"{STARS}. p (Holm): adjusted over the arms of a metric; the other p are not adjusted.",
            ),
            notes=(
                f"This is how {paper.name} tests. It is no verdict: images of one person and repetitions are "
                "not independent, and other training samples are not accounted for. Verdicts are in the "
                "section Result, intervals in the tables of differences.",
                *data_notes(results, [evaluated.stage], [evaluated.section], of_metrics=False),
                *(contents.paper_words(given) if any(marks) else ()),
            ),
            data=rows.assign(arms=[", ".join(arms) for arms in rows["arms"]]),
            subject={"kind": "signed rank", **vars(evaluated)},
        ),
        (_record(contents, row) for row in rows.to_dict("records")),
    )


def _record(contents: Contents, row: Record) -> Record:
    metric = contents.results.metrics.named(str(row["metric"]))
    texts = {name: number(row[name], metric.unit) for name in ("first_mean", "second_mean")}
    return {
        **row,
        **texts,
        "heading": contents.heading(metric),
        "arm": arm_names(contents.results, row["arms"]),
        "repetitions": f"{row['num_repetitions']} of {row['num_planned']}",
        "median": number(row["median"], metric.unit, signed=True),
        "p": starred(row["p"]),
        "p_holm": starred(row["p_holm"]),
        "published": row["published"] or ABSENT,
    }
