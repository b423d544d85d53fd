"""Figures of a report that only this task has: stored masks of a stage, or of two on the same images.

They show representative cases, those with the worst artefacts, and the reliability of probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.before_after import detailed_pairs
from xferlab.analysis.figures.images import MAX_CASES, Line, Pixels, lines_of_images
from xferlab.analysis.figures.style import BEFORE, Picture, drawing
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import detailed_arms, ordered_pathologies
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, licence_note, marks_notes
from xferlab.tasks.pictures import COLOURS
from xferlab.tasks.segmentation.figures_reliability import reliability_of_pixels

_AFTER = "#56B4E9"  # the palette's light blue: it stands out on dark areas
_NAME = "segmentation"
_ARTEFACTS = {"BRIDGES": "bridge", "ISLANDS": "island"}


@dataclass(frozen=True, eq=False)
class _Column:
    """One case: its title, a text below each stage's output, and the stored pixels of each stage."""

    title: str
    below: Sequence[str]
    sides: Sequence[Any]


def pictures(contents: Contents) -> Iterator[Picture]:
    """Yields typical outputs of detailed arms, from stored pixels: of each pair of stages, also artefacts.

    A stage that is in no pair is shown alone, on its hold-out or, without one, on its test part. There, each
    stage also has its reliability.
    """
    tasks, paired = contents.results.plan["tasks"], set[tuple[str, str]]()
    for arm, pair in detailed_pairs(contents):
        paired |= {(arm, stage) for stage in (pair.before, pair.after)}
        if tasks[pair.after] == _NAME:
            outputs = _Outputs(contents.results, pair.sets, arm)
            yield from filter(None, (build(outputs) for build in (_overlays, _artefacts)))
    for arm, evaluated in _alone(contents):
        if tasks[evaluated.stage] == _NAME and (arm, evaluated.stage) not in paired:
            yield from filter(None, [_overlays(_Outputs(contents.results, (evaluated,), arm))])
    for evaluated in _chosen_sets(contents):
        if tasks[evaluated.stage] == _NAME:
            yield from filter(None, [reliability_of_pixels(contents, evaluated)])


def _chosen_sets(contents: Contents) -> Iterator[EvaluationSet]:
    """Yields what each stage is shown on: its hold-out or, without one, its test part."""
    for stage in contents.results.stages:
        measured = [evaluated for evaluated in contents.plain_sets if evaluated.stage == stage]
        yield from sorted(measured, key=lambda evaluated: not evaluated.is_hold_out)[:1]


def _alone(contents: Contents) -> Iterator[tuple[str, EvaluationSet]]:
    """Each stage of detailed arms with what it is shown on; arms that share it come once."""
    results = contents.results
    for evaluated in _chosen_sets(contents):
        first = {arms[0] for arms in results.arms_by_evaluations(evaluated)}
        yield from ((arm, evaluated) for arm in detailed_arms(results) if arm in first)


