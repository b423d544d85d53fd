"""What the run of a trial in a mirror says of it in the end."""

from __future__ import annotations

from functools import partial

from xferlab.metrics.sets import values_of
from xferlab.plan.spec import TrialSpec
from xferlab.tasks import registry
from xferlab.tracking.summary import Headline


def headline_of(spec: TrialSpec) -> Headline:
    """Returns the metric of a case that its task puts first, and those of sets that no table puts last."""
    task = registry.task(spec.identity.task)
    metrics = task.metrics(spec.targets)
    shown = [metric for metric in metrics if metric.computed_by and metric.prominence != "further"]
    parts = frozenset(name for metric in metrics for name in metric.made_of)
    whole = [metric.name for metric in metrics if metric.prominence == "main" and not metric.of]
    return Headline(
        task.headline,
        partial(values_of, shown),
        parts,
        tuple(dict.fromkeys(filter(None, (task.headline, *whole)))),
    )
