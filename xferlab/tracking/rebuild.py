"""Writing in W&B what is missing there, from the plan and the records alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xferlab.errors import RecordError, StorageError, UsageError
from xferlab.plan.identity import sha256_of, short_id
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records import codec, layout
from xferlab.records.reader import (
    read_cases,
    read_evaluation,
    read_history,
    read_outputs,
    read_plan,
    read_trial,
)
from xferlab.records.schema import EvaluationRecord, TrialRecord
from xferlab.records.store import Store
from xferlab.tracking import notes
from xferlab.tracking.content import is_shareable, pixel_row, run_config, run_order, trial_summary
from xferlab.tracking.pipe import MirrorProcess

MODES = ("online", "offline", "disabled")
DEFAULT_TRACKING = {"project": "xferlab", "entity": None, "mode": "offline", "images": 4}
ANSWER_TIMEOUT_S = 120.0
"""Longest wait for a run to be begun, and for it to be written."""
_CLOSE_TIMEOUT_S = 10.0
_FAILURES_IN_A_ROW = 2


@dataclass(frozen=True)
class MirrorReport:
    """What a rebuild did.

    Attributes:
        written: Ids of the runs that were written.
        present: Ids of the runs that were whole already.
        unfinished: Trials of the plan that are not complete, and so have nothing to mirror yet.
        failed: Reasons by run id.
        not_tried: Runs left out after failures in a row.
    """

    written: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    not_tried: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{len(self.written)} written, {len(self.present)} were there"
        counts += f", {len(self.unfinished)} not complete"
        bad = f", {len(self.failed)} failed" if self.failed else ""
        return counts + bad + (f", {len(self.not_tried)} not tried" if self.not_tried else "")


@dataclass(frozen=True)
class _Complete:
    spec: TrialSpec
    record: TrialRecord
    evaluations: tuple[EvaluationRecord, ...]
    names: tuple[str, ...]


def mirror_study(
    store: Store,
    study: str,
    *,
    directory: Path,
    mode: str | None = None,
    aggregate: Sequence[Mapping[str, Any]] | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> MirrorReport:
    """Writes the W&B runs of complete trials that are missing or not whole, and the study's summary run.

    Args:
        store: The storage of the study.
        study: Its name.
        directory: Local folder of the W&B files, the same that the trials used.
        mode: `online`, `offline` or `disabled`; default: what the plan says.
        aggregate: Rows of the summary run's table, all with the same keys; without them there is no such run.
        echo: Takes one line a run.

    Raises:
        RecordError: There is no plan of the study.
        UsageError: The mode is unknown, or neither the plan nor the call names one.
    """
    plan = read_plan(store, study)
    tracking = _tracking(plan, mode)
    if tracking["mode"] == "disabled":
        return MirrorReport()
    rebuild = _Rebuild(store, plan, tracking=tracking, directory=directory, echo=echo)
    return _written(rebuild, plan["trials"], aggregate)


def complete_study(
    store: Store,
    study: str,
    *,
    directory: Path,
    aggregate: Sequence[Mapping[str, Any]],
    within_s: float,
) -> MirrorReport:
    """Writes the runs of trials whose own mirror is not known to have ended well, and the summary run.

    Whoever ends a run of the study calls it: workers may have gone before the mirrors of their last trials
    were done. Runs that are still being written are waited for.

    Args:
        store: The storage of the study.
        study: Its name.
        directory: Local folder of the W&B files.
        aggregate: Rows of the summary run's table; none for no such run.
        within_s: Longest time for all of it, but for the end of the process that writes.

    Raises:
        RecordError: There is no plan of the study.
        UsageError: The plan names no W&B project.
    """
    plan = read_plan(store, study)
    rebuild = _Rebuild(
        store, plan, tracking=_tracking(plan, None), directory=directory, echo=lambda line: None
    )
    rebuild.deadline = time.monotonic() + within_s
    lacking = notes.unmirrored(store, study)
    trials = [entry for entry in plan["trials"] if entry["trial_id"] in lacking]
    return _written(rebuild, trials, aggregate)


def _written(
    rebuild: _Rebuild, trials: Sequence[Mapping[str, Any]], aggregate: Sequence[Mapping[str, Any]] | None
) -> MirrorReport:
    try:
        for entry in trials:
            rebuild.trial(entry)
        if aggregate:
            rebuild.summary(aggregate)
    finally:
        rebuild.close()
    return rebuild.report


def _tracking(plan: Mapping[str, Any], mode: str | None) -> dict[str, Any]:
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
        *,
        tracking: Mapping[str, Any],
        directory: Path,
        echo: Callable[[str], None],
    ):
        self._store, self._plan, self._tracking = store, plan, tracking
        self._directory, self._echo = directory, echo
        self._writer: MirrorProcess | None = None
        self._failures_in_a_row = 0
        self.deadline = math.inf
        self.report = MirrorReport()

    def trial(self, entry: Mapping[str, Any]) -> None:
        try:
            found = self._complete(entry)
        except StorageError as error:
            self._note("failed", (entry["trial_id"], str(error)), f"failed: {error}")
            return
        if found is None:
            self.report = replace(self.report, unfinished=(*self.report.unfinished, entry["trial_id"]))
            return
        self._run(entry["trial_id"], lambda writer: self._tell_trial(writer, found))

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> None:
        digest = sha256_of(dict(self._plan))
        run_id = short_id({"study": self._plan["study"], "plan": digest})
        self._run(run_id, lambda writer: self._tell_summary(writer, run_id, digest=digest, rows=rows))

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(StorageError):  # it answered for every run: how it ends is its own affair
                if not writer.close(_CLOSE_TIMEOUT_S):
                    writer.kill()

    def _run(self, run_id: str, tell: Callable[[MirrorProcess], str]) -> None:
        if self._failures_in_a_row >= _FAILURES_IN_A_ROW or time.monotonic() > self.deadline:
            self._note("not_tried", run_id, None)
            return
        try:
            self._writer = self._writer or MirrorProcess(self._directory)
            word = tell(self._writer)
        except (OSError, StorageError) as error:
            # A record that cannot be read says nothing about W&B.
            self._failures_in_a_row += not isinstance(error, RecordError)
            if self._writer is not None:
                self._writer.kill()  # nobody waits for what it might still write: a rerun goes on from there
                self._writer = None
            self._note("failed", (run_id, str(error)), f"failed: {error}")
        else:
            self._failures_in_a_row = 0
            notes.clear(self._store, self._plan["study"], run_id)
            self._note(word, run_id, word)

    def _note(self, kind: str, value: Any, line: str | None) -> None:
        self.report = replace(self.report, **{kind: (*getattr(self.report, kind), value)})
        if line is not None:
            self._echo(f"{value[0] if isinstance(value, tuple) else value}: {line}")

    def _answer(self, writer: MirrorProcess) -> str:
        left_s = max(0.0, self.deadline - time.monotonic())
        return writer.answer(min(ANSWER_TIMEOUT_S, left_s))

    def _complete(self, entry: Mapping[str, Any]) -> _Complete | None:
        trial_id = entry["trial_id"]
        record = read_trial(self._store, trial_id)
        ids = [one["evaluation_id"] for one in entry["evaluations"]]
        evaluations = tuple(read_evaluation(self._store, trial_id, one) for one in ids)
        if record is None or None in evaluations:
            return None
        name = layout.TrialFiles(trial_id).spec
        body = codec.read_json(self._store, name)
        if body is None:
            raise RecordError(f"{self._store.path(name)}: is missing; run the study again")
        # The plan knows more arms and evaluations than the trial did when it ran.
        planned = tuple(EvaluationSpec(**one) for one in entry["evaluations"])
        spec = replace(TrialSpec.from_json(body), arms=tuple(entry["arms"]), evaluations=planned)
        spec = replace(spec, name=entry["names"][0], stage=entry["stage"])
        return _Complete(spec, record, tuple(e for e in evaluations if e), tuple(entry["names"]))

    def _tell_trial(self, writer: MirrorProcess, found: _Complete) -> str:
        spec, data = found.spec, self._plan["data"]
        # The plan is the study's present word on what is shareable.
        sets = list(zip(spec.evaluations, found.evaluations, strict=True))
        shown = [(one, record) for one, record in sets if is_shareable(data, one.section)]
        may_show = [one.name for one, _ in shown]
        may_show += [f"{spec.section}.validation"] if is_shareable(data, spec.section) else []
        can_show = [one.name for one, _ in shown if one.overlay_cases and self._tracking["images"]]
        cases = {one.name: read_cases(self._store, record) for one, record in sets}
        config = run_config(spec, names=found.names, parent_weights=self._parent_weights(spec))
        summary = trial_summary(found.record, cases)
        epochs = [result.flat() for result in read_history(self._store, spec.trial_id)]
        order = run_order(spec, self._tracking, directory=self._directory, config=config)
        order["wanted"] = {
            "config": {"arms": config["arms"]},
            "epochs": epochs,
            "summary": {**summary, "outcome": "complete"},
            "may_show": may_show if self._tracking["images"] else [],
            "can_show": can_show,
        }
        writer.send("begin", **order)
        if (word := self._answer(writer)) == "present":
            return word
        for result in epochs:
            writer.send("epoch", result=result)
        for one, record in shown:
            rows = [
                pixel_row(case.arrays, caption=" ".join(filter(None, [case.pathology, case.name])))
                for case in read_outputs(self._store, record)
            ]
            writer.send("overlays", title=one.name, rows=rows)
        writer.send("end", summary=summary, outcome="complete")
        return self._answer(writer)

    def _parent_weights(self, spec: TrialSpec) -> str | None:
        if len(spec.parents) != 1:
            return None
        parent = read_trial(self._store, spec.parents[0])
        return parent.weights_sha256 if parent else None

    def _tell_summary(
        self, writer: MirrorProcess, run_id: str, *, digest: str, rows: Sequence[Mapping[str, Any]]
    ) -> str:
        plan = self._plan
        columns = list(rows[0])
        table = [[row[column] for column in columns] for row in rows]
        final = {"rows_sha256": sha256_of([[repr(value) for value in row] for row in table])}
        config = {key: plan[key] for key in ("study", "seed", "profile", "repetitions", "stages")}
        config |= {"arms": list(plan["arms"]), "plan_sha256": digest, "trials": len(plan["trials"])}
        writer.send(
            "begin",
            **self._tracking,
            directory=str(self._directory.resolve()),
            started=time.time(),
            id=run_id,
            name=plan["study"],
            group="studies",
            job_type="study",
            config=config,
            wanted={
                "config": {},
                "epochs": [],
                "summary": {**final, "outcome": "complete"},
                "may_show": [],
                "can_show": [],
            },
        )
        if (word := self._answer(writer)) == "present":
            return word
        writer.send("table", name="aggregate", columns=columns, rows=table)
        writer.send("end", summary=final, outcome="complete")
        return self._answer(writer)