class _Outputs:
    """What one or two stages of an arm output on one set of cases, the earlier one first."""

    def __init__(self, results: StudyResults, sets: tuple[EvaluationSet, ...], arm: str):
        self.results, self.sets, self.arm = results, sets, arm
        self.stages = tuple(evaluated.stage for evaluated in sets)
        self.structures = results.several(arm, self.stages[-1])
        """Names, where there are several."""
        trials = results.trials
        done = trials[(trials["arm"] == arm) & (trials["state"] == "complete")]
        self._trial_ids = done.set_index(["stage", "repetition"])["trial_id"]
        cases = results.cases[results.cases["arm"] == arm]
        measured = [set(evaluated.rows(cases)["repetition"]) for evaluated in sets]
        self.repetitions = sorted(set.intersection(*measured))
        """The repetitions in which all stages are measured on the cases; with sites left out, not all are."""
        self._pixels: dict[int, list[pd.DataFrame]] = {}

    def values(self, evaluated: EvaluationSet, metrics: Sequence[str]) -> pd.DataFrame:
        """Returns a row for each repetition and case of one stage, with its pathology and some metrics."""
        cases = evaluated.rows(self.results.cases)
        cases = cases[(cases["arm"] == self.arm) & cases["metric"].isin(metrics)]
        keys = ["repetition", "case", "pathology"]
        frame = cases[[*keys, "metric", "value"]].astype(dict.fromkeys((*keys, "metric"), object))
        wide = frame.pivot(index=keys, columns="metric", values="value").reindex(columns=list(metrics))
        return wide.reset_index("pathology")

    def artefacts(self, evaluated: EvaluationSet) -> pd.DataFrame:
        """Returns what `values` does of the counts of artefacts, each the sum over all structures."""
        marked = self.results.marks(evaluated.stage, evaluated.section) or self.structures
        parts = {kind: [f"{kind}_{name}" for name in marked] or [kind] for kind in _ARTEFACTS}
        frame = self.values(evaluated, [name for names in parts.values() for name in names])
        sums = {kind: frame[names].sum(axis=1, min_count=1) for kind, names in parts.items()}
        return frame.assign(**sums)

    def masks(self, pixels: pd.Series) -> list[Pixels]:
        """Returns where each structure is predicted, of stored pixels."""
        names = [f"mask_{name}" for name in self.structures] or ["probability"]
        return [pixels[name] > 127 for name in names]

    def pixels(self, repetition: int) -> list[pd.DataFrame]:
        """Returns the stored pixels of each stage, a row for each case that all stored; read once."""
        if repetition not in self._pixels:
            self._pixels[repetition] = self._read(repetition)
        return self._pixels[repetition]

    def _read(self, repetition: int) -> list[pd.DataFrame]:
        stored = [
            self.results.outputs(
                str(self._trial_ids[evaluated.stage, repetition]), arm=self.arm, evaluated=evaluated
            )
            for evaluated in self.sets
        ]
        if not all(map(len, stored)):
            return [pd.DataFrame() for _ in stored]
        by_case = [frame.set_index("case") for frame in stored]
        common = reduce(pd.Index.intersection, (frame.index for frame in by_case))
        return [frame.loc[common] for frame in by_case]


def _overlays(outputs: _Outputs) -> Picture | None:
    """Returns the outputs for typical cases; None where no pixels are stored.

    Of the stored cases of the first repetition in which all stages are measured: for each pathology the one
    with the median Dice of the last stage, and in a free column the lowest of the others.
    """
    if not outputs.repetitions:
        return None
    repetition, dice = outputs.repetitions[0], "mean Dice" if outputs.structures else "Dice"
    sides = outputs.pixels(repetition)
    scores = [outputs.values(evaluated, ["DICE"]).loc[repetition] for evaluated in outputs.sets]
    columns = [
        _Column(
            str(sides[-1]["pathology"][case]),
            [f"{dice} {score['DICE'][case]:.3f}" for score in scores],
            [side.loc[case] for side in sides],
        )
        for case in _typical(scores[-1].loc[sides[-1].index.intersection(scores[0].index)])
    ]
    note = (
        f"Repetition {repetition}; of each pathology's stored cases the one with the median Dice of stage "
        f"{outputs.stages[-1]}, and last the one with the lowest Dice of the others."
    )
    title = "outputs of both stages" if len(sides) > 1 else "outputs"
    return _picture(outputs, columns, ("overlays", title, note)) if columns else None


