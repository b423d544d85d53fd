"""From the command line's options to a planned study and its storage: how most verbs begin."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from xferlab.cli.options import StudyOptions
from xferlab.cli.view import progress_bar
from xferlab.cli.weights import GivenWeights
from xferlab.data.cache import default_cache_dir
from xferlab.errors import DataError, StorageError, UsageError, suggest, without_query
from xferlab.leakage.index import StudyIndex
from xferlab.phantoms.foreign_objects import OBJECTS_VERSION
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan, Setting
from xferlab.plan.spec import PlannedTrial, TrialSpec
from xferlab.records import layout, reader
from xferlab.records.store import Store, is_archive
from xferlab.study.load import LoadedStudy, load

Trial = TypeVar("Trial", bound=PlannedTrial)


@dataclass(frozen=True)
class Session:
    """A study with the storage and the caches that a verb works on.

    Attributes:
        loaded: The study.
        store: Its storage.
        cache_dir: Folder of decoded images, digests and donors on this machine.
        words: The study file and the options that name it, quoted for the commands that messages advise.
    """

    loaded: LoadedStudy
    store: Store
    cache_dir: Path
    words: str

    @staticmethod
    def open(options: StudyOptions) -> Session:
        """Loads the study that the options name.

        Raises:
            UsageError: They name an archive.
            XferlabError: The study or its storage is not valid.
        """
        if is_archive(options.study):
            raise UsageError(
                f"{options.study}: is an archive, which report, status and failures read; give the study file"
            )
        loaded = load(options.study, profile=options.profile)
        store = Store.open(options.storage or loaded.base.storage)
        if store.is_local and not store.archived and os.path.isfile(store.root):
            raise StorageError(f"storage {store.shown} is a file; give a folder with --storage")
        return Session(loaded, store, default_cache_dir(), command_options(options))

    @property
    def study(self) -> str:
        """The name of the study."""
        return self.loaded.base.study

    @property
    def path(self) -> Path:
        """The study file."""
        return self.loaded.path

    @cached_property
    def weights(self) -> GivenWeights:
        """The weights that the study gives."""
        return GivenWeights(self.loaded, self.store, self.cache_dir)

    def last_plan(self) -> dict[str, Any]:
        """Returns the last plan document of the study.

        Raises:
            UsageError: The study has not run in this storage.
            RecordError: The plan is damaged, or another version of xferlab wrote it.
        """
        if not self.store.exists(layout.StudyFiles(self.study).plan):
            raise UsageError(
                f"{self.store.shown} holds no plan of study {self.study}: it has not run here. Run it first: "
                f"xferlab run {self.words}"
            )
        return reader.read_plan(self.store, self.study)

    def other_profile(self, plan: Mapping[str, Any]) -> str:
        """Returns what to do where the last plan is of another profile; empty where it is of this one."""
        last, asked = plan["profile"], self.loaded.profile
        if last == asked:
            return ""
        return (
            f"study {self.study} last ran with {shown_profile(last)} in {self.store.shown}, not with "
            f"{shown_profile(asked)}. {f'Give --profile {last}' if last else 'Leave --profile out'} to take "
            f"the trials of that run, or first run the others: `xferlab run {self.words}` trains no complete "
            "trial again."
        )

    def is_edited_since(self, plan: Mapping[str, Any]) -> bool:
        """Returns whether the study file has other bytes than a plan was made of, if that says it."""
        planned = ((plan.get("planned") or {}).get("file") or {}).get("sha256")
        return bool(planned) and planned != hashlib.sha256(self.path.read_bytes()).hexdigest()

    def plan(self, donors: Mapping[str, str] | None = None) -> Plan:
        """Returns the plan, with the digests of given weights: `donors`, or those on this machine.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        return self._planned(self.setting(donors))

    def plan_as(self, document: Mapping[str, Any]) -> Plan:
        """Returns the plan as the machine of an earlier plan would make it: with its device and its donors.

        Results are often read on another machine than they are computed on.

        Args:
            document: The earlier plan.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        trials = map(PlannedTrial.from_entry, document["trials"])
        digests = {donor.title: donor.sha256 for trial in trials for donor in trial.donors if donor.sha256}
        setting = self.setting({**digests, **self.weights.digests()})
        return self._planned(replace(setting, **document["machine"]))

    def _planned(self, setting: Setting) -> Plan:
        plan = expand(self.loaded, self.index, setting)
        return replace(plan, warnings=(*self.index.audit.summary, *plan.warnings))

    @cached_property
    def index(self) -> StudyIndex:
        """The cases of the study and its arms; the first time, new images are compared with all others.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        with progress_bar("comparing images") as progress:
            try:
                return StudyIndex(
                    self.loaded.base.data,
                    arms={name: study.data for name, study in self.loaded.arms.items()},
                    memo_dir=self.cache_dir / "digests",
                    progress=progress,
                )
            except DataError as error:
                raise DataError(list(map(self.loaded.locate, error.problems))) from error

    def setting(self, donors: Mapping[str, str] | None = None) -> Setting:
        """Returns what planning must know of this machine and this version; `donors` as for `plan`."""
        return Setting(
            device="cuda" if cuda_present() else "cpu",
            bfloat16=cpu_has_bfloat16(),
            objects_version=OBJECTS_VERSION,
            donors=donors or self.weights.digests(),
        )


def command_options(options: StudyOptions) -> str:
    """Returns the study and the options that name it, quoted for the commands that messages advise."""
    words = [str(options.study)]
    if options.profile:
        words += ["--profile", options.profile]
    if options.storage:
        # `?...` stands for the part in which there may be keys.
        shown = without_query(options.storage)
        words += ["--storage", shown if shown == options.storage else f"{shown}?..."]
    return shlex.join(words)


def shown_profile(name: str | None) -> str:
    """Returns a profile for messages."""
    return f"profile {name!r}" if name else "no profile"


def check_name(option: str, name: str, known: Collection[str], path: Path) -> None:
    """Raises UsageError if the study in a file has no arm, stage or state of that name."""
    if name not in known:
        raise UsageError(
            f"--{option}: there is no {option.removesuffix('s')} {name!r} in {path}; accepted: "
            f"{', '.join(known)}.{suggest(name, known)}"
        )


def names_of_arms(arms: str) -> frozenset[str]:
    """Returns the names in a list such as `A,B` or `A, B`."""
    return frozenset(name.strip() for name in arms.split(","))


def of_arms(plan: Plan, arms: str | None) -> tuple[TrialSpec, ...]:
    """Returns the trials of some arms (`A,B`), all without a choice, and those that they take anything from.

    Raises:
        UsageError: The study has no arm of that name.
    """
    if arms is None:
        return plan.trials
    names = names_of_arms(arms)
    for name in names:
        check_name("arms", name, plan.loaded.arms, plan.loaded.path)
    return with_ancestors({trial.trial_id for trial in plan.trials if names & set(trial.arms)}, plan.trials)


def with_ancestors(trial_ids: Iterable[str], planned: Sequence[Trial]) -> tuple[Trial, ...]:
    """Returns some of the planned trials, by id, and all that they take anything from, in their order."""
    needed = set(trial_ids)
    for trial in reversed(planned):  # children before those that they take from
        if trial.trial_id in needed:
            needed.update(trial.parents)
    return tuple(trial for trial in planned if trial.trial_id in needed)


def cuda_present() -> bool:
    """Returns whether this machine has an NVIDIA device, without importing torch."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def cpu_has_bfloat16() -> bool:
    """Returns whether this machine's CPU multiplies bfloat16 itself; emulated, it is slower than float32."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))
