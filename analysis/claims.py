"""The verdicts of a study on what it declares to show: one interval, one p and one sentence a contrast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from xferlab.analysis.comparison import (
    MIN_COUNTED_PATIENTS,
    NO_CLAIM,
    NO_P,
    Comparison,
    Contrast,
)
from xferlab.analysis.contents import Contents
from xferlab.analysis.design import Side
from xferlab.analysis.estimates import (
    CONFIDENCE,
    Estimate,
    Measured,
    at_level,
    holm,
    holm_levels,
    supportable,
)
from xferlab.analysis.results import EvaluationSet, StudyResults, is_drawn
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import interval, measured
from xferlab.metrics.claims import MIN_REPETITIONS, Claims, Place
from xferlab.metrics.metric import Metric

SUPPORTED, NOT_SUPPORTED, EQUIVALENT = "supported", "not supported", "equivalent"
NO, EXPLORATORY = "no claim", "exploratory"
ALPHA = 1 - CONFIDENCE
REASONS = {
    "nothing complete": "no repetition of both sides is complete",
    "no common images": "no image has this metric on both sides",
    "simulated only": "all images are simulated or drawn",
    **NO_CLAIM,
    **NO_P,
}
"""Why a contrast allows no claim."""
_FEW_REPETITIONS = f"n < {MIN_REPETITIONS} repetitions"
_FEW_PATIENTS = f"n < {MIN_COUNTED_PATIENTS} patients"
_SO_FAR = ("nothing complete", "pairs missing", "no variation", _FEW_REPETITIONS)
"""Those that more complete repetitions may remove."""
_LOST = ("no common images", "undefined", "images lost")
"""Those that leave no difference to go by."""
_WORDS = {
    SUPPORTED: (
        "Supported: it would recur with other patients like these and another sample of training patients."
    ),
    NOT_SUPPORTED: "Not supported: the interval holds 0; this does not show equality.",
}


@dataclass(frozen=True)
class Verdict:
    """What is known of one contrast.

    Attributes:
        claims: What the study is to show.
        pair: The contrast: the second is subtracted from the first.
        contrast: The comparison, the second side minus the first.
        row: What `compare` returns of the metric for all pathologies, without a difference where it is
            undefined; empty where nothing is paired.
        reason: A key of `REASONS` where there is no claim, or no p; else empty.
        p: Adjusted by Holm's method where the contrast is declared; NaN where it has none.
        confidence: Level of the interval, which agrees with the adjusted p.
        num_cut_off: Trainings of both sides, and of what they start from, that `max_epochs` ended.
        num_diverged: Of these trainings, those that diverged in the epoch that is kept.
        num_trained: All of these trainings that are complete.
    """

    claims: Claims
    pair: tuple[Place, Place]
    contrast: Contrast
    row: Mapping[str, Any]
    reason: str
    p: float
    confidence: float
    num_cut_off: int
    num_diverged: int
    num_trained: int

    @property
    def title(self) -> str:
        """Such as `arm − arm`."""
        return self.claims.title(self.pair)

    @property
    def kind(self) -> str:
        """`supported`, `not supported`, `equivalent`, `no claim` or `exploratory`."""
        if not self.claims.declared:
            return EXPLORATORY
        if self.reason:
            return NO
        if self.p < ALPHA:
            return SUPPORTED
        return EQUIVALENT if self.is_within else NOT_SUPPORTED

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval; NaN where there is none."""
        if not self.row or math.isnan(self.row["df"]):
            return math.nan, math.nan
        estimate = Estimate(*(float(self.row[name]) for name in Estimate._fields))
        return at_level(self.difference, estimate, self.confidence)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.ends[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.ends[1]

    @property
    def supportable(self) -> float:
        """The smallest difference that the planned repetitions support with a probability of about 80 %.

        By how much those that are complete vary; NaN where they do not tell.
        """
        if math.isnan(self.low):
            return math.nan
        return _supportable(self.contrast, self.row, len(self.claims.contrasts))

    @property
    def difference(self) -> float:
        """The mean difference; NaN where there is none."""
        return float(self.row.get("difference", math.nan))

    def interval(self, unit: str) -> str:
        """Returns the interval with its level; a dash where there is none."""
        shown = interval(self.low, self.high, unit, margin=self.claims.margin or 0.0)
        return shown if math.isnan(self.low) else f"{shown} ({100 * self.confidence:.4g} %)"

    @property
    def words(self) -> str:
        """The verdict as sentences."""
        words = [self.said]
        if self.num_cut_off:
            cut = f"{self.cut_off} ended by max_epochs and not by patience"
            words.append(f"Training was cut off: {cut}; the difference may be one of budget, not of method.")
        if self.num_diverged:
            words.append(f"{self.diverged} diverged, and are in these numbers.")
        return " ".join(words)

    @property
    def cut_off(self) -> str:
        """How many trainings were cut off: `15 of 25 trainings`."""
        return f"{self.num_cut_off} of {self.num_trained} trainings"

    @property
    def diverged(self) -> str:
        """How many trainings diverged, as of `cut_off`."""
        return f"{self.num_diverged} of {self.num_trained} trainings"

    @property
    def said(self) -> str:
        """The verdict as sentences, whether trainings were cut off or diverged aside."""
        within = f"the interval lies within ±{self.claims.margin or 0:g}"
        if self.kind == EQUIVALENT:
            said = f"Equivalent: {within}, the margin below which a difference counts as none."
        elif self.kind == NO:
            said = f"No claim possible: {REASONS[self.reason]}."
        elif self.kind == EXPLORATORY:
            said = f"Exploratory{f', without p: {REASONS[self.reason]}' if self.reason else ''}."
        else:
            small = self.is_within and self.kind == SUPPORTED
            said = _WORDS[self.kind] + (f" It is small: {within}." if small else "")
        if self.kind in (NOT_SUPPORTED, EQUIVALENT) and not math.isnan(self.supportable):
            said += (
                f" A difference of {self.supportable:.2g} would be supported in about 80 % of such studies."
            )
        return said

    @property
    def is_within(self) -> bool:
        """Whether the interval lies within the margin."""
        margin = self.claims.margin
        return margin is not None and -margin < self.low and self.high < margin

    def counts(self) -> str:
        """Returns how much it rests on."""
        if not self.row:
            return "0 paired repetitions"
        planned = self.contrast.comparison.design.planned
        images, patients = (int(self.row[name]) for name in ("num_images", "num_patients"))
        return (
            f"{self.row['num_repetitions']} of {planned} repetitions, {images} images of {patients} patients"
        )


@dataclass(frozen=True)
class Verdicts:
    """All contrasts of a study.

    Attributes:
        claims: What the plan says that it claims.
        metric: The metric.
        verdicts: One a contrast, in the declared order.
    """

    claims: Claims
    metric: Metric
    verdicts: tuple[Verdict, ...]

    def sentence(self, verdict: Verdict) -> str:
        """Returns a contrast with its difference, interval, verdict, repetitions and patients."""
        return f"{self._measured(verdict)}{verdict.words}"

    def point(self, verdict: Verdict) -> tuple[str, str]:
        """Returns the verdict in a word or two, and the rest of `sentence`, for a reader in a hurry."""
        word, _, reason = verdict.said.rstrip(".").partition(": ")
        because = [f"{reason[:1].upper()}{reason[1:]}."] if reason else []
        because += [f"Cut off: {verdict.cut_off}."] if verdict.num_cut_off else []
        because += [f"Diverged: {verdict.diverged}."] if verdict.num_diverged else []
        return f"{word}.", f"{self._measured(verdict)}{' '.join(because)}".strip()

    def reader_notes(self) -> Iterator[str]:
        """Yields what a reader of `point` must know of its words."""
        if any(verdict.num_cut_off for verdict in self.verdicts):
            yield (
                "Cut off: trainings that ended by max_epochs and not by patience, of both sides and of what "
                "they start from; such a difference may be one of budget, not of method."
            )

    def _measured(self, verdict: Verdict) -> str:
        unit = self.metric.unit
        if math.isnan(verdict.difference):
            return f"{verdict.title}: "
        difference = measured(verdict.difference, unit, signed=True)
        shown = "(no interval)" if math.isnan(verdict.low) else verdict.interval(unit)
        return f"{verdict.title}: {difference} {shown}, {verdict.counts()}. "


def verdicts_of(contents: Contents) -> Verdicts | None:
    """Returns the verdicts of a study; None where its plan compares nothing."""
    results = contents.results
    if not results.plan.get("claims"):
        return None
    claims = Claims.from_json(results.plan["claims"])
    contrasts = [_compared(contents, claims, pair) for pair in claims.contrasts]
    rows = [_row(contrast, claims.metric) for contrast in contrasts]
    reasons = [_reason(contents, contrast, row) for contrast, row in zip(contrasts, rows, strict=True)]
    values = [math.nan if reason else float(row["p"]) for row, reason in zip(rows, reasons, strict=True)]
    adjusted, levels = values, [CONFIDENCE] * len(values)
    if claims.declared:
        adjusted, levels = holm(values), holm_levels(values)
    given = zip(claims.contrasts, contrasts, rows, reasons, adjusted, levels, strict=True)
    verdicts = tuple(
        Verdict(claims, pair, contrast, row, reason, p, level, *_trainings(results, contrast.comparison))
        for pair, contrast, row, reason, p, level in given
    )
    return Verdicts(claims, results.metrics.named(claims.metric), verdicts)


def declared_when(results: StudyResults, claims: Claims) -> str:
    """Returns when the claims were planned, and what of earlier plans with other claims was known by then."""
    planned, earlier = results.plan.get("planned", {}), results.plan.get("earlier", ())
    # Of plans one after another that claim the same, the first is when it was declared.
    same = list(takewhile(lambda look: _is_same(look["claims"], claims), reversed(earlier)))
    planned = same[-1] if planned and same and "at" in same[-1] else planned
    others = [look for look in earlier if look["complete"] and not _is_same(look["claims"], claims)]
    when = f" on {planned['at'].replace('T', ' ').removesuffix('+00:00')} UTC" if planned else ""
    if not others:
        return f"declared{when}"
    complete = max(look["complete"] for look in others)
    return f"declared{when}, after {complete} trials of a plan that claimed something else were complete"


def _is_same(stored: Mapping[str, Any] | None, claims: Claims | None) -> bool:
    return (Claims.from_json(stored) if stored else None) == claims


def earlier_plans(results: StudyResults) -> tuple[str, ...]:
    """Returns a line for each earlier plan of the study whose trials had finished when it was replaced."""
    given, lines = results.plan.get("claims"), list[str]()
    claims = Claims.from_json(given) if given else None
    for look in results.plan.get("earlier", ()):
        same = "the same" if _is_same(look["claims"], claims) else "other"
        when = f"{look.get('at', 'at an unknown time')}, digest {look.get('digest', 'unknown')}"
        moved = f"; {look['moved']}" if "moved" in look else ""
        lines.append(
            f"{when}: {look['complete']} of {look['trials']} trials were complete; {same} claims{moved}"
        )
    return tuple(lines)


def _compared(contents: Contents, claims: Claims, pair: tuple[Place, Place]) -> Contrast:
    """Compares a pair, whose second is the first side: x minus y."""
    metric = contents.results.metrics.named(claims.metric)
    second, first = (Side(place.arm, EvaluationSet.of(place.stage, claims.on)) for place in pair)
    return contents.compare_in(metric, first, second, strict=claims.strict)


def _row(contrast: Contrast, metric: str) -> Mapping[str, Any]:
    rows = contrast.rows
    whole = rows[(rows["metric"] == metric) & (rows["pathology"] == ALL)]
    return {str(name): value for name, value in whole.iloc[0].items()} if len(whole) else {}


def _reason(contents: Contents, contrast: Contrast, row: Mapping[str, Any]) -> str:
    """Returns why a contrast allows no claim; empty where it allows one."""
    results, comparison = contents.results, contrast.comparison
    sides = (comparison.first, comparison.second)
    if not row:
        return _unpaired(contents, sides)
    if contents.tuned_on(*sides):
        return "tuned on these"
    if all(is_drawn(data) or data.get("simulate") for data in results.sections(comparison.evaluated.section)):
        return "simulated only"
    return str(row["no_p"])


def _unpaired(contents: Contents, sides: tuple[Side, Side]) -> str:
    """Returns why nothing of two sides is paired."""
    first, second = (contents.done(side.arm, side.evaluated) for side in sides)
    return "no common images" if first & second else "nothing complete"


def foreseen(contents: Contents, claims: Claims, planned: Mapping[Place, int]) -> Iterator[str]:
    """Yields the smallest difference that each contrast could support, by its complete repetitions.

    Args:
        contents: What is known of the study so far.
        claims: What it is to show.
        planned: Repetitions that are planned, by arm and stage.
    """
    for pair in claims.contrasts:
        contrast = _compared(contents, claims, pair)
        row, number = _row(contrast, claims.metric), min(planned[place] for place in pair)
        smallest = _supportable(contrast, row, len(claims.contrasts), planned=number) if row else math.nan
        why = _never(contents, contrast, row, planned=number)
        if why in _LOST:
            yield f"{claims.title(pair)}: unknown, since {REASONS[why]}"
        elif why:
            yield f"{claims.title(pair)}: no claim is possible, since {REASONS[why]}"
        elif math.isnan(smallest):
            yield f"{claims.title(pair)}: unknown, until some repetitions of both are complete"
        else:
            basis = f"by {row['num_repetitions']} complete ones"
            yield f"{claims.title(pair)}: {smallest:.2g} with {number} repetitions ({basis})"


def _never(contents: Contents, contrast: Contrast, row: Mapping[str, Any], *, planned: int) -> str:
    """Returns why a contrast allows no claim even when all that is planned is complete; empty if it may."""
    comparison = contrast.comparison
    why = _reason(contents, contrast, row)
    if why == _FEW_PATIENTS and not row["fixed_images"]:
        why = ""  # further repetitions have further test patients
    if why and why not in _SO_FAR:
        return why
    if comparison.design.donors_differ:
        return "different donors"
    if comparison.design.divides_patients:
        return "patients also train"
    return _FEW_REPETITIONS if planned // comparison.design.seeds < MIN_REPETITIONS else ""


def _supportable(
    contrast: Contrast, row: Mapping[str, Any], num_contrasts: int, *, planned: int | None = None
) -> float:
    design = contrast.comparison.design
    measured = Measured(*(float(row[name]) for name in (*Measured._fields[:-1], "counted_patients")))
    return supportable(
        measured, repetitions=(planned or design.planned) // design.seeds, contrasts=num_contrasts
    )


def _trainings(results: StudyResults, comparison: Comparison) -> tuple[int, int, int]:
    """Returns how many trainings `max_epochs` ended, how many diverged, and how many there are.

    They are those of both sides and of what these start from.
    """
    sides = (comparison.first, comparison.second)
    ahead = {trial for side in sides for trial in results.trial_ids(side.arm, side.stage)}
    ids = set[str]()
    while ahead:
        ids |= ahead
        inputs = (given for trial in ahead for given in results.trials_by_id[trial]["inputs"])
        ahead = {parent for given in inputs for parent in given["trials"]} - ids
    runs = results.runs.drop_duplicates("trial_id")
    runs = runs[runs["trial_id"].isin(ids)]
    diverged = ids & {row["trial_id"] for row in results.diverged}
    return int((runs["stopped_by"] == "max_epochs").sum()), len(diverged), len(runs)
