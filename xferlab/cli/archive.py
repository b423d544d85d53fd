"""`xferlab archive`: a study in one file, for a supplement; `report` and `status` read it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from xferlab import __version__
from xferlab.analysis.loading import CANCELLED, load_study
from xferlab.analysis.results import StudyResults
from xferlab.analysis.sections import write_tables
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import ArchiveOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.errors import UsageError
from xferlab.plan.identity import flattened, json_with_checksum
from xferlab.plan.spec import PlannedTrial
from xferlab.records import archiving
from xferlab.records.archive import CRATE, MANIFEST, STORAGE, VERSIONS, FileFacts, Manifest
from xferlab.records.cancellations import read_cancelled
from xferlab.records.complete import complete_trials
from xferlab.records.crate import Description, metadata
from xferlab.records.sharing import Sharing
from xferlab.study.compose import NAMES_OF_PATIENTS
from xferlab.study.yaml_lines import written

_PATIENTS = tuple(f".{field}" for field in NAMES_OF_PATIENTS)
_HEADER = "# Of paths, this file has the last parts only. Comments are left out.\n"


def run(options: ArchiveOptions) -> int:
    """Writes the archive, and prints what is in it and what is not; exit code 1 if trials are missing."""
    path = Path(options.out)
    if path.suffix != ".zip" or path.is_dir():
        raise UsageError(f"--out {options.out}: accepted: a file on this machine whose name ends in .zip")
    session = Session.open(options)
    plan = session.last_plan()
    if other := session.other_profile(plan):
        raise UsageError(other)
    with Console(stderr=True).status("reading records", spinner="line"):  # nothing in a pipe
        gathered = archiving.gather(session.store, session.study, with_weights=options.weights)
        results = load_study(gathered.as_store(), session.study)
        study_file, remarks = _study_file(session, plan)
        files = {STORAGE + name: data for name, data in gathered.files.items()}
        files |= study_file | _tables(results)
        files["environment.json"] = json.dumps(gathered.environment, indent=1).encode() + b"\n"
        cancelled = read_cancelled(session.store, session.study)
        missing = list(_missing(results, _incomplete(gathered, session.study, plan), cancelled))
        manifest = _manifest(session.study, missing, files, gathered)
        files[MANIFEST] = json_with_checksum(asdict(manifest)) + b"\n"
        about = _about(results, gathered, licence=options.licence or "", files=study_file, missing=missing)
        files[CRATE] = metadata(about, _facts(files, gathered))
        archiving.write(path, files, gathered, replace=options.force)
    remarks += [*_names(plan), *results.problems]
    _tell(path, manifest, remarks, options.licence)
    return INCOMPLETE if missing or results.problems else COMPLETE


def _tables(results: StudyResults) -> dict[str, bytes]:
    """Returns the tables of the report, by their names in the archive."""
    with TemporaryDirectory() as folder:
        write_tables(results, Path(folder))
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _study_file(session: Session, plan: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """Returns the study file as it may be shared, and what a reader should know of it."""
    document, name = session.loaded.drafts[""].document.value, session.path.name
    if naming := _sections_that_name_patients(document):
        return {}, [f"{name} is left out: it lists patients of {', '.join(naming)}, not `shareable`"]
    shared = _HEADER + written(Sharing().of(document))
    remarks = [f"{name} is in the archive without comments, folders, buckets and accounts"]
    if session.is_edited_since(plan):
        remarks.append(f"{name} has changed since the last plan; the archive holds it as it is now")
    return {f"study/{name}": shared.encode()}, remarks


def _sections_that_name_patients(document: Any) -> list[str]:
    """Returns the sections whose patients a study file lists and that it does not always call shareable.

    All arms and profiles of the file count, also those that do not hold now.
    """
    leaves = flattened(document)
    listed = {path.split(".")[-2] for path, value in leaves.items() if value and path.endswith(_PATIENTS)}

    def is_shareable(name: str) -> bool:
        shareable = f"data.{name}.shareable"
        ends = (f"data.{name}.source", shareable)  # with a source, a section is given as a whole
        given = {path.removesuffix(end) for end in ends for path in leaves if path.endswith(end)}
        return all(leaves.get(start + shareable) is True for start in given)

    return sorted(name for name in listed if not is_shareable(name))


def _names(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yields whose names are real."""
    shareable = {name for arm in plan["arms"].values() for name, is_so in arm["shareable"].items() if is_so}
    if shareable:
        yield (
            f"patients and images of {', '.join(sorted(shareable))} have their real names (`shareable`); "
            "all others have pseudonyms"
        )


