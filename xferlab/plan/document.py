"""`plan.json`: names -> ids with all that a report must know of a study; the totals that `plan` prints."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from statistics import fmean
from typing import Any

from xferlab.cohort import STEPS, Case
from xferlab.data.sources.registry import DataSection
from xferlab.plan import subgroups
from xferlab.plan.identity import short_id
from xferlab.plan.mask_sources import MaskSources
from xferlab.plan.plan import Plan
from xferlab.plan.spec import GATE, PLAN_VERSION, OtherSet, TrialSpec, without_nothing
from xferlab.study.compose import NAMES_OF_PATIENTS
from xferlab.study.split import Split
from xferlab.study.stage import Stage
from xferlab.study.tuned import Tuned
from xferlab.tasks import registry


def to_document(plan: Plan) -> dict[str, Any]:
    """Returns the JSON document that analysis, status and mirrors read in place of the study file."""
    base, mask_sources = plan.loaded.base, MaskSources(plan)
    names: dict[str, list[str]] = defaultdict(list)
    for name, trial_id in plan.names.items():
        names[trial_id].append(name)
    devices = sorted({trial.identity.execution.device for trial in plan.trials})
    return {
        "version": PLAN_VERSION,
        "study": base.study,
        "seed": base.seed,
        "profile": plan.loaded.profile,
        "repetitions": base.repetitions,
        "retries": base.retries,
        "device": devices[0] if devices else plan.setting.device,
        # What `auto` meant: whoever compares the study file with this plan elsewhere asks the same.
        "machine": {"device": plan.setting.device, "bfloat16": plan.setting.bfloat16},
        "note": base.note,
        "compare_to": base.compare_to,
        "tracking": base.tracking.wandb.model_dump(mode="json") if base.tracking.wandb else None,
        "split": split_of(base.split),
        "data": {
            name: {
                **_told(config),
                **_counts(plan.selector.cohort.sections[name]),
                **_tested(plan, plan.selector.cohort.sections[name]),
            }
            for name, config in base.data.items()
        },
        "stages": list(base.stages),
        "tasks": {name: stage.task for name, stage in base.stages.items()},
        # What reports say of metrics is what held when the study was planned.
        "metrics": [
            metric.to_json()
            for metric in registry.declared_metrics(
                [
                    *((stage.task, ()) for stage in base.stages.values()),
                    *((trial.identity.task, trial.targets) for trial in plan.trials),
                ],
                gated=any(trial.input(GATE) for trial in plan.trials),
                added=tuple(base.metrics),
            )
        ],
        **({"classes": [without_nothing(asdict(c), "arms") for c in plan.classes]} if plan.classes else {}),
        **({"subgroups": subgroups.of(plan)} if base.subgroups else {}),
        **({"claims": plan.claims.to_json()} if plan.claims else {}),
        "arms": {arm: _arm(plan, arm) for arm in plan.loaded.arms},
        "trials": [_trial(plan, trial, names[trial.trial_id], mask_sources) for trial in plan.trials],
        "warnings": [str(warning) for warning in plan.warnings],
    }


def provenance(plan: Plan) -> dict[str, Any]:
    """Returns what a plan was made of: the study file by name and digest, and a digest of each section."""
    path, sections = plan.loaded.path, plan.selector.cohort.sections
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    data = {name: short_id(sorted(case.digest for case in cases)) for name, cases in sections.items()}
    return {"file": {"name": path.name, "sha256": digest}, "data": data}


def totals(trials: Sequence[TrialSpec], plan: Plan, *, trained: Collection[str] = ()) -> dict[str, int]:
    """Returns how much a set of trials is: trials, epochs at most, training images at most, evaluations.

    No epochs are left of those that are `trained`, by id.
    """
    to_train = [trial for trial in trials if trial.trial_id not in trained]
    return {
        "trials": len(trials),
        "max_epochs": sum(trial.max_epochs for trial in to_train),
        "max_images": sum(
            trial.max_epochs * plan.part_sizes[selection]["train"]
            for trial in to_train
            for selection in trial.trained_selections
        ),
        "evaluations": sum(
            len({evaluation.evaluation_id for evaluation in trial.evaluations}) for trial in trials
        ),
    }


def _trial(plan: Plan, trial: TrialSpec, names: list[str], mask_sources: MaskSources) -> dict[str, Any]:
    sizes = plan.part_sizes[trial.selection]
    return {
        "trial_id": trial.trial_id,
        "names": names,
        "arms": list(trial.arms),
        "stage": trial.stage,
        "repetition": trial.repetition,
        "seed": trial.identity.seed,
        "inputs": [given.to_json() for given in trial.inputs],
        "data": trial.section,
        "selection": trial.selection,
        "targets": list(trial.targets),
        "max_epochs": trial.max_epochs,
        "image_size": trial.identity.image_size,
        "device": trial.identity.execution.device,
        "num_train": sizes["train"],
        "num_validation": sizes["validation"],
        "train_patients": len(plan.train_patients[trial.selection]),
        "evaluations": [evaluation.to_json() for evaluation in trial.evaluations],
        **({"others": [_other(plan, other) for other in trial.others]} if trial.others else {}),
        # Only where they are asked for.
        **({"features": without_nothing(asdict(trial.features), "predicted")} if trial.features else {}),
        **({"coordinates": dict(trial.coordinates)} if trial.coordinates else {}),
        **({"fold": trial.fold} if trial.fold else {}),
        **({"mask_sources": sources} if (sources := mask_sources.of(trial)) else {}),
    }


def _other(plan: Plan, other: OtherSet) -> dict[str, Any]:
    sizes = plan.part_sizes[other.selection]
    return {
        "name": other.name,
        "data": other.section,
        "selection": other.selection,
        "num_train": sizes["train"],
        "num_validation": sizes["validation"],
        "train_patients": len(plan.train_patients[other.selection]),
    }


def _told(config: DataSection) -> dict[str, Any]:
    """What a report says of a section; of what may be done to its images, what is done."""
    told = {"source", "note", "shareable", "simulate", "hold_out"}
    return {**config.model_dump(mode="json", include=told), **_steps(config)}


def _steps(config: DataSection) -> dict[str, Any]:
    """What is done to the images of a section; a step that is not done is not there."""
    return without_nothing(config.model_dump(mode="json", include=set(STEPS)), *STEPS)


def split_of(split: Split) -> dict[str, Any]:
    """What a study says of its split; of a file its name, since a path belongs to a machine."""
    rule = {name: value for name in ("folds", "by", "file") if (value := getattr(split, name)) is not None}
    if split.file is not None:
        rule["file"] = PurePath(split.file).name
    shares = {} if split.folds or split.file else split.model_dump(include={"train", "validation", "test"})
    repeats = {"repeats": split.repeats} if split.folds else {}
    repeats |= {"seeds_per_split": split.seeds_per_split} if split.seeds_per_split > 1 else {}
    kept = split.model_dump(mode="json", include={"group_by", "require_classes"})
    return {**shares, **rule, **repeats, **kept}


def _arm(plan: Plan, arm: str) -> dict[str, Any]:
    study, base, tuned = plan.loaded.arms[arm], plan.loaded.base, plan.loaded.tuned.get(arm)
    steps = {
        name: _steps(config)
        for name, config in study.data.items()
        if name in base.data and _steps(config) != _steps(base.data[name])
    }
    return {
        "description": described(plan.loaded.overrides.get(arm, {})),
        "shareable": {name: config.shareable for name, config in study.data.items()},
        "stages": {
            name: {
                "data": stage.section,
                "starts_from": stage.origins.get(""),
                **_more_inputs(stage),
                "repetitions": stage.repetitions if stage.data else None,
                "evaluate_on": stage.evaluate_on,
                **({} if stage.share is None else {"label_fraction": stage.share}),
                **_pools(plan, arm, name, stage),
            }
            for name, stage in study.stages.items()
        },
        # Only of sections whose images the arm has otherwise than `data` says.
        **({"steps": steps} if steps else {}),
        # Only where there is one: an arm that was not searched for says nothing.
        **({"tuned": [_search(plan, search) for search in tuned]} if tuned else {}),
    }


def described(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an arm changes, without the names of patients of sections that it gives as a whole."""
    return {
        path: {name: part for name, part in value.items() if name not in NAMES_OF_PATIENTS}
        if path.startswith("data.") and isinstance(value, Mapping)
        else value
        for path, value in overrides.items()
    }


