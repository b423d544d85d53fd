"""What the records tell of a trial for its model card, as plain values: the exports know no analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xferlab.cli.trials import StoredTrial
from xferlab.cohort import single_sections
from xferlab.data.sources.registry import section_if_known
from xferlab.errors import RecordError, UsageError
from xferlab.exporting.facts import Facts, ResultFacts, SectionFacts
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.store import Store

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

    from xferlab.analysis.contents import Contents


def facts_of(trial: StoredTrial, *, licence: str, with_results: bool) -> Facts:
    """Returns what the records tell of a trial; its results take all tables of its study.

    Raises:
        UsageError: No last plan of a study names it.
        RecordError: Its spec or that of a trial that it starts from is missing, or the plan is damaged.
    """
    if not trial.studies:
        raise UsageError(
            f"{trial.store.shown}: no study's last plan names trial {trial.trial_id}; run its study again"
        )
    store, study = trial.store, trial.studies[0]
    plan = reader.read_plan(store, study)
    entry = next(row for row in plan["trials"] if row["trial_id"] == trial.trial_id)
    record, spec = reader.read_trial(store, trial.trial_id), reader.read_spec(store, trial.trial_id)
    if record is None or spec is None:
        raise RecordError(f"trial {trial.trial_id}: its records are missing; run the study again")
    arm, stage = entry["names"][0].split("/")[:2]
    return Facts(
        study=study,
        arm=arm,
        stage=stage,
        repetition=entry["repetition"],
        trial_id=trial.trial_id,
        task=spec.identity.task,
        network=spec.identity.model.model_dump()["name"],
        parameters=record.num_parameters,
        starts_from=_origins(spec, plan),
        patients=entry["train_patients"],
        images=record.num_train,
        validation_images=record.num_validation,
        sections=tuple(_sections(store, spec, plan)),
        results=tuple(_results(trial, study, (arm, stage, entry["repetition"]))) if with_results else (),
        notes=tuple(_notes(spec, plan)),
        weights_sha256=record.weights_sha256,
        licence=licence,
        others=_others(entry, plan),
    )


def _origins(spec: TrialSpec, plan: Mapping[str, Any]) -> str:
    """Returns what a training started from; a file only by its digest, since a path belongs to a machine."""
    names = {trial["trial_id"]: trial["names"][0] for trial in plan["trials"]}
    texts = []
    for given in spec.origins:
        if donor := given.donor:
            text = donor.name or f"a weights file, SHA-256 {donor.sha256}"
        else:
            text = ", or ".join(f"trial {names.get(trial, trial)} ({trial})" for trial in given.trials)
        texts.append(f"{given.network}: {text}" if given.network else text)
    return "; ".join(texts)


def _trained(spec: TrialSpec) -> list[str]:
    return list(dict.fromkeys(name for cases in spec.trained for name in single_sections(cases.section)))


def _inherited(store: Store, spec: TrialSpec) -> list[str]:
    """Returns the sections that the trials learnt from whose weights a training goes back to."""
    before, ahead = dict[str, TrialSpec](), [spec]
    while ahead:
        parents = dict.fromkeys(trial for given in ahead.pop().origins for trial in given.trials)
        new = {trial: reader.required_spec(store, trial) for trial in parents if trial not in before}
        before |= new
        ahead += new.values()
    return list(dict.fromkeys(name for each in before.values() for name in _trained(each)))


def _sections(store: Store, spec: TrialSpec, plan: Mapping[str, Any]) -> Iterator[SectionFacts]:
    trained, inherited = _trained(spec), _inherited(store, spec)
    measured = [name for each in spec.evaluations for name in single_sections(each.section)]
    for name in dict.fromkeys([*trained, *measured, *inherited]):
        told = plan["data"].get(name, {})
        config = section_if_known(spec.data.get(name, {}))
        yield SectionFacts(
            name=name,
            source=told.get("source", "unknown"),
            contents=config.contents if config else "",
            images=told.get("cases", 0),
            patients=told.get("patients", 0),
            is_trained_on=name in trained,
            is_measured_on=name in measured,
            is_inherited=name in inherited,
        )


def _notes(spec: TrialSpec, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yields the notes of shareable sections: those of others may be meant for few."""
    for name in _trained(spec):
        told = plan["data"].get(name, {})
        if told.get("note") and told.get("shareable") is True:
            yield f"{name}: {told['note']}"


def _others(entry: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str]:
    numbers = {
        name: str(value) for name, value in entry.get("coordinates", {}).items() if isinstance(value, int)
    }
    return {
        "Seed of the study": str(plan["seed"]),
        "Targets": ", ".join(entry["targets"]) or "none",
        **numbers,
    }


def _results(trial: StoredTrial, study: str, place: tuple[str, str, int]) -> Iterator[ResultFacts]:
    """Yields the headline metrics of a trial, and of its arm as the report has them."""
    from xferlab.analysis.aggregation import MIN_PATIENTS, aggregate
    from xferlab.analysis.contents import Contents
    from xferlab.analysis.loading import load_study

    arm, stage, repetition = place
    contents = Contents(load_study(trial.store.location, study))
    cases = contents.cases
    cases = cases[(cases["arm"] == arm) & (cases["stage"] == stage) & (cases["repetition"] == repetition)]
    if cases.empty:
        return
    own = _values(aggregate(cases, planned={}, sets=contents.sets))
    frame = contents.aggregated
    frame = frame[(frame["arm"] == arm) & (frame["stage"] == stage)]
    for row in _ordered(contents, frame):
        metric = contents.results.metrics.named(row["metric"])
        value = own.get((row["section"], row["part"], row["metric"]))
        if value is None or value != value:
            continue
        is_few = row["num_repetitions"] < 2 or row["num_patients"] < MIN_PATIENTS
        yield ResultFacts(
            on=f"{row['section']}.{row['part']}",
            metric=row["metric"],
            label=contents.heading(metric),
            value=value,
            mean=float(row["mean"]),
            sd=None if is_few else float(row["sd_repetitions"]),
            repetitions=int(row["num_repetitions"]),
            images=int(row["num_images"]),
            patients=int(row["num_patients"]),
        )


def _values(frame: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    from xferlab.analysis.selection import ALL

    rows = frame[frame["pathology"] == ALL].to_dict("records")
    return {(row["section"], row["part"], row["metric"]): float(row["mean"]) for row in rows}


def _ordered(contents: Contents, frame: pd.DataFrame) -> Iterator[Mapping[Any, Any]]:
    """Yields the rows over all pathologies, set by set, the metrics of each in the report's order."""
    from xferlab.analysis.selection import ALL

    rows = frame[frame["pathology"] == ALL]
    shown = [
        metric.name
        for metric in contents.results.metrics.ordered(rows["metric"])
        if metric.prominence != "further"
    ]
    for _, group in rows.groupby(["section", "part"], sort=False):
        by_metric = {row["metric"]: row for row in group.to_dict("records")}
        yield from (by_metric[name] for name in shown if name in by_metric)
