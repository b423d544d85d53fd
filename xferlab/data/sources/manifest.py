"""A folder of images and masks with a table: `metadata.csv` or `.parquet`."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.decode import DECODE_VERSION, Labels, Picture, is_dicom, read_image, read_labels
from xferlab.data.filters import apply_where, join_patients
from xferlab.data.folder import Nearest, outside
from xferlab.data.labels import LabelMap
from xferlab.data.memo import FileMemo, PlannedFiles
from xferlab.data.patients import odd_patients, person_key
from xferlab.data.simulation import simulate, simulation_recipe
from xferlab.data.sources.source import IGNORED, STRUCTURE, Decoded, Source, Survey
from xferlab.data.table import REQUIRED, Row, Table, find_table, read_table
from xferlab.errors import DataError, FileUnavailableError, Problem, joined
from xferlab.parallel import for_each
from xferlab.study.sections import ManifestData

_DRIVE = re.compile("[A-Za-z]:/")
_NEVER_DICOM = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class _Entry:
    """A row whose files could be read: its place in the table, its files, and their SHA-256."""

    where: str
    case: Case
    image: str
    mask: str
    image_digest: str
    mask_digest: str


class ManifestSource(Source):
    """Images of any devices, grey; see `xferlab.data.decode` for formats and grey levels."""

    channels = 1

    def __init__(self, section: str, config: ManifestData, *, memo_dir: Path):
        self._section, self._config = section, config
        self._root = Path(config.root)
        self._labels = LabelMap(config.labels)
        self._memo_dir = memo_dir
        self._files: dict[str, _Entry] = {}

    def look(self) -> Survey:
        """Returns the cases and all findings; reads the table, and the bytes of files that are new."""
        try:
            table = read_table(find_table(self._root, self._config.table))
        except DataError as error:
            return Survey((), error.problems)
        rows, problems = apply_where(self._section, table, self._config.where)
        patients = self._patients(table, problems)
        entries = self._entries(rows, patients, problems)
        entries.sort(key=lambda entry: (entry.case.patient, entry.case.name, entry.case.pathology))
        for entry in entries:
            self._files.setdefault(entry.case.digest, entry)
        problems += _doubled_rows(entries)
        cases = tuple(entry.case for entry in self._files.values())
        problems += odd_patients(self._section, cases)
        doubled = tuple(e.case for e in entries if self._files[e.case.digest] is not e)
        return Survey(cases, tuple(problems), doubled)

    def decode(self, case: Case) -> Decoded:
        """Returns the grey pixels and the target of a case; the target's values come from `labels`.

        Raises:
            DataError: If a file cannot be read, sizes disagree, or a mask has values outside of `labels`.
        """
        entry = self._entry_of(case)
        picture, labels = self._read(entry)
        image, mask_path = picture.pixels, str(self._root / entry.mask)
        # Before the values: a mask that was resized to another size has odd values, too.
        if image.shape != labels.values.shape:
            what = _sizes(entry, picture, labels)
            raise DataError(Problem(mask_path, what, kind="masks of another size"))
        target = self._labels.target(labels, where=mask_path)
        if self._config.simulate:
            # Keyed by the image alone, so that a corrected mask keeps the picture.
            image, target = simulate(image, target, seed=0, key=entry.image_digest)
        remarks = _remarks(picture, labels, target)
        return Decoded(image, target, picture.spacing_mm, remarks, self._labels.occurring(labels))

    def _entry_of(self, case: Case) -> _Entry:
        _ = self.survey
        if case.digest not in self._files:
            what = f"no row has the case {case.digest[:16]}; plan the study again."
            raise DataError(Problem(f"data.{self._section}", what))
        return self._files[case.digest]

    def _patients(self, table: Table, problems: list[Problem]) -> dict[str, str]:
        """Patient id -> the id that stands for the person; a warning for ids that no row has."""
        known = {row.cells["patient_id"] for row in table.rows}
        spelled = set(map(person_key, known)) if self._config.same_patient else set()
        for group in self._config.same_patient:
            for patient in sorted(set(group) - known):
                if person_key(patient) in spelled:
                    continue  # the spelling of another section
                what = f"no row of {table.path} has patient_id {patient!r}."
                where = f"data.{self._section}.same_patient"
                problems.append(Problem(where, what, "warning", "unknown ids in same_patient"))
        return join_patients(self._config.same_patient)

    def _entries(
        self, rows: Sequence[Row], patients: Mapping[str, str], problems: list[Problem]
    ) -> list[_Entry]:
        usable = []
        for row in map(self._with_slashes, rows):
            found = _row_problems(row)
            problems += found
            if not found:
                usable.append(row)
        memo = FileMemo(self._memo_dir, self._root)
        digests, failures = memo.digests(_path(row, kind) for row in usable for kind in ("image", "mask"))
        padded, unread = self._with_padding_ranges((_path(row, "image") for row in usable), digests, memo)
        failures |= unread
        memo.save()
        problems += self._linked(outside(self._root, digests))
        nearest = Nearest(self._root)
        entries = []
        for row in usable:
            image, mask = _path(row, "image"), _path(row, "mask")
            bad = [name for name in dict.fromkeys((image, mask)) if name in failures]
            problems += [
                Problem(row.where, f"{self._root / name}: {failures[name]}.{nearest.hint(name)}")
                for name in bad
            ]
            if not bad:
                entries.append(self._entry(row, patients, digests, padding_range=image in padded))
        return entries

    def _with_padding_ranges(
        self, names: Iterable[str], digests: Mapping[str, str], memo: FileMemo
    ) -> tuple[set[str], dict[str, str]]:
        """DICOM images whose grey levels changed when all of their padding was left out, see `_digest`.

        The second value is name -> why the file cannot be read, which leaves its digest open.
        """
        keys = {
            name: f"padding range {digests[name]}"
            for name in names
            if name in digests and not name.lower().endswith(_NEVER_DICOM)
        }
        new = [name for name, key in keys.items() if memo.fact(key) is None]
        failures = {}
        padding = for_each(new, lambda name: self._padding_range(name, digests[name]))
        for name, result in zip(new, padding, strict=True):
            if isinstance(result, FileUnavailableError):
                failures[name] = result.problems[0].what.removesuffix(".")
            elif result is not None:
                memo.remember(keys[name], "yes" if result else "no")
        return {name for name, key in keys.items() if memo.fact(key) == "yes"}, failures

    def _padding_range(self, name: str, digest: str) -> bool | FileUnavailableError | None:
        """Whether an image is a DICOM file with a range of padding; None if it cannot be decoded anyway."""
        from xferlab.data.dicom import has_padding_range

        try:
            data = PlannedFiles(self._root, self._memo_dir).read(name, digest)
        except FileUnavailableError as error:
            return error
        except DataError:
            return None  # decoding tells what is wrong with the file
        path = self._root / name
        return is_dicom(path, data) and has_padding_range(path, data)

    def _with_slashes(self, row: Row) -> Row:
        """Returns the row with `/` in its paths: tables that were written under Windows have backslashes."""
        paths = {
            column: row.cells[column].replace("\\", "/")
            for column in ("image", "mask")
            if "\\" in row.cells[column] and not os.path.lexists(self._root / row.cells[column])
        }
        return Row(row.where, {**row.cells, **paths}) if paths else row

    def _linked(self, outside: Mapping[str, str]) -> list[Problem]:
        if not outside:
            return []
        name = min(outside)
        what = (
            f"{len(outside)} files lie outside of {self._root}, where links lead, such as {name} at"
            f" {outside[name]}. They are used; copy them into the folder if that is not meant."
        )
        return [Problem(f"data.{self._section}", what, "warning", "folders with files elsewhere")]

    def _entry(
        self, row: Row, patients: Mapping[str, str], digests: Mapping[str, str], *, padding_range: bool
    ) -> _Entry:
        name, mask = _path(row, "image"), _path(row, "mask")
        patient = row.cells["patient_id"]
        case = Case(
            digest=self._digest(digests[name], digests[mask], padding_range=padding_range),
            name=name,
            patient=patients.get(patient, patient),
            pathology=row.cells["pathology"],
            simulated=self._config.simulate or "",
            image_sha256=digests[name],
        )
        return _Entry(row.where, case, name, mask, digests[name], digests[mask])

    def _digest(self, image_digest: str, mask_digest: str, *, padding_range: bool) -> str:
        recipe: dict[str, object] = {
            "image": image_digest,
            "mask": mask_digest,
            "labels": self._labels.recipe,
            "decode": DECODE_VERSION,
        }
        if padding_range:  # of these images alone the grey levels changed, so DECODE_VERSION stays
            recipe["padding"] = "range"
        if self._config.simulate:
            recipe["simulate"] = simulation_recipe(self._config.simulate)
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    def _read(self, entry: _Entry) -> tuple[Picture, Labels]:
        files = PlannedFiles(self._root, self._memo_dir)
        errors: list[DataError] = []
        picture = labels = None
        try:
            data = files.read(entry.image, entry.image_digest)
            picture = read_image(self._root / entry.image, data)
        except DataError as error:
            errors.append(error)
        try:
            data = files.read(entry.mask, entry.mask_digest)
            labels = read_labels(self._root / entry.mask, data)
        except DataError as error:
            errors.append(error)
        if picture is None or labels is None:
            raise joined(errors)
        return picture, labels


def _row_problems(row: Row) -> list[Problem]:
    problems = [
        Problem(row.where, f"{column} is empty; every case needs one. Fill it in, or leave the row out.")
        for column in REQUIRED
        if not row.cells[column]
    ]
    problems += [
        Problem(row.where, f"{column} {row.cells[column]!r} holds a line break or another control character.")
        for column in REQUIRED
        if not row.cells[column].isprintable()
        and any(unicodedata.category(one) == "Cc" for one in row.cells[column])
    ]
    for column in ("image", "mask"):
        path = posixpath.normpath(row.cells[column])
        if path.startswith(("/", "..")) or _DRIVE.match(path):
            what = f"{column} {row.cells[column]!r} leaves the section's folder; paths are relative to it."
            problems.append(Problem(row.where, what))
    return problems


def _path(row: Row, column: str) -> str:
    return posixpath.normpath(row.cells[column])


def _doubled_rows(entries: Sequence[_Entry]) -> list[Problem]:
    problems = []
    first: dict[str, _Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.case.digest, entry)
        if earlier is not entry:
            what = (
                f"image and mask equal those of {earlier.where} ({earlier.case.name},"
                f" patient {earlier.case.patient}); only that row is used."
            )
            problems.append(Problem(entry.where, what, "warning", "repeated rows"))
    return problems


def _remarks(picture: Picture, labels: Labels, target: NDArray[np.uint8]) -> tuple[str, ...]:
    remarks = list(picture.remarks)
    if picture.turned != labels.turned:
        which, other = ("image", "mask") if picture.turned else ("mask", "image")
        what = f"the {which} carries an EXIF orientation, which was applied, the {other} none"
        remarks.append(f"{what}: see that it lies on it.")
    if (target == IGNORED).all():
        remarks.append("the mask ignores every pixel: nothing is learnt or measured here.")
    elif (target == STRUCTURE).all():
        remarks.append("the mask is full: every pixel belongs to the structure.")
    return tuple(remarks)


def _sizes(entry: _Entry, picture: Picture, labels: Labels) -> str:
    (height, width), (mask_height, mask_width) = picture.pixels.shape, labels.values.shape
    what = f"the mask is {mask_width}x{mask_height} pixels, its image {entry.image} is {width}x{height}."
    if picture.turned != labels.turned and picture.pixels.shape == labels.values.shape[::-1]:
        which, other = ("image", "mask") if picture.turned else ("mask", "image")
        what += f" The {which} carries an EXIF orientation that was applied; turn the {other} alike."
    return what
