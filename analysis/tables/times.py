"""Times of a study, as the paper's table 7 gives them, and where they were measured."""

from __future__ import annotations

import math

import pandas as pd

from xferlab.analysis.reference import Reference
from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table, number
from xferlab.analysis.tables.notes import data_notes, incomplete_note

_QUANTITIES = ("train_epoch", "validation_epoch", "repetition", "network_per_image")
_COLUMNS = ("Training epoch (ms)", "Validation epoch (ms)", "Whole repetition (s)", "Network, per image (ms)")


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
        measured = {
            "train_epoch": (*_pool(history["train_s"] * 1e3), "epochs"),
            "validation_epoch": (*_pool(history["validation_s"] * 1e3), "epochs"),
            "repetition": (*_pool(runs["total_s"] * 1e3), "repetitions"),
            "network_per_image": (*_network(runs), "images"),
        }
        rows += [(arm, stage, name, *measured[name]) for name in _QUANTITIES]
    return pd.DataFrame(rows, columns=["arm", "stage", "quantity", "mean_ms", "sd_ms", "n", "of"])


def times_table(results: StudyResults, *, label: str, reference: Reference | None = None) -> Table | None:
    """Returns the table of times; None where nothing is complete."""
    frame = times(results)
    if not len(frame):
        return None
    groups = []
    for stage in results.stages:
        for arms in results.shared_arms(stage):
            own = frame[(frame["arm"] == arms[0]) & (frame["stage"] == stage)].set_index("quantity")
            if len(own):
                groups.append(_group(stage, ", ".join(arms), own))
        published = reference.times[reference.times["stage"] == stage] if reference else frame.iloc[:0]
        if reference and len(published):
            title = f"{reference.name}, Table 7 and Section 4.3"
            groups.append(_published(stage, title, published.set_index("quantity")))
    return Table(
        name=f"table{label}_times",
        title=f"Table {label}: times",
        caption=(
            "Epochs: all epochs of all complete repetitions as one pool.",
            "Whole repetition: a trial with loading, checkpoints and evaluation.",
            "Network: forward passes alone, all repetitions as one pool.",
            "SD: sample SD (n − 1) of the pool; n: its size.",
        ),
        notes=(
            *_machines(results),
            *incomplete_note(results, results.stages),
            *data_notes(results, (), results.cases),
            *(["The paper's times are of its own machine and cohorts."] if reference else []),
        ),
        head=("Stage", "Arm"),
        stub="Statistic",
        columns=_COLUMNS,
        groups=tuple(groups),
        data=frame,
    )


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


def _group(stage: str, arm: str, own: pd.DataFrame) -> Group:
    counts = tuple(f"{own['n'][name]} {own['of'][name]}" for name in _QUANTITIES)
    return Group((stage, arm), (_row("Mean", own, "mean_ms"), _row("SD", own, "sd_ms"), Row("n", counts)))


def _published(stage: str, title: str, own: pd.DataFrame) -> Group:
    return Group((stage, title), (_row("Mean", own, "mean_ms"), _row("SD", own, "sd_ms")))


def _row(label: str, own: pd.DataFrame, column: str) -> Row:
    cells = []
    for name in _QUANTITIES:
        value = float(own[column][name]) if name in own.index else math.nan
        scaled, unit = (value / 1e3, "s") if name == "repetition" else (value, "ms")
        # A network pass takes few milliseconds: two decimals more.
        cells.append(
            f"{value:.3f}" if name == "network_per_image" and value == value else number(scaled, unit)
        )
    return Row(label, tuple(cell if cell else ABSENT for cell in cells))


def _machines(results: StudyResults) -> tuple[str, ...]:
    runs = results.runs
    names = sorted({str(name) for name in runs["device_name"].fillna(runs["device"]).dropna()})
    resumed = int((runs.drop_duplicates("trial_id")["num_attempts"] > 1).sum())
    return (
        *([f"Measured on: {'; '.join(names)}."] if names else []),
        *([f"{resumed} trials took more than one attempt."] if resumed else []),
    )
