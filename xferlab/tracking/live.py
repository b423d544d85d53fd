"""The mirror of a running trial: it cannot delay or fail the trial."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xferlab.errors import StorageError, XferlabError
from xferlab.plan.spec import TrialSpec
from xferlab.records.logs import MAX_CHARACTERS, MIRROR, note
from xferlab.records.schema import EpochResult, TrialRecord
from xferlab.records.store import Store
from xferlab.tracking import notes
from xferlab.tracking.content import (
    RunOrder,
    content_of,
    is_shareable,
    pixel_row,
    run_config,
)
from xferlab.tracking.lineage import taken_weights
from xferlab.tracking.pipe import MirrorProcess

FINISH_SHARE = 0.01
"""Longest wait at a trial's end, as a share of its time; a healthy mirror of a short one gets a second."""
FINISH_AT_LEAST_S, FINISH_AT_MOST_S = 1.0, 3.0
MAX_BEHIND = 4
"""Runs of earlier trials, still being written, beside which no further one is begun."""
_LOG = logging.getLogger("xferlab.mirror")
_WARNING = "W&B mirror of %s (%s) stopped: %s; the trial goes on, `xferlab mirror STUDY` completes it later"
FAILURES = (
    OSError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    XferlabError,
)
"""What a pipe, a process, a message, or numbers that nobody thought of may raise: no reason to fail."""
_behind: set[str] = set()


class TrialMirror:
    """One trial as one W&B run; none of its methods raises, waits for W&B, or warns twice."""

    def __init__(self, spec: TrialSpec, store: Store | None):
        """Use `start`."""
        self._spec, self._store = spec, store
        self._writer: MirrorProcess | None = None
        self._epochs: dict[int, dict[str, Any]] = {}
        self._started = time.monotonic()

    @staticmethod
    def start(
        spec: TrialSpec, *, directory: Path, parent_weights: str | None = None, store: Store | None = None
    ) -> TrialMirror:
        """Starts the mirror that the study asks for, and returns at once.

        Args:
            spec: The trial; `settings.tracking` says whether and how it is mirrored.
            directory: Local folder of the W&B files; trials may share it.
            parent_weights: Digest of the weights that it starts from.
            store: Where it is noted that the run may lack something, for `unmirrored`, and what its process
                prints, in the log of the trial.
        """
        tracking = spec.settings.tracking
        mirror = TrialMirror(spec, store)
        if not tracking or tracking["mode"] == "disabled":
            return mirror
        with _Guard(mirror):
            if len(_behind) >= MAX_BEHIND:
                raise StorageError(f"W&B is behind by {len(_behind)} earlier trials")
            mirror._writer = MirrorProcess.take(directory, heard=mirror._heard)
            order = RunOrder.of_trial(spec, run_config(spec, parent_weights=parent_weights))
            mirror._writer.send("begin", **order.message(tracking, directory))
        return mirror

    def epoch(self, result: EpochResult) -> None:
        """Sends one epoch. A resumed trial sends the epochs that it keeps again; they count once."""
        with _Guard(self):
            if self._writer is not None:
                self._epochs[result.epoch] = result.flat()
                self._writer.send("epoch", result=self._epochs[result.epoch])

    def outputs(self, cases: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Sends what the task shows of validation cases, if their section is shareable; else nothing.

        Args:
            cases: The arrays of each case by the task's names.
        """
        with _Guard(self):
            if self._writer is not None and is_shareable(self._spec.data, self._spec.read_as):
                rows = [pixel_row(arrays) for arrays in cases]
                self._writer.send("outputs", title=f"{self._spec.shown}.validation", rows=rows)

    def summary(self, make: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Returns the final values that a function gives; none where no run wants them, or where it fails."""
        with _Guard(self):
            if self._writer is not None:
                return make()
        return {}

    def weights(self, record: TrialRecord) -> None:
        """Sends the digest of the weights that the trial made, and of those that it took."""
        with _Guard(self):
            if self._writer is not None and self._store is not None:
                taken = taken_weights(self._store, self._spec, record)
                self._writer.send("weights", made=record.weights_sha256, taken=taken)

    def finish(self, *, summary: Mapping[str, float], outcome: str, timeout_s: float | None = None) -> None:
        """Closes the run and waits a little for it; a slow mirror goes on without the trial for a while.

        Args:
            summary: Final values, as `trial_summary` gives them.
            outcome: `complete`, `interrupted` or `failed`.
            timeout_s: Longest wait; default: a hundredth of the trial's time, at least 1 s and at most 3 s.
        """
        with _Guard(self):
            if self._writer is None:
                return
            content = self._content(summary) if outcome == "complete" else ""
            self._writer.send("end", summary=dict(summary), outcome=outcome, content=content)
            _behind.add(self._spec.trial_id)
            is_written = self._writer.is_written(self._patience_s() if timeout_s is None else timeout_s)
            writer, self._writer = self._writer, None
            if is_written:
                self._ended(None)
            else:
                self._note(notes.BEHIND)  # before the thread can take it back
                writer.abandon(self._ended)

    def _content(self, summary: Mapping[str, float]) -> str:
        spec = self._spec
        epochs = [self._epochs[number] for number in sorted(self._epochs)]
        tracking = spec.settings.tracking
        assert tracking is not None  # else there is no writer
        return content_of(spec, epochs=epochs, summary=summary, images=tracking["images"])

    def _patience_s(self) -> float:
        share_s = FINISH_SHARE * (time.monotonic() - self._started)
        return min(FINISH_AT_MOST_S, max(FINISH_AT_LEAST_S, share_s))

    def _ended(self, reason: str | None) -> None:
        _behind.discard(self._spec.trial_id)
        if reason is None:
            self._note(None)
        else:
            self._warn(reason)

    def _heard(self, text: str) -> None:
        if self._store is not None:
            note(self._store, self._spec.trial_id, text[-MAX_CHARACTERS:], level="INFO", source=MIRROR)

    def _stopped(self, error: BaseException) -> None:
        """Ends the mirror for a failure, and says so."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.leave()
        _behind.discard(self._spec.trial_id)
        self._warn(" ".join(str(error).split()))

    def _warn(self, reason: str) -> None:
        _LOG.warning(_WARNING, self._spec.name, self._spec.trial_id, reason)
        self._note(reason)

    def _note(self, reason: str | None) -> None:
        study, trial_id = self._spec.settings.study, self._spec.trial_id
        if self._store is None or not study:
            return
        with suppress(StorageError):  # whoever needs the storage more will say so
            if reason is None:
                notes.clear(self._store, study, trial_id)
            else:
                notes.write(self._store, study, trial_id, reason=reason)


class _Guard:
    """What fails while it is entered is no failure of the trial, but ends its mirror."""

    # No generator: from Python 3.12 on, one that ends an exception leaves a circle of references to its
    # frames, in which the networks of the trial would stay until garbage is collected.
    def __init__(self, mirror: TrialMirror):
        self._mirror = mirror

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, FAILURES):
            return False
        self._mirror._stopped(error)
        return True
