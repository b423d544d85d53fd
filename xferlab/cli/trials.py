"""A trial that the command line names: by its id, or by its name in a study's last plan."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from xferlab.cli.options import StudyOptions, TrialOptions
from xferlab.cli.view import count_of
from xferlab.data.sources.registry import DataSection
from xferlab.errors import UsageError, suggest
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.study.schema import Study

_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth")
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class StoredTrial:
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


@dataclass(frozen=True)
class KnownTrials:
    """The trials of a storage.

    Attributes:
        store: The storage.
        plans: The last plans in it, by study: of the study that is given, or of all.
        words: The study file that is given, and its options, for the commands that messages advise.
        sections: Its data sections, by name.
        check_names: Refuses names of trials where they mean others than the study file does.
    """

    store: Store
    plans: Mapping[str, Mapping[str, Any]]
    words: str = "STUDY"
    sections: Mapping[str, DataSection] = field(default_factory=dict)
    check_names: Callable[[], None] = lambda: None

    @staticmethod
    def of(options: TrialOptions, *, compares: bool = False) -> KnownTrials:
        """Reads the plans.

        Args:
            options: They name the storage, or the study.
            compares: Whether to say on standard error, where a trial is named, how the study file differs
                from its last plan.

        Raises:
            UsageError: The study has not run in the storage.
        """
        if options.study is None:
            store = Store.open(options.storage or Study.model_fields["storage"].default)
            plans = {
                study: codec.read_json(store, layout.StudyFiles(study).plan)
                for study in store.list(layout.STUDIES)
            }
            return KnownTrials(store, {study: plan for study, plan in plans.items() if plan})
        from xferlab.cli.last_plan import warn_if_edited
        from xferlab.cli.session import Session

        session = Session.open(
            StudyOptions(study=options.study, profile=options.profile, storage=options.storage)
        )
        plan, sections = session.last_plan(), session.loaded.base.data

        @cache
        def check_names() -> None:
            if other := session.other_profile(plan):
                raise UsageError(f"{other} The id of a trial is accepted, too.")
            if compares:
                warn_if_edited(session, plan)

        return KnownTrials(session.store, {session.study: plan}, session.words, sections, check_names)

    def find(self, trial: str, *, otherwise: str = "", stages: bool = False) -> str:
        """Returns the id of a trial.

        Args:
            trial: Its id, or its name.
            otherwise: What the command line accepts in its place, such as `a weights file`.
            stages: Whether it accepts `arm/stage`, too, for all repetitions.

        Raises:
            UsageError: There is no such trial, the name means several, or the study last ran with another
                profile.
        """
        ids = self._ids()
        if not _TRIAL_ID.fullmatch(trial):
            return self._named(trial, ids, otherwise, stages=stages)
        known = {trial_id for of_studies in ids.values() for trial_id in of_studies.values()}
        if trial not in known and not self.store.exists(layout.TrialFiles(trial).folder):
            known |= set(self.store.list(layout.TRIALS))
            raise UsageError(f"{self.store.shown}: no trial {trial!r}.{suggest(trial, known)}")
        return trial

    def complete(self, trial: str, *, otherwise: str = "", stages: bool = False) -> StoredTrial:
        """Returns a complete trial; the arguments are those of `find`.

        Raises:
            UsageError: There is no such trial, the name means several, or it is not complete.
        """
        trial_id = self.find(trial, otherwise=otherwise, stages=stages)
        if reader.read_trial(self.store, trial_id) is None:
            epochs = count_of(len(reader.read_history(self.store, trial_id)), "epoch")
            raise UsageError(
                f"trial {trial} is not complete ({epochs} so far); `xferlab run {self.words}` completes it"
            )
        return StoredTrial(self.store, trial_id, self.studies_of(trial_id))

    def studies_of(self, trial_id: str) -> tuple[str, ...]:
        """Returns the studies whose last plans name a trial."""
        return tuple(
            study
            for study, plan in self.plans.items()
            if any(entry["trial_id"] == trial_id for entry in plan["trials"])
        )

    def repetitions(self, name: str) -> dict[str, str]:
        """Returns the ids of all repetitions of a stage of an arm (`arm/stage`) by their names; may be empty.

        Raises:
            UsageError: Several studies have such trials, and not the same.
        """
        is_repetition = re.compile(rf"{re.escape(name)}/r\d+").fullmatch
        ids = self._ids()
        return {each: self._named(each, ids) for each in ids if is_repetition(each)}

    def matching(self, what: str) -> dict[str, str]:
        """Returns trials by their names, and their ids.

        Args:
            what: An arm, `arm/stage`, or a trial's name or id.

        Raises:
            UsageError: There is nothing of that name, or it means trials of several studies.
        """
        ids = self._ids()
        groups: dict[str, list[str]] = defaultdict(list)
        for name, of_studies in ids.items():
            arm, stage, *_ = name.split("/")
            for group in {arm, f"{arm}/{stage}", name, *of_studies.values()}:
                groups[group].append(name)
        if what not in groups:
            raise UsageError(
                f"{self.store.shown}: no trial {what!r}; accepted: an arm, arm/stage, arm/stage/rNN, or "
                f"an id.{suggest(what, groups)}"
            )
        if _TRIAL_ID.fullmatch(what):
            return dict.fromkeys(groups[what], what)
        return {name: self._named(name, ids) for name in groups[what]}

    def _ids(self) -> dict[str, dict[str, str]]:
        """The ids of trials, by name and study."""
        ids: dict[str, dict[str, str]] = defaultdict(dict)
        for study, plan in self.plans.items():
            for entry in plan["trials"]:
                for name in entry["names"]:
                    ids[name][study] = entry["trial_id"]
        return ids

    def _named(
        self, name: str, ids: Mapping[str, Mapping[str, str]], otherwise: str = "", *, stages: bool = False
    ) -> str:
        self.check_names()
        of_studies = ids.get(name, {})
        if len(set(of_studies.values())) == 1:
            return next(iter(of_studies.values()))
        location = self.store.shown
        if of_studies:
            where = ", ".join(f"{study} ({trial_id})" for study, trial_id in of_studies.items())
            raise UsageError(f"{name} is a trial of several studies: {where}. Give --study, or the id.")
        if not ids:
            also = f" {otherwise[0].upper()}{otherwise[1:]} is accepted too." if otherwise else ""
            raise UsageError(
                f"{location}: no study has run here, so {name!r} names nothing. Run it first: "
                f"`xferlab run STUDY`; or give --study or --storage to say where the trial is.{also}"
            )
        groups = {each.rpartition("/")[0] for each in ids} if stages else set()
        accepted = [
            "an id",
            f"arm/stage/rNN such as {min(ids)}",
            *([f"arm/stage such as {min(groups)} for the mean of its repetitions"] if groups else ()),
            *([otherwise] if otherwise else ()),
        ]
        raise UsageError(
            f"{location}: no trial {name!r}; accepted: {', '.join(accepted[:-1])}, or {accepted[-1]}."
            f"{suggest(name, [*groups, *ids])}"
        )
