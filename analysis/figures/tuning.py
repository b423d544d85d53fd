"""A search as pictures: which parameter matters, and where the good samples lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from xferlab.analysis.figures.style import AFTER, GREY, PAGE_IN, Picture, drawing

MIN_SAMPLES = 8
MAX_LABEL = 14
_COLOURS = colormaps["viridis"]


def tuning_pictures(document: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[Picture]:
    """Yields the pictures of a search.

    Args:
        document: What the search is.
        frame: What `load_samples` returns.
    """
    known = frame[frame["loss"].notna()]
    if not len(known):
        return
    yield parallel_picture(document, known)
    found = importance(document, known)
    if found:
        yield importance_picture(document, found, num_samples=len(known))


def importance(document: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, float]:
    """Returns the share of each parameter in the variance of the loss, the largest first; sums to 1.

    fANOVA (Hutter, Hoos and Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance)
    by Optuna on a random forest with a fixed seed. Empty with fewer than 8 samples, with losses that are all
    equal, or where Optuna or scikit-learn is not installed.
    """
    try:
        import optuna
        import sklearn  # noqa: F401 - what Optuna needs for it
    except ImportError:
        return {}
    if len(frame) < MIN_SAMPLES or frame["loss"].nunique() < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    varied = [one for one in document["space"] if len({_text(value) for value in frame[one["path"]]}) > 1]
    distributions = {one["path"]: _distribution(one) for one in varied}
    study = optuna.create_study(direction="minimize")
    for row in frame.to_dict("records"):
        values = {one["path"]: _number(one, row[one["path"]]) for one in varied}
        study.add_trial(
            optuna.trial.create_trial(value=row["loss"], params=values, distributions=distributions)
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: float(share) for path, share in found.items()}


def importance_picture(
    document: Mapping[str, Any], found: Mapping[str, float], *, num_samples: int
) -> Picture:
    """Returns a bar for each parameter."""
    with drawing():
        figure = Figure(figsize=(PAGE_IN / 2, 0.7 + 0.24 * len(found)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(found)), list(found.values()), color=AFTER, height=0.62)
        axes.set_yticks(range(len(found)), [_label(document, path) for path in found])
        axes.invert_yaxis()
        axes.set_xlabel("share of importance (dimensionless)")
        axes.set_xlim(left=0)
    return Picture(
        name="importance",
        title=f"Importance of parameters, stage {document['stage']}",
        caption=(
            f"fANOVA over {num_samples} samples: share of the variance of the loss, by a random forest.",
            *_early(document),
        ),
        figure=figure,
    )


def parallel_picture(document: Mapping[str, Any], frame: pd.DataFrame) -> Picture:
    """Returns parallel coordinates: an axis for each parameter and the loss, a line for each sample."""
    axes_of = [*document["space"], {"path": "loss", "kind": "uniform", "values": _range(frame["loss"])}]
    with drawing():
        figure = _draw_parallel(document, frame, axes_of)
    return Picture(
        name="parallel",
        title=f"Samples in parallel coordinates, stage {document['stage']}",
        caption=(
            f"{len(frame)} samples; the darker, the lower the loss; dashed: stopped early.",
            *_early(document),
        ),
        figure=figure,
    )


def _draw_parallel(document: Mapping[str, Any], frame: pd.DataFrame, axes_of: list[Any]) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 3.0), layout="constrained")
    axes = figure.subplots()
    losses = _range(frame["loss"])
    colour = Normalize(float(losses[0]), float(losses[1]))
    heights = np.array(
        [[_height(one, row[one["path"]]) for one in axes_of] for row in frame.to_dict("records")]
    )
    order = np.argsort(-frame["loss"].to_numpy(), kind="stable")
    for place in order.tolist():  # the best on top
        row = frame.iloc[place]
        style = "-" if row["outcome"] == "complete" else (0, (3, 2))
        axes.plot(heights[place], color=_COLOURS(colour(row["loss"])), linestyle=style, linewidth=0.9)
    for place, one in enumerate(axes_of):
        axes.axvline(place, color=GREY, linewidth=0.6, zorder=0)
        for height, text in _ticks(one):
            axes.annotate(
                text,
                (place, height),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )
    axes.set_xticks(range(len(axes_of)), [_label(document, one["path"]) for one in axes_of], rotation=12)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(axes_of) - 0.75)
    axes.spines[["left", "bottom"]].set_visible(False)
    figure.colorbar(ScalarMappable(colour, _COLOURS), ax=axes, label="loss", fraction=0.03)
    return figure


def _label(document: Mapping[str, Any], path: str) -> str:
    return path.removeprefix(f"stages.{document['stage']}.").removeprefix("training.")


def _early(document: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        ("The loss of a sample that was stopped early is that of fewer epochs.",) if document["asha"] else ()
    )


def _range(losses: Any) -> list[float]:
    low, high = float(losses.min()), float(losses.max())
    return [low, high if high > low else low + 1e-9]


def _height(one: Mapping[str, Any], value: Any) -> float:
    """Returns where a value lies on its axis, from 0 to 1."""
    values = one["values"]
    if one["kind"] in ("choice", "grid"):
        return _place(one, value) / max(1, len(values) - 1)
    low, high, own = float(values[0]), float(values[1]), float(value)
    if one["kind"] == "loguniform":
        low, high, own = np.log(low), np.log(high), np.log(own)
    return float((own - low) / (high - low))


def _ticks(one: Mapping[str, Any]) -> list[tuple[float, str]]:
    return [
        (_height(one, value), f"{value:.3g}" if isinstance(value, float) else _shortened(_text(value)))
        for value in one["values"]
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _place(one: Mapping[str, Any], value: Any) -> int:
    return [_text(other) for other in one["values"]].index(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _number(one: Mapping[str, Any], value: Any) -> Any:
    if one["kind"] in ("choice", "grid"):
        return _place(one, value)
    return int(value) if one["kind"] == "int" else float(value)


def _distribution(one: Mapping[str, Any]) -> Any:
    from optuna import distributions

    low, high = one["values"][0], one["values"][-1]
    if one["kind"] == "int":
        return distributions.IntDistribution(low, high)
    if one["kind"] in ("choice", "grid"):
        return distributions.CategoricalDistribution(range(len(one["values"])))
    return distributions.FloatDistribution(float(low), float(high), log=one["kind"] == "loguniform")
