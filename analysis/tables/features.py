"""The table of deep features: how alike stages are, and how far they moved, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xferlab.analysis.contents import Contents
from xferlab.analysis.features import CKA, DISTANCE, MOVED, SHARE_MOVED, DeepFeatures
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table
from xferlab.analysis.tables.notes import data_notes

_NAMES = {CKA: "CKA", DISTANCE: "Distance", SHARE_MOVED: "Moved"}


def features_tables(contents: Contents) -> Iterator[Table]:
    """Yields the comparison of stages layer by layer, where the study asks for it and something is known."""
    results, features = contents.results, contents.deep
    if not features:
        return
    columns = {
        f"{name} {before}–{after}": (quantity, before, after)
        for quantity, name in _NAMES.items()
        for before, after in features.pairs(quantity)
    }
    layout = Layout(
        (("Arm", "arm"), ("Repetitions", "repetitions")),
        ("Layer", "layer"),
        [(name, name) for name in columns],
    )
    yield layout.fill(
        Table(
            name="features",
            title="deep features of stages compared, layer by layer",
            caption=(
                "Mean ± sample SD over repetitions (n given per arm; no SD for one repetition).",
                *reading(features),
            ),
            notes=data_notes(
                results, {after for _, _, after in columns.values()}, [features.section], of_metrics=False
            ),
            data=features.summary,
            subject={"kind": "features"},
        ),
        _records(features, columns),
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


def _records(features: DeepFeatures, columns: dict[str, tuple[str, str, str]]) -> Iterator[Record]:
    for arms in features.groups:
        summary = features.summary[features.summary["arm"] == arms[0]]
        counts = sorted(set(zip(summary["num_repetitions"], summary["num_planned"], strict=True)))
        repetitions = ", ".join(f"{done} of {planned}" for done, planned in counts)
        known = summary.set_index(["quantity", "before", "after", "layer"]).to_dict("index")
        for layer in features.layers:
            cells = {name: _cell(known.get((*key, layer), {})) for name, key in columns.items()}
            yield {"arm": ", ".join(arms), "repetitions": repetitions, "layer": layer, **cells}


def _cell(row: Record) -> str:
    if not row or math.isnan(row["mean"]):
        return ABSENT
    deviation = "" if math.isnan(row["sd_repetitions"]) else f" ± {row['sd_repetitions']:.3f}"
    return f"{row['mean']:.3f}{deviation}"
