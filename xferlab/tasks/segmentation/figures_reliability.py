"""Reliability of the probabilities of pixels, as a figure: of the images whose outputs trials have stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.classes import draw_reliability
from xferlab.analysis.figures.style import Picture
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import detailed_arms
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.told import Told

_STRUCTURE, _IGNORED = 255, 127
_NAME = "structure"
_SENTENCES = (
    "Share of the structure among the pixels whose probability of it lies in a bin, at the mean of these "
    "probabilities; the bins are those of the calibration error (ECE). Points and bars: mean ± sample SD "
    "over the repetitions with pixels in the bin.",
    "Dotted: perfect calibration; below it, probabilities are too high. ECE: of these pixels together, mean "
    "over repetitions ± sample SD; in tables, it is the mean over all images of that of each image.",
)


def reliability_of_pixels(contents: Contents, evaluated: EvaluationSet) -> Picture | None:
    """Returns the curves of detailed arms on a set; None where no probabilities are stored.

    Those of several structures are not: there, trials store masks.
    """
    results, detailed = contents.results, set(detailed_arms(contents.results))
    groups = [arms for arms in results.arms_by_evaluations(evaluated) if detailed.intersection(arms)]
    stored = [(arms, _stored(contents, evaluated, arms[0])) for arms in groups]
    shown = [(_told(contents, evaluated, arms, frames), frames) for arms, frames in stored if frames]
    if not shown:
        return None
    few = any(told.num_patients < MIN_PATIENTS for told, _ in shown)
    return Picture(
        name=f"reliability_{evaluated.stage}_on_{file_name(evaluated.stem)}",
        title=f"reliability of probabilities of pixels, stage {evaluated.stage} on {evaluated.name}",
        caption=(
            *_SENTENCES,
            "Only images whose pixels are stored (overlay_cases).",
            f"{'; '.join(_counted(*each) for each in shown)}.",
            *([f"n < {MIN_PATIENTS} patients: no deviations are drawn."] if few else []),
            *data_notes(results, [evaluated.stage], [evaluated.section], of_metrics=False),
        ),
        figure=draw_reliability([told for told, _ in shown], of=_NAME),
        subject={"kind": "reliability", **vars(evaluated)},
    )


def _stored(contents: Contents, evaluated: EvaluationSet, arm: str) -> list[pd.DataFrame]:
    """Returns what each complete repetition has stored of the images of a set, if there are probabilities."""
    trials = contents.results.trials
    is_done = (trials["arm"] == arm) & (trials["stage"] == evaluated.stage) & (trials["state"] == "complete")
    frames = (
        contents.results.outputs(str(trial_id), arm=arm, evaluated=evaluated)
        for trial_id in trials.loc[is_done, "trial_id"]
    )
    return [frame for frame in frames if "probability" in frame]


def _told(
    contents: Contents, evaluated: EvaluationSet, arms: tuple[str, ...], frames: Sequence[pd.DataFrame]
) -> Told:
    """Returns pixels as the cases of one class, those of a repetition in a line; NaN fills lines up."""
    pairs = [_pixels(frame) for frame in frames]
    longest = max(len(truth) for truth, _ in pairs)
    filled = np.full((2, len(pairs), longest), np.nan)
    for number, (truth, probability) in enumerate(pairs):
        filled[:, number, : len(truth)] = truth, probability
    return Told(
        arms,
        (_NAME,),
        {f"IS_{_NAME}": filled[0], f"P_{_NAME}": filled[1]},
        num_planned=len(contents.results.evaluation_ids(arms[0], evaluated)),
        num_patients=pd.concat(frames)["patient"].nunique(),
    )


def _pixels(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns target (0 or 1) and probability of the pixels that are not ignored, of all images."""
    target, probability = (
        np.concatenate([np.ravel(plane) for plane in frame[name]]) for name in ("target", "probability")
    )
    counts = target != _IGNORED
    return (target[counts] == _STRUCTURE).astype(float), probability[counts] / 255.0


def _counted(told: Told, frames: Sequence[pd.DataFrame]) -> str:
    return (
        f"{', '.join(told.arms)}: {told.num_repetitions} of {told.num_planned} repetitions, "
        f"{pd.concat(frames)['case'].nunique()} images of {told.num_patients} patients"
    )
