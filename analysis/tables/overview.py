"""What the numbers rest on: cohorts, what is trained on in how many repetitions, and the time it took."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from xferlab.analysis.contents import Contents
from xferlab.analysis.division import divided_units
from xferlab.analysis.other_sets import Place, labelled, other_sets
from xferlab.analysis.results import TRAINED_ON, StudyResults, is_gated
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, number
from xferlab.analysis.tables.notes import arm_names, cut_off, data_notes, diverged

FEW = 0.6
"""Share of the baseline's training images below which an arm is marked."""

_COHORTS = Layout(
    (("Section", "section"), ("Source", "source"), ("Hold-out", "share")),
    ("Pathology", "pathology"),
    (("Images", "num_images"), ("Patients", "num_patients")),
)
_TRAINING = Layout(
    (("Stage", "stage"),),
    ("Arm", "arms"),
    (
        ("Repetitions", "repetitions"),
        ("Training patients", "patients"),
        ("Training images", "images"),
        ("Validation images", "validation"),
        ("Other sets", "others"),
        ("Labels", "labels"),
        ("Cut off", "cut_off"),
    ),
)
_QUANTITIES = {
    "train_epoch": "Training epoch (ms)",
    "validation_epoch": "Validation epoch (ms)",
    "repetition": "Whole repetition (s)",
    "network_per_image": "Network, per image (ms)",
}
_TIMES = Layout(
    (("Stage", "stage"), ("Arm", "arm")),
    ("Statistic", "statistic"),
    [(heading, quantity) for quantity, heading in _QUANTITIES.items()],
)


def cohorts_table(results: StudyResults) -> Table:
    """Returns images and patients of each data section, by pathology."""
    records = [
        {
            "section": section,
            **{name: data.get(name) for name in ("source", "simulate", "hold_out")},
            "pathology": pathology,
            "num_images": counts.get("cases"),
            "num_patients": counts.get("patients"),
            "share": f"{float(data.get('hold_out') or 0) * 100:.0f} %",
        }
        for section, data in results.plan["data"].items()
        for pathology, counts in _by_pathology(data)
    ]
    return _COHORTS.fill(
        Table(
            name="cohorts",
            title="Cohorts",
            caption=(
                "Images and patients of each data section.",
                f"Hold-out: share of its {divided_units(results.plan)} that no stage trains, stops or "
                "selects on.",
            ),
            notes=data_notes(results, (), results.plan["data"]),
            data=pd.DataFrame(records).drop(columns="share"),
        ),
        records,
    )


