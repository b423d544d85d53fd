"""What a report holds: tables with their numbers, and all that figures are drawn from; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from xferlab.analysis.aggregation import aggregate
from xferlab.analysis.comparison import Comparison, compare
from xferlab.analysis.design import Side, design_of
from xferlab.analysis.features import DeepFeatures
from xferlab.analysis.reference import Reference, reference
from xferlab.analysis.results import StudyResults, is_hold_out
from xferlab.analysis.selection import (
    ChainPair,
    EvaluationSet,
    chain_pairs,
    detailed_arms,
    evaluation_ids,
    evaluation_sets,
    main_pair,
    unseen,
)
from xferlab.analysis.tables.arms import ArmsRequest, arms_table
from xferlab.analysis.tables.differences import differences_table
from xferlab.analysis.tables.features import features_table
from xferlab.analysis.tables.inference import Found
from xferlab.analysis.tables.metrics import MetricsRequest, metrics_table
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.objects import ObjectCosts, object_costs_table
from xferlab.analysis.tables.times import times_table
from xferlab.analysis.tuning import tuned_arms


@dataclass(eq=False)
class Numbering:
    """Gives the paper's numbers to what corresponds to them, S1, S2, ... to the rest.

    In a study that compares to no paper too: a number then means the same in every report.
    """

    results: StudyResults
    _given: dict[str, dict[object, str]] = field(default_factory=lambda: {"table": {}, "figure": {}})

    @cached_property
    def pair(self) -> ChainPair | None:
        """The stages that stand for the paper's two."""
        return main_pair(self.results)

    def stages(self) -> tuple[str, ...]:
        """Returns the stages that take the paper's first and second place."""
        if self.pair:
            return (self.pair.before, self.pair.after)
        arms = self.results.plan["arms"].get(self.results.baseline, {}).get("stages", {})
        return tuple(s for s in self.results.stages if arms.get(s, {}).get("starts_from"))[:2]

    def extra(self, kind: str, key: object) -> str:
        """Returns the number of a `table` or `figure` that the paper has not; the same for the same key."""
        given = self._given[kind]
        return given.setdefault(key, f"S{len(given) + 1}")

    def metrics(self, evaluated: EvaluationSet) -> str:
        """Returns the number of a stage's table on an evaluation set."""
        stages = self.stages()
        if evaluated.stage in stages:
            place = stages.index(evaluated.stage)
            if evaluated.part == "test" and evaluated.section in self._own(evaluated.stage):
                return str(3 + place)
            if self.pair and (evaluated.section, evaluated.part) == (self.pair.section, self.pair.part):
                return str(5 + place)
        return self.extra("table", evaluated)

    def losses(self, stage: str) -> str:
        """Returns the number of a stage's loss curves."""
        stages = self.stages()
        return str(7 + stages.index(stage)) if stage in stages else self.extra("figure", stage)

    def paired(self, pair: ChainPair, what: str, number: str | None) -> str:
        """Returns a paper's figure number for the main pair, a free one elsewhere."""
        return number if number and pair == self.pair else self.extra("figure", (pair, what))

    def _own(self, stage: str) -> set[str]:
        return {trial["data"] for trial in self.results.plan["trials"] if trial["stage"] == stage}


