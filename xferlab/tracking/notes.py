"""Whose runs are not known to be whole: a note beside the plan, since a worker's warnings stay in its log."""

from __future__ import annotations

from xferlab.records.store import Store

BEHIND = "W&B was still behind when its trial ended"
"""The note of a run that may yet be finished."""


def write(store: Store, study: str, trial_id: str, *, reason: str) -> None:
    """Notes why the run of a trial is not known to be whole."""
    store.write(_path(study, trial_id), reason.encode())


def clear(store: Store, study: str, trial_id: str) -> None:
    """Forgets the note of a trial."""
    store.delete(_path(study, trial_id))


def unmirrored(store: Store, study: str) -> dict[str, str]:
    """Returns by trial id why a study's runs are not known to be whole in W&B."""
    contents = {one: store.read(_path(study, one)) for one in store.list(_folder(study))}
    return {one: data.decode(errors="replace") for one, data in contents.items() if data is not None}


def _folder(study: str) -> str:
    return f"studies/{study}/mirror"


def _path(study: str, trial_id: str) -> str:
    return f"{_folder(study)}/{trial_id}"
