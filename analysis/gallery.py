"""The cases that a reader looks at first: the worst, the median and the best of each arm."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.tables.model import Layout, Table, heading_of, number
from xferlab.analysis.tables.notes import arm_names, licence_note
from xferlab.metrics.extremes import HIGHEST, MAX_WORST, MEDIAN, WORST, WORST_SHARE, badness, ranked
from xferlab.metrics.metric import Metric

MAX_ARMS = 8
"""Groups of arms with pictures; a page of more would be too large to send."""
Drawn = Callable[[Mapping[str, Any]], bytes]
"""Takes the stored arrays of a case and returns a picture (JPEG); empty where there is none."""


@dataclass(frozen=True)
class View:
    """How cases of a stage are ranked and drawn: what its task says.

    Attributes:
        metric: Tells the worst from the best.
        draw: Draws a case from its stored arrays.
        shows: A sentence on what the pictures are.
    """

    metric: Metric
    draw: Drawn
    shows: str


@dataclass(frozen=True)
class Card:
    """One case of one arm.

    Attributes:
        arm: Names of the arms that share it.
        stage: The stage.
        section_part: What it was measured on.
        why: `worst 5 %`, `worst`, `median` or `best`.
        place: From the worst, such as `3 of 93`.
        name: What a reader calls the case.
        patient: Its patient.
        pathology: Its pathology.
        value: Mean over the repetitions that measured it, as text.
        repetitions: How many they are.
        shown: The repetition of the picture with the value there, as text; empty without one.
        told: What classes it is of, and which probability each got there; empty where none are told.
        picture: JPEG; empty without one.
    """

    arm: str
    stage: str
    section_part: str
    why: str
    place: str
    name: str
    patient: str
    pathology: str
    value: str
    repetitions: int
    shown: str
    told: str
    picture: bytes

    @property
    def words(self) -> str:
        """Why it is shown, in words."""
        return self.why if self.why == WORST else f"{self.why} of {self.pathology}"

    @property
    def data_uri(self) -> str:
        """The picture as a page holds it."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.picture).decode()}"


@dataclass(frozen=True, eq=False)
class Gallery:
    """Cards of one task, with the same as a table.

    Attributes:
        cards: By arm, each from the worst to the best.
        metric: What they are ranked by.
        table: The same in words.
    """

    cards: tuple[Card, ...]
    metric: str
    table: Table


_LAYOUT = Layout(
    (("Stage", "stage"), ("Measured on", "section_part"), ("Arm", "arm")),
    ("Case", "name"),
    (
        ("Shown as", "why"),
        ("Place", "place"),
        ("Patient", "patient"),
        ("Pathology", "pathology"),
        ("Value", "value"),
        ("Repetitions", "repetitions"),
        ("Picture", "shown"),
    ),
)


def galleries(contents: Contents, view_of: Callable[[str], View | None]) -> Iterator[Gallery]:
    """Yields a gallery for each task, by what its `View` is; nothing of tasks without one."""
    tasks = contents.results.plan["tasks"]
    for task in dict.fromkeys(tasks.values()):
        if (view := view_of(task)) is not None:
            shown = [place for place in places(contents) if tasks[place[1].stage] == task]
            cards = [card for place in shown[:MAX_ARMS] for card in _cards(contents, *place, view=view)]
            if cards:
                yield Gallery(tuple(cards), view.metric.label, _table(contents, cards, shown, view))


def places(contents: Contents) -> list[tuple[tuple[str, ...], EvaluationSet]]:
    """Returns groups of arms that share all, each with the sets that it is shown on.

    These are what the study is judged on and, of arms without that, the hold-outs of the last stage, else its
    test part.
    """
    results, groups = contents.results, list[tuple[tuple[str, ...], EvaluationSet]]()
    for arm in results.arms:
        for evaluated in _shown_on(contents, arm):
            (arms,) = (names for names in results.arms_by_evaluations(evaluated) if arm in names)
            groups += [(arms, evaluated)] if (arms, evaluated) not in groups else []
    return groups


