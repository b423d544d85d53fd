"""What the records say on items of reporting guidelines, a sentence or two each; empty where they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xferlab.analysis.claims import Verdicts, declared_when, verdicts_of
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.division import division, leaves_sites_out
from xferlab.analysis.selection import lineage
from xferlab.analysis.tables.model import heading_of, number
from xferlab.analysis.tables.notes import grey_levels
from xferlab.analysis.tables.overview import label_share, spread
from xferlab.analysis.tables.provenance import software
from xferlab.cohort import single_sections
from xferlab.plan.sharing import sections_of
from xferlab.records import reader
from xferlab.records.schema import TrialRecord

OPEN = "open: to be written by the authors"
"""With this begins an answer that is none."""
_NAMED = 6


@dataclass(frozen=True)
class Facts:
    """What answers are made of.

    Attributes:
        contents: The study.
        has_cases: Whether the report shows its worst cases.
    """

    contents: Contents
    has_cases: bool = True

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan document."""
        return self.contents.results.plan

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """The verdicts, where something is compared."""
        return verdicts_of(self.contents)

    @cached_property
    def records(self) -> Mapping[str, TrialRecord]:
        """The record of the baseline's first complete trial of each stage."""
        trials = self.contents.results.trials
        done = trials[(trials["arm"] == self.contents.results.baseline) & (trials["state"] == "complete")]
        first = done.drop_duplicates("stage").set_index("stage")["trial_id"]
        read = {
            str(stage): reader.read_trial(self.contents.results.store, id_) for stage, id_ in first.items()
        }
        return {stage: record for stage, record in read.items() if record is not None}

    def of_stages(self, text: Callable[[TrialRecord], str]) -> str:
        """Returns a text for each stage of the baseline; those of equal texts together."""
        stages: dict[str, list[str]] = {}
        for stage, record in self.records.items():
            if said := text(record):
                stages.setdefault(said, []).append(stage)
        texts = [f"{', '.join(names)}: {said}" for said, names in stages.items()]
        return f"{self.contents.results.baseline}: {'; '.join(texts)}." if texts else ""


def _sources(facts: Facts) -> str:
    texts = [
        f"{name}: {data.get('source')}"
        + (f", made to look like {data['simulate']}" if data.get("simulate") else "")
        for name, data in facts.plan["data"].items()
    ]
    return f"Sections of the data by their sources: {'; '.join(texts)}."


def _included(facts: Facts) -> str:
    texts = [
        f"{name} {data.get('cases')} images of {data.get('patients')} patients"
        for name, data in facts.plan["data"].items()
    ]
    return f"Included: {'; '.join(texts)}. How many were excluded before is not recorded."


def _trained(facts: Facts) -> str:
    counts = facts.contents.results.training_counts
    texts = [f"{arm}, {stage}: {spread(counts.loc[(stage, arm)], 'patients')}" for stage, arm in counts.index]
    more = "; and more" if len(texts) > _NAMED else ""
    return f"Patients that train: {'; '.join(texts[:_NAMED])}{more}: table of what each arm is trained on."


def _preprocessing(facts: Facts) -> str:
    def of(record: TrialRecord) -> str:
        model, training = (record.identity.get(part) or {} for part in ("model", "training"))
        given = {
            name: model.get(name) or training.get(name) for name in ("image_size", "intensity", "standardise")
        }
        return ", ".join(f"{name} {value}" for name, value in given.items() if value)

    sections = facts.plan["data"].items()
    cut = [name for name, data in sections if data.get("crop_black_band")]
    text = facts.of_stages(of) + (f" Black bands are cut off: {', '.join(cut)}." if cut else "")
    levels = [f"{name}: {done}" for name, data in sections if (done := grey_levels(data))]
    return text + (f" Grey levels: {'; '.join(levels)}." if levels else "")


