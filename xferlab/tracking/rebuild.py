"""Writing in W&B what is missing there, from the plan and the records alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from xferlab.errors import RecordError, StorageError, UsageError
from xferlab.plan.identity import joint_digest
from xferlab.plan.spec import Input, TrialSpec
from xferlab.records import codec
from xferlab.records.layout import TrialFiles
from xferlab.records.reader import (
    read_cases,
    read_evaluation,
    read_history,
    read_outputs,
    read_plan,
    read_trial,
)
from xferlab.records.store import Store
from xferlab.tracking import notes
from xferlab.tracking.content import (
    RunOrder,
    content_sha256,
    pixel_row,
    run_config,
    shown_sets,
)
from xferlab.tracking.lineage import taken_weights
from xferlab.tracking.overlays import overlays
from xferlab.tracking.pipe import MirrorProcess
from xferlab.tracking.study_run import StudyContent, no_headline, study_order, study_run_id, study_summary
from xferlab.tracking.summary import Headline, trial_summary
from xferlab.tracking.webhook import Notice

MODES = ("online", "offline", "disabled")
DEFAULT_TRACKING = {"project": "xferlab", "entity": None, "mode": "offline", "images": 4}
ANSWER_TIMEOUT_S = 120.0
"""Longest wait for a run to be begun, and for it to be written."""
ALERT_TIMEOUT_S = 20.0
"""Longest wait for each of both when a study that runs only tells something."""
_CLOSE_TIMEOUT_S = 10.0
_FAILURES_IN_A_ROW = 2


@dataclass
class MirrorReport:
    """What a rebuild did.

    Attributes:
        written: Ids of the runs that were written.
        present: Ids of the runs that were whole already.
        unfinished: Trials of the plan that are not complete, and so have nothing to mirror yet.
        failed: Reasons by run id.
        not_tried: Runs left out after failures in a row, or for lack of time.
    """

    written: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_tried: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.written)} written, {len(self.present)} were there"
        counts += f", {len(self.unfinished)} not complete"
        bad = f", {len(self.failed)} failed" if self.failed else ""
        return counts + bad + (f", {len(self.not_tried)} not tried" if self.not_tried else "")


def mirror_study(
    store: Store,
    study: str,
    *,
    directory: Path,
    mode: str | None = None,
    results: StudyContent | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> MirrorReport:
    """Writes the W&B runs of complete trials that are missing or not whole, and the study's summary run.

    Args:
        store: The storage of the study.
        study: Its name.
        directory: Local folder of the W&B files, the same that the trials used.
        mode: `online`, `offline` or `disabled`; default: what the plan says.
        results: What the study's run is to hold; without it there is no such run.
        echo: Takes one line a run.

    Raises:
        RecordError: There is no plan of the study.
        UsageError: The mode is unknown, or neither the plan nor the call names one.
    """
    plan = read_plan(store, study)
    tracking = _tracking(plan, mode)
    if tracking["mode"] == "disabled":
        return MirrorReport()
    return _Rebuild(store, plan, tracking, directory, echo=echo).run(plan["trials"], results)


def complete_study(
    store: Store,
    study: str,
    *,
    directory: Path,
    results: StudyContent,
    within_s: float,
) -> MirrorReport:
    """Writes the runs of trials whose own mirror may have ended badly, and the summary run.

    Whoever ends a run of the study calls it: workers may have gone before the mirrors of their last trials
    were done. It waits for runs that are still being written.

    Args:
        store: The storage of the study.
        study: Its name.
        directory: Local folder of the W&B files.
        results: What the study's run is to hold.
        within_s: Longest time for all of it, but for the end of the process that writes.

    Raises:
        RecordError: There is no plan of the study.
        UsageError: The plan names no W&B project.
    """
    plan = read_plan(store, study)
    rebuild = _Rebuild(store, plan, _tracking(plan, None), directory, within_s=within_s)
    lacking = notes.unmirrored(store, study)
    return rebuild.run([trial for trial in plan["trials"] if trial["trial_id"] in lacking], results)


def alert_study(store: Store, notice: Notice, *, directory: Path) -> str:
    """Lets W&B tell its subscribers something of a study that runs, by the study's run.

    Args:
        store: The storage of the study.
        notice: What is told.
        directory: Local folder of the W&B files.

    Returns:
        Why W&B did not take it; empty if it did.
    """
    try:
        plan = read_plan(store, notice.study)
        writer = MirrorProcess(directory)
    except (OSError, StorageError) as error:
        return str(error)
    try:
        order = study_order(plan)
        writer.send("begin", **order.message(_tracking(plan, None), directory))
        writer.answer(ALERT_TIMEOUT_S)
        writer.send("alert", title=notice.title, text=notice.text)
        writer.send("end", summary={}, outcome="running", content="")
        writer.answer(ALERT_TIMEOUT_S)
        writer.close(_CLOSE_TIMEOUT_S)
    except StorageError as error:
        return str(error)
    finally:
        writer.kill()
    return ""


def _tracking(plan: Mapping[str, Any], mode: str | None) -> dict[str, Any]:
    if mode is not None and mode not in MODES:
        raise UsageError(f"mode {mode!r} is unknown (accepted: {', '.join(MODES)})")
    if mode is None and plan["tracking"] is None:
        raise UsageError(
            f"study {plan['study']!r} has no `tracking.wandb`; add it to the study file, or give a mode"
        )
    given = {**DEFAULT_TRACKING, **(plan["tracking"] or {})}
    return {**given, "mode": mode or given["mode"]}


@dataclass(frozen=True)
class _Run:
    """A run to write: what it is, its final values, and what is sent between its epochs and its end."""

    order: RunOrder
    summary: Mapping[str, Any]
    messages: Callable[[], Iterable[dict[str, Any]]]


class _Rebuild:
    def __init__(
        self,
        store: Store,
        plan: Mapping[str, Any],
        tracking: Mapping[str, Any],
        directory: Path,
        *,
        echo: Callable[[str], None] = lambda line: None,
        within_s: float = math.inf,
    ):
        self._store, self._plan, self._tracking = store, plan, tracking
        self._directory, self._echo = directory, echo
        self._deadline = time.monotonic() + within_s
        self._writer: MirrorProcess | None = None
        self._failures_in_a_row = 0
        self._headline: Callable[[TrialSpec], Headline] = no_headline
        self._report = MirrorReport()

    def run(self, trials: Sequence[Mapping[str, Any]], results: StudyContent | None) -> MirrorReport:
        try:
            self._headline = results.headline if results else no_headline
            for entry in trials:
                self._write(entry["trial_id"], partial(self._trial, entry))
            if results is not None and not results.is_empty:
                self._write(study_run_id(self._plan), lambda: self._study(results))
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(StorageError):  # it answered for every run: how it ends does not matter
                    if not writer.close(_CLOSE_TIMEOUT_S):
                        writer.kill()
        return self._report

    def _write(self, run_id: str, make: Callable[[], _Run | None]) -> None:
        """Writes a run unless it is whole; a failure is reported, and does not keep the others."""
        report = self._report
        if self._failures_in_a_row >= _FAILURES_IN_A_ROW or time.monotonic() > self._deadline:
            report.not_tried.append(run_id)
            return
        try:
            run = make()
            if run is None:
                report.unfinished.append(run_id)
                return
            self._writer = self._writer or MirrorProcess(self._directory)
            word = self._send(self._writer, run)
        except (OSError, StorageError) as error:
            # A record that cannot be read says nothing about W&B.
            self._failures_in_a_row += not isinstance(error, RecordError)
            if self._writer is not None:
                self._writer.kill()  # nobody waits for what it might still write: a rerun goes on from there
                self._writer = None
            report.failed[run_id] = str(error)
            self._echo(f"{run_id}: failed: {error}")
        else:
            self._failures_in_a_row = 0
            notes.clear(self._store, self._plan["study"], run_id)
            (report.written if word == "written" else report.present).append(run_id)
            self._echo(f"{run_id}: {word}")

    def _send(self, writer: MirrorProcess, run: _Run) -> str:
        writer.send("begin", **run.order.message(self._tracking, self._directory))
        if (word := self._answer(writer)) == "present":
            return word
        for result in run.order.epochs:
            writer.send("epoch", result=result)
        for message in run.messages():
            writer.send(**message)
        writer.send("end", summary=run.summary, outcome="complete", content=run.order.content)
        return self._answer(writer)

    def _answer(self, writer: MirrorProcess) -> str:
        left_s = max(0.0, self._deadline - time.monotonic())
        return writer.answer(min(ANSWER_TIMEOUT_S, left_s))

    def _trial(self, entry: Mapping[str, Any]) -> _Run | None:
        """Returns the run of a trial from its records; None if it is not complete."""
        store, trial_id = self._store, entry["trial_id"]
        record = read_trial(store, trial_id)
        ids = [evaluation["evaluation_id"] for evaluation in entry["evaluations"]]
        evaluations = [read_evaluation(store, trial_id, evaluation_id) for evaluation_id in ids]
        if record is None or None in evaluations:
            return None
        spec = self._spec(entry)
        records = dict(zip(spec.evaluations, filter(None, evaluations), strict=True))
        tables = {evaluation.name: read_cases(store, measured) for evaluation, measured in records.items()}
        history = read_history(store, trial_id)
        summary = trial_summary(record, history, tables, headline=self._headline(spec))
        data, weights = self._plan["data"], self._parent_weights(spec)
        config = run_config(spec, names=entry["names"], parent_weights=weights, data=data)
        epochs = [result.flat() for result in history]
        shown = shown_sets(spec, data, self._tracking["images"])
        taken = taken_weights(store, spec, record)
        content = content_sha256(epochs=epochs, summary=summary, arms=spec.arms, shown=shown)

        def messages() -> Iterator[dict[str, Any]]:
            for evaluation, measured in records.items():
                if evaluation.name in shown:
                    rows = [
                        pixel_row(case.arrays, caption=" ".join(filter(None, [case.pathology, case.name])))
                        for case in read_outputs(store, measured)
                    ]
                    yield {"kind": "outputs", "title": evaluation.name, "rows": rows}
            yield {"kind": "weights", "made": record.weights_sha256, "taken": taken}

        order = replace(RunOrder.of_trial(spec, config, data=data), content=content, epochs=epochs)
        return _Run(order, summary, messages)

    def _study(self, results: StudyContent) -> _Run:
        """Returns the run of the study, with cases to look at of each stage of each arm."""
        images = self._tracking["images"]
        shown = overlays(
            self._store,
            (self._spec(entry) for entry in self._first_complete()) if images else (),
            self._plan["data"],
            images=images,
            metric=lambda trial: results.headline(trial).metric,
        )
        whole = replace(results, overlays=shown)
        return _Run(study_order(self._plan, whole), study_summary(whole), whole.messages)

    def _first_complete(self) -> Iterator[Mapping[str, Any]]:
        """Yields the plan's entry of the first complete trial of each stage of each arm."""
        met = set[tuple[str, ...]]()
        for entry in self._plan["trials"]:
            place = (entry["stage"], *entry["arms"])
            if place in met or entry.get("fold") or not read_trial(self._store, entry["trial_id"]):
                continue
            met.add(place)
            yield entry

    def _spec(self, entry: Mapping[str, Any]) -> TrialSpec:
        """Returns the spec of a trial with name, arms and evaluations of the plan, which may be more."""
        name = TrialFiles(entry["trial_id"]).spec
        body = codec.read_json(self._store, name)
        if body is None:
            raise RecordError(f"{self._store.path(name)}: is missing; run the study again")
        planned = {field: entry[field] for field in ("stage", "arms", "evaluations")}
        # Another study, or an earlier version, may have run it.
        settings = {**body["settings"], "study": self._plan["study"], "profile": self._plan["profile"]}
        changed = {**planned, "name": entry["names"][0], "settings": settings}
        return TrialSpec.from_json({**body, **changed})

    def _parent_weights(self, spec: TrialSpec) -> str | None:
        digests = {given.role: self._digest(given) for given in spec.origins}
        known = {role: digest for role, digest in digests.items() if digest}
        return joint_digest(known) if len(known) == len(digests) else None

    def _digest(self, given: Input) -> str | None:
        if given.donor is not None:
            return given.donor.sha256
        parent = read_trial(self._store, given.trials[0]) if len(given.trials) == 1 else None
        return parent.weights_sha256 if parent else None
