"""Expansion of one arm into its trials."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from xferlab.cohort import single_sections
from xferlab.plan.arm_checks import ArmChecks
from xferlab.plan.evaluations import Evaluations
from xferlab.plan.growing import Growing
from xferlab.plan.identity import seed_for
from xferlab.plan.inputs import Inputs, Taken, identity_of
from xferlab.plan.other_sets import Chosen
from xferlab.plan.selection import PartCases, Reading
from xferlab.plan.spec import Input, TrialSpec
from xferlab.plan.template import Template
from xferlab.study.schema import Study


class ArmExpansion:
    """The expansion of one arm: of each of its stages when the stages that it needs are expanded."""

    def __init__(self, growing: Growing, name: str, study: Study, arms: Mapping[str, ArmExpansion]):
        self.growing, self.name, self.study = growing, name, study
        self.ids: dict[tuple[str, int], str] = {}
        self._arms = arms
        self._expanded: set[str] = set()
        self._folds: dict[tuple[str, int, int], dict[str, str]] = {}
        self._read = cache(partial(Reading.of, study))
        self._template = cache(partial(Template.of, study, name, growing=growing, read=self._read))
        self._inputs = Inputs(growing, name, study, arms=arms, own=self)
        self._evaluations = Evaluations(growing, name, study, read=self._read)
        self._checks = ArmChecks(growing, name, study, self._evaluations)

    def expand(self) -> None:
        """Adds the arm's trials, evaluations, problems and warnings."""
        for stage in stages_in_order(self.study):
            self._expand(stage)

    def _expand(self, stage_name: str) -> None:
        if stage_name in self._expanded or self._checks.has_strangers:
            return
        self._expanded.add(stage_name)
        stage = self.study.stages[stage_name]
        if stage.section is None:
            return
        template = self._template(stage_name)
        numbers = range(1, (stage.repetitions or self.study.repetitions) + 1)
        self._checks.execution(stage_name, template.spec.identity.execution)
        for repetition in numbers:
            self._add(template, repetition)
        trials = [self.ids[stage_name, number] for number in numbers if (stage_name, number) in self.ids]
        self._checks.everywhere(stage_name, [self.growing.trials[trial] for trial in trials])

    def trial(self, stage: str, repetition: int) -> str | None:
        """Returns the id of a stage's trial; None where the split leaves it without one."""
        self._expand(stage)
        return self.ids.get((stage, repetition))

    def out_of_fold(
        self, stage: str, repetition: int, number: int, units: Collection[str]
    ) -> Mapping[str, str]:
        """Returns by unit which trial has not trained on it, for all units that a stage's trial trains on.

        Args:
            stage: The stage.
            repetition: Of its trial.
            number: Into how many folds its training units are dealt.
            units: Those whose predictions are wanted; without one that it trains on, there is nothing to do.
        """
        selector, key = self.growing.selector, (stage, repetition, number)
        template = self._template(stage)
        selected, unit_of = self._selected(template, repetition), selector.units(template.reading)
        rows = selector.selections[selected.digest].rows
        trained = {unit_of[row[0]] for row in rows if row[1] == "train"}
        paired = self.growing.trials[self.ids[stage, repetition]]
        self._checks.fold(paired, frozenset(units) - selected.units)
        if trained.isdisjoint(units):
            return {}
        if len(trained) < number:
            self._checks.few_units(stage, repetition, number, len(trained))
        elif key not in self._folds:
            dealt = selector.cohort.dealt(trained, number, repetition)
            folds = [frozenset(unit for unit in trained if dealt[unit] == fold) for fold in range(number)]
            trials = [self._fold(template, repetition, fold, units) for fold, units in enumerate(folds, 1)]
            self._folds[key] = {unit: trials[fold] for unit, fold in dealt.items()}
        return self._folds.get(key, {})

    def _fold(self, template: Template, repetition: int, fold: int, left_out: frozenset[str]) -> str:
        """Adds the trial of a fold, once; returns its id."""
        paired = self._selected(template, repetition)
        selected = self.growing.selector.without(template.reading, paired, left_out)
        taken = self._taken(template, repetition, selected)
        assert taken is not None, "the trial of the repetition has all that it takes"
        spec = self._trial(template, repetition, selected, taken=taken, fold=fold)
        self._note(spec, selected.units)
        self._checks.fold(spec, left_out)
        why = f"a fold of its training part leaves one image in repetition {repetition} (`out_of_fold`)"
        self._checks.single(spec.stage, selected, why)
        return spec.trial_id

    def _selected(self, template: Template, repetition: int) -> PartCases:
        return self.growing.selector.select(template.reading, "fit", repetition, labels=template.labels)

    def _add(self, template: Template, repetition: int) -> None:
        stage_name = template.spec.stage
        selected = self._selected(template, repetition)
        taken = self._taken(template, repetition, selected)
        others = tuple(template.others.of(self.growing.selector, repetition))
        has_cases = all(cases.counts["train"] for cases in (selected, *(each.selected for each in others)))
        lacks = self.growing.left_out.lacks_trial
        if lacks(stage_name, repetition, has_parent=taken is not None, has_cases=has_cases) or taken is None:
            return  # under any other rule, the arm of what it takes has been refused
        first_set = template.spec.first_set
        self._checks.cases(stage_name, template.spec.section, selected, repetition, set_name=first_set)
        for each in others:
            section, name = each.cases.section, each.cases.name
            self._checks.cases(stage_name, section, each.selected, repetition, set_name=name)
        spec = self._trial(template, repetition, selected, taken=taken, others=others)
        units = selected.units
        if others:  # else a copy of each trial's units would be kept
            units = units.union(*(other.selected.units for other in others))
        self._note(spec, units)
        self.ids[stage_name, repetition] = spec.trial_id

    def _taken(self, template: Template, repetition: int, selected: PartCases) -> Taken | None:
        """Returns what a trial takes from others; None where one of them does not exist."""
        units = selected.units
        if template.producers:
            units |= self._evaluations.units(template, repetition)
        return self._inputs.of(template, repetition, units)

    def _trial(
        self,
        template: Template,
        repetition: int,
        selected: PartCases,
        *,
        taken: Taken,
        fold: int = 0,
        others: Sequence[Chosen] = (),
    ) -> TrialSpec:
        """Returns a trial; one of a fold is not measured."""
        stage_name, selector = template.spec.stage, self.growing.selector
        units = selector.units_of(template.reading, selected) if taken.givings else {}
        predicted = taken.predicted(template.reading, units)
        coordinates: dict[str, str | int] = {"stage": stage_name, "repetition": repetition}
        coordinates |= {"fold": fold} if fold else {}
        identity, trial_id = template.identified(
            {
                "selection": selected.digest,
                "seed": seed_for(self.study.seed, **coordinates),
                "others": {other.cases.name: other.selected.digest for other in others} or None,
                **identity_of(taken, predicted),
            }
        )
        measured = {} if fold else self._measured(template, trial_id, repetition, taken)
        return replace(
            template.spec,
            trial_id=trial_id,
            name=f"{self.name}/{stage_name}/r{repetition:02d}" + (f"/f{fold}" if fold else ""),
            repetition=repetition,
            fold=fold or None,
            coordinates=selector.cohort.rule.coordinates(repetition),
            identity=identity,
            selection=selected.digest,
            inputs=taken.inputs,
            predicted=predicted,
            others=tuple(other.cases for other in others),
            **measured,
        )

    def _measured(self, template: Template, trial_id: str, repetition: int, taken: Taken) -> dict[str, Any]:
        """Returns what a trial is measured on and stores of its features, and the sections that it reads."""
        spec = template.spec
        features, data = self.growing.probe.of(trial_id, spec.identity, spec.data, taken.predicted)
        evaluations = tuple(self._evaluations.of(template, trial_id, repetition, taken))
        return {"features": features, "data": data, "evaluations": evaluations}

    def _note(self, spec: TrialSpec, units: frozenset[str]) -> None:
        """Adds a trial with all units that it learns from, or its evaluations to one that another arm has."""
        growing = self.growing
        known = growing.trials.get(spec.trial_id)
        if known and known.targets != spec.targets:
            self._checks.names(known, spec)
        growing.trials[spec.trial_id] = _merged(known, spec) if known else spec
        growing.trained_units[spec.trial_id] = units
        growing.names[spec.name] = spec.trial_id


