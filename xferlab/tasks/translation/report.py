"""The figures of a report that only this task has: translated images, and what is segmented in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.images import MAX_CASES, Line, Pixels, lines_of_images
from xferlab.analysis.figures.style import Picture, drawing
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import detailed_arms, first_stored
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, diverged, licence_note
from xferlab.tasks.pictures import COLOURS
from xferlab.tasks.translation.config import SETS

_NAME = "translation"
_PARTS = ("hold_out", "test")


def pictures(contents: Contents) -> Iterator[Picture]:
    """Yields what detailed arms make of images of each section, from stored pixels.

    Images are those of its hold-out or, without one, of its test part. Arms that share a trial come once.
    """
    results = contents.results
    for evaluated in _sets(contents):
        first = {arms[0] for arms in results.arms_by_evaluations(evaluated)}
        for arm in (arm for arm in detailed_arms(results) if arm in first):
            if shown := _Shown.of(results, evaluated, arm):
                yield _picture(shown)


def _sets(contents: Contents) -> Iterator[EvaluationSet]:
    """Yields one set of each stage and section: of several the one that comes first in `_PARTS`."""
    of_task = contents.results.plan["tasks"]
    sets = {
        (evaluated.stage, evaluated.section): evaluated
        for part in reversed(_PARTS)
        for evaluated in contents.plain_sets
        if of_task[evaluated.stage] == _NAME and evaluated.part == part
    }
    yield from (evaluated for evaluated in contents.plain_sets if evaluated in sets.values())


@dataclass(frozen=True, eq=False)
class _Shown:
    """Some cases of the first repetition of an arm that stored any.

    Attributes:
        results: The study.
        evaluated: The cases' set.
        arm: The arm.
        repetition: Its repetition.
        domain: The domain that the cases are of.
        ranking: The metric by which cases were chosen.
        rows: Arrays and metrics of the cases.
    """

    results: StudyResults
    evaluated: EvaluationSet
    arm: str
    repetition: int
    domain: str
    ranking: str
    rows: pd.DataFrame

    @staticmethod
    def of(results: StudyResults, evaluated: EvaluationSet, arm: str) -> _Shown | None:
        """Returns cases of each quality; None where no pixels are stored."""
        stored = first_stored(results, arm, evaluated)
        if stored is None:
            return None
        domain = _domain(results, evaluated)
        values = _values(results, evaluated, arm, stored.repetition)
        rows = stored.rows.set_index("case").join(values)
        is_known = domain == "b" and "mask" in _kinds(rows) and rows["DICE"].notna().any()
        ranking = "DICE" if is_known else "CYCLE"
        return _Shown(results, evaluated, arm, stored.repetition, domain, ranking, _spread(rows, ranking))

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is segmented, where it is several."""
        return self.results.several(self.arm, self.evaluated.stage)

    @property
    def segments(self) -> bool:
        """Whether masks are shown: those of images of b, in two ways."""
        return self.domain == "b" and "mask" in _kinds(self.rows)

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each structure."""
        lines = [to_hex([part / 255 for part in line]) for _, line in COLOURS]
        return dict(zip(self.structures or ("segmentation",), cycle(lines), strict=False))

    def line(self, name: str, images: str, *, masks: str = "", below: tuple[str, str] = ("", "")) -> Line:
        """Returns a line of the figure.

        Args:
            name: Of the line.
            images: Which array is shown.
            masks: Which masks are drawn on it, with the targets; empty for none.
            below: A word and the metric that follows it below each image.
        """
        rows = [row for _, row in self.rows.iterrows()]
        word, metric = below
        return Line(
            name=name,
            images=[row[images] for row in rows],
            below=[f"{word} {row[metric]:.3f}" if pd.notna(row[metric]) else "" for row in rows]
            if word
            else (),
            masks=[_planes(row, masks) for row in rows] if masks else (),
            colours=list(self.colours.values()) if masks else (),
            targets=[_planes(row, "target", is_mask=False) for row in rows] if masks else (),
        )


def _domain(results: StudyResults, evaluated: EvaluationSet) -> str:
    """The domain that images of a set are taken for: those of no domain for images of the second."""
    for trial in results.plan["trials"]:
        for each in trial["evaluations"] if trial["stage"] == evaluated.stage else ():
            if each["section"] == evaluated.section and each.get("set_name"):
                return str(each["set_name"])
    return SETS[1]


def _values(results: StudyResults, evaluated: EvaluationSet, arm: str, repetition: int) -> pd.DataFrame:
    """The metrics that figures name, a row for each case."""
    cases = evaluated.rows(results.cases)
    cases = cases[(cases["arm"] == arm) & (cases["repetition"] == repetition)]
    names = ["DICE", "DICE_UNTRANSLATED", "CYCLE"]
    frame = cases[cases["metric"].isin(names)][["case", "metric", "value"]]
    frame = frame.astype({"case": object, "metric": object})
    return frame.pivot(index="case", columns="metric", values="value").reindex(columns=names)


def _kinds(rows: pd.DataFrame) -> set[str]:
    return {str(name).partition("_")[0] for name in rows.columns}


def _planes(row: Any, kind: str, *, is_mask: bool = True) -> list[Pixels]:
    """The arrays of a kind, such as `mask` or `mask_heart`."""
    planes = [row[name] for name in row.index if name == kind or str(name).startswith(f"{kind}_")]
    return [plane > 0 for plane in planes] if is_mask else planes


def _spread(rows: pd.DataFrame, ranking: str) -> pd.DataFrame:
    """Returns rows from the lowest to the highest value, evenly spaced in rank."""
    ordered = rows.sort_values(ranking, kind="stable")
    places = np.linspace(0, len(rows) - 1, min(MAX_CASES, len(rows))).round().astype(int)
    return ordered.iloc[places]


def _picture(shown: _Shown) -> Picture:
    evaluated, results = shown.evaluated, shown.results
    what = "translated and segmented" if shown.segments else "translated, and translated back"
    return Picture(
        name=f"translated_{evaluated.stage}_{file_name(evaluated.stem)}_{shown.arm}",
        title=f"images of {evaluated.name} {what}, stage {evaluated.stage}, arm {shown.arm}",
        caption=(
            *_words(shown),
            *licence_note(results, evaluated.section, [shown.arm]),
            *diverged(results, [evaluated.stage]),
            *data_notes(results, (), [evaluated.section]),
        ),
        figure=_draw(shown),
        subject={"kind": "translated", **vars(evaluated)},
    )


def _words(shown: _Shown) -> Iterator[str]:
    """Yields what the lines of a figure are, and which cases it shows."""
    entry = shown.results.plan["arms"][shown.arm]["stages"][shown.evaluated.stage]
    domains = "; ".join(f"domain {name}: {section}" for name, section in entry["sets"].items())
    yield f"{domains[0].upper()}{domains[1:]}. All grey levels are from 0 (black) to 255 (white)."
    if shown.segments:
        names = f", a colour for each of {', '.join(shown.structures)}" if shown.structures else ""
        yield (
            "By way of a: the segmentation of the translated image. As it is: that of the image itself, by "
            f"the same network. Both are filled, on the image itself{names}."
        )
        known = "target" in _kinds(shown.rows)
        yield (
            "The outline is the target (dotted white: ignored areas)."
            if known
            else "No target is known of these images."
        )
    metric = "Dice by way of a" if shown.ranking == "DICE" else "change by translation there and back"
    yield (
        f"Repetition {shown.repetition}; stored cases from the lowest to the highest {metric}, evenly spaced "
        "in rank."
    )


@drawing()
def _draw(shown: _Shown) -> Figure:
    """Draws each step of a translation as a line."""
    domain = shown.domain
    other = SETS[domain == SETS[0]]
    change = ("change", "CYCLE")
    lines = [shown.line(f"Image of {domain}", "image")]
    if shown.segments:
        dice = "mean Dice" if shown.structures else "Dice"
        lines += [
            shown.line(f"Translated into {other}", "translated"),
            shown.line(f"Segmented by way of {other}", "image", masks="mask", below=(dice, "DICE")),
            shown.line("Segmented as it is", "image", masks="other", below=(dice, "DICE_UNTRANSLATED")),
        ]
    else:
        lines += [
            shown.line(f"Translated into {other}", "translated"),
            shown.line(f"Translated back into {domain}", "recovered", below=change),
        ]
    named = shown.colours if shown.segments else {}
    titles: Sequence[str] = [str(name) for name in shown.rows["pathology"]]
    return lines_of_images(lines, titles, named=named, interpolation="none")