def _search(plan: Plan, search: Tuned) -> dict[str, Any]:
    """What a report says of a search, and which hold-outs it is known to have spared."""
    told = search.model_dump(mode="json", exclude={"held_out"})
    return {**told, "same_hold_outs": plan.selector.same_hold_outs(search)}


def _more_inputs(stage: Stage) -> dict[str, Any]:
    """What a stage takes from others besides the weights of all of its networks, if anything."""
    networks = {name: parent for name, parent in stage.origins.items() if name}
    sets = {name: cases for name, cases in stage.sets.items() if name}
    gate = stage.gate.model_dump(mode="json", by_alias=True) if stage.gate else None
    more = {"sets": sets, "networks": networks, "masks": stage.masks, "gate": gate}
    return without_nothing(more, *more)


def _pools(plan: Plan, arm: str, name: str, stage: Stage) -> dict[str, Any]:
    """Returns how many patients train in at least one repetition of a stage, also of its other sets."""
    names = (f"{arm}/{name}/r{number:02d}" for number in range(1, (stage.repetitions or 0) + 1))
    pools = defaultdict[str, set[str]](set)
    for trial in (plan.by_id[plan.names[name]] for name in names if name in plan.names):
        for cases in trial.trained:
            pools[cases.name] |= plan.train_patients[cases.selection]
    of_others = {name: len(patients) for name, patients in pools.items() if name}
    own = len(pools[""]) if stage.data else None
    return {"pool_patients": own, **({"pools_of_others": of_others} if of_others else {})}


def _tested(plan: Plan, cases: Sequence[Case]) -> dict[str, float]:
    """How many patients of a section test in a repetition on average, where no share of the split says it."""
    if plan.loaded.base.split.file is None:
        return {}
    part_of, repetitions = plan.selector.part_of, range(1, plan.loaded.base.repetitions + 1)
    tested = ({case.patient for case in cases if part_of(number, case) == "test"} for number in repetitions)
    return {"test_patients": fmean(map(len, tested))}


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    by_pathology: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_pathology[case.pathology].append(case)
    return {
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "pathologies": {
            name: {"cases": len(group), "patients": len({case.patient for case in group})}
            for name, group in sorted(by_pathology.items())
        },
    }