def _typical(scores: pd.DataFrame) -> list[str]:
    chosen: list[str] = []
    scores = scores.sort_values("DICE", kind="stable")
    for pathology in ordered_pathologies(scores["pathology"])[:MAX_CASES]:
        ranked = scores[scores["pathology"] == pathology]
        chosen.append(str(ranked.index[(len(ranked) - 1) // 2]))
    rest = scores.drop(index=chosen)
    return chosen + list(rest.index[: 1 if len(chosen) < MAX_CASES else 0])


def _artefacts(outputs: _Outputs) -> Picture | None:
    """Returns both outputs for the stored cases with most bridges and islands before; None without any."""
    if not outputs.repetitions:
        return None
    stored = outputs.pixels(outputs.repetitions[0])[0].index
    before, after = (outputs.artefacts(evaluated) for evaluated in outputs.sets)
    before["count"] = before[list(_ARTEFACTS)].fillna(0).sum(axis=1)
    worst = before[(before["count"] > 0) & before.index.isin(stored, level="case")].reset_index()
    worst = worst[worst["repetition"].isin(outputs.repetitions)]
    worst = worst.sort_values(["count", "repetition", "case"], ascending=[False, True, True])
    columns = []
    for row in worst.drop_duplicates("case").head(MAX_CASES).to_dict("records"):
        sides = outputs.pixels(row["repetition"])
        if row["case"] in sides[0].index:
            title = f"{row['pathology']}, repetition {row['repetition']}"
            below = [_counts(row), _counts(after.loc[row["repetition"], row["case"]])]
            columns.append(_Column(title, below, [side.loc[row["case"]] for side in sides]))
    note = (
        f"The stored cases with most bridges and islands in the output of stage {outputs.stages[0]}: "
        "chosen for their artefacts, not typical."
    )
    words = ("artefacts", "artefacts and what became of them", note)
    return _picture(outputs, columns, words) if columns else None


def _counts(row: Any) -> str:
    counts = [(row[name], text) for name, text in _ARTEFACTS.items() if not pd.isna(row[name])]
    return ", ".join(f"{int(count)} {text}{'' if count == 1 else 's'}" for count, text in counts)


def _picture(outputs: _Outputs, columns: Sequence[_Column], words: tuple[str, str, str]) -> Picture:
    (kind, title, note), evaluated, results = words, outputs.sets[-1], outputs.results
    stages = {"before": outputs.stages[0], "after": outputs.stages[-1]}
    subject = stages if len(outputs.sets) > 1 else {"stage": evaluated.stage}
    on = "" if len(outputs.sets) > 1 else f"_on_{file_name(evaluated.stem)}"
    return Picture(
        name=f"{kind}_{'_to_'.join(outputs.stages)}{on}_{outputs.arm}",
        title=f"{title}, {' and '.join(outputs.stages)} on {evaluated.name}, arm {outputs.arm}",
        caption=(
            "Top: the image as the network saw it.",
            _below(outputs.structures),
            note,
            *licence_note(results, evaluated.section, [outputs.arm]),
            *data_notes(results, (), [evaluated.section]),
            *marks_notes(results, outputs.stages[-1:], [evaluated.section]),
        ),
        figure=_draw(outputs, columns),
        subject={"kind": kind, **subject, "section": evaluated.section, "part": evaluated.part},
    )


def _below(structures: Sequence[str]) -> str:
    if not structures:
        return (
            "Below: each stage's output at threshold 0.5, filled, with the target's outline (dotted white: "
            "ignored areas)."
        )
    return (
        f"Below: each stage's output, filled in a colour for each of {', '.join(structures)}, with the "
        "outlines of the targets (dotted white: ignored areas)."
    )


@drawing()
def _draw(outputs: _Outputs, columns: Sequence[_Column]) -> Figure:
    """Draws the images, and below them a line of outputs for each stage."""
    stages = outputs.stages
    of_structures = [to_hex([part / 255 for part in line]) for _, line in COLOURS]
    named = dict(zip(outputs.structures or stages, cycle(of_structures), strict=False))
    named = named if outputs.structures else dict(zip(reversed(stages), (_AFTER, BEFORE), strict=False))
    lines = [Line("Image", [column.sides[-1]["image"] for column in columns])]
    for index, stage in enumerate(stages):
        sides = [column.sides[index] for column in columns]
        lines.append(
            Line(
                name=stage,
                images=[pixels["image"] for pixels in sides],
                below=[column.below[index] for column in columns],
                masks=[outputs.masks(pixels) for pixels in sides],
                colours=list(named.values()) if outputs.structures else [named[stage]],
                targets=[
                    [pixels[name] for name in pixels.index if str(name).startswith("target")]
                    for pixels in sides
                ],
            )
        )
    return lines_of_images(lines, [column.title for column in columns], named=named)
