"""What a study is to show, contrast by contrast, and what each arm reaches by pathology."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from xferlab.analysis.aggregation import deviations_withheld
from xferlab.analysis.claims import Verdicts
from xferlab.analysis.comparison import MIN_PAIRED, images_of, same_images
from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, heading_of, measured, number, p_value
from xferlab.analysis.tables.notes import data_notes, inference_caption, mean_and_deviation
from xferlab.analysis.tables.overview import spread
from xferlab.errors import listed
from xferlab.metrics.claims import Claims, Place

Reached = Mapping[Place, pd.DataFrame]
"""The aggregated rows of the claimed metric by arm and stage, each by pathology."""
_REPETITIONS, _TRAINED = "Repetitions", "Training patients"
_NAMED = 3
_STRICT = "Strict: training samples are taken to overlap as much as without any noise of seeds."
_COLUMNS = (
    ("Difference", "difference"),
    ("Interval", "interval"),
    ("p", "p"),
    ("Verdict", "verdict"),
    ("Repetitions, images", "counts"),
)


def claims_table(contents: Contents, verdicts: Verdicts) -> Table:
    """Returns a line for each contrast."""
    unit, declared = verdicts.metric.unit, verdicts.claims.declared
    records = [
        {
            "contrast": verdict.title,
            "difference": number(verdict.difference, unit, signed=True),
            "interval": verdict.interval(unit),
            "p": p_value(verdict.p),
            "verdict": f"{verdict.kind}{f' ({verdict.reason})' if verdict.reason else ''}",
            "counts": verdict.counts(),
        }
        for verdict in verdicts.verdicts
    ]
    of_declared = "one declared contrast" if len(records) == 1 else f"{len(records)} declared contrasts"
    adjusted = (
        f"p is adjusted by Holm's method over the {of_declared}, and each interval has "
        "the level at which it holds 0 exactly where that p is 0.05 or more."
        if declared
        else "Nothing was declared: neither p nor intervals are adjusted for how many there are."
    )
    contrasts = [verdict.contrast for verdict in verdicts.verdicts if verdict.row]
    comparisons = [verdict.contrast.comparison for verdict in verdicts.verdicts]
    stages = dict.fromkeys(side.stage for each in comparisons for side in (each.first, each.second))
    return Layout((), ("Contrast", "contrast"), _COLUMNS).fill(
        Table(
            name="claims",
            title=f"{heading_of(verdicts.metric)} on {verdicts.claims.on}",
            caption=(
                adjusted,
                *([_STRICT] if verdicts.claims.strict else []),
                *(inference_caption(contrasts, declared=declared) if contrasts else ()),
            ),
            notes=data_notes(contents.results, stages, [comparisons[0].evaluated.section]),
            data=pd.DataFrame(
                [
                    {
                        "contrast": verdict.title,
                        "difference": verdict.difference,
                        **{name: getattr(verdict, name) for name in ("low", "high", "confidence", "p")},
                        "verdict": verdict.kind,
                        "reason": verdict.reason,
                        "cut_off": verdict.num_cut_off,
                        "diverged": verdict.num_diverged,
                        "trainings": verdict.num_trained,
                        **{name: verdict.row.get(name) for name in ("num_images", "num_patients")},
                        "num_repetitions": verdict.row.get("num_repetitions", 0),
                        "num_planned": verdict.contrast.comparison.design.planned,
                    }
                    for verdict in verdicts.verdicts
                ]
            ),
            subject={"kind": "claims"},
        ),
        records,
    )


def reached_table(contents: Contents, verdicts: Verdicts, reached: Reached) -> Table | None:
    """Returns what each arm reaches, a column for each pathology; None of nothing."""
    claims, unit = verdicts.claims, verdicts.metric.unit
    if not reached:
        return None
    # A metric of several classes is undefined within one pathology.
    defined = (frame.index[frame["mean"].notna()] for frame in reached.values())
    pathologies = ordered_pathologies(name for names in defined for name in names)

    def records() -> Iterator[Record]:
        trained = contents.results.training_counts.to_dict("index")
        for place, frame in reached.items():
            cells = {name: _cell(frame, name, unit) for name in pathologies}
            counts, evaluated = trained[place.stage, place.arm], EvaluationSet.of(place.stage, claims.on)
            planned = len(contents.results.evaluation_ids(place.arm, evaluated))
            yield {
                "arm": claims.words(place),
                **cells,
                _REPETITIONS: f"{int(frame['num_repetitions'].max())} of {planned}",
                _TRAINED: spread(counts, "patients"),
            }

    columns = [(name, name) for name in (*pathologies, _REPETITIONS, _TRAINED)]
    return Layout((), ("Arm", "arm"), columns).fill(
        Table(
            name="reached",
            title=f"what each arm reaches in {heading_of(verdicts.metric)} on {claims.on}",
            caption=("Mean over repetitions ± sample SD over repetitions (images).",),
            notes=(),
            data=deviations_withheld(pd.concat(reached.values(), ignore_index=True)),
            subject={"kind": "reached"},
        ),
        records(),
    )


def best_sentence(contents: Contents, verdicts: Verdicts, reached: Reached) -> Iterator[str]:
    """Yields which arm has the best mean, the next, and the baseline, if one side of the metric is better.

    Arms are ranked that have nearly all repetitions, on the same images as the first of them.
    """
    claims, better = verdicts.claims, verdicts.metric.better
    means = {place: float(frame["mean"].get(ALL, math.nan)) for place, frame in reached.items()}
    means = {place: mean for place, mean in means.items() if not math.isnan(mean)}
    alike = _alike(contents, claims, {place: reached[place] for place in means})
    if better is None or len(alike) < 2:
        return
    texts = {place: measured(mean, verdicts.metric.unit) for place, mean in means.items()}
    first, second, *others = sorted(alike, key=means.__getitem__, reverse=better == "higher")
    sentence = (
        f"Best mean: {claims.words(first)} {texts[first]}, before {claims.words(second)} {texts[second]}"
    )
    for place in (place for place in others if place.arm == contents.results.baseline):
        sentence += f"; the baseline has {texts[place]}" + (
            f" ({place.stage})" if claims.words(place) != place.arm else ""
        )
    if apart := [claims.words(place) for place in means if place not in alike]:
        few = f"fewer than {100 * MIN_PAIRED:g} % of the repetitions"
        sentence += f". Not ranked, since on other images or with {few}: {listed(apart, _NAMED)}"
    yield f"{sentence}. Means alone say nothing of chance."


def _alike(contents: Contents, claims: Claims, frames: Mapping[Place, pd.DataFrame]) -> list[Place]:
    """Returns the places with enough repetitions whose images are those of the first, in each of them."""
    frames = {place: frame for place, frame in frames.items() if _is_enough(frame)}
    seen = {place: _images(contents, place.arm, EvaluationSet.of(place.stage, claims.on)) for place in frames}
    return [place for place, images in seen.items() if _has_same(next(iter(seen.values())), images)]


def _has_same(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Returns whether two arms have the same images in each repetition that both have."""
    first, second = (
        one[one["repetition"].isin(other["repetition"])] for one, other in ((first, second), (second, first))
    )
    return len(same_images(first, second)) == len(first) == len(second)


