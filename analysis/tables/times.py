"""Times of a study, and where they were measured."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from xferlab.analysis.contents import Contents
from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import Layout, Record, Table, number
from xferlab.analysis.tables.notes import data_notes

_QUANTITIES = {
    "train_epoch": "Training epoch (ms)",
    "validation_epoch": "Validation epoch (ms)",
    "repetition": "Whole repetition (s)",
    "network_per_image": "Network, per image (ms)",
}
_LAYOUT = Layout(
    (("Stage", "stage"), ("Arm", "arm")),
    ("Statistic", "statistic"),
    [(heading, quantity) for quantity, heading in _QUANTITIES.items()],
)


def times(results: StudyResults) -> pd.DataFrame:
    """Returns one row per arm, stage and quantity: mean_ms, sd_ms, n and what n counts.

    train_epoch and validation_epoch pool all epochs of all repetitions; repetition is a trial's whole time;
    network_per_image pools the measured images of all repetitions. SD is the sample SD of the pool, NaN for
    one value.
    """
    rows = []
    for (arm, stage), runs in results.runs.groupby(["arm", "stage"], sort=False):
        own = (results.histories["arm"] == arm) & (results.histories["stage"] == stage)
        history = results.histories[own]
        measured = (
            (*_pool(history["train_s"] * 1e3), "epochs"),
            (*_pool(history["validation_s"] * 1e3), "epochs"),
            (*_pool(runs["total_s"] * 1e3), "repetitions"),
            (*_network(runs), "images"),
        )
        rows += [(arm, stage, name, *values) for name, values in zip(_QUANTITIES, measured, strict=True)]
    return pd.DataFrame(rows, columns=["arm", "stage", "quantity", "mean_ms", "sd_ms", "n", "of"])


def times_tables(contents: Contents) -> Iterator[Table]:
    """Yields the table of times, where something is complete."""
    results, frame = contents.results, times(contents.results)
    if not len(frame):
        return
    table = Table(
        name="times",
        title="times",
        caption=(
            "Epochs: all epochs of all complete repetitions as one pool.",
            "Whole repetition: a trial with loading, checkpoints and evaluation.",
            "Network: forward passes alone, all repetitions as one pool.",
            "SD: sample SD (n − 1) of the pool; n: its size.",
        ),
        notes=(
            *_machines(results),
            *data_notes(results, results.stages, ()),
            *(["The paper's times are of its own machine and cohorts."] if contents.paper else []),
        ),
        data=frame,
        subject={"kind": "times"},
    )
    yield _LAYOUT.fill(table, _records(contents, frame))


def _records(contents: Contents, frame: pd.DataFrame) -> Iterator[Record]:
    for stage in contents.results.stages:
        for arms in contents.results.arms_by_trials(stage):
            own = frame[(frame["arm"] == arms[0]) & (frame["stage"] == stage)].set_index("quantity")
            if len(own):
                labels = {"stage": stage, "arm": ", ".join(arms)}
                yield from _lines(own, labels)
                counts = {name: f"{own['n'][name]} {own['of'][name]}" for name in _QUANTITIES}
                yield {**labels, "statistic": "n", **counts}
        if paper := contents.paper:
            own = paper.times[paper.times["stage"] == stage].set_index("quantity")
            label = paper.number("table", {"kind": "times"})
            if label and len(own):
                yield from _lines(own, {"stage": stage, "arm": f"{paper.name}, {paper.tables[label].title}"})


def _lines(own: pd.DataFrame, labels: Record) -> Iterator[Record]:
    for statistic, column in (("Mean", "mean_ms"), ("SD", "sd_ms")):
        texts = {name: _text(name, own[column].get(name, math.nan)) for name in _QUANTITIES}
        yield {**labels, "statistic": statistic, **texts}


def _text(quantity: str, value_ms: float) -> str:
    if quantity == "repetition":
        return number(value_ms / 1e3, "s")
    if quantity == "network_per_image" and not math.isnan(value_ms):
        return f"{value_ms:.3f}"  # a network pass takes few milliseconds: two decimals more
    return number(value_ms, "ms")


def _pool(values: pd.Series) -> tuple[float, float, int]:
    known = values.dropna().astype(float)
    return float(known.mean()), float(known.std()), len(known)


def _network(runs: pd.DataFrame) -> tuple[float, float, int]:
    known = runs[(runs["network_n"] > 0) & runs["network_mean_ms"].notna()]
    return pooled(known["network_n"], known["network_mean_ms"], known["network_sd_ms"])


def pooled(counts: pd.Series, means: pd.Series, sds: pd.Series) -> tuple[float, float, int]:
    """Returns mean, sample SD and size of groups taken together, of which only these three are known.

    The SD is NaN below two values; a group of one may have no SD.
    """
    n, m, s = (series.astype(float) for series in (counts, means, sds))
    total = float(n.sum())
    if total == 0:
        return math.nan, math.nan, 0
    mean = float((n * m).sum() / total)
    squares = float(((n - 1) * s.fillna(0.0) ** 2 + n * (m - mean) ** 2).sum())
    return mean, math.sqrt(squares / (total - 1)) if total > 1 else math.nan, int(total)


def _machines(results: StudyResults) -> Iterator[str]:
    runs = results.runs
    names = sorted({str(name) for name in runs["device_name"].fillna(runs["device"]).dropna()})
    resumed = int((runs.drop_duplicates("trial_id")["num_attempts"] > 1).sum())
    if names:
        yield f"Measured on: {'; '.join(names)}."
    if resumed:
        yield f"{resumed} trials took more than one attempt."
