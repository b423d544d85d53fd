"""Makes an archive of a study: gathers what its records say, and writes it as one file.

Records, histories and tables of values go in byte for byte. Plan, specs, runs and failures lose hosts,
accounts, tracebacks, and the folders of paths (`records.sharing`). Pixels never go in, nor do logs,
checkpoints and predictions for other trials; weights do if they are asked for.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pyarrow.fs as pafs

from xferlab.errors import StorageError, UsageError
from xferlab.records import codec, reader
from xferlab.records.archive import STORAGE, ArchivedFiles, FileFacts
from xferlab.records.layout import StudyFiles, TrialFiles, selection_path
from xferlab.records.schema import MeasurementRecord
from xferlab.records.sharing import PLACES, Sharing
from xferlab.records.store import Store

PIXELS = ("outputs", "pictures")
"""Tables of evaluations that show images."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: the first that a zip file can hold."""


@dataclass
class Gathered:
    """What an archive is made of; names are those in the storage.

    Attributes:
        store: The storage.
        files: Contents of all files but weights.
        weights: Weights that go in; they are read when they are written.
        left_out: What is known of files that stay out.
        environment: `software`, `devices` and `hosts` of the trials: by name, and version, how many.
        last: When something was last done, ISO 8601.
    """

    store: Store
    files: dict[str, bytes] = field(default_factory=dict)
    weights: dict[str, FileFacts] = field(default_factory=dict)
    left_out: dict[str, FileFacts] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    last: str = ""

    def as_store(self) -> Store:
        """Returns what was gathered as the storage that readers of the archive will see."""
        facts = {**self.weights, **self.left_out}
        sizes = {name: len(data) for name, data in self.files.items()}
        sizes |= {name: each.size for name, each in facts.items()}
        files = ArchivedFiles("archive", sizes, self.files.__getitem__, facts)
        return Store("archive", pafs.LocalFileSystem(), "archive", files)


def gather(store: Store, study: str, *, with_weights: bool) -> Gathered:
    """Returns what the storage holds of the last plan of a study; what is damaged or absent is not in it.

    Raises:
        RecordError: There is no plan of the study, it is damaged, or records have another version.
        StorageError: The storage cannot be read.
    """
    plan, gathered = reader.read_plan(store, study), Gathered(store)
    ids = [trial["trial_id"] for trial in plan["trials"]]
    runs = {trial_id: reader.read_run(store, trial_id) for trial_id in ids}
    failures = {trial_id: reader.read_failure(store, trial_id) or {} for trial_id in ids}
    specs = {trial_id: reader.read_undamaged(store, TrialFiles(trial_id).spec) for trial_id in ids}
    sharing = Sharing(
        (each["host"] for each in _parts([*runs.values(), *failures.values()]) if each.get("host")),
        storage=store.root,
        folders=(
            each[name]
            for each in _parts([plan, *specs.values()])
            for name in PLACES
            if isinstance(each.get(name), str)
        ),
    )

    def add(name: str, body: Mapping[str, Any]) -> None:
        if body:
            gathered.files[name] = codec.json_bytes(sharing.of(body))

    add(StudyFiles(study).plan, {**plan, "tracking": None})
    for selection in sorted({each["selection"] for each in _parts(plan["trials"]) if each.get("selection")}):
        if data := store.read(selection_path(selection)):
            gathered.files[selection_path(selection)] = data
    for trial in plan["trials"]:
        trial_id, files = trial["trial_id"], TrialFiles(trial["trial_id"])
        spec, run = specs[trial_id], runs[trial_id]
        add(files.spec, spec and {**spec, "settings": {**spec["settings"], "tracking": None}})
        add(files.run, run and {**run, "trial_id": trial_id})
        add(files.failure, failures[trial_id])
        _add_results(gathered, trial, with_weights=with_weights)
    times = [each.get(name) for each in _parts([*runs.values(), *failures.values()]) for name in _TIMES]
    gathered.last = max(filter(None, [*times, (plan.get("planned") or {}).get("at")]), default="")
    gathered.environment = _environment(runs)
    return gathered