def _is_enough(frame: pd.DataFrame) -> bool:
    done, planned = (float(frame[name].to_dict()[ALL]) for name in ("num_repetitions", "num_planned"))
    return done >= MIN_PAIRED * planned


def _images(contents: Contents, arm: str, evaluated: EvaluationSet) -> pd.DataFrame:
    """Returns the images that each repetition of an arm is measured on."""
    rows = evaluated.rows(contents.cases)
    return images_of(rows[rows["arm"] == arm])


def reached_by(contents: Contents, claims: Claims) -> Reached:
    """Returns the rows of each side of the contrasts and of all other arms there, in the order of arms.

    Of arms that share all trials, the first stands for those that are in no contrast.
    """
    results, judged = contents.results, claims.contrasts[0][0].stage
    frames = (contents.aggregated, contents.of_targets)
    rows = pd.concat([frame[frame["metric"] == claims.metric] for frame in frames])
    compared = {place for pair in claims.contrasts for place in pair}
    firsts = {arms[0] for arms in results.arms_by_evaluations(EvaluationSet.of(judged, claims.on))}
    reached = {
        place: EvaluationSet.of(stage, claims.on).rows(rows[rows["arm"] == arm])
        for arm in results.arms
        for stage in results.stages
        if (place := Place(arm, stage)) in compared or (stage == judged and arm in firsts)
    }
    return {place: frame.set_index("pathology", drop=False) for place, frame in reached.items() if len(frame)}


def _cell(frame: pd.DataFrame, pathology: str, unit: str) -> str:
    if pathology not in frame.index:
        return ABSENT
    (_, row), *_ = frame.loc[[pathology]].iterrows()
    return f"{mean_and_deviation(row, unit, 'sd_repetitions')} ({int(row['num_images'])})"
