"""Which trial a verb means: by its id, or by its name in the last plan of a study."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xferlab.cli.options import StudyOptions, TrialOptions
from xferlab.cli.view import count_of
from xferlab.errors import UsageError, suggest
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.study.schema import Study

_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth")
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Found:
    """A complete trial.

    Attributes:
        store: Its storage.
        trial_id: Its id.
        studies: The studies whose last plans name it.
    """

    store: Store
    trial_id: str
    studies: tuple[str, ...]


def weights_file(model: str) -> Path | None:
    """Returns a weights file; None where something else is named.

    Raises:
        UsageError: It looks like one, and there is none.
    """
    path = Path(model)
    if path.is_file():
        return path
    if path.suffix in _WEIGHTS_SUFFIXES:
        raise UsageError(f"{path}: there is no such file")
    return None


def find_trial(options: TrialOptions) -> Found:
    """Returns the complete trial that the options name.

    Raises:
        UsageError: There is none, several have the name, or it is not complete.
    """
    store, plans = _plans(options)
    ids: dict[str, dict[str, str]] = defaultdict(dict)
    for study, plan in plans.items():
        for trial in plan["trials"]:
            for name in trial["names"]:
                ids[name][study] = trial["trial_id"]
    trial_id = options.model if _TRIAL_ID.fullmatch(options.model) else _named(options.model, ids, store)
    if reader.read_trial(store, trial_id) is not None:
        studies = (
            study for of_studies in ids.values() for study in of_studies if of_studies[study] == trial_id
        )
        return Found(store, trial_id, tuple(dict.fromkeys(studies)))
    known = {
        *store.list(layout.TRIALS),
        *(known for of_studies in ids.values() for known in of_studies.values()),
    }
    if trial_id not in known:
        raise UsageError(f"{store.location}: no trial {trial_id!r}.{suggest(trial_id, known)}")
    epochs = count_of(len(reader.read_history(store, trial_id)), "epoch")
    raise UsageError(
        f"trial {options.model} is not complete ({epochs} so far); `xferlab run {options.study or 'STUDY'}` "
        "completes it"
    )


def _plans(options: TrialOptions) -> tuple[Store, dict[str, dict[str, Any]]]:
    """Returns the storage and the last plans in it: of the study that is given, or of all."""
    if options.study is None:
        store = Store.open(options.storage or Study.model_fields["storage"].default)
        plans = {
            study: codec.read_json(store, layout.StudyFiles(study).plan)
            for study in store.list(layout.STUDIES)
        }
        return store, {study: plan for study, plan in plans.items() if plan}
    from xferlab.cli.session import Session

    session = Session.open(
        StudyOptions(study=options.study, profile=options.profile, storage=options.storage)
    )
    store, study, plan = session.store, session.study, session.last_plan()
    if options.profile and plan["profile"] != options.profile:
        ran = f"profile {plan['profile']!r}" if plan["profile"] else "no profile"
        raise UsageError(
            f"--profile: study {study} last ran with {ran} in {store.location}, not with "
            f"{options.profile!r}: its names mean other trials there. Give the trial's id, or that profile."
        )
    return store, {study: plan}


def _named(name: str, ids: Mapping[str, Mapping[str, str]], store: Store) -> str:
    """Returns the id of the trial of that name; `ids` are by name and study."""
    of_studies = ids.get(name, {})
    if len(set(of_studies.values())) == 1:
        return next(iter(of_studies.values()))
    if of_studies:
        where = ", ".join(f"{study} ({trial_id})" for study, trial_id in of_studies.items())
        raise UsageError(f"{name} is a trial of several studies: {where}. Give --study, or the id.")
    if not ids:
        raise UsageError(
            f"{store.location}: no study has run here, so {name!r} names nothing. Run it first: "
            "`xferlab run STUDY`; or give --study or --storage to say where the trial is. A weights file is "
            "accepted too."
        )
    raise UsageError(
        f"{store.location}: no trial {name!r}; accepted: an id, or arm/stage/rNN such as {min(ids)}, or a "
        f"weights file.{suggest(name, ids)}"
    )
