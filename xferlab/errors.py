"""The exception tree: everything that xferlab raises on purpose descends from `XferlabError`.

A message says where, what was found, what is accepted and what to do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Self, TypeVar

Result = TypeVar("Result")


class XferlabError(Exception):
    """Base of all errors that a user can fix; the command line prints it without a traceback."""


@dataclass(frozen=True)
class Problem:
    """One finding about an input.

    Attributes:
        where: File, and line if known (`jobs/smoke.yaml:12`), or the case that it concerns.
        what: What was found, what is accepted, what to do.
        severity: `error` (nothing may run) or `warning`.
        kind: What many findings of this sort are called together, such as `empty masks`; may be empty.
        arm: The arm whose data it is about; empty: the study's own, or not known.
    """

    where: str
    what: str
    severity: str = "error"
    kind: str = field(default="", compare=False)
    arm: str = field(default="", compare=False)

    def __str__(self) -> str:
        prefix = "" if self.severity == "error" else f"{self.severity}: "
        return f"{self.where}: {prefix}{self.what}"


class ProblemsError(XferlabError):
    """Several problems of one input, reported together.

    Attributes:
        problems: All findings, in the order of the input.
    """

    def __init__(self, problems: Problem | Sequence[Problem]):
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def at(cls, where: object, what: str, *, kind: str = "") -> Self:
        """Returns the error of one problem."""
        return cls(Problem(str(where), what, kind=kind))

    def __reduce__(self) -> tuple[type[ProblemsError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class StudyError(ProblemsError):
    """A study file, or what it includes, is not valid."""


class DataError(ProblemsError):
    """Images, masks or their table cannot be used as they are."""


class FileUnavailableError(DataError):
    """A file cannot be read now, or does not hold the bytes that it was planned with."""


class UsageError(XferlabError):
    """The command line asks for what does not exist or does not fit together."""


class TaskError(XferlabError):
    """The code of a task and what the task declares differ."""


class PluginError(XferlabError):
    """What an installed package adds cannot be used."""


class DonorError(XferlabError):
    """Donor weights are absent, altered, or do not fit the network."""


class ExportError(XferlabError):
    """An exported model is not what the network is."""


class StorageError(XferlabError):
    """The storage cannot be read or written."""


class RecordError(StorageError):
    """A stored file is torn, altered or of an unknown version."""


class OtherVersionError(RecordError):
    """Another version of xferlab wrote a stored file."""


class LeaseHeldError(StorageError):
    """Another live process works on the same thing."""


class StorageLostError(StorageError):
    """The storage failed while trials ran; what it holds is whole."""


class ClusterLostError(XferlabError):
    """The Ray cluster that ran trials is gone; the records are not."""


class TrainingError(XferlabError):
    """A training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite; raised before the optimizer step."""


class MachineError(XferlabError):
    """This machine lacks what a trial needs; another may have it."""


class InterruptedTrialError(XferlabError):
    """A trial was asked to stop; its latest checkpoint is stored and the next run resumes it."""


def other_version(
    what: str, version: object, accepted: int, *, storage: str = "the storage"
) -> OtherVersionError:
    """Returns the error about something stored that another version of xferlab wrote."""
    return OtherVersionError(
        f"{what} has version {version}, and this xferlab needs version {accepted}; use the xferlab that "
        f"wrote it, give another storage by --storage, or delete {storage} with all results in it"
    )


def attempt(work: Callable[..., Result], *arguments: object) -> Result | DataError:
    """Returns what `work` returns, or the DataError that it raised, so that others may follow."""
    try:
        return work(*arguments)
    except DataError as error:
        return error


def joined(results: Iterable[object]) -> DataError:
    """Returns the errors of several attempts as one, a `FileUnavailableError` if one of them is."""
    errors = [result for result in results if isinstance(result, DataError)]
    unavailable = any(isinstance(error, FileUnavailableError) for error in errors)
    kind = FileUnavailableError if unavailable else DataError
    return kind([problem for error in errors for problem in error.problems])


def successes(results: Sequence[Result | DataError]) -> list[Result]:
    """Returns the results of several attempts.

    Raises:
        DataError: With the problems of all that failed.
    """
    succeeded = [result for result in results if not isinstance(result, DataError)]
    if len(succeeded) < len(results):
        raise joined(results)
    return succeeded


def pointer_hint(head: bytes) -> str:
    """Returns what to do about a file that begins like a git-LFS pointer, else an empty text."""
    if not head.startswith(b"version https://git-lfs"):
        return ""
    return " It is a git-LFS pointer, not the file itself: run `git lfs pull` where it lies."


def utf8(text: str, *, shown: str) -> bytes:
    """Returns the bytes of a text that is to be written.

    Args:
        text: The text.
        shown: How messages name its file.

    Raises:
        UsageError: It holds the name of a file or a folder that is no UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        before, after = text[: error.start].rpartition("\n")[2], text[error.start :].partition("\n")[0]
        raise UsageError(
            f"{shown}: would hold a name with letters that cannot be written; rename that file or folder: "
            f"{before + after!a}"
        ) from error


def suggest(name: str, accepted: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` for the accepted name nearest to `name`, or an empty string.

    Upper and lower case are alike.
    """
    names: dict[str, str] = {}
    for each in accepted:
        names.setdefault(composed(each).casefold(), each)
    nearest = get_close_matches(composed(name).casefold(), names, n=1, cutoff=0.6)
    return did_you_mean(name, names[nearest[0]]) if nearest else ""


def did_you_mean(name: str, accepted: str) -> str:
    """Returns ` Did you mean 'x'?`, and what to do where both names look alike."""
    looks_alike = composed(name) == composed(accepted) and name != accepted
    unlike = " It looks alike, but Unicode writes it with other characters; copy it from its origin."
    return f" Did you mean {accepted!r}?{unlike if looks_alike else ''}"


def composed(text: str) -> str:
    """Returns a text in Unicode's composed form (NFC), in which texts that look alike are mostly equal."""
    return unicodedata.normalize("NFC", text)


def without_query(uri: str) -> str:
    """Returns a URI without its query and user part, where keys may stand; a path as it is."""
    if "://" not in uri:
        return uri
    scheme, _, rest = uri.partition("://")
    location, _, query = rest.partition("?")
    if "@" in query:  # a key may hold a question mark: the part before it is not a location then
        return f"{scheme}://..."
    return f"{scheme}://{location.rpartition('@')[2]}"


def listed(names: Sequence[str], shown: int) -> str:
    """Returns the first names, `shown` at most, and how many there are besides: `a, b and 3 more`."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def check_names(
    method: str,
    returned: Collection[str],
    *,
    declared_in: str,
    required: Iterable[str] = (),
    accepted: Collection[str] | None = None,
) -> None:
    """Checks the names of what a task's method returned against the task's declaration.

    Args:
        method: The method, for the message.
        returned: The names.
        declared_in: Where the task declares them, for the message.
        required: Those that must be there.
        accepted: Those that may be there; None for any.

    Raises:
        TaskError: Says which are missing, and which are not declared.
    """
    missing = [f"lacks {name!r}" for name in required if name not in returned]
    surplus = [f"has {name!r}" for name in returned if accepted is not None and name not in accepted]
    if missing or surplus:
        what = " and ".join((*missing, *surplus))
        raise TaskError(f"what {method} returned {what}, unlike {declared_in}; use the same names in both")