def _incomplete(gathered: archiving.Gathered, study: str, plan: Mapping[str, Any]) -> list[PlannedTrial]:
    trials = list(map(PlannedTrial.from_entry, plan["trials"]))
    complete = complete_trials(gathered.as_store(), study, trials)
    return [trial for trial in trials if trial.trial_id not in complete]


def _missing(
    results: StudyResults, trials: list[PlannedTrial], cancelled: Collection[str]
) -> Iterator[dict[str, str]]:
    known = {row["trial_id"]: row for row in results.absent}
    for trial in trials:
        row = known.get(trial.trial_id, {})
        why = CANCELLED if trial.trial_id in cancelled else row.get("reason")
        reason = ": ".join(filter(None, (row.get("state", "not complete"), why)))
        yield {"trial_id": trial.trial_id, "name": trial.name, "reason": reason}


def _facts(files: Mapping[str, bytes], gathered: archiving.Gathered) -> dict[str, FileFacts]:
    """Returns size and digest of all that the archive lists: neither itself nor the RO-Crate metadata."""
    facts = {name: FileFacts.of(data) for name, data in files.items() if name != CRATE}
    return facts | {STORAGE + name: each for name, each in gathered.weights.items()}


def _manifest(
    study: str, missing: list[dict[str, str]], files: Mapping[str, bytes], gathered: archiving.Gathered
) -> Manifest:
    return Manifest(
        study=study,
        written_by=__version__,
        versions=VERSIONS,
        missing=tuple(missing),
        files=_facts(files, gathered),
        left_out={STORAGE + name: facts for name, facts in gathered.left_out.items()},
    )


def _about(
    results: StudyResults,
    gathered: archiving.Gathered,
    *,
    licence: str,
    files: Mapping[str, bytes],
    missing: list[dict[str, str]],
) -> Description:
    planned = len(results.plan["trials"])
    note = str(results.plan.get("note") or "").strip()
    sentences = (
        "Plan, records, values of all metrics for each case, and tables of a transfer-learning study.",
        note and (note if note.endswith(".") else f"{note}."),
        f"{planned - len(missing)} of {planned} planned trials are complete.",
        "No images are in it. `xferlab report FILE.zip` writes its report.",
    )
    return Description(
        study=results.study,
        description=" ".join(filter(None, sentences)),
        date=gathered.last,
        licence=licence,
        versions=tuple(gathered.environment["software"].get("xferlab", {})),
        written_by=__version__,
        study_file=next(iter(files), ""),
    )


def _tell(path: Path, manifest: Manifest, remarks: list[str], licence: str | None) -> None:
    data = path.stat().st_size
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    tell(
        study=manifest.study,
        archive=path,
        sha256=digest,
        bytes=data,
        files=len(manifest.files),
        left_out=sorted(manifest.left_out),
        missing=[dict(each) for each in manifest.missing],
        complete=not manifest.missing,
        remarks=remarks,
    )
    print(f"{path}: study {manifest.study}, {count_of(len(manifest.files), 'file')}, {decimal(data)}")
    print(f"SHA-256 {digest}")
    print(
        "no images; hosts are numbers; paths in fields of places and in messages are cut to their last part"
    )
    print("notes and names are as you wrote them; read docs/sharing.md before you publish it")
    for each in manifest.missing:
        print(f"missing: {each['name']}: {each['reason']}")
    if not licence:
        remarks = [*remarks, "warning: the archive names no licence (--licence)"]
    for remark in remarks:
        print(remark, file=sys.stderr)
