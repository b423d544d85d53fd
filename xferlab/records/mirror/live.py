"""The mirror of a running trial: it cannot delay or fail the trial."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xferlab.errors import StorageError
from xferlab.plan.spec import TrialSpec
from xferlab.records.mirror.content import is_shareable, pixel_row, run_config, run_order
from xferlab.records.mirror.pipe import MirrorProcess
from xferlab.records.schema import EpochResult

FINISH_TIMEOUT_S = 3.0
_LOG = logging.getLogger("xferlab.mirror")
_WARNING = "W&B mirror of %s (%s): %s; the trial goes on, `xferlab mirror %s` rebuilds what is missing"
# All that a pipe, a process, a thread or a message may raise.
_FAILURES = (OSError, ValueError, TypeError, LookupError, RuntimeError, StorageError)


class TrialMirror:
    """One trial as one W&B run; none of its methods raises, waits for W&B, or warns twice."""

    def __init__(self, spec: TrialSpec, writer: MirrorProcess | None):
        """Use `start`."""
        self._spec, self._writer = spec, writer

    @staticmethod
    def start(spec: TrialSpec, *, directory: Path, parent_weights: str | None = None) -> TrialMirror:
        """Starts the mirror that the study asks for, and returns at once.

        Args:
            spec: The trial; `settings["tracking"]` says whether and how it is mirrored.
            directory: Local folder of the W&B files; trials may share it.
            parent_weights: Digest of the weights that it starts from.
        """
        tracking = spec.settings.get("tracking")
        mirror = TrialMirror(spec, None)
        if not tracking or tracking["mode"] == "disabled":
            return mirror
        with mirror._guarded():
            mirror._writer = MirrorProcess(directory)
            config = run_config(spec, parent_weights=parent_weights)
            mirror._writer.send("begin", **run_order(spec, tracking, directory=directory, config=config))
        return mirror

    def epoch(self, result: EpochResult) -> None:
        """Sends one epoch; those of a resumed trial may be sent again and count once."""
        with self._guarded():
            if self._writer is not None:
                self._writer.send("epoch", result=result.to_json())

    def overlays(
        self, rows: Sequence[Mapping[str, Any]], *, section: str | None = None, part: str = "validation"
    ) -> None:
        """Sends images with target and output, if their data section is shareable; else nothing.

        Args:
            rows: As in `OUTPUTS_SCHEMA`; name and pathology may be absent.
            section: Data section of the images; default: the one that the trial trains on.
            part: Their part.
        """
        section = section or self._spec.section
        with self._guarded():
            if self._writer is not None and is_shareable(self._spec.data, section):
                told = [pixel_row(row) for row in rows]
                self._writer.send("overlays", title=f"{section}.{part}", rows=told)

    def finish(
        self, *, summary: Mapping[str, float], outcome: str, timeout_s: float = FINISH_TIMEOUT_S
    ) -> None:
        """Closes the run and waits a little for it; a slow mirror goes on without the trial for a minute.

        Args:
            summary: Final values, as `trial_summary` gives them.
            outcome: `complete`, `interrupted` or `failed`.
            timeout_s: Longest wait.
        """
        with self._guarded():
            if self._writer is not None:
                self._writer.send("end", summary=dict(summary), outcome=outcome)
                writer, self._writer = self._writer, None
                if not writer.close(timeout_s):
                    self._warn(f"not finished in {timeout_s:g} s")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.abandon()
            self._warn(f"stopped: {' '.join(str(error).split())}")

    def _warn(self, what: str) -> None:
        name, trial_id = self._spec.name, self._spec.trial_id
        study = self._spec.settings.get("study", "STUDY")
        _LOG.warning(_WARNING, name, trial_id, what, study)
