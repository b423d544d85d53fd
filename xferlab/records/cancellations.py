"""Requests to cancel trials, and what a run has cancelled.

A request names trials of one run, by the token of that run's lease: no other run reads it. The driver writes
its answer into the same file. What it has cancelled stays in the study's folder until the next run begins.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from xferlab.errors import RecordError
from xferlab.records import codec, reader
from xferlab.records.layout import StudyFiles
from xferlab.records.store import Store

LOCAL_EVERY_S, REMOTE_EVERY_S = 1.0, 10.0
"""How often a driver looks for requests, which costs one listing; how often somebody looks for the answer."""


@dataclass(frozen=True)
class Answer:
    """What a run does with a request; trials are told by name.

    Attributes:
        cancelled: They are stopped, or never start.
        blocked: They would have started from cancelled ones.
        shared: They go on, since the names behind each mean the same trial and are not cancelled.
        ended: They had ended before, each in this state.
        unknown: They are not in the run.
    """

    cancelled: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    shared: dict[str, list[str]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """Asks a run to cancel trials.

    Attributes:
        names: Their names, `arm/stage/rNN`.
        text: Why, for people, in one line; may be empty.
        host: Where it was asked.
        at: When, ISO 8601 in UTC.
        answer: The run's; None until it has read the request.
    """

    names: tuple[str, ...]
    text: str
    host: str
    at: str
    answer: Answer | None = None

    @staticmethod
    def now(names: Collection[str], text: str = "") -> Request:
        """Returns a request of this moment and this machine."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return Request(tuple(names), " ".join(text.split()), socket.gethostname(), at)

    @property
    def reason(self) -> str:
        """What is told of the trials that it cancels."""
        asked = f"asked on {self.host} at {self.at}"
        return f"{self.text} ({asked})" if self.text else asked


_REQUEST = TypeAdapter(Request)


def new_request_path(study: str, run: str) -> str:
    """Returns a free name for a request to the run of a study that has this token."""
    return f"{StudyFiles(study).requests}/{run}/{secrets.token_hex(8)}.json"


def write_request(store: Store, path: str, request: Request) -> None:
    """Writes a request, or its answer in its place."""
    codec.write_json(store, path, asdict(request))


def read_request(store: Store, path: str) -> Request | None:
    """Returns a request; None where it is gone.

    Raises:
        RecordError: It is damaged.
    """
    body = codec.read_json(store, path)
    try:
        return None if body is None else _REQUEST.validate_python(body)
    except ValidationError as error:
        raise RecordError(f"{store.path(path)}: is no request to cancel trials") from error


def write_cancelled(store: Store, study: str, reasons: Mapping[str, str]) -> None:
    """Writes why a run has cancelled trials, by their ids."""
    codec.write_json(store, StudyFiles(study).cancelled, {"trials": dict(reasons)})


def read_cancelled(store: Store, study: str) -> dict[str, str]:
    """Returns why the last run has cancelled trials, by their ids; nothing of a damaged file."""
    trials = reader.read_undamaged(store, StudyFiles(study).cancelled).get("trials")
    return trials if isinstance(trials, dict) else {}


def forget_earlier(store: Store, study: str, run: str) -> None:
    """Deletes what earlier runs of a study have cancelled, and requests to them."""
    files = StudyFiles(study)
    store.delete(files.cancelled)
    for earlier in store.list(files.requests):
        if earlier != run:
            store.delete_dir(f"{files.requests}/{earlier}")
