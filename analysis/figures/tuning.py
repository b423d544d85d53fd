"""A search as pictures: which parameter matters, and where the good samples lie."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from xferlab.analysis.figures.style import AFTER, GREY, PAGE_IN, Picture, drawing

MIN_SAMPLES = 8
MAX_LABEL = 18


@dataclass(frozen=True)
class _Axis:
    """A parameter of a search, or the score, as an axis from 0 to 1."""

    path: str
    kind: str
    values: Sequence[Any]

    @property
    def is_choice(self) -> bool:
        return self.kind in ("choice", "grid")

    def place(self, value: Any) -> int:
        """The index of a choice among the values."""
        return [_text(choice) for choice in self.values].index(_text(value))

    def height(self, value: Any) -> float:
        """Where a value lies."""
        if self.is_choice:
            return self.place(value) / max(1, len(self.values) - 1)
        low, high, inner = (float(number) for number in (*self.values, value))
        if self.kind == "loguniform":
            low, high, inner = np.log(low), np.log(high), np.log(inner)
        return float((inner - low) / (high - low))

    def tick(self, value: Any) -> str:
        """A value as its label."""
        text = f"{value:.3g}" if isinstance(value, float) else _text(value)
        return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def tuning_pictures(document: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[Picture]:
    """Yields the pictures of a search.

    Args:
        document: What the search is.
        frame: What `load_samples` returns.
    """
    scored = frame[frame["score"].notna()]
    if not len(scored):
        return
    yield parallel_picture(document, scored)
    shares = importance(document, scored)
    if shares:
        yield importance_picture(document, shares, num_samples=len(scored))


def importance(document: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, float]:
    """Returns the share of each parameter in the variance of the score, the largest first; sums to 1.

    fANOVA (Hutter, Hoos and Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance)
    by Optuna on a random forest with a fixed seed. Empty with fewer than 8 samples, with scores that are all
    equal, or where Optuna or scikit-learn is not installed.
    """
    try:
        import optuna
        import sklearn  # noqa: F401 - what Optuna needs for it
    except ImportError:
        return {}
    if len(frame) < MIN_SAMPLES or frame["score"].nunique() < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    axes = [axis for axis in _axes(document) if frame[axis.path].map(_text).nunique() > 1]
    distributions = {axis.path: _distribution(axis) for axis in axes}
    study = optuna.create_study()
    for row in frame.to_dict("records"):
        values = {
            axis.path: axis.place(row[axis.path]) if axis.is_choice else axis.height(row[axis.path])
            for axis in axes
        }
        trial = optuna.trial.create_trial(value=row["score"], params=values, distributions=distributions)
        study.add_trial(trial)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {path: float(share) for path, share in shares.items()}


def importance_picture(
    document: Mapping[str, Any], shares: Mapping[str, float], *, num_samples: int
) -> Picture:
    """Returns a bar for each parameter."""
    with drawing():
        figure = Figure(figsize=(PAGE_IN / 2, 0.7 + 0.24 * len(shares)), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(len(shares)), list(shares.values()), color=AFTER, height=0.62)
        axes.set_yticks(range(len(shares)), [_label(document, path) for path in shares])
        axes.invert_yaxis()
        axes.set_xlabel("Share of importance")
        axes.set_xlim(left=0)
    return Picture(
        name="importance",
        title=f"Importance of parameters, stage {document['stage']}",
        caption=(
            f"fANOVA over {num_samples} samples: share of the variance of the score, by a random forest.",
            *_early(document),
        ),
        figure=figure,
    )


def parallel_picture(document: Mapping[str, Any], frame: pd.DataFrame) -> Picture:
    """Returns parallel coordinates: an axis for each parameter and the score, a line for each sample."""
    low, high = float(frame["score"].min()), float(frame["score"].max())
    axes = [*_axes(document), _Axis("score", "uniform", (low, max(high, low + 1e-9)))]
    with drawing():
        figure = Figure(figsize=(PAGE_IN, 3.0), layout="constrained")
        _draw_samples(figure, axes, frame, higher=document["score"]["better"] == "higher")
        _draw_axes(figure, axes, [_label(document, axis.path) for axis in axes])
    return Picture(
        name="parallel",
        title=f"Samples in parallel coordinates, stage {document['stage']}",
        caption=(
            f"{len(frame)} samples; the darker, the better the score; dashed: stopped early.",
            *_early(document),
        ),
        figure=figure,
    )


def _draw_samples(figure: Figure, axes: Sequence[_Axis], frame: pd.DataFrame, *, higher: bool) -> None:
    plot = figure.subplots()
    colour, colours = Normalize(*axes[-1].values), colormaps["viridis_r" if higher else "viridis"]
    best_on_top = frame.sort_values("score", ascending=higher, kind="stable")
    for row in best_on_top.to_dict("records"):
        plot.plot(
            [axis.height(row[axis.path]) for axis in axes],
            color=colours(colour(row["score"])),
            linestyle="-" if row["outcome"] == "complete" else (0, (3, 2)),
            linewidth=0.9,
        )
    figure.colorbar(ScalarMappable(colour, colours), ax=plot, label="score", fraction=0.03)


def _draw_axes(figure: Figure, axes: Sequence[_Axis], labels: Sequence[str]) -> None:
    plot = figure.axes[0]
    for position, axis in enumerate(axes):
        plot.axvline(position, color=GREY, linewidth=0.6, zorder=0)
        for value in axis.values:
            plot.annotate(
                axis.tick(value),
                (position, axis.height(value)),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                bbox={"facecolor": "white", "alpha": 0.9, "edgecolor": "none", "pad": 0.6},
            )
    plot.set_xticks(range(len(axes)), labels, rotation=12)
    plot.set_yticks([])
    plot.set_xlim(-0.15, len(axes) - 0.75)
    plot.spines[["left", "bottom"]].set_visible(False)


def _axes(document: Mapping[str, Any]) -> list[_Axis]:
    return [_Axis(**parameter) for parameter in document["space"]]


def _label(document: Mapping[str, Any], path: str) -> str:
    return path.removeprefix(f"stages.{document['stage']}.").removeprefix("training.")


def _early(document: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        ("The score of a sample that was stopped early is that of fewer epochs.",) if document["asha"] else ()
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _distribution(axis: _Axis) -> Any:
    from optuna import distributions

    if axis.is_choice:
        return distributions.CategoricalDistribution(range(len(axis.values)))
    return distributions.FloatDistribution(0.0, 1.0)
