"""Differences in the main metric side by side: arms on a hold-out, and what foreign objects cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import (
    AFTER,
    LOOKS,
    PAGE_IN,
    Picture,
    deviation_handles,
    draw_deviations,
    draw_interval,
    drawing,
    legend,
    style_lines,
    value_label,
)
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.arms import AllArms, compared_arms
from xferlab.analysis.tables.differences import ObjectCosts, object_costs
from xferlab.analysis.tables.model import Record, file_name
from xferlab.analysis.tables.notes import INTERVAL, data_notes, inference_caption, inference_notes
from xferlab.analysis.tuning import tuned_notes

_THIN = "#333333"
_BARS = f"Bars: {INTERVAL}, dotted where there is no p"
_Line = tuple[str, Record | str, Record | None]
"""Names of arms, what they reach (or `0 of m` repetitions), and their difference to the baseline."""
Point = tuple[str, str, str]
"""Object, line and stage of a difference."""


def arms_pictures(contents: Contents, *, without: Collection[EvaluationSet] = ()) -> Iterator[Picture]:
    """Yields all arms on each hold-out but some, all pathologies together, where a difference is known."""
    shown = (arms for arms in compared_arms(contents) if arms.evaluated not in without)
    yield from filter(None, map(arms_picture, shown))


def arms_picture(arms: AllArms) -> Picture | None:
    """Returns all arms on one hold-out; None where no difference is known."""
    rows = arms.rows[(arms.rows["metric"] == arms.metrics[0].name) & (arms.rows["pathology"] == ALL)]
    differences = arms.differences[arms.differences["pathology"] == ALL]
    reached, apart = (frame.set_index("arm").to_dict("index") for frame in (rows, differences))
    if not apart:
        return None
    lines: list[_Line] = [
        (arms.name(group), reached.get(group[0], arms.repetitions(group)), apart.get(group[0]))
        for group in arms.groups
    ]
    return _arms_picture(arms, lines, [row for _, _, row in lines if row])


def _arms_picture(arms: AllArms, lines: Sequence[_Line], differences: Sequence[Record]) -> Picture:
    results, evaluated, metric = arms.results, arms.evaluated, arms.metrics[0]
    names = (metric.label, f"{metric.label}, difference to {results.baseline}")
    by = () if arms.is_of_main else (file_name(metric.name),)
    return Picture(
        name="_by_".join([f"arms_{evaluated.stage}_on_{file_name(evaluated.stem)}", *by]),
        title=f"arms at a glance, stage {evaluated.stage} on {evaluated.name}",
        caption=(
            f"Left: {metric.label}, mean over repetitions; thick bars with ends: ± sample SD over "
            f"repetitions{'' if metric.computed_by else '; thin bars: ± SD over images'}.",
            *(["0 of m: no repetition is complete."] if arms.unmeasured else []),
            f"Right: difference to {results.baseline}, paired by repetition "
            f"({_range(differences, 'num_repetitions')}) and image "
            f"({_range(differences, 'num_images')} of {_range(differences, 'num_patients')} patients).",
            f"{_BARS}; not adjusted for the number of arms.",
            *inference_caption(arms.contrasts),
            *inference_notes(pd.DataFrame(differences)),
            *tuned_notes(results, evaluated.stage, results.arms),
            *data_notes(results, [evaluated.stage], [evaluated.section]),
        ),
        figure=draw_arms(lines, [value_label(name, metric.unit) for name in names]),
        subject={"kind": "_by_".join(["arms", *by]), **vars(evaluated)},
    )


def _range(rows: Sequence[Record], name: str) -> str:
    values = [int(row[name]) for row in rows]
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


@drawing()
def draw_arms(lines: Sequence[_Line], labels: Sequence[str]) -> Figure:
    """Returns what arms reach, and beside it their differences to the first; labels of the two axes."""
    figure = Figure(figsize=(PAGE_IN, 1.0 + 0.24 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    right.axvline(0, color="#333333", linewidth=0.7)
    measured: dict[float, Record] = {
        y: reached for y, (_, reached, _) in enumerate(lines) if not isinstance(reached, str)
    }
    differences = {y: row for y, (_, _, row) in enumerate(lines) if row}
    draw_deviations(left, measured, AFTER, thin=_THIN)
    for y, (_, reached, _) in enumerate(lines):
        if isinstance(reached, str):
            left.text(0.5, y, reached, transform=left.get_yaxis_transform(), ha="center", va="center")
        elif y == 0:  # the baseline
            left.axvline(reached["mean"], color="#333333", linewidth=0.5, linestyle=":")
    for y, row in differences.items():
        draw_interval(right, row, y, AFTER)
    for axes, name, rows in ((left, "mean", measured), (right, "difference", differences)):
        axes.plot([row[name] for row in rows.values()], [*rows], "o", color="black", markersize=3.2)
    for axes, label in zip((left, right), labels, strict=True):
        style_lines(axes, [name for name, _, _ in lines])
        axes.set(xmargin=0.06, xlabel=label)
    over_repetitions, over_images = deviation_handles(AFTER, thin=_THIN)
    has_images = any(row["sd_images"] == row["sd_images"] for row in measured.values())
    bars = [over_repetitions, *([over_images] if has_images else [])]
    bars.append((Line2D([], [], color=AFTER), f"{INTERVAL}, not adjusted"))
    legend(figure, {"Mean": ("black", "o")}, more=bars)
    return figure


def object_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the cost of each object: to the baseline by pathology, and to all arms if there are several."""
    arms, baseline = contents.results.arms, contents.results.baseline
    for costs in object_costs(contents):
        by_pathology, by_arm = dict[Point, Record](), dict[Point, Record]()
        for comparison, names, row in costs.records():
            kind, stage, pathology = comparison.evaluated.object, comparison.second.stage, row["pathology"]
            by_pathology |= {(kind, pathology, stage): row} if baseline in names else {}
            by_arm |= {(kind, arm, stage): row for arm in names if pathology == ALL}
        known = {line for _, line, _ in by_arm}
        if by_pathology:
            lines = ordered_pathologies(line for _, line, _ in by_pathology)
            title = f"what foreign objects cost arm {baseline}, by pathology"
            yield _objects_picture(costs, by_pathology, lines, ("objects", title))
        if len(known) > 1:
            lines = tuple(arm for arm in arms if arm in known)
            words = ("objects_by_arm", "what foreign objects cost, all arms")
            yield _objects_picture(costs, by_arm, lines, words)