class Contents:
    """The tables and pictures of a study, each built when asked for."""

    def __init__(self, results: StudyResults):
        self.results = results
        self.numbering = Numbering(results)
        self.cases = unseen(results.cases)
        self.aggregated = aggregate(self.cases, planned=results.planned())
        name = results.plan.get("compare_to")
        self.reference: Reference | None = reference(name) if name else None
        self._found: dict[tuple[Side, Side, EvaluationSet, str], Found] = {}

    def metrics(self, *, hold_out: bool) -> Iterator[Table]:
        """Yields the tables of stages on evaluation sets, the metrics beyond the paper behind each."""
        for evaluated in evaluation_sets(self.results):
            if is_hold_out(evaluated.part) != hold_out or evaluated.object:
                continue
            request = MetricsRequest(self.results, self.aggregated, evaluated, self.reference)
            if not len(request.rows):
                continue
            label = self.numbering.metrics(evaluated)
            for in_paper in (True, False):
                table = metrics_table(request, label=label, in_paper=in_paper)
                yield from [table] if table else []

    def all_arms(self) -> Iterator[Table]:
        """Yields every arm and pathology on each hold-out, where there are several arms."""
        for evaluated in self.plain_sets():
            found = self.against_baseline(evaluated) if is_hold_out(evaluated.part) else []
            if found:
                request = ArmsRequest(self.results, self.aggregated, evaluated, found)
                label = self.numbering.extra("table", ("all arms", evaluated))
                table = arms_table(request, label=label)
                yield from [table] if table else []

    def before_after(self) -> Iterator[Table]:
        """Yields the differences between stages of a chain, all arms in a table."""
        by_pair: dict[ChainPair, list[Found]] = {}
        for arm, pair in self.pairs():
            sides = Side(arm, pair.before), Side(arm, pair.after)
            found = self.compare(*sides, EvaluationSet(pair.after, pair.section, pair.part))
            by_pair.setdefault(pair, []).append(found)
        for found_by_arm in by_pair.values():
            yield from self._differences(found_by_arm)

    def arms(self) -> Iterator[Table]:
        """Yields the differences between arms and the baseline in every metric, set by set."""
        for evaluated in self.plain_sets():
            yield from self._differences(self.against_baseline(evaluated))

    def objects(self) -> Iterator[Table]:
        """Yields what each kind of foreign object costs, a table for each set of cases."""
        for costs in self.object_costs():
            label = self.numbering.extra("table", ("objects", costs.section, costs.part))
            table = object_costs_table(costs, detailed_arms(self.results), label=label)
            yield from [table] if table else []

    def object_costs(self) -> Iterator[ObjectCosts]:
        """Yields sets of cases with all that is known of objects laid on them."""
        plain: dict[tuple[str, str], list[EvaluationSet]] = {}
        for one in evaluation_sets(self.results):
            if one.object:
                plain.setdefault((one.section, one.plain.part), []).append(one)
        for (section, part), laid in plain.items():
            pairs = [(self._cost(arms[0], one), arms) for one in laid for arms in self._laid_arms(one)]
            found, arms = [cost for cost, _ in pairs], [arms for _, arms in pairs]
            yield ObjectCosts(self.results, section, part, found, arms)

    def plain_sets(self) -> Iterator[EvaluationSet]:
        """Yields the evaluation sets without foreign objects."""
        yield from (one for one in evaluation_sets(self.results) if not one.object)

    @cached_property
    def deep(self) -> DeepFeatures:
        """What trials stored of their features."""
        return DeepFeatures(self.results)

    def features(self) -> Iterator[Table]:
        """Yields the comparison of stages layer by layer, where the study asks for it."""
        if self.deep:
            table = features_table(self.deep, label=self.numbering.extra("table", "features"))
            yield from [table] if table else []

    def times(self) -> Iterator[Table]:
        """Yields the table of times."""
        table = times_table(self.results, label="7", reference=self.reference)
        yield from [table] if table else []

    def pairs(self) -> Iterator[tuple[str, ChainPair]]:
        """Yields each arm with each of its before/after pairs, those with objects aside.

        Arms that share all evaluations of a pair come once.
        """
        seen = set()
        for arm in self.results.arms:
            for pair in chain_pairs(self.results, arm):
                if EvaluationSet(pair.after, pair.section, pair.part).object:
                    continue
                sides = [EvaluationSet(s, pair.section, pair.part) for s in (pair.before, pair.after)]
                key = (pair, *(evaluation_ids(self.results, arm, side) for side in sides))
                if key not in seen:
                    seen.add(key)
                    yield arm, pair

    def against_baseline(self, evaluated: EvaluationSet) -> list[Found]:
        """Returns every arm that differs from the baseline on a set, compared with it."""
        baseline = self.results.baseline
        own = evaluation_ids(self.results, baseline, evaluated)
        tuned = tuned_arms(self.results.plan, evaluated.stage)
        found = []
        for arm in self.results.arms[1:]:
            other = evaluation_ids(self.results, arm, evaluated)
            if not is_hold_out(evaluated.part) and {arm, baseline} & set(tuned):
                continue  # it was chosen on test patients of other repetitions
            if own and other and own != other:
                sides = Side(baseline, evaluated.stage), Side(arm, evaluated.stage)
                found.append(self.compare(*sides, evaluated))
        return found

    def compare(self, first: Side, second: Side, evaluated: EvaluationSet, *, first_part: str = "") -> Found:
        """Returns two sides compared on a set, computed once."""
        key = first, second, evaluated, first_part
        if key not in self._found:
            design = design_of(self.results, first, second)
            comparison = Comparison(first, second, evaluated.section, evaluated.part, design, first_part)
            self._found[key] = comparison, compare(self.cases, comparison)
        return self._found[key]

    def _laid_arms(self, laid: EvaluationSet) -> list[tuple[str, ...]]:
        """The arms measured with an object and without, grouped by those that share both."""
        groups: dict[object, list[str]] = {}
        for arm in self.results.arms:
            ids = tuple(evaluation_ids(self.results, arm, one) for one in (laid, laid.plain))
            if all(ids):
                groups.setdefault(ids, []).append(arm)
        return [tuple(arms) for arms in groups.values()]

    def _cost(self, arm: str, laid: EvaluationSet) -> Found:
        side = Side(arm, laid.stage)
        return self.compare(side, side, laid, first_part=laid.plain.part)

    def _differences(self, found: list[Found]) -> Iterator[Table]:
        if not any(len(frame) for _, frame in found):
            return
        label = self.numbering.extra("table", found[0][0])
        for in_paper in (True, False):
            table = differences_table(self.results, found, label=label, in_paper=in_paper)
            yield from [table] if table else []
