"""From the command line's options to a planned study and its storage; what several verbs begin with."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import Progress

from xferlab.data.cache import default_cache_dir
from xferlab.errors import DataError, DonorError, Problem, StudyError, UsageError, suggest
from xferlab.leakage.index import StudyIndex
from xferlab.metrics.catalogue import METRICS_VERSION
from xferlab.phantoms.foreign_objects import OBJECTS_VERSION
from xferlab.plan.expand import Plan, Setting, expand
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.store import Store, without_query
from xferlab.study.findings import Finding
from xferlab.study.load import LoadedStudy, load
from xferlab.study.schema import Study, Weights
from xferlab.training import TRAINING_VERSION

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """A study with the storage and caches that a verb works on.

    Attributes:
        loaded: The study.
        store: Its storage.
        cache_dir: Folder of decoded images, digests and donors on this machine.
    """

    loaded: LoadedStudy
    store: Store
    cache_dir: Path

    @staticmethod
    def open(options: Namespace) -> Session:
        """Loads the study that the options name."""
        loaded = load(options.study, profile=options.profile)
        return Session(loaded, open_storage(loaded, options.storage), default_cache_dir())

    def plan(self, donors: Mapping[str, str] | None = None) -> Plan:
        """Returns the plan, with the digests of the donors that are at hand.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        return self._planned(self.setting(donors or self.donors_at_hand()))

    def plan_as(self, document: Mapping[str, Any] | None) -> Plan:
        """Returns the plan as the machine of an earlier plan would make it: with its device and its donors.

        Results are looked at from other machines than they are computed on.

        Args:
            document: The earlier plan; None to plan for this machine.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        if document is None:
            return self.plan()
        donors = {
            donor["name"] or donor["path"]: donor["sha256"]
            for donor in (trial["donor"] for trial in document["trials"])
            if donor
        }
        machine = document.get("machine", {"device": document["device"]})
        return self._planned(replace(self.setting({**donors, **self.donors_at_hand()}), **machine))

    def _planned(self, setting: Setting) -> Plan:
        plan = expand(self.loaded, self.index, setting)
        return replace(plan, warnings=(*self.index.audit.summary, *plan.warnings))

    @cached_property
    def index(self) -> StudyIndex:
        """The cases of the study and its arms; the first time, new images are compared with all others.

        Raises:
            DataError: With all problems of all of the study's own sections.
        """
        arms = [study.data for study in self.loaded.arms.values()]
        with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task("comparing images", visible=False)
            try:
                return StudyIndex(
                    self.loaded.base.data,
                    arms=arms,
                    memo_dir=self.cache_dir / "digests",
                    progress=lambda done, all_: bar.update(task, completed=done, total=all_, visible=True),
                )
            except DataError as error:
                raise DataError(
                    [self.loaded.located.locate(problem) for problem in error.problems]
                ) from error

    def setting(self, donors: Mapping[str, str]) -> Setting:
        """Returns what planning must know of this machine and this version."""
        return Setting(
            device="cuda" if cuda_present() else "cpu",
            bfloat16=cpu_has_bfloat16(),
            training_version=TRAINING_VERSION,
            metrics_version=METRICS_VERSION,
            objects_version=OBJECTS_VERSION,
            donors=donors,
        )

    def donors_at_hand(self) -> dict[str, str]:
        """Returns the digests of given weights on this machine by name or path; imports torch if any.

        Raises:
            StudyError: A name is unknown; with its line.
        """
        if not given_weights(self.loaded.arms):
            return {}
        from xferlab.trial.pretrained import at_hand

        digests = self.each_weights(lambda weights: at_hand(weights, cache_dir=self.cache_dir))
        return {name: digest for name, digest in digests.items() if digest}

    def each_weights(self, work: Callable[[Weights], T]) -> dict[str, T]:
        """Returns what is made of all given weights, by name or path.

        Raises:
            StudyError: With all DonorErrors, each with its line.
        """
        results, problems = dict[str, T](), list[Problem]()
        for name, weights in given_weights(self.loaded.arms).items():
            try:
                results[name] = work(weights)
            except DonorError as error:
                problems.append(self.weights_problem(name, str(error)))
        if problems:
            raise StudyError(problems)
        return results

    def weights_problem(
        self, name: str, what: str, *, arm: str | None = None, severity: str = "error"
    ) -> Problem:
        """Returns what is wrong with given weights, at the line where they are asked for.

        Args:
            name: Their name or path.
            what: What is wrong.
            arm: The arm that it is about; None for the first that names them.
            severity: As a Problem's.
        """
        arm, stage = next(
            (candidate, stage)
            for candidate, study in self.loaded.arms.items()
            for stage, config in study.stages.items()
            if arm in (None, candidate)
            and config.weights
            and name in (config.weights.name, config.weights.path)
        )
        return self.loaded.problem(arm, Finding(("stages", stage, "weights"), what, severity))


def open_storage(loaded: LoadedStudy, given: str | None) -> Store:
    """Opens the storage of a study; one that is `given` on the command line starts where that runs.

    Raises:
        UsageError: There are no records in it, and there are some where earlier versions looked for it.
        StorageError: It cannot be opened.
    """
    if given:
        return Store.open(given)
    store, study = Store.open(loaded.base.storage), loaded.base.study
    if not loaded.relative_storage:
        return store
    earlier = Store.open(loaded.relative_storage)
    if earlier.location == store.location or not earlier.exists(layout.plan_path(study)):
        return store
    remedy = os.path.relpath(earlier.location, loaded.path.resolve().parent)
    found = (
        f"{loaded.path}: the storage {loaded.relative_storage} starts at the study file: {store.location}. "
        f"Records of study {study!r} also lie where this command runs, in {earlier.location}, since earlier "
        "versions put them there"
    )
    if store.exists(layout.plan_path(study)):
        print(f"warning: {found}; they are not used.", file=sys.stderr)
        return store
    raise UsageError(
        f"{found}, and the storage holds none. To go on with them, write `storage: {remedy}` in the study "
        f"file, move that folder, or give --storage {earlier.location}. To start afresh, give --storage "
        f"{store.location}"
    )


def command_options(options: Namespace) -> str:
    """Returns the study and the options that name it, quoted for the commands that messages advise."""
    words = [str(options.study)]
    words += ["--profile", options.profile] if options.profile else []
    words += ["--storage", _without_keys(options.storage)] if options.storage else []
    return shlex.join(words)


def _without_keys(location: str) -> str:
    """A storage as the user gave it; `?...` stands for the part in which there may be keys."""
    shown = without_query(location) if "://" in location else location
    return shown if shown == location else f"{shown}?..."


def given_weights(arms: Mapping[str, Study]) -> dict[str, Weights]:
    """Returns the weights of all stages that are not trained, by name or path; arms may differ in one."""
    given = [stage.weights for study in arms.values() for stage in study.stages.values() if stage.weights]
    return {weights.name or weights.path or "": weights for weights in given}


def of_arms(plan: Plan, arms: str | None) -> tuple[TrialSpec, ...]:
    """Returns the trials of some arms (`A,B`), all without a choice; what they start from is among them.

    Raises:
        UsageError: The study has no arm of that name.
    """
    if arms is None:
        return plan.trials
    names = [name.strip() for name in arms.split(",")]
    for name in names:
        if name not in plan.loaded.arms:
            known = ", ".join(plan.loaded.arms)
            hint = suggest(name, plan.loaded.arms)
            raise UsageError(f"--arms: {plan.loaded.path} has no arm {name!r}; its arms: {known}.{hint}")
    return tuple(trial for trial in plan.trials if set(names) & set(trial.arms))


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