def _merged(known: TrialSpec, other: TrialSpec) -> TrialSpec:
    """A trial that several arms use, with all of their evaluations.

    An arm may have other cases under a section's name. Its evaluations then read another configuration.
    """
    data = dict(known.data)
    for own_set, its_set in zip(known.trained, other.trained, strict=True):
        pairs = zip(single_sections(own_set.source), single_sections(its_set.source), strict=True)
        data |= {own: _as_private(data[own], other.data[its]) for own, its in pairs}
    evaluations = {
        (evaluation.evaluation_id, evaluation.name): evaluation for evaluation in known.evaluations
    }
    for evaluation in other.evaluations:
        key = evaluation.evaluation_id, evaluation.name
        if same := evaluations.get(key):
            evaluations[key] = replace(same, arms=same.arms + evaluation.arms)
            continue
        sources = []
        for section in single_sections(evaluation.section):
            config = other.data[section]
            differs = data.setdefault(section, config) != config
            sources.append(f"{section}@{other.arms[0]}" if differs else section)
            data[sources[-1]] = config
        source = "+".join(sources)
        evaluations[key] = replace(evaluation, source="" if source == evaluation.section else source)
    return replace(
        known,
        arms=known.arms + other.arms,
        inputs=tuple(map(_joined, known.inputs, other.inputs)),
        evaluations=tuple(evaluations.values()),
        data=data,
    )


def _as_private(known: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is known of a section whose images another arm reads, too: private if it is to either."""
    return known if other.get("shareable") is True else {**known, "shareable": False}


def _joined(known: Input, other: Input) -> Input:
    """What two arms take in a role; evaluations of one may need trials that predict out of fold."""
    return replace(known, trials=tuple(dict.fromkeys((*known.trials, *other.trials))))


def stages_in_order(study: Study) -> list[str]:
    """Returns stage names with parents before children: by generation, then in file order."""
    return sorted(study.stages, key=study.generation)