def _subsets(facts: Facts) -> str:
    results, counts = facts.contents.results, facts.contents.results.training_counts
    shares = [
        f"{arm}, {stage}: {share}"
        for stage, arm in counts.index
        if (share := label_share(results, counts, (stage, arm)))
    ]
    asked = (
        "Shares of labels that were asked for (in parentheses: of the images that the baseline trains on, or "
        "of the set that is named)"
    )
    return f"{asked}: {'; '.join(shares)}." if shares else ""


def _pseudonyms(facts: Facts) -> str:
    named = [name for name, shared in sections_of(facts.plan).items() if shared]
    text = "Records name patients and images by keyed pseudonyms"
    return text + (f", but for sections that may be shared: {', '.join(named)}." if named else ".")


def _divided(facts: Facts) -> str:
    held = [
        f"{100 * data['hold_out']:g} % of {name}"
        for name, data in facts.plan["data"].items()
        if data.get("hold_out")
    ]
    return division(facts.plan) + (f" Held out of all training: {', '.join(held)}." if held else "")


def _disjoint(facts: Facts) -> str:
    column = (facts.plan.get("split") or {}).get("group_by")
    return f"Patients (column {column!r}), after joining ids that share an exposure." if column else "Images."


def _sample_size(facts: Facts) -> str:
    if facts.verdicts is None:
        return ""
    unit = facts.verdicts.metric.unit
    texts = [
        f"{verdict.title} {number(verdict.supportable, unit)}"
        for verdict in facts.verdicts.verdicts
        if verdict.supportable == verdict.supportable
    ]
    hindsight = (
        f"{OPEN}; not stated in advance. By hindsight, supported in about 80 % of such studies: a difference "
        "of"
    )
    return f"{hindsight} {'; '.join(texts)}." if texts else ""


def _model(facts: Facts) -> str:
    def of(record: TrialRecord) -> str:
        network = _fields(record.identity.get("model") or {})
        return f"{network}; {record.num_parameters:,} trained parameters" if network else ""

    return facts.of_stages(of)


def _training(facts: Facts) -> str:
    return facts.of_stages(lambda record: _fields(record.identity.get("training") or {}))


def _fields(section: Mapping[str, Any]) -> str:
    """Returns the fields of a section that are set, those of its parts in parentheses."""
    texts = {
        name: f"({_fields(value)})" if isinstance(value, Mapping) else str(value)
        for name, value in section.items()
        if value is not None
    }
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _imbalance(facts: Facts) -> str:
    return facts.of_stages(
        lambda record: (
            f"class weights {weights}"
            if (weights := (record.identity.get("training") or {}).get("class_weights"))
            else ""
        )
    )


def _starts(facts: Facts) -> str:
    chains = {}
    for arm in facts.contents.results.arms:
        trained = [
            stage for stage in facts.contents.results.stages if facts.contents.results.trial_ids(arm, stage)
        ]
        if trained:
            chains[arm] = " from ".join([*lineage(facts.plan, arm, trained[-1]), "its first weights"])
    text = "; ".join(f"{arm}: {chain}" for arm, chain in chains.items())
    return f"{text}. First weights are random or given, as the study file says." if chains else ""


def _software(facts: Facts) -> str:
    versions_of = software(facts.contents.results)
    packages = {f"{name} {version}" for name, versions in versions_of.items() for version in versions}
    return f"{', '.join(sorted(packages))}." if packages else ""


def _selection(facts: Facts) -> str:
    return facts.of_stages(
        lambda record: (
            "the last epoch, without a look at validation cases"
            if record.best_score is None
            else "the epoch with the best score on the validation part"
        )
    )


def _metrics(facts: Facts) -> str:
    names = facts.contents.aggregated["metric"].unique()
    shown = facts.contents.of_family(names, HEADLINE)
    headings = ", ".join(heading_of(metric) for metric in shown)
    return f"{headings}; all are defined in section Definitions." if shown else ""


