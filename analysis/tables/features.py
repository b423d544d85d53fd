"""The table of deep features: how alike stages are, and how far they moved, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from xferlab.analysis.features import CKA, DISTANCE, MOVED, SHARE_MOVED, DeepFeatures
from xferlab.analysis.tables.model import ABSENT, Group, Row, Table
from xferlab.analysis.tables.notes import data_notes, incomplete_note

Column = tuple[str, str, str]
"""Quantity, and the stages before and after."""

_NAMES = {CKA: "CKA", DISTANCE: "Distance", SHARE_MOVED: "Moved"}


def features_table(features: DeepFeatures, *, label: str) -> Table | None:
    """Returns similarity and distance of stages by arm and layer; None where none is known."""
    if not len(features.values):
        return None
    columns = [(one, *pair) for one in _NAMES for pair in features.pairs(one)]
    results = features.results
    return Table(
        name=f"table{label}_features",
        title=f"Table {label}: deep features of stages compared, layer by layer",
        caption=(
            "Mean ± sample SD over repetitions (n given per arm; no SD for one repetition).",
            *reading(features),
        ),
        notes=(
            *incomplete_note(results, {after for _, _, after in columns}),
            *data_notes(results, [features.section], results.cases),
        ),
        head=("Arm", "Repetitions"),
        stub="Layer",
        columns=tuple(f"{_NAMES[one]} {before}–{after}" for one, before, after in columns),
        groups=tuple(_group(features, arms, columns) for arms in features.groups),
        data=features.summary,
    )


def reading(features: DeepFeatures) -> tuple[str, ...]:
    """Returns the sentences that say what the numbers are, and what they can and cannot say."""
    return (
        f"CKA: linear centred kernel alignment (Kornblith et al. 2019) of the best weights of two stages on "
        f"the same {features.num_cases} images of {features.section}.hold_out, activations averaged over the "
        "image: 1 where two layers arrange the images alike up to rotation and scale, 0 where they do not.",
        f"Distance: ||W − W0|| / ||W0|| of a layer's kernels, W0 being what the stage itself started from; "
        f"moved: share of filters (output channels) whose kernel changed by more than {MOVED * 100:g} % of "
        "its norm.",
        *(
            ["A donor of given weights enters as the stage took it over (folded, or shuffled as a control)."]
            if features.has_given_donor
            else []
        ),
        "CKA is biased upwards where images are few against channels: compare arms at one layer, not layers "
        "with each other.",
        "Averaged over the image, features tell which channels answer and not where; likeness is no quality, "
        "and shows no cause.",
    )


def _group(features: DeepFeatures, arms: tuple[str, ...], columns: list[Column]) -> Group:
    frame = features.summary
    own = frame[frame["arm"] == arms[0]]
    keys = zip(own["quantity"], own["before"], own["after"], own["layer"], strict=True)
    known = dict(zip(keys, own.to_dict("records"), strict=True))
    rows = [
        Row(layer, tuple(_cell(known.get((*column, layer))) for column in columns))
        for layer in features.layers
    ]
    return Group((", ".join(arms), _repetitions(own)), tuple(rows))


def _cell(found: Mapping[Any, Any] | None) -> str:
    if found is None or pd.isna(found["mean"]):
        return ABSENT
    deviation = "" if pd.isna(found["sd_repetitions"]) else f" ± {found['sd_repetitions']:.3f}"
    return f"{found['mean']:.3f}{deviation}"


def _repetitions(own: pd.DataFrame) -> str:
    counts = sorted(set(zip(own["num_repetitions"], own["num_planned"], strict=True)))
    return ", ".join(f"{done} of {planned}" for done, planned in counts) or "0"