def _objects_picture(
    costs: ObjectCosts, points: Mapping[Point, Record], lines: Sequence[str], words: tuple[str, str]
) -> Picture:
    results, metric, (name, title) = costs.contents.results, costs.metric, words
    stages = [stage for stage in results.stages if any(stage == key[2] for key in points)]
    label = value_label(f"{metric.label}, difference to the same images without", metric.unit)
    return Picture(
        name=f"{name}_on_{file_name(f'{costs.section}_{costs.part}')}",
        title=f"{title}, on {costs.section}.{costs.part}",
        caption=(
            f"Difference in {metric.label}: with one object of a kind on every image minus without, on the "
            f"same images; {'left' if metric.better == 'higher' else 'right'} of 0 the object does harm.",
            f"{_BARS}. Arms that share the trials of a stage show the same points in it.",
            *inference_caption(costs.contrasts),
            *inference_notes(pd.DataFrame(list(points.values()))),
            *data_notes(results, stages, [costs.section]),
        ),
        figure=_draw_objects(points, lines, stages, label),
        subject={"kind": name, "section": costs.section, "part": costs.part},
    )


@drawing()
def _draw_objects(
    points: Mapping[Point, Record], lines: Sequence[str], stages: Sequence[str], label: str
) -> Figure:
    objects = list(dict.fromkeys(kind for kind, _, _ in points))
    figure = Figure(figsize=(PAGE_IN, 0.9 + 0.2 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(objects), sharex=True, sharey=True, squeeze=False)[0]
    shifts = {stage: (order - (len(stages) - 1) / 2) * 0.3 for order, stage in enumerate(stages)}
    looks = {stage: LOOKS[order % len(LOOKS)] for order, stage in enumerate(stages)}
    for axes, kind in zip(panels, objects, strict=True):
        axes.axvline(0, color="#333333", linewidth=0.7)
        axes.set_title(kind, loc="left")
        style_lines(axes, lines, num_ticks=max(2, 8 // len(objects)))
    for (kind, line, stage), row in points.items():
        axes, y, (colour, marker) = panels[objects.index(kind)], lines.index(line), looks[stage]
        draw_interval(axes, row, y + shifts[stage], colour, linewidth=0.9)
        axes.plot([row["difference"]], [y + shifts[stage]], color=colour, marker=marker, markersize=3)
    figure.supxlabel(label, fontsize=7.5)
    bars = [(Line2D([], [], color="black", linewidth=0.9), INTERVAL)]
    legend(figure, {f"stage {stage}": look for stage, look in looks.items()}, more=bars)
    return figure
