"""What trials will take: time, memory, storage, energy and cost, from the paces of trials like them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.study.prices import Prices
from xferlab.tasks.config import TrialIdentity

_HOUR_S, _GIB = 3600.0, 2**30
_ALIKE = ("task", "model", "execution")
"""Fields of an identity in which like trials agree, beside the size of their batches. The model has the size
of images, the execution the device."""

Bounds = tuple[int, int]
"""`max_epochs` and `patience` of a training."""


@dataclass(frozen=True)
class Pace:
    """What trials of one kind take.

    Attributes:
        basis: `records` of complete trials, or a `measured` minute of training.
        image_s: Seconds for each training image and epoch. From records they are those of whole trials, with
            loading, validation and evaluation.
        validated_s: Seconds for each image that is validated or evaluated; 0 where `image_s` has them.
        memory_gib: The peak: of the GPU's memory on CUDA, else of the process's.
        stored_bytes: What a complete trial takes in the storage; of a measured minute, its weights.
        trials: Number of records.
        devices: Names of the devices, sorted.
        epochs: How many epochs trainings had on average, by their bounds.
    """

    basis: Literal["records", "measured"]
    image_s: float
    validated_s: float
    memory_gib: float
    stored_bytes: float
    trials: int = 0
    devices: tuple[str, ...] = ()
    epochs: Mapping[Bounds, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Basis:
    """What an estimate rests on, for some of its trials.

    Attributes:
        basis: As of a pace; `unknown` where there is none, and nothing is estimated.
        trials: How many trials it is for.
        stages: Their stages.
        like: Number of complete trials like them.
        devices: Names of the devices that these ran on.
        all_epochs: How many of `trials` are counted with all the epochs that they may have.
    """

    basis: Literal["records", "measured", "unknown"]
    trials: int
    stages: tuple[str, ...]
    like: int = 0
    devices: tuple[str, ...] = ()
    all_epochs: int = 0


@dataclass(frozen=True)
class Estimate:
    """What some trials will take; those of an unknown pace are left out.

    Attributes:
        trials: How many are estimated.
        hours: Sum of their times.
        longest_hours: Time of the longest line of trials that need each other.
        gpu_hours: Hours of GPUs that they reserve.
        core_hours: Hours of CPU cores that they reserve.
        gpu_memory_gib: Largest peak of one trial on CUDA; None without such a trial.
        memory_gib: Largest peak of one trial on the CPU; None without such a trial.
        storage_gib: What they add to the storage.
        energy_kwh: None where the study gives no power of what the trials use.
        cost: In `currency`; None where the study gives no price of what the trials use.
        currency: None where the study gives no price at all.
        rests_on: What all of this rests on.
    """

    trials: int
    hours: float
    longest_hours: float
    gpu_hours: float
    core_hours: float
    gpu_memory_gib: float | None
    memory_gib: float | None
    storage_gib: float
    energy_kwh: float | None
    cost: float | None
    currency: str | None
    rests_on: tuple[Basis, ...]


def kind_of(identity: Mapping[str, Any]) -> str:
    """Returns what like trials have in common, of an identity's JSON: network, sizes, batch size, device."""
    return json.dumps(
        [identity["training"]["batch_size"], *(identity[name] for name in _ALIKE)], sort_keys=True
    )


def kinds(trials: Sequence[TrialSpec]) -> dict[str, str]:
    """Returns the kind of each trial, by id."""
    known: dict[tuple[int, ...], str] = {}  # the trials of a stage share these parts of their identities

    def kind(identity: TrialIdentity) -> str:
        parts = (id(identity.model), id(identity.training), id(identity.execution))
        if parts not in known:
            known[parts] = kind_of(identity.to_json())
        return known[parts]

    return {trial.trial_id: kind(trial.identity) for trial in trials}


def estimate(
    plan: Plan,
    trials: Sequence[TrialSpec],
    paces: Mapping[str, Pace],
    *,
    done: Mapping[str, int],
) -> Estimate:
    """Returns what trials of a plan will take.

    Args:
        plan: The plan; its study may have prices.
        trials: Parents before children.
        paces: Pace of each kind (of `kinds`) that is known.
        done: Epochs that are done already, by trial id.
    """
    prices, of_trials = plan.loaded.base.prices or Prices(), kinds(trials)
    known = [(trial, paces[kind]) for trial in trials if (kind := of_trials[trial.trial_id]) in paces]
    hours: dict[str, float] = {}
    ends: dict[str, float] = {}
    for trial, pace in known:
        name = trial.trial_id
        hours[name] = _seconds(plan, trial, pace, done.get(name, 0)) / _HOUR_S
        ends[name] = hours[name] + max((ends.get(parent, 0.0) for parent in trial.parents), default=0.0)
    used = {
        "gpu_hours": sum(hours[trial.trial_id] * trial.gpus for trial, _ in known),
        "core_hours": sum(hours[trial.trial_id] * trial.settings.resources.cpu for trial, _ in known),
    }
    peaks = [(trial.identity.execution.device, pace.memory_gib) for trial, pace in known]
    return Estimate(
        trials=len(known),
        hours=sum(hours.values()),
        longest_hours=max(ends.values(), default=0.0),
        **used,
        gpu_memory_gib=max((peak for device, peak in peaks if device == "cuda"), default=None),
        memory_gib=max((peak for device, peak in peaks if device == "cpu"), default=None),
        storage_gib=sum(pace.stored_bytes for _, pace in known) / _GIB,
        energy_kwh=prices.energy_kwh(**used),
        cost=prices.cost(**used),
        currency=prices.currency if prices.has_price else None,
        rests_on=_rests_on(trials, of_trials, paces),
    )


def _seconds(plan: Plan, trial: TrialSpec, pace: Pace, done: int) -> float:
    epochs = max(1.0, pace.epochs.get(_bounds(trial), trial.max_epochs) - done)
    sizes = [plan.part_sizes[selection] for selection in trial.trained_selections]
    num_train, num_validation = (sum(size[part] for size in sizes) for part in ("train", "validation"))
    measured = {evaluation.evaluation_id: evaluation.selection for evaluation in trial.evaluations}
    evaluated = sum(len(plan.selections[selection].rows) for selection in measured.values())
    trained_s = epochs * (num_train * pace.image_s + num_validation * pace.validated_s)
    return trained_s + evaluated * pace.validated_s


def _bounds(trial: TrialSpec) -> Bounds:
    return trial.identity.training.max_epochs, trial.identity.training.patience


def _rests_on(
    trials: Sequence[TrialSpec], of_trials: Mapping[str, str], paces: Mapping[str, Pace]
) -> tuple[Basis, ...]:
    groups: dict[Literal["records", "measured", "unknown"], list[TrialSpec]] = {}
    for trial in trials:
        pace = paces.get(of_trials[trial.trial_id])
        groups.setdefault(pace.basis if pace else "unknown", []).append(trial)
    found = []
    for basis, group in groups.items():
        of_group = {of_trials[trial.trial_id] for trial in group}
        used = [paces[kind] for kind in of_group if kind in paces]
        bounded = (_bounds(trial) in paces[of_trials[trial.trial_id]].epochs for trial in group if used)
        found.append(
            Basis(
                basis,
                len(group),
                tuple(dict.fromkeys(trial.stage for trial in group)),
                like=sum(pace.trials for pace in used),
                devices=tuple(sorted({device for pace in used for device in pace.devices})),
                all_epochs=sum(not is_known for is_known in bounded),
            )
        )
    return tuple(found)
