"""Runs that may lack something: a note each beside the plan, since a worker's warnings stay in its log."""

from __future__ import annotations

from xferlab.records.layout import StudyFiles
from xferlab.records.store import Store

BEHIND = "W&B was still behind when its trial ended"
"""The note of a run that may yet be finished."""


def write(store: Store, study: str, trial_id: str, *, reason: str) -> None:
    """Notes why the run of a trial may lack something."""
    store.write(f"{StudyFiles(study).mirror_notes}/{trial_id}", reason.encode())


def clear(store: Store, study: str, trial_id: str) -> None:
    """Deletes the note of a trial."""
    store.delete(f"{StudyFiles(study).mirror_notes}/{trial_id}")


def unmirrored(store: Store, study: str) -> dict[str, str]:
    """Returns by trial id why a study's runs may lack something in W&B."""
    folder = StudyFiles(study).mirror_notes
    contents = {trial_id: store.read(f"{folder}/{trial_id}") for trial_id in store.list(folder)}
    return {
        trial_id: data.decode(errors="replace") for trial_id, data in contents.items() if data is not None
    }
