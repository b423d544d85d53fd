"""The numbers that a run ends with: the headline metric of the last stage, arm by arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xferlab.cli.session import Session
from xferlab.errors import XferlabError

if TYPE_CHECKING:  # pandas takes a second to import
    from xferlab.analysis import StudyResults

SHOWN_ARMS = 20


def headline(session: Session, arms: Collection[str] | None = None) -> list[str]:
    """Returns lines with the mean of the headline metric for each arm; nothing where nothing is evaluated.

    They are those of the report's tables: means over repetitions, on the hold-out if the last stage is
    measured on one, else on its test part.

    Args:
        session: The study.
        arms: Only these.
    """
    from xferlab.analysis import load_study

    try:
        results = load_study(session.store.location, session.loaded.base.study)
    except XferlabError as error:
        return [f"the results cannot be shown: {error}"]
    return list(_lines(results, arms))


def _lines(results: StudyResults, arms: Collection[str] | None) -> Iterator[str]:
    from xferlab.analysis import aggregate
    from xferlab.analysis.selection import ALL, evaluation_sets, main_metrics, unseen

    sets = [evaluated for evaluated in evaluation_sets(results) if "@" not in evaluated.part]
    last = [evaluated for evaluated in sets if evaluated.stage == results.stages[-1]] or sets
    metrics = main_metrics(results.cases["metric"].unique())
    if not last or not metrics:
        return
    evaluated = next((evaluated for evaluated in last if evaluated.is_hold_out), last[0])
    table = evaluated.rows(aggregate(unseen(results.cases), planned=results.planned()))
    table = table[(table["pathology"] == ALL) & (table["metric"] == metrics[0].name)]
    rows = {row["arm"]: row for row in table.to_dict("records")}
    names = [arm for arm in results.arms if arms is None or arm in arms]
    yield f"{metrics[0].name} on {evaluated.name} after stage {evaluated.stage}, mean over repetitions:"
    width = max(map(len, names[:SHOWN_ARMS]))
    for arm in names[:SHOWN_ARMS]:
        planned = results.planned().get((arm, evaluated.stage), 0)
        yield f"  {arm:{width}}  {_numbers(rows[arm]) if arm in rows else f'none of {planned} repetitions'}"
    if len(names) > SHOWN_ARMS:
        yield f"  and {len(names) - SHOWN_ARMS} more arms, which the report has"


def _numbers(row: Mapping[Any, Any]) -> str:
    sd = row["sd_repetitions"]
    spread = "" if math.isnan(sd) else f" (SD {sd:.3f})"
    return f"{row['mean']:.3f}{spread}, {row['num_repetitions']} of {row['num_planned']} repetitions"