def _by_pathology(data: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    counts = {**data.get("pathologies", {}), ALL: data}
    yield from ((pathology, counts[pathology]) for pathology in ordered_pathologies(counts))


def spread(counts: Any, what: str) -> str:
    """Returns the mean of a row of training counts with its range, one number where all are equal."""
    mean, low, high = (counts[f"{what}_{statistic}"] for statistic in ("mean", "min", "max"))
    return f"{mean:.0f}" if low == high else f"{mean:.1f} [{low:.0f}–{high:.0f}]"


def few_labels(results: StudyResults, stage: str) -> dict[str, float]:
    """Returns the arms that train a stage on much fewer images than the baseline does, with the share.

    Of a stage that learns from several sets, the images are those of the others that have labels.
    """
    images = results.training_counts["images_mean"].loc[stage].copy()
    for (of_stage, arm), own in labelled(results).items():
        if of_stage == stage:
            images[arm] = own.images
    whole = images.get(results.baseline, math.nan)
    shares = images / (whole or math.nan)
    return {str(arm): float(share) for arm, share in shares[shares < FEW].items()}


def training_table(results: StudyResults) -> Table:
    """Returns training patients and images of each stage and arm; arms of equal numbers share a line."""
    counts, gated = results.training_counts, any(map(is_gated, results.plan["trials"]))
    others = {place: _others(sets) for place, sets in other_sets(results).items()}
    fractions = {place: text for place in counts.index if (text := label_share(results, counts, place))}
    texts = defaultdict[str, dict[str, tuple[str, ...]]](dict)
    for stage, arm in counts.index:
        row = counts.loc[(stage, arm)]
        spreads = (spread(row, what) for what in TRAINED_ON.values())
        told = (texts_of.get((stage, arm), ABSENT) for texts_of in (others, fractions))
        more = (*told, _cut_off(results, stage, arm))
        texts[stage][arm] = (f"{row['complete']:.0f} of {row['repetitions']:.0f}", *spreads, *more)
    names = ("repetitions", *TRAINED_ON.values(), "others", "labels", "cut_off")
    records = [
        {"stage": stage, "arms": arm_names(results, arms)}
        | dict(zip(names, texts[stage][arms[0]], strict=True))
        for stage in results.stages
        for arms in results.grouped_arms(texts[stage].get)
    ]
    absent = {"labels": not fractions, "others": not others}
    columns = [column for column in _TRAINING.columns if not absent.get(column[1])]
    return replace(_TRAINING, columns=columns).fill(
        Table(
            name="training",
            title="What each arm is trained on",
            caption=(
                "Repetitions: complete of planned; one counts when its training and all its evaluations are "
                "stored and verify.",
                "Patients and images of each planned repetition: mean and, where repetitions differ, "
                "[least–most].",
                *(_OTHERS if others else ()),
                *(_SHARES if fractions else ()),
                "Cut off: complete trainings that ended by max_epochs and not by patience.",
                *(["Of a stage with a gate: patients before it, images that it lets pass."] if gated else []),
            ),
            notes=(*cut_off(results, results.stages), *diverged(results, results.stages)),
            data=counts.assign(
                cut_off=[_num_cut(results, *place)[0] for place in counts.index]
            ).reset_index(),
        ),
        records,
    )


_OTHERS = (
    "Other sets: of a stage that learns from several, what it learns from beside the first, to which the "
    "columns before belong.",
)
_SHARES = (
    "Labels: the share of the training patients that was asked for; in parentheses, of the images that the "
    "baseline trains on, and the patients of all repetitions together; of a stage that learns from several "
    "sets, of the images of the set that is named. Test parts stay whole, and validation parts, too, but "
    "where `fraction_of_validation` is on.",
)


def _others(sets: pd.DataFrame) -> str:
    """Returns other sets as text, such as `b (portable): 12 patients, 12 images, 4 for validation`."""
    texts = []
    for name, row in sets.iterrows():
        whole, _, part = str(name).partition(".")
        patients, images, validation = (spread(row, what) for what in TRAINED_ON.values())
        label = f"{part} of {whole}" if part else f"{whole} ({row['data']})"
        texts.append(f"{label}: {patients} patients, {images} images, {validation} for validation")
    return "; ".join(texts)


def label_share(results: StudyResults, counts: pd.DataFrame, place: Place) -> str:
    """Returns the share of labels of a stage and arm, as it was asked for and as it is; empty without one."""
    stage, arm = place
    entry = results.plan["arms"][arm]["stages"][stage]
    if entry.get("label_fraction") is None:
        return ""
    asked = f"{100 * entry['label_fraction']:.3g} %"
    if (own := labelled(results).get(place)) is not None:
        return f"{asked} ({f'{100 * own.share:.3g} % of the images of {own.of}' if own.of else 'none'})"
    whole = counts["images_mean"].get((stage, results.baseline), math.nan)
    share = 100 * counts["images_mean"][place] / whole
    real = "" if math.isnan(share) else f"{share:.3g} % of the images, "
    return f"{asked} ({real}{entry['pool_patients']} patients in all)"


def _cut_off(results: StudyResults, stage: str, arm: str) -> str:
    cut, num = _num_cut(results, stage, arm)
    return f"{cut} of {num}" if num else ABSENT


def _num_cut(results: StudyResults, stage: str, arm: str) -> tuple[int, int]:
    """Returns how many complete trainings `max_epochs` ended, and how many there are."""
    runs = results.runs[(results.runs["stage"] == stage) & (results.runs["arm"] == arm)]
    return int((runs["stopped_by"] == "max_epochs").sum()), len(runs)


def times(results: StudyResults) -> pd.DataFrame:
    """Returns one row per arm, stage and quantity: mean_ms, sd_ms, n and what n counts.

    train_epoch and validation_epoch pool all epochs of all repetitions; repetition is a trial's whole time;
    network_per_image pools the measured images of all repetitions. SD is the sample SD of the pool, NaN for
    one value.
    """
    rows = []
    for (arm, stage), runs in results.runs.groupby(["arm", "stage"], sort=False):
        is_stage = (results.histories["arm"] == arm) & (results.histories["stage"] == stage)
        history = results.histories[is_stage]
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
    yield _TIMES.fill(
        Table(
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
                *data_notes(results, results.stages, (), of_metrics=False),
                *(["The paper's times are of its own machine and cohorts."] if contents.paper else []),
            ),
            data=frame,
            subject={"kind": "times"},
        ),
        _records(contents, frame),
    )


def _records(contents: Contents, frame: pd.DataFrame) -> Iterator[Record]:
    for stage in contents.results.stages:
        for arms in contents.results.arms_by_trials(stage):
            by_quantity = frame[(frame["arm"] == arms[0]) & (frame["stage"] == stage)].set_index("quantity")
            if len(by_quantity):
                labels = {"stage": stage, "arm": ", ".join(arms)}
                yield from _lines(by_quantity, labels)
                counts = {name: f"{by_quantity['n'][name]} {by_quantity['of'][name]}" for name in _QUANTITIES}
                yield {**labels, "statistic": "n", **counts}
        if paper := contents.paper:
            by_quantity = paper.times[paper.times["stage"] == stage].set_index("quantity")
            label = paper.number("table", {"kind": "times"})
            if label and len(by_quantity):
                yield from _lines(
                    by_quantity, {"stage": stage, "arm": f"{paper.name}, {paper.tables[label].title}"}
                )


def _lines(by_quantity: pd.DataFrame, labels: Record) -> Iterator[Record]:
    for statistic, column in (("Mean", "mean_ms"), ("SD", "sd_ms")):
        texts = {name: _text(name, by_quantity[column].get(name, math.nan)) for name in _QUANTITIES}
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
    trials = runs.drop_duplicates("trial_id")
    resumed, continued = int((trials["num_attempts"] > 1).sum()), int(trials["continues"].sum())
    if names:
        yield f"Measured on: {'; '.join(names)}."
    if resumed:
        yield f"{resumed} trials took more than one attempt."
    if continued:
        yield f"{continued} trials continue shorter ones, whose epochs are in no whole repetition."