def _shown_on(contents: Contents, arm: str) -> list[EvaluationSet]:
    results, claims = contents.results, contents.results.plan.get("claims")
    sets = [evaluated for evaluated in contents.plain_sets if results.evaluation_ids(arm, evaluated)]
    if claims:
        stages = {stage for pair in claims["contrasts"] for name, stage in pair if name == arm}
        stages = stages or {claims["contrasts"][0][0][1]}
        if judged := [each for each in sets if each.name == claims["on"] and each.stage in stages]:
            return judged
    last = max((evaluated.stage for evaluated in sets), key=results.stages.index, default="")
    of_last = [evaluated for evaluated in sets if evaluated.stage == last]
    return [evaluated for evaluated in of_last if evaluated.is_hold_out] or of_last[:1]


def _cards(
    contents: Contents, arms: tuple[str, ...], evaluated: EvaluationSet, *, view: View
) -> Iterator[Card]:
    rows, metric = evaluated.rows(contents.cases), view.metric
    rows = rows[rows["arm"] == arms[0]]
    cases = _values(rows, metric)
    stored = _Stored(contents.results, arms[0], evaluated, view.draw)
    bad = badness(cases["mean"], metric.better)
    order = pd.Series(-bad).rank(method="first").astype("Int64")
    for row, why in _shown(cases, bad, stored):
        case = cases.iloc[row]
        repetition, picture = stored.nearest(case)
        classes = _classes(rows, str(case.name), repetition) if picture else ""
        value = number(case["values"][repetition], metric.unit) if picture else ""
        yield Card(
            arm=arm_names(contents.results, arms),
            stage=evaluated.stage,
            section_part=evaluated.name,
            why=why,
            place=f"{order[row]} of {int(np.isfinite(bad).sum())}",
            **{key: str(case[key]) for key in ("name", "patient", "pathology")},
            value=number(case["mean"], metric.unit),
            repetitions=len(case["values"]),
            shown=f"repetition {repetition}, {value}" if picture else "",
            told=classes,
            picture=picture,
        )


def _classes(rows: pd.DataFrame, case: str, repetition: int) -> str:
    """Returns the classes of a case in a repetition with the probability of each, the largest first.

    A task that tells classes stores them as `metrics.classes` says; of others it is empty.
    """
    rows = rows[(rows["case"] == case) & (rows["repetition"] == repetition)]
    values = dict(zip(rows["metric"].astype(str), rows["value"], strict=True))
    names = [name.removeprefix("IS_") for name in values if name.startswith("IS_")]
    given = sorted(((values[f"P_{name}"], name) for name in names if f"P_{name}" in values), reverse=True)
    true = [name for name in names if values[f"IS_{name}"]]
    probabilities = ", ".join(f"{name} {value:.2f}" for value, name in given)
    return f"is {', '.join(true) or 'none'}; probabilities: {probabilities}" if given else ""


