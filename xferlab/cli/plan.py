"""`xferlab plan`: what would run, before anything does."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xferlab.cli.cases import write_cases
from xferlab.cli.findings import print_warnings, refuse_unusable
from xferlab.cli.session import Session, of_arms
from xferlab.cli.view import wide_console
from xferlab.plan.document import to_document, totals
from xferlab.plan.expand import UNKNOWN_DONOR, Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records.complete import complete_trials

SHOWN_ARMS = 4
_FLOAT32 = (
    "The weights, the loss and every evaluation are float32. `training.precision: float32` computes all in "
    "float32, slower here, and gives the trials other ids."
)
PRECISIONS = {
    "bfloat16": "the network trains with numbers of 8 significant bits, which this device computes fast. "
    + _FLOAT32,
    "tf32": "convolutions of the training round their factors to 11 significant bits. " + _FLOAT32,
}
"""What the precisions mean that are not what they seem."""


def run(options: Namespace) -> int:
    """Prints the plan."""
    session = Session.open(options)
    plan = session.plan()
    trials = of_arms(plan, options.arms)
    complete = set(complete_trials(session.store, plan.loaded.base.study, trials))
    refuse_unusable(session, plan, (trial for trial in trials if trial.trial_id not in complete))
    if options.cases:
        write_cases(plan, Path(options.cases))
    print_warnings(session, plan, options, trials=trials)
    if options.json:
        print(json.dumps(_as_json(plan, trials, complete), indent=2))
        return 0
    _print(plan, trials, complete)
    return 0


def _as_json(plan: Plan, trials: Sequence[TrialSpec], complete: set[str]) -> dict[str, Any]:
    document = to_document(plan)
    chosen = {trial.trial_id for trial in trials}
    document["trials"] = [
        {**trial, "complete": trial["trial_id"] in complete}
        for trial in document["trials"]
        if trial["trial_id"] in chosen
    ]
    left = [trial for trial in trials if trial.trial_id not in complete]
    document["totals"] = {"all": totals(trials, plan), "left": totals(left, plan)}
    return document


def _print(plan: Plan, trials: Sequence[TrialSpec], complete: set[str]) -> None:
    console = wide_console()
    table = Table(title=f"study {plan.loaded.base.study}", title_justify="left", box=None, pad_edge=False)
    for column in (
        "trial",
        "id",
        "starts from",
        "train",
        "val.",
        "epochs <=",
        "evaluated on",
        "arms",
        "state",
    ):
        table.add_column(column, no_wrap=True)
    for trial in trials:
        sizes = plan.part_sizes[trial.selection]
        parents = [plan.by_id[parent].name for parent in trial.parents]
        origin = (
            trial.donor["name"] or trial.donor["path"] if trial.donor else ", ".join(parents) or "scratch"
        )
        table.add_row(
            trial.name,
            UNKNOWN_DONOR if trial.trial_id in plan.provisional else trial.trial_id,
            origin,
            str(sizes["train"]),
            str(sizes["validation"]),
            str(trial.identity["training"]["max_epochs"]),
            ", ".join(one.name for one in trial.evaluations),
            _shortened(trial.arms),
            "complete" if trial.trial_id in complete else "",
        )
    console.print(table)
    _print_totals(console, plan, trials, complete)


def _shortened(arms: Sequence[str]) -> str:
    more = f" and {len(arms) - SHOWN_ARMS} more" if len(arms) > SHOWN_ARMS else ""
    return ", ".join(arms[:SHOWN_ARMS]) + more


def _print_totals(console: Console, plan: Plan, trials: Sequence[TrialSpec], complete: set[str]) -> None:
    shared = Counter(len(trial.arms) > 1 for trial in trials)[True]
    left = totals([trial for trial in trials if trial.trial_id not in complete], plan)
    everything = totals(trials, plan)
    device = plan.trials[0].identity["execution"]
    console.print(
        f"{everything['trials']} trials ({len(complete)} complete, {shared} shared between arms), "
        f"{everything['evaluations']} evaluations, on {device['device']} in {device['precision']}"
    )
    if device["precision"] in PRECISIONS:
        console.print(f"{device['precision']}: {PRECISIONS[device['precision']]}", markup=False)
    console.print(
        f"left: {left['trials']} trials, at most {left['max_epochs']:,} epochs and "
        f"{left['max_images']:,} training images"
    )
