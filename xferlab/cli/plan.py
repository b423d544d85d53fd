"""`xferlab plan`: what would run, before anything does."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xferlab.cli.continuing import continuations, cut_off
from xferlab.cli.estimate import described as estimate_lines
from xferlab.cli.estimate import estimated
from xferlab.cli.findings import print_warnings, refuse_unusable
from xferlab.cli.options import PlanOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session, of_arms
from xferlab.cli.status import described, states
from xferlab.cli.view import print_table
from xferlab.cli.written import write_file
from xferlab.errors import listed
from xferlab.plan.document import to_document, totals
from xferlab.plan.left_out import NO_CASE, NO_TRIAL
from xferlab.plan.plan import UNKNOWN_DONOR, Plan
from xferlab.plan.spec import Input, TrialSpec
from xferlab.schedule.moves import last_document, moved

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
HEADERS = (
    "trial", "id", "starts from", "train", "val.", "epochs <=", "evaluated on", "arms", "state",
)  # fmt: skip
CASE_COLUMNS = (
    "section", "case", "recorded_name", "recorded_patient", "name", "patient", "pathology", "simulated",
)  # fmt: skip


def run(options: PlanOptions) -> int:
    """Prints the plan."""
    session = Session.open(options)
    plan = session.plan()
    trials = of_arms(plan, options.arms)
    rows = states(session.store, session.study, trials)
    found = {row["trial_id"]: described(row) for row in rows}
    complete = {trial_id for trial_id, state in found.items() if state == "complete"}
    left = [trial for trial in trials if trial.trial_id not in complete]
    refuse_unusable(session, plan, left)
    if options.cases:
        write_cases(plan, options.cases)
    print_warnings(session, plan, trials)
    moves = moved(plan, session.store, last_document(session.store, session.study))
    trained = {row["trial_id"] for row in rows if row.get("stopped_by")}
    all_and_left = {"all": totals(trials, plan), "left": totals(left, plan, trained=trained)}
    estimate = estimated(session, plan, {row["trial_id"]: row for row in rows}, measure=options.measure)
    told = {"totals": all_and_left, "moved": moves, "estimate": estimate and asdict(estimate)}
    if options.json:  # the document of a large plan takes time
        tell(**_as_json(plan, trials, complete), **told)
    _print(plan, trials, found)
    done = [row for row in rows if row["state"] == "complete"]
    ends = {row["trial_id"]: (row["stopped_by"], row["best_score"]) for row in done}
    for line in (*filter(None, [moves]), *continuations(session, left), *cut_off(plan, ends)):
        print(line)
    print(*_claims(plan), *(_power(session, plan) if options.power else ()), sep="\n")
    _print_totals(plan, trials, len(complete), len(trained - complete), **all_and_left)
    if estimate:
        print(*estimate_lines(estimate, tried=options.measure), sep="\n")
    return 0


def write_cases(plan: Plan, path: str) -> None:
    """Writes a row for every case of every section (CSV, UTF-8), and its part in each repetition.

    The table leads from a record's pseudonyms back to patients and files, so only the user can read it.

    Raises:
        UsageError: It cannot be written.
    """
    repetitions = range(1, plan.loaded.base.repetitions + 1)
    rows = [(*CASE_COLUMNS, *(f"part_r{repetition:02d}" for repetition in repetitions))]
    for section, case, recorded in plan.selector.listed():
        parts = (plan.selector.part_of(repetition, case) for repetition in repetitions)
        names = (recorded.name, recorded.patient, case.name, case.patient, case.pathology, case.simulated)
        rows.append((section, case.digest, *names, *parts))
    text = io.StringIO()
    csv.writer(text).writerows(dict.fromkeys(rows))
    write_file(path, text.getvalue(), shown=f"--cases {path}", private=True)


def _as_json(plan: Plan, trials: Sequence[TrialSpec], complete: set[str]) -> dict[str, Any]:
    document, chosen = to_document(plan), {trial.trial_id for trial in trials}
    return {
        **document,
        "trials": [
            {**trial, "complete": trial["trial_id"] in complete}
            for trial in document["trials"]
            if trial["trial_id"] in chosen
        ],
    }


def _print(plan: Plan, trials: Sequence[TrialSpec], states: Mapping[str, str]) -> None:
    has_coordinates = any(trial.coordinates for trial in trials)
    has_predictions = any(_predictions(plan, trial) for trial in trials)
    headers = ["trial", *(["tests"] if has_coordinates else []), *HEADERS[1:3]]
    headers += [*(["predictions"] if has_predictions else []), *HEADERS[3:]]
    rows = []
    for trial in trials:
        sizes = plan.part_sizes[trial.selection]
        cells = (
            trial.name,
            *([", ".join(f"{k} {v}" for k, v in trial.coordinates.items())] if has_coordinates else []),
            UNKNOWN_DONOR if trial.trial_id in plan.provisional else trial.trial_id,
            ", ".join(_origin(plan, given) for given in trial.origins) or "scratch",
            *([_predictions(plan, trial)] if has_predictions else []),
            str(sizes["train"]),
            str(sizes["validation"]),
            str(trial.max_epochs),
            ", ".join(evaluation.name for evaluation in trial.evaluations),
            listed(trial.arms, SHOWN_ARMS),
            states[trial.trial_id],
        )
        rows.append(cells)
    print_table(headers, rows, title=f"study {plan.loaded.base.study}")
    print(*plan.classes, sep="\n", end="\n" if plan.classes else "")
    for warning in plan.warnings:
        if warning.kind in (NO_TRIAL, NO_CASE):
            print(f"{warning.where}: {warning.what}")


def _origin(plan: Plan, given: Input) -> str:
    """What all networks of a trial, or one of them, start from."""
    names = given.donor.title if given.donor else _names(plan, given.trials)
    return f"{given.network}: {names}" if given.network else names


def _predictions(plan: Plan, trial: TrialSpec) -> str:
    """Whose predictions a trial takes, and what of them."""
    texts = []
    for given in trial.inputs:
        if given.network is None:
            folds = f" and {len(given.trials) - 1} out of fold" if given.trials[1:] else ""
            names = _names(plan, given.trials[:1])
            texts.append(f"{given.role}: {', '.join(given.names)} of {names}{folds}")
    return "; ".join(texts)


def _names(plan: Plan, trials: Sequence[str]) -> str:
    return ", ".join(plan.by_id[trial].name for trial in trials)


def _claims(plan: Plan) -> Iterator[str]:
    """Yields what the report will claim, before anything is known."""
    claims = plan.claims
    if claims is None:
        return
    margin = "" if claims.margin is None else f", none within ±{claims.margin:g}"
    compared = "; ".join(map(claims.title, claims.contrasts))
    judged = f"{claims.metric} on {claims.on}{margin}: {compared}"
    if claims.declared:
        yield f"claims by {judged}"
    else:
        yield f"exploratory, by {judged}"
        yield "A study that is to show something declares `primary` and `contrasts` before it runs."


def _power(session: Session, plan: Plan) -> Iterator[str]:
    """Yields how small a difference each contrast could support, from what is complete of the last plan."""
    from xferlab.analysis.claims import foreseen  # pandas takes a second to import
    from xferlab.analysis.contents import Contents
    from xferlab.analysis.loading import load_study

    if plan.claims is None:
        return
    session.last_plan()
    planned = Counter((arm, trial.stage) for trial in plan.trials if not trial.fold for arm in trial.arms)
    places = {place: planned[place] for pair in plan.claims.contrasts for place in pair}
    contents = Contents(load_study(session.store.location, session.study))
    yield "smallest difference that is supported in about 80 % of such studies:"
    yield from (f"  {line}" for line in foreseen(contents, plan.claims, places))


def _print_totals(
    plan: Plan,
    trials: Sequence[TrialSpec],
    num_complete: int,
    num_to_measure: int,
    *,
    all: dict[str, int],
    left: dict[str, int],
) -> None:
    shared = sum(len(trial.arms) > 1 for trial in trials)
    execution = plan.trials[0].identity.execution
    print(
        f"{all['trials']} trials ({num_complete} complete, {shared} shared between arms), "
        f"{all['evaluations']} evaluations, on {execution.device} in {execution.precision}"
    )
    if execution.precision in PRECISIONS:
        print(f"{execution.precision}: {PRECISIONS[execution.precision]}")
    measured = f"; {num_to_measure} of them are trained, and are only measured" if num_to_measure else ""
    print(
        f"left: {left['trials']} trials, at most {left['max_epochs']:,} epochs and "
        f"{left['max_images']:,} training images{measured}"
    )
