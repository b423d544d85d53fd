"""Writing in W&B what is missing there, from the plan and the records alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xferlab.errors import RecordError, StorageError, UsageError
from xferlab.records.reader import read_plan
from xferlab.records.store import Store
from xferlab.tracking import notes
from xferlab.tracking.pipe import BEGUN, WRITTEN, MirrorProcess
from xferlab.tracking.recorded import RecordedRun, RecordedRuns
from xferlab.tracking.study_run import StudyContent, study_order, study_run_id
from xferlab.tracking.webhook import Notice

MODES = ("online", "offline", "disabled")
DEFAULT_TRACKING: dict[str, Any] = {"project": "xferlab", "entity": None, "mode": "offline", "images": 4}
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
    tracking = tracking_of(plan, mode)
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
    were done. It waits for runs that are still being written. After `MirrorProcess.prepare` it
    need not wait for the process that writes.

    Args:
        store: The storage of the study.
        study: Its name.
        directory: Local folder of the W&B files.
        results: What the study's run is to hold.
        within_s: Longest time for all else, but for the end of the process that writes.

    Raises:
        OSError: The process that writes cannot be started.
        RecordError: There is no plan of the study.
        UsageError: The plan names no W&B project.
    """
    plan = read_plan(store, study)
    rebuild = _Rebuild(store, plan, tracking_of(plan, None), directory, within_s=within_s)
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
        writer = MirrorProcess.take(directory)
    except (OSError, StorageError) as error:
        return str(error)
    try:
        writer.send("begin", **study_order(plan).message(tracking_of(plan, None), directory))
        writer.answer(ALERT_TIMEOUT_S)
        writer.send("alert", title=notice.title, text=notice.text)
        writer.send("end", summary={}, outcome="running", content="")
        writer.answer(ALERT_TIMEOUT_S)
    except StorageError as error:
        writer.kill()
        return str(error)
    writer.close(_CLOSE_TIMEOUT_S)
    return ""


def tracking_of(plan: Mapping[str, Any], mode: str | None) -> dict[str, Any]:
    """Returns the tracking options of a plan, with another mode if one is given.

    Raises:
        UsageError: The mode is unknown, or neither the plan nor the call names one.
    """
    if mode is not None and mode not in MODES:
        raise UsageError(f"mode {mode!r} is unknown (accepted: {', '.join(MODES)})")
    if mode is None and plan["tracking"] is None:
        raise UsageError(
            f"study {plan['study']!r} has no `tracking.wandb`; add it to the study file, or give a mode"
        )
    given = {**DEFAULT_TRACKING, **(plan["tracking"] or {})}
    return {**given, "mode": mode or given["mode"]}


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
        self._report = MirrorReport()

    def run(self, trials: Sequence[Mapping[str, Any]], results: StudyContent | None) -> MirrorReport:
        try:
            runs = RecordedRuns(self._store, self._plan, results, images=self._tracking["images"])
            for entry in trials:
                self._write(entry["trial_id"], partial(runs.trial, entry))
            if results is not None and not results.is_empty:
                self._write(study_run_id(self._plan), runs.study)
        finally:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close(_CLOSE_TIMEOUT_S)
        return self._report

    def _write(self, run_id: str, make: Callable[[], RecordedRun | None]) -> None:
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
            self._writer = self._writer or MirrorProcess.take(self._directory)
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
            (report.written if word == WRITTEN else report.present).append(run_id)
            self._echo(f"{run_id}: {word}")

    def _send(self, writer: MirrorProcess, run: RecordedRun) -> str:
        writer.send("begin", **run.order.message(self._tracking, self._directory))
        if (word := self._answer(writer)) != BEGUN:
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
