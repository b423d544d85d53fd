"""What `xferlab plan` says of the time, memory, storage, energy and cost of what is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xferlab.cli.session import Session
from xferlab.cli.view import count_of, duration, say
from xferlab.errors import XferlabError, listed
from xferlab.plan.estimate import Basis, Estimate, Pace, estimate, kinds
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records.paces import paces

SHOWN_STAGES = 4
MEASURED_S = 60.0
"""Time that `--measure` trains in all."""


def estimated(
    session: Session, plan: Plan, rows: Mapping[str, Mapping[str, Any]], *, measure: bool
) -> Estimate | None:
    """Returns what those trials will take that are not complete; None where all are.

    Args:
        session: The study.
        plan: Its plan.
        rows: The state of each trial of interest, by id, as of `status.states`.
        measure: Whether to train for a minute where no complete trial tells the pace.
    """
    trials = [plan.by_id[trial_id] for trial_id in rows]
    left = [trial for trial in trials if rows[trial.trial_id]["state"] != "complete"]
    if not left:
        return None
    of_trials = kinds(plan.trials)
    own: dict[str, list[str]] = defaultdict(list)
    for trial in trials:
        if rows[trial.trial_id]["state"] == "complete":
            own[of_trials[trial.trial_id]].append(trial.trial_id)
    wanted = dict.fromkeys(of_trials[trial.trial_id] for trial in left)
    known = paces(session.store, wanted, own)
    if measure:
        lacking = [trial for trial in left if of_trials[trial.trial_id] not in known]
        known |= _measured(session, plan, lacking, of_trials)
    return estimate(plan, left, known, done={name: _done(row) for name, row in rows.items()})


def _measured(
    session: Session, plan: Plan, trials: Sequence[TrialSpec], of_trials: Mapping[str, str]
) -> dict[str, Pace]:
    """Trains the first trial of each kind, all together for `MEASURED_S`; says what cannot be measured."""
    chosen: dict[str, TrialSpec] = {}
    for trial in trials:
        if not trial.predicted:
            chosen.setdefault(of_trials[trial.trial_id], trial)
    if not chosen:
        return {}
    say(f"training {count_of(len(chosen), 'trial')} for {MEASURED_S:.0f} s in all, to measure the pace")
    from xferlab.trial.measured import measured  # takes PyTorch

    limit_s, of_kinds = MEASURED_S / len(chosen), dict[str, Pace]()
    for kind, trial in chosen.items():
        try:
            of_kinds[kind] = measured(trial, plan.selections, cache_dir=session.cache_dir, limit_s=limit_s)
        except (XferlabError, MemoryError, RuntimeError) as error:  # PyTorch's are RuntimeErrors
            say(f"{trial.name} cannot be measured: {error}")
    return of_kinds


def _done(row: Mapping[str, Any]) -> int:
    """Epochs that a trial need not train any more: all of a trained one that lacks measurements."""
    if row.get("stopped_by"):
        return int(row["max_epochs"])
    kept = row.get("continues")
    return int(kept["epoch"] if kept else row["epochs"])


def described(found: Estimate, *, tried: bool) -> Iterator[str]:
    """Yields lines for people; those about what is unknown advise to measure unless that was `tried`."""
    if found.trials:
        yield f"estimate: {'; '.join(_amounts(found))}"
    for basis in found.rests_on:
        yield f"  {_basis(basis, tried)}"


def _amounts(found: Estimate) -> Iterator[str]:
    yield f"about {duration(found.hours * 3600)} of trials, one after another"
    yield f"at least {duration(found.longest_hours * 3600)}, however many run at once"
    gpus = f"{_number(found.gpu_hours)} GPU-hours and " if found.gpu_hours else ""
    yield f"{gpus}{_number(found.core_hours)} core-hours"
    for peak, what in ((found.gpu_memory_gib, "GPU memory"), (found.memory_gib, "memory")):
        if peak is not None:
            yield f"{_number(peak)} GiB of {what} for the largest trial"
    yield f"{_number(found.storage_gib)} GiB of storage"
    if found.energy_kwh is not None:
        yield f"{_number(found.energy_kwh)} kWh"
    if found.cost is not None:
        yield f"{_number(found.cost)} {found.currency}"
    elif found.currency is not None and found.hours:
        used = "GPUs or CPU cores" if found.gpu_hours else "CPU cores, and no GPU is used"
        yield f"no cost, since `prices` has none for {used}"


def _number(value: float) -> str:
    """Returns an amount with as many digits as an estimate has."""
    if 0 < value < 0.01:
        return "under 0.01"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _basis(basis: Basis, tried: bool) -> str:
    number = count_of(basis.trials, "trial")
    bounded = basis.all_epochs
    counted = f", {'all' if bounded == basis.trials else bounded} with all epochs that are allowed"
    epochs = counted if bounded else ", with as many epochs as those had"
    if basis.basis == "records":
        on = ", ".join(basis.devices)
        return f"{number}: from {count_of(basis.like, 'like trial')} on {on}{epochs}"
    if basis.basis == "measured":
        return f"{number}: from a measured minute{epochs}; without loading, metrics and checkpoints"
    return (
        f"{number}: unknown, not in these numbers (stages {listed(basis.stages, SHOWN_STAGES)}); "
        f"no complete trial of this storage is like them{'' if tried else '; --measure trains for a minute'}"
    )