_TIMES = ("started", "ended", "when")


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yields all mappings in a JSON value."""
    if isinstance(value, Mapping):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _parts(part)


def _add_results(gathered: Gathered, trial: Mapping[str, Any], *, with_weights: bool) -> None:
    """Adds history and records of a trial, with the tables of values."""
    store, files = gathered.store, TrialFiles(trial["trial_id"])
    sizes = {name: info.size for name, info in store.walk(files.folder)}
    for name in {files.history, files.progress} & sizes.keys():
        gathered.files[name] = store.read(name) or b""
    record = reader.read_trial(store, trial["trial_id"])
    if record is None:
        return
    gathered.files[files.record] = codec.json_bytes(record.to_json())
    weights = gathered.weights if with_weights else gathered.left_out
    weights[files.weights] = FileFacts(record.weights_bytes, record.weights_sha256)
    ids = [each["evaluation_id"] for each in trial["evaluations"]]
    measured: list[MeasurementRecord | None] = [
        reader.read_evaluation(store, record.trial_id, evaluation_id) for evaluation_id in ids
    ]
    if features := trial.get("features"):
        measured += [reader.read_features_record(store, record.trial_id, features["features_id"])]
    for measurement in filter(None, measured):
        _add_tables(gathered, measurement, sizes)


def _add_tables(gathered: Gathered, record: MeasurementRecord, sizes: Mapping[str, int]) -> None:
    tables = {name: record.files.table(name) for name in record.tables}
    values = {name: gathered.store.read(path) for name, path in tables.items() if name not in PIXELS}
    if not all(codec.matches(data, record.tables[name]) for name, data in values.items()):
        return  # readers of the archive find the trial not evaluated
    gathered.files[record.files.record] = codec.json_bytes(record.to_json())
    for name, path in tables.items():
        if name in PIXELS:
            gathered.left_out[path] = FileFacts(sizes.get(path, 0), record.tables[name])
        else:
            gathered.files[path] = values[name] or b""


def _environment(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns with which versions, and on what, how many trials ran."""
    versions = [
        (name, str(value)) for run in runs.values() for name, value in run.get("versions", {}).items()
    ]
    software: dict[str, dict[str, int]] = {}
    for (name, version), number in sorted(Counter(versions).items()):
        software.setdefault(name, {})[version] = number
    devices = Counter(str(run["device_name"]) for run in runs.values() if run.get("device_name"))
    hosts = {run["host"] for run in runs.values() if run.get("host")}
    return {"software": software, "devices": dict(sorted(devices.items())), "hosts": len(hosts)}


def write(path: Path, files: Mapping[str, bytes], gathered: Gathered, *, replace: bool) -> None:
    """Writes an archive as a whole or not at all: the same content always gives the same bytes.

    Args:
        path: The file. One that is there already and equal stays.
        files: Contents by name in the archive.
        gathered: Has the weights that go in, too.
        replace: Whether a file that differs is replaced.

    Raises:
        UsageError: There is another file.
        StorageError: Weights cannot be read or do not match their record, or the file cannot be written.
    """
    contents: dict[str, Callable[[], bytes]] = {name: partial(files.__getitem__, name) for name in files}
    for name, facts in gathered.weights.items():
        contents[STORAGE + name] = partial(_weights, gathered.store, name, facts)
    try:
        with _temporary(path) as temporary:
            _write_zip(temporary, contents)
            if path.exists() and not replace:
                if _digest(path) != _digest(temporary):
                    raise UsageError(
                        f"{path} exists and holds something else; name another file, or replace it by --force"
                    )
                return
            os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}; give another file with --out") from error


def _write_zip(path: Path, contents: Mapping[str, Callable[[], bytes]]) -> None:
    with path.open("xb") as stream:
        with ZipFile(stream, "w", ZIP_DEFLATED, strict_timestamps=True) as archive:
            for name in sorted(contents):
                entry = ZipInfo(name, _EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
                archive.writestr(entry, contents[name](), ZIP_DEFLATED)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yields the name of a file beside another one, and deletes it at the end if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _weights(store: Store, name: str, facts: FileFacts) -> bytes:
    data = store.read(name)
    if data is None or FileFacts.of(data) != facts:
        raise StorageError(
            f"{store.path(name)}: is missing or does not match its record; run the study again"
        )
    return data


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
