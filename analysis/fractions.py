"""Arms that are alike but for the share of the labels that a stage trains on: series over that share."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import needs
from xferlab.metrics.metric import Metric
from xferlab.plan.identity import flattened


class Series(NamedTuple):
    """Arms that differ in the share of the labels of one stage.

    Attributes:
        arms: By share, the largest first.
    """

    arms: Mapping[float, str]

    @property
    def whole(self) -> str:
        """The arm of the largest share: what the others are compared with, and the name of the series."""
        return next(iter(self.arms.values()))


def series_by_set(contents: Contents) -> Iterator[tuple[EvaluationSet, list[Series]]]:
    """Yields the test parts and hold-outs, without objects, on which arms of several shares are measured."""
    results = contents.results
    for evaluated in contents.plain_sets:
        if evaluated.plain.part in ("test", "hold_out") and (found := list(_series(results, evaluated))):
            yield evaluated, found


def _series(results: StudyResults, evaluated: EvaluationSet) -> Iterator[Series]:
    """Yields the series of a set, those that share all of their results there once."""
    groups, known = defaultdict[str, dict[float, str]](dict), set[tuple[frozenset[str], ...]]()
    for arm in results.arms:
        if results.evaluation_ids(arm, evaluated):
            share = share_of(results, arm, evaluated.stage)
            groups[_others(results, arm, evaluated.stage)].setdefault(share, arm)
    for arms in groups.values():
        ordered = dict(sorted(arms.items(), reverse=True))
        ids = tuple(results.evaluation_ids(arm, evaluated) for arm in ordered.values())
        if len(set(ids)) > 1 and ids not in known:
            known.add(ids)
            yield Series(ordered)


def share_of(results: StudyResults, arm: str, stage: str) -> float:
    """Returns the share of its training patients that a stage of an arm learns from."""
    share = results.plan["arms"][arm]["stages"][stage].get("label_fraction")
    return 1.0 if share is None else float(share)


def _others(results: StudyResults, arm: str, stage: str) -> str:
    """What an arm changes of all that a stage takes anything from, but for the share of its labels."""
    needed = {name for of_arm, name in needs(results.plan, arm, stage) if of_arm == arm}
    changed = flattened(results.plan["arms"][arm]["description"])
    shares = f"stages.{stage}.label_fraction"  # of one set: `.NAME` follows
    kept = {
        path: value
        for path, value in changed.items()
        if path not in ("", shares)  # "": it changes nothing
        and not path.startswith(f"{shares}.")
        and (not path.startswith("stages.") or path.split(".")[1] in needed)
    }
    return json.dumps(kept, sort_keys=True)


def shown_metrics(contents: Contents, evaluated: EvaluationSet) -> tuple[Metric, ...]:
    """Returns the main metrics; before them, in its order, those of which a paper has values here.

    Where it has values of single targets and none over all of them, those of the targets are among them.
    Where it has values of none of the main metrics, all those of which it has values stand before them.
    """
    metrics = contents.results.metrics
    published = list(dict.fromkeys(contents.published(evaluated)["metric"]))
    known = {
        str(name)
        for frame in (contents.aggregated, contents.of_targets)
        for name in evaluated.rows(frame).dropna(subset="mean")["metric"].unique()
    }
    apart = {metric.name: metric for metric in metrics.apart}
    single = [apart[name] for name in published if name in known & apart.keys()]
    main = [metric for metric in metrics.main(known) if not metric.of]
    first = [metric for metric in main if metric.name in published]
    first = first or list(metrics.ordered(known & set(published) - apart.keys()))
    return (
        *(metric for metric in single if metric.whole not in published),
        *first,
        *(metric for metric in main if metric not in first),
    )