def _values(rows: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Returns a row for each case by digest: its labels, its value in each repetition, and their mean."""
    rows = rows[(rows["metric"] == metric.name) & rows["value"].notna()]
    by_case = rows.astype({"case": str}).groupby("case", sort=True)
    labels = by_case[["name", "patient", "pathology"]].first().astype(str)
    values = [dict(zip(some["repetition"], some["value"], strict=True)) for _, some in by_case]
    return labels.assign(mean=by_case["value"].mean(), values=pd.Series(values, labels.index, dtype=object))


def _shown(cases: pd.DataFrame, bad: np.ndarray, stored: _Stored) -> list[tuple[int, str]]:
    """Returns rows with why each is shown, from the worst to the best.

    Where pictures are stored, the median and the best of a pathology are those that are nearest to it and
    have a picture: each repetition stored those of its own order.
    """
    groups = list(cases["pathology"])
    chosen = dict(ranked(bad, groups))
    pictured = [row for row, digest in enumerate(cases.index) if stored.has(str(digest))]
    for row, why in [*chosen.items()]:
        others = [each for each in pictured if groups[each] == groups[row] and each not in chosen]
        if why in (MEDIAN, HIGHEST) and row not in pictured and others:
            del chosen[row]
            chosen[min(others, key=lambda each: abs(bad[each] - bad[row]))] = f"near the {why}"
    return sorted(chosen.items(), key=lambda pair: -bad[pair[0]])


class _Stored:
    """The pictures of one arm on one set, repetition by repetition."""

    def __init__(self, results: StudyResults, arm: str, evaluated: EvaluationSet, draw: Drawn):
        rows = results.trials[(results.trials["arm"] == arm) & (results.trials["state"] == "complete")]
        rows = rows[rows["stage"] == evaluated.stage]
        self._draw = draw
        self._pictures: dict[int, Mapping[str, bytes]] = {}
        self._outputs: dict[int, Mapping[str, Mapping[Any, Any]]] = {}
        for repetition, trial in zip(rows["repetition"], rows["trial_id"], strict=True):
            pictures = results.pictures(str(trial), arm=arm, evaluated=evaluated)
            self._pictures[repetition] = pictures
            if not pictures:  # measured before there were any
                outputs = results.outputs(str(trial), arm=arm, evaluated=evaluated).to_dict("records")
                self._outputs[repetition] = {str(row["case"]): row for row in outputs}

    def has(self, case: str) -> bool:
        """Returns whether some repetition has a picture of a case, or arrays to draw one."""
        stored = (*self._pictures.values(), *self._outputs.values())
        return any(case in cases for cases in stored)

    def nearest(self, case: pd.Series) -> tuple[int, bytes]:
        """Returns the repetition whose value is nearest to the mean, of those with a picture, and that."""
        values, digest = case["values"], str(case.name)
        for repetition in sorted(values, key=lambda each: (abs(values[each] - case["mean"]), each)):
            if picture := self._picture(repetition, digest):
                return repetition, picture
        return 0, b""

    def _picture(self, repetition: int, case: str) -> bytes:
        if picture := self._pictures.get(repetition, {}).get(case):
            return picture
        stored = self._outputs.get(repetition, {}).get(case, {})
        arrays = {str(name): each for name, each in stored.items() if isinstance(each, np.ndarray)}
        return self._draw(arrays) if arrays else b""


def _table(
    contents: Contents, cards: list[Card], shown: list[tuple[tuple[str, ...], EvaluationSet]], view: View
) -> Table:
    records = [{**vars(card), "shown": card.shown or "none stored"} for card in cards]
    data = pd.DataFrame(records).drop(columns="picture")
    return _LAYOUT.fill(
        Table(
            name="cases",
            title=f"the worst, median and best cases, by {heading_of(view.metric)}",
            caption=tuple(_caption(cards, shown, view)),
            notes=tuple(
                dict.fromkeys(
                    note
                    for arms, evaluated in shown[:MAX_ARMS]
                    for note in licence_note(contents.results, evaluated.section, arms)
                )
            ),
            data=data,
            subject={"kind": "cases"},
        ),
        records,
    )


def _caption(
    cards: list[Card], shown: list[tuple[tuple[str, ...], EvaluationSet]], view: View
) -> Iterator[str]:
    share = f"{100 * WORST_SHARE:g} %"
    yield (
        f"Of each arm: the worst {share} of all images (at most {MAX_WORST}), and the worst, the median and "
        "the best of each pathology."
    )
    yield (
        "Value: the mean over the repetitions that measured the image; place: by that mean, from the worst. "
        "The picture is of the repetition whose value is nearest to the mean, of those that stored one."
    )
    if any(card.picture for card in cards):
        yield view.shows
    if absent := sum(not card.picture for card in cards):
        yield f"Of {absent} of {len(cards)} cases no repetition stored a picture."
    if len(shown) > MAX_ARMS:
        yield f"The first {MAX_ARMS} of {len(shown)} arms and sets."
