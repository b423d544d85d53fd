"""Where the masks of training images come from: a network that knew the patient flatters its masks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import pandas as pd

from xferlab.analysis.results import StudyResults, is_gated
from xferlab.analysis.tables.model import Layout, Record, Table
from xferlab.analysis.tables.notes import arm_names, data_notes

_SOURCES = {
    "trained": "Trained on them",
    "selected": "Only selected on them",
    "unseen": "Knew nothing of them",
}
_LAYOUT = Layout(
    (("Stage", "stage"), ("Arm", "arms"), ("Part", "part")),
    ("Class", "class"),
    [("Images per repetition", "images"), *((heading, name) for name, heading in _SOURCES.items())],
)
_Key = tuple[str, str, str, str]


def mask_sources(results: StudyResults) -> pd.DataFrame:
    """Returns stage, arm, part and class with numbers of images by source, of all planned repetitions."""
    counts: defaultdict[_Key, Counter[str]] = defaultdict(Counter)
    for trial in results.plan["trials"]:
        for part, classes in trial.get("mask_sources", {}).items():
            for name, numbers in classes.items():
                for arm in trial["arms"]:
                    counts[trial["stage"], arm, part, name].update(numbers)
    keys = ("stage", "arm", "part", "class")
    return pd.DataFrame([dict(zip(keys, key, strict=True), **numbers) for key, numbers in counts.items()])


def known_by_class(
    results: StudyResults, *, stage: str, arm: str, parts: Collection[str]
) -> dict[str, float]:
    """Returns the share of images whose mask a network predicted that knew their patients, by class.

    It is over all planned repetitions of an arm's stage, in these parts of its own data; empty for none.
    """
    counts: defaultdict[str, Counter[bool]] = defaultdict(Counter)
    for row in mask_sources(results).to_dict("records"):
        if (row["stage"], row["arm"]) == (stage, arm) and row["part"] in parts:
            for name in _SOURCES:
                counts[row["class"]][name != "unseen"] += row[name]
    order = dict.fromkeys((*results.several(arm, stage), *counts))
    return {name: counts[name][True] / counts[name].total() for name in order if counts[name].total()}


def masks_table(results: StudyResults) -> Table:
    """Returns the share of images whose mask a network predicted that knew them; without groups for none."""
    data = mask_sources(results)
    gated = any(is_gated(trial) for trial in results.plan["trials"] if "mask_sources" in trial)
    stages = [stage for stage in results.stages if len(data) and stage in set(data["stage"])]
    return _LAYOUT.fill(
        Table(
            name="masks",
            title="Where the masks of training images come from",
            caption=(
                "Images that a stage trains on (and selects its weights on: validation), by what the network "
                "that predicted their masks knew of their patients; shares over all planned repetitions.",
                "Masks of patients that a network trained on are better than those of new patients; "
                "out_of_fold gives training images masks of networks that knew nothing of them.",
                *(["Where a stage has a gate, images that do not pass count, too."] if gated else []),
            ),
            notes=data_notes(results, stages, (), of_metrics=False),
            data=data,
        ),
        _records(results, data) if stages else (),
    )


def _records(results: StudyResults, data: pd.DataFrame) -> Iterator[Record]:
    for stage in results.stages:
        rows = data[data["stage"] == stage]
        by_arm = {
            str(arm): tuple(map(tuple, part.drop(columns="arm").to_numpy()))
            for arm, part in rows.groupby("arm")
        }
        for arms in results.grouped_arms(by_arm.get):
            for record in rows[rows["arm"] == arms[0]].to_dict("records"):
                total = sum(record[name] for name in _SOURCES)
                planned = results.planned()[arms[0], stage]
                shares = {name: f"{100 * record[name] / total:.0f} %" for name in _SOURCES}
                labels = {"stage": stage, "arms": arm_names(results, arms)}
                yield {**record, **labels, "images": f"{total / planned:.4g}", **shares}