def _claims(facts: Facts) -> str:
    if facts.verdicts is None:
        return ""
    verdicts = facts.verdicts
    titles = ", ".join(verdict.title for verdict in verdicts.verdicts)
    when = (
        declared_when(facts.contents.results, verdicts.claims)
        if verdicts.claims.declared
        else "not declared: exploratory"
    )
    judged = heading_of(verdicts.metric)
    return f"{titles}, by {judged} on {verdicts.claims.on} ({when})."


def _statistics(facts: Facts) -> str:
    if facts.verdicts is None:
        return ""
    adjusted = (
        f"; Holm's method over {len(facts.verdicts.verdicts)} contrasts"
        if facts.verdicts.claims.declared
        else ""
    )
    return (
        f"Paired differences with one interval and one p each, whose rule stands below each table{adjusted}."
    )


def _robustness(facts: Facts) -> str:
    results = facts.contents.results
    objects = sorted({each.evaluated.object for each in results.evaluations()} - {""})
    texts = [*([f"foreign objects: {', '.join(objects)}"] if objects else [])]
    texts += [f"subgroups by {', '.join(facts.plan['subgroups'])}"] if facts.plan.get("subgroups") else []
    return f"Measured with {'; '.join(texts)}." if texts else ""


def _sites(facts: Facts) -> str:
    return "Sites are left out one by one: section Site by site." if leaves_sites_out(facts.plan) else ""


def _internal(facts: Facts) -> str:
    sets = _measured_on(facts, learnt=True)
    return f"Measured on {sets}, of sections that a stage trains on." if sets else ""


def _external(facts: Facts) -> str:
    sets = _measured_on(facts, learnt=False)
    return f"Sections that no stage trains on: {sets}." if sets else ""


def _measured_on(facts: Facts, *, learnt: bool) -> str:
    """Returns the names of the sets of sections that some stage trains on, or that none does."""
    sections = {part for trial in facts.plan["trials"] for part in single_sections(str(trial["data"]))}
    sets = facts.contents.plain_sets
    measured = (each for each in sets if learnt == bool(sections.intersection(single_sections(each.section))))
    return ", ".join(dict.fromkeys(each.name for each in measured))


def _performance(facts: Facts) -> str:
    text = "tables of each stage: means, deviations, intervals of differences."
    return f"Section Result, {text}" if facts.plan.get("claims") else text.capitalize()


def _failures(facts: Facts) -> str:
    text = "Section Cases shows the worst images of each arm; why they fail is for the authors to say."
    return text if facts.has_cases else ""


def _protocol(facts: Facts) -> str:
    planned = facts.plan.get("planned")
    return f"Plan of {planned['at']}, digest {planned['digest']}: section Provenance." if planned else ""


ANSWERS: Mapping[str, str | Callable[[Facts], str]] = {
    "claims": _claims,
    "cohorts": "By pathology: table Cohorts. Age, sex and the like: tables of subgroups, if there are any.",
    "disjoint": _disjoint,
    "division": _divided,
    "external": _external,
    "failures": _failures,
    "imbalance": _imbalance,
    "included": _included,
    "internal": _internal,
    "metrics": _metrics,
    "model": _model,
    "performance": _performance,
    "preprocessing": _preprocessing,
    "protocol": _protocol,
    "pseudonyms": _pseudonyms,
    "robustness": _robustness,
    "sample_size": _sample_size,
    "selection": _selection,
    "sites": _sites,
    "software": _software,
    "sources": _sources,
    "starts": _starts,
    "statistics": _statistics,
    "subsets": _subsets,
    "thresholds": "Section Definitions says for each metric from which probability on a thing is called so.",
    "trained": _trained,
    "training": _training,
    "undefined": (
        "Undefined values of metrics are left out of means and counted; a contrast that loses more than 5 % "
        "of its images allows no claim."
    ),
}
"""Answers by the names that checklists use."""


def answer(name: str, facts: Facts) -> str:
    """Returns what the records say; empty where they say nothing."""
    text = ANSWERS[name]
    return text if isinstance(text, str) else text(facts)
