"""What the tables and figures of a study are made of; each part is computed once, when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from xferlab.analysis.aggregation import aggregate
from xferlab.analysis.comparison import Comparison, Contrast, compare
from xferlab.analysis.design import Side, design_of
from xferlab.analysis.features import DeepFeatures
from xferlab.analysis.gates import divided, refused_by_either
from xferlab.analysis.markers import Marked, Processed, marked_of, processed, without_markers
from xferlab.analysis.published.paper import AMBIGUOUS, Paper, PublishedLine, read_paper
from xferlab.analysis.reprediction import (
    NOTHING,
    Calibrated,
    Ensemble,
    Repredictor,
    calibrated_of,
    ensemble_of,
)
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import ChainPair, chain_pairs, evaluation_sets, of_metrics, unseen
from xferlab.analysis.tables.model import Table, heading_of
from xferlab.analysis.tuning import tuned_on
from xferlab.errors import XferlabError
from xferlab.metrics.metric import PASSED, Metric

if TYPE_CHECKING:  # matplotlib takes a second to import
    from xferlab.analysis.figures.style import Picture

Block = TypeVar("Block", Table, "Picture")
Made = TypeVar("Made", Ensemble, Calibrated)
HEADLINE, FURTHER = "headline", "further"
FAMILIES = {HEADLINE: "", FURTHER: ", further metrics"}
"""Each set is shown in two tables, one for each family of metrics; what the second adds to its title."""


class Contents:
    """What is known of a study, ready for tables and figures.

    Attributes:
        results: The study.
        cases: The rows that enter tables: of cases that the stage's gate let pass, where it has one.
        refused: The rows of cases that a gate did not let pass.
        markers: The defined rows of metrics that describe images: they are in no table but those of markers.
        apart: Those of single targets, such as structures, where `cases` have the mean over all of them.
        sets: The metrics of sets of cases.
        aggregated: Means and deviations of cases, over all targets.
        of_targets: Means and deviations of single targets, such as structures or classes.
        paper: What the study compares itself to, if anything.
    """

    def __init__(self, results: StudyResults, repredictor: Repredictor = NOTHING):
        """Takes a study, and what repredicts its cases."""
        self.results, self._repredictor = results, repredictor
        self._measured = unseen(results.cases)
        passed, refused = divided(self._measured)
        passed, self.markers = without_markers(passed, results.metrics.markers)
        refused, _ = without_markers(refused, results.metrics.markers)
        self.cases, self.apart = self.divided(passed)
        self.refused, _ = self.divided(refused)
        self.sets, planned = results.metrics.of_sets, results.planned_evaluations()
        self.aggregated, of_targets = self.divided(aggregate(self.cases, planned=planned, sets=self.sets))
        self.of_targets = pd.concat([aggregate(self.apart, planned=planned, sets=()), of_targets])
        name = results.plan.get("compare_to")
        self.paper: Paper | None = read_paper(name) if name else None
        self._contrasts: dict[tuple[Side, Side, bool, bool], Contrast] = {}
        self._given: Counter[str] = Counter()
        self._names: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Contents({self.results!r})"

    def divided(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns the rows of metrics over all targets, and those of metrics of single ones."""
        of_one = frame["metric"].isin([metric.name for metric in self.results.metrics.apart])
        return frame[~of_one], frame[of_one]

    def numbered(self, block: Block) -> Block:
        """Returns a block with its number: the paper's, else S1, S2, ..., without a paper 1, 2, ...

        No two names differ in capitals alone, which are one on some file systems.
        """
        kind, stem = ("table", "table") if isinstance(block, Table) else ("figure", "fig")
        label = self.paper.number(kind, block.subject) if self.paper else None
        if label is None:
            self._given[kind] += 1
            label = f"{'S' if self.paper else ''}{self._given[kind]}"
        title = f"{kind.capitalize()} {label}: {block.title}"
        name = f"{stem}{label}_{block.name}"
        self._names[name.lower()] += 1
        if (number := self._names[name.lower()]) > 1:
            name = f"{name}_{number}"
        return replace(block, name=name, title=title)

    def of_family(self, names: Iterable[str], family: str) -> tuple[Metric, ...]:
        """Returns the metrics among some names that belong to a family, in order."""
        return tuple(
            metric for metric in self.results.metrics.ordered(names) if self._family(metric) == family
        )

    def defined(self, frame: pd.DataFrame, family: str) -> tuple[tuple[Metric, ...], pd.DataFrame]:
        """Returns the metrics of a family with a mean in some of the aggregated rows, and their rows."""
        metrics = self.of_family(frame.loc[frame["mean"].notna(), "metric"].unique(), family)
        return metrics, of_metrics(frame, metrics)

    def heading(self, metric: Metric) -> str:
        """Returns the heading of a metric: the paper's where it prints it, else its label with the unit."""
        printed = self.paper is not None and metric.name in self.paper.metrics
        return metric.name if printed else heading_of(metric)

    def heading_of_targets(self, metric: Metric) -> str:
        """Returns the heading of a metric where lines are of single targets: AUC, and not AUC (macro)."""
        single = next((each for each in self.results.metrics.apart if each.whole == metric.name), metric)
        label = single.label.removesuffix(f", {single.of_label}")
        return self.heading(replace(metric, label=label))

    def definitions(self) -> Iterator[str]:
        """Yields what each metric is, where it comes from, and what it gives where it is undefined."""
        shown = {*self.aggregated["metric"], *self.markers["metric"]}
        for metric in self.results.metrics.ordered(shown):
            label = ", ".join(filter(None, (metric.label, metric.unit)))
            source = f" Source: {metric.source}." if metric.source.strip("-– ") else ""
            yield f"{metric.name} ({label}): {metric.definition} {metric.undefined}{source}"

    def _family(self, metric: Metric) -> str:
        headline = metric.name in self.paper.metrics if self.paper else metric.prominence != "further"
        return HEADLINE if headline else FURTHER

    @cached_property
    def plain_sets(self) -> tuple[EvaluationSet, ...]:
        """The evaluation sets without foreign objects."""
        return tuple(evaluated for evaluated in evaluation_sets(self.results) if not evaluated.object)

    @cached_property
    def deep(self) -> DeepFeatures:
        """What trials stored of their features."""
        return DeepFeatures(self.results)

    def ensembles(self, evaluated: EvaluationSet) -> Iterator[Ensemble]:
        """Yields the ensemble of each arm on a set; those that cannot be made are noted and left out."""
        if measure := self._repredictor.together:
            yield from self._repredicted("ensemble", evaluated, partial(ensemble_of, measure=measure))

    def calibrated(self, evaluated: EvaluationSet) -> Iterator[Calibrated]:
        """Yields the networks of each arm before and after temperature scaling; as `ensembles`."""
        if measure := self._repredictor.scaled:
            yield from self._repredicted("temperature", evaluated, partial(calibrated_of, measure=measure))

    def _repredicted(
        self, what: str, evaluated: EvaluationSet, make: Callable[..., Made | None]
    ) -> Iterator[Made]:
        rows = evaluated.rows(self.cases)
        for arms in self.results.arms_by_evaluations(evaluated):
            of_arm = rows[rows["arm"] == arms[0]]
            ids = self.results.evaluation_ids(arms[0], evaluated)
            try:
                made = make(of_arm, ids, arms=arms, evaluated=evaluated)
            except XferlabError as error:
                where = f"{', '.join(arms)}, stage {evaluated.stage} on {evaluated.name}"
                self.results.note(f"{what} of {where}: {error}; it is left out")
                continue
            if made is not None:
                yield made

    @cached_property
    def marked(self) -> tuple[Marked, ...]:
        """The markers of the images of each section that a stage is measured on."""
        return tuple(marked_of(self.results, self.markers, self.cases))

    @cached_property
    def processed(self) -> tuple[Processed, ...]:
        """The markers of the same images before and after steps of preprocessing."""
        return tuple(processed(self.results, self.marked))

    @property
    def marked_figures(self) -> tuple[Marked, ...]:
        """The markers that have figures of their own: those of images that are not before such steps."""
        before = [each.before.subject for each in self.processed]
        return tuple(marked for marked in self.marked if marked.subject not in before)

    def pairs(
        self, of_arm: Callable[[StudyResults, str], tuple[ChainPair, ...]] = chain_pairs
    ) -> Iterator[tuple[str, ChainPair]]:
        """Yields each arm with each of its before/after pairs, those with objects aside.

        Arms that share all evaluations of a pair come once.
        """
        for arm in self.results.arms:
            for pair in of_arm(self.results, arm):
                first = {arms[0] for arms in self.results.arms_by_evaluations(*pair.sets)}
                if arm in first and not pair.sets[1].object:
                    yield arm, pair

    def against_baseline(self, evaluated: EvaluationSet) -> list[Contrast]:
        """Returns every arm that differs from the baseline on a set, compared with it."""
        baseline, ids = self.results.baseline, self.results.evaluation_ids
        tuned = tuned_on(self.results.plan, evaluated)
        return [
            self.compare(Side(baseline, evaluated), Side(arm, evaluated))
            for arm in self.results.arms[1:]
            if not {arm, baseline} & tuned
            and ids(arm, evaluated)
            and ids(baseline, evaluated)
            and ids(arm, evaluated) != ids(baseline, evaluated)
            and self.results.several(arm, evaluated.stage) == self.results.several(baseline, evaluated.stage)
        ]

    def compare(self, first: Side, second: Side, *, strict: bool = False, apart: bool = False) -> Contrast:
        """Returns two sides compared, computed once.

        Args:
            first: What is compared with.
            second: What is compared.
            strict: Takes training samples to overlap most.
            apart: Compares in the metrics of single targets, such as structures.
        """
        key = first, second, strict, apart
        if key not in self._contrasts:
            design = replace(design_of(self.results, first, second), strict=strict)
            # Stages of one arm are compared with a note.
            tuned = first.arm != second.arm and self.tuned_on(first, second)
            comparison = Comparison(first, second, design, tuned)
            refused = refused_by_either(self._measured, first, second)
            cases = self.apart if apart else self.cases
            cases = cases[~cases["case"].isin(set().union(*refused))] if refused else cases
            rows = compare(cases, comparison, sets=() if apart else self.sets)
            # Only where there is a gate.
            rows = rows.assign(num_refused=len(refused)) if refused else rows
            self._contrasts[key] = Contrast(comparison, rows)
        return self._contrasts[key]

    def compare_in(self, metric: Metric, first: Side, second: Side, *, strict: bool = False) -> Contrast:
        """Returns two sides compared in a metric, also in one of a single target, beside others like it."""
        # Metrics of sets, also those of single targets, are computed from the rows over all targets.
        apart = metric in self.results.metrics.apart and not metric.computed_by
        return self.compare(first, second, strict=strict, apart=apart)

    def tuned_on(self, *sides: Side) -> bool:
        """Returns whether a search chose one of the sides, or may have chosen it, by these patients."""
        return any(side.arm in tuned_on(self.results.plan, side.evaluated) for side in sides)

    def gated_arms(self, evaluated: EvaluationSet) -> frozenset[str]:
        """Returns the arms whose stage has a gate, so that they say of each case whether it passed."""
        rows = evaluated.rows(self._measured)
        return frozenset(rows.loc[rows["metric"] == PASSED.name, "arm"])

    def done(self, arm: str, evaluated: EvaluationSet) -> frozenset[int]:
        """Returns the repetitions of an arm that are measured on a set."""
        rows = evaluated.rows(self._measured)
        return frozenset(map(int, rows.loc[rows["arm"] == arm, "repetition"].unique()))

    def published(self, evaluated: EvaluationSet, *, arm: str | None = None) -> pd.DataFrame:
        """Returns the paper's rows on a set, of one arm and of none in particular; none without a paper."""
        columns = ["table", "arm", "pathology", "metric", "mean", "sd", "ambiguous"]
        rows = evaluated.rows(self.paper.values) if self.paper else pd.DataFrame(columns=columns)
        return rows if arm is None else rows[rows["arm"].isin([arm, ""])]

    def published_lines(self, published: pd.DataFrame) -> Iterator[PublishedLine]:
        """Yields rows of the paper as lines; see `Paper.lines`."""
        yield from self.paper.lines(published) if self.paper else ()

    def paper_words(self, published: pd.DataFrame) -> tuple[str, ...]:
        """Returns what a reader of some of the paper's rows must know; nothing of none."""
        if self.paper is None or published.empty:
            return ()
        mark = f"{AMBIGUOUS}: the paper leaves open what this is, or contradicts it; see the notes."
        words = self.paper.words(published["table"].unique())
        return (*words, mark) if published["ambiguous"].any() else words
