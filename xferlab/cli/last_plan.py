"""A study file compared with the last plan of the study, which the results belong to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session, command_options
from xferlab.errors import (
    DataError,
    Problem,
    ProblemsError,
    RecordError,
    StudyError,
    UsageError,
    XferlabError,
)
from xferlab.plan.changes import changed_fields, changes
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PlannedTrial
from xferlab.records import codec, layout, reader
from xferlab.records.complete import complete_trials
from xferlab.records.store import Store, is_archive

# Without the reason: remarks stand on pages that are passed on, and problems of data may name patients.
_UNREAD = (
    "The data of the study could not be read here, so only the names of its trials, its seed and its arms "
    "were compared with the last plan."
)


@dataclass(frozen=True)
class ArchivedStudy:
    """A study in an archive: what is read of a session there.

    Attributes:
        store: Its records.
        study: Its name.
        path: The archive.
        words: The archive, quoted for the commands that messages advise.
    """

    store: Store
    study: str
    path: Path
    words: str


Place = TypeVar("Place", Session, ArchivedStudy)


@dataclass(frozen=True)
class StudyComparison(Generic[Place]):
    """What a study file asks for now.

    Attributes:
        session: The study.
        trials: Its trials; those of the last plan where the data of the file cannot be read.
        differences: How file and last plan differ; empty if they agree.
        gap: What could not be compared, if anything.
        plan: Its plan; None where the data of the file cannot be read.
        lacks_trials: The file asks for others than `trials`.
    """

    session: Place
    trials: tuple[PlannedTrial, ...]
    differences: str = ""
    gap: str = ""
    plan: Plan | None = None
    lacks_trials: bool = False

    def remarks(self, words: str = "") -> tuple[str, ...]:
        """Returns what a reader of the results should know, sentence by sentence.

        Args:
            words: The study file and its options, for the command that a remark advises; empty: as they were
                given. On a page that is passed on, these may not be paths of this machine.
        """
        remedy = f" `xferlab run {words or self.session.words}` brings the results up to date."
        return tuple(filter(None, (self.differences and self.differences + remedy, self.gap)))

    def print_remarks(self, file: TextIO | None = None) -> None:
        """Prints them to a file, standard output by default."""
        for remark in self.remarks():
            print(remark, file=file)

    def is_complete(self) -> bool:
        """Returns whether all trials are complete: what the exit code says."""
        session = self.session
        return not self.lacks_trials and len(
            complete_trials(session.store, session.study, self.trials)
        ) == len(self.trials)


def stored(
    options: StudyOptions, *, must_have_run: bool = False
) -> StudyComparison[Session] | StudyComparison[ArchivedStudy]:
    """Returns the study of an archive, with which nothing is compared, or what `compare` returns."""
    if not is_archive(options.study):
        return compare(options, must_have_run=must_have_run)
    if options.profile or options.storage:
        raise UsageError(
            f"{options.study}: an archive has its own records; leave --profile and --storage out"
        )
    store = Store.open(options.study)
    studies = store.list(layout.STUDIES)
    if len(studies) != 1:
        raise RecordError(f"{options.study}: holds plans of {len(studies)} studies, and an archive is of one")
    study = studies[0]
    trials = tuple(map(PlannedTrial.from_entry, reader.read_plan(store, study)["trials"]))
    return StudyComparison(ArchivedStudy(store, study, Path(options.study), command_options(options)), trials)


def compare(options: StudyOptions, *, must_have_run: bool = False) -> StudyComparison[Session]:
    """Compares a study file with its last plan.

    Args:
        options: They name the study.
        must_have_run: Whether an absent or unreadable plan is an error.

    Raises:
        StudyError: What the study file asks for does not fit together, or not its data.
        XferlabError: The study cannot be planned, and there is no earlier plan of it.
    """
    session = Session.open(options)
    try:
        document = session.last_plan()
    except (UsageError, RecordError) as error:
        if must_have_run:
            raise
        is_absent = isinstance(error, UsageError)
        gap = str(error) if is_absent else f"The last plan of the study could not be read: {error}"
        try:
            plan = session.plan()
        except DataError as data:  # with the reason why they are needed
            raise type(data)((Problem(str(session.path), gap, "warning"), *data.problems)) from data
        return StudyComparison(session, plan.trials, gap=gap, plan=plan)
    return compared(session, document)


def warn_if_edited(session: Session, document: dict[str, Any]) -> None:
    """Says on standard error how a study file differs from its last plan, whose trials names mean.

    Data are read only where the study file, or what its arms include, is not as it was.
    """
    if session.is_edited_since(document) or changes(
        session.loaded, document, None, fields=lambda _before, _now: ()
    ):
        try:
            compared(session, document).print_remarks(sys.stderr)
        except StudyError as error:
            what = f"{session.path.name} was edited since the study ran, and cannot be planned now"
            print(f"warning: {what}: {error.problems[0]} Trials are those of that run.", file=sys.stderr)


def compared(session: Session, document: dict[str, Any]) -> StudyComparison[Session]:
    """Compares a study file with a plan document; raises StudyError as `compare` does."""
    try:
        plan = session.plan_as(document)
    except StudyError:  # no data that are elsewhere: the file is to be corrected
        raise
    except XferlabError as error:
        problems = error.problems if isinstance(error, ProblemsError) else (error,)
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        print(f"warning: the data of the study cannot be read here: {problems[0]}{more}", file=sys.stderr)
        trials = tuple(map(PlannedTrial.from_entry, document["trials"]))
        differences = _differences(session, document, None)
        return StudyComparison(session, trials, differences, _UNREAD, lacks_trials=bool(differences))
    return StudyComparison(session, plan.trials, _differences(session, document, plan), plan=plan)


def _differences(session: Session, document: dict[str, Any], plan: Plan | None) -> str:
    def fields(before: str, now: str) -> list[str]:
        assert plan is not None
        spec = codec.read_whole(session.store, layout.TrialFiles(before).spec)
        return changed_fields(spec["identity"], plan.by_id[now].identity.to_json()) if spec else []

    phrases = changes(session.loaded, document, plan, fields=fields)
    if document["profile"] != session.loaded.profile:
        phrases.insert(0, f"profile {document['profile'] or 'none'} -> {session.loaded.profile or 'none'}")
    if not phrases:
        return ""
    return f"{session.loaded.path.name} differs from the last plan of the study: {'; '.join(phrases)}."
