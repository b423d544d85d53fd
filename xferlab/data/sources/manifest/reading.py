"""A folder of images and masks with a table: `metadata.csv` or `.parquet`."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.decode import DECODE_VERSION, Labels, is_dicom, read_image, read_labels
from xferlab.data.pixels import Picture
from xferlab.data.sources.filters import apply_where, join_patients
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.manifest.labels import LabelMap
from xferlab.data.sources.manifest.table import REQUIRED, Nearest, Row, Table, find_table, outside, read_table
from xferlab.data.sources.patients import odd_patients, person_key
from xferlab.data.sources.source import IGNORED, STRUCTURE, Decoded, FileSource, Survey, digest_of
from xferlab.errors import DataError, FileUnavailableError, Problem, attempt, joined

_DRIVE = re.compile("[A-Za-z]:/")
_NEVER_DICOM = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class _Entry(NamedTuple):
    """A row whose files can be read: where it stands in the table, its case, its mask and the mask's SHA-256.

    The case's name is the image, whose SHA-256 is `image_sha256`.
    """

    where: str
    case: Case
    mask: str
    mask_sha256: str


class ManifestSource(FileSource):
    """Images of any devices, grey; see `xferlab.data.decode` for formats and grey levels."""

    config: ManifestData

    @cached_property
    def labels(self) -> LabelMap:
        """What mask values mean."""
        return LabelMap(self.config.labels)

    def look(self) -> Survey:
        """Returns the cases and all findings; reads the table, and the bytes of files that are new."""
        try:
            table = read_table(find_table(self.root, self.config.table))
        except DataError as error:
            return Survey((), error.problems)
        rows, problems = apply_where(self.name, table, self.config.where)
        problems += self._unknown_patients(table)
        entries = self._rows_to_entries(rows, problems)
        entries.sort(key=lambda entry: (entry.case.patient, entry.case.name, entry.case.pathology))
        doubled = []
        for entry in entries:
            first = self._entries.setdefault(entry.case.digest, entry)
            if first is not entry:
                doubled.append(entry.case)
                row = f"{first.where} ({first.case.name}, patient {first.case.patient})"
                what = f"image and mask equal those of {row}; only that row is used."
                problems.append(Problem(entry.where, what, "warning", "repeated rows"))
        cases = tuple(entry.case for entry in self._entries.values())
        problems += odd_patients(self.name, cases)
        return Survey(cases, tuple(problems), tuple(doubled))

    def read(self, entry: _Entry) -> Decoded:
        """Returns the grey pixels and the target of a row; the target's values come from `labels`.

        Raises:
            DataError: If a file cannot be read, sizes disagree, or a mask has values outside of `labels`.
        """
        picture, labels = attempt(self._picture, entry), attempt(self._labels, entry)
        if isinstance(picture, DataError) or isinstance(labels, DataError):
            raise joined([picture, labels])
        image, mask_path = picture.pixels, self.root / entry.mask
        # Before the values: a mask that was resized to another size has odd values, too.
        if image.shape != labels.values.shape:
            raise DataError.at(mask_path, _sizes(entry, picture, labels), kind="masks of another size")
        target = self.labels.target(labels, where=str(mask_path))
        if self.config.simulate:
            from xferlab.phantoms.device import simulate_portable  # it takes a while to import

            # Keyed by the image alone, so that a corrected mask keeps the picture.
            image, target = simulate_portable(image, target, seed=0, key=entry.case.image_sha256)
        remarks = _remarks(picture, labels, target)
        return Decoded(image, target, picture.spacing_mm, remarks, self.labels.occurring(labels))

    def _picture(self, entry: _Entry) -> Picture:
        name = entry.case.name
        return read_image(self.root / name, self.memo.read(name, entry.case.image_sha256))

    def _labels(self, entry: _Entry) -> Labels:
        return read_labels(self.root / entry.mask, self.memo.read(entry.mask, entry.mask_sha256))

    def _unknown_patients(self, table: Table) -> list[Problem]:
        """Warnings for ids in `same_patient` that no row has, unless they are spellings of one it has."""
        known = {row.cells["patient_id"] for row in table.rows}
        declared = {patient for group in self.config.same_patient for patient in group} - known
        spellings = set(map(person_key, known)) if declared else set()
        where, kind = f"data.{self.name}.same_patient", "unknown ids in same_patient"
        return [
            Problem(where, f"no row of {table.path} has patient_id {patient!r}.", "warning", kind)
            for patient in sorted(declared)
            if person_key(patient) not in spellings  # else it is the spelling of another section
        ]

    def _rows_to_entries(self, rows: Sequence[Row], problems: list[Problem]) -> list[_Entry]:
        usable = []
        for row in map(self._with_slashes, rows):
            flaws = list(_row_problems(row))
            problems += flaws
            if not flaws:
                usable.append(row)
        digests, failures = self.memo.digests(
            _path(row, kind) for row in usable for kind in ("image", "mask")
        )
        padded, unread = self._padded((_path(row, "image") for row in usable), digests)
        failures |= unread
        self.memo.save()
        problems += self._linked(digests)
        same, nearest = join_patients(self.config.same_patient), Nearest(self.root)
        entries = []
        for row in usable:
            image, mask = _path(row, "image"), _path(row, "mask")
            missing = [name for name in dict.fromkeys((image, mask)) if name in failures]
            problems += [
                Problem(row.where, f"{self.root / name}: {failures[name]}.{nearest.hint(name)}")
                for name in missing
            ]
            if not missing:
                digest = self._digest(digests[image], digests[mask], padding_range=padded.get(image, False))
                patient, pathology = row.cells["patient_id"], row.cells["pathology"]
                person, simulated = same.get(patient, patient), self.config.simulate or ""
                case = Case(digest, image, person, pathology, simulated, digests[image], columns=row.cells)
                entries.append(_Entry(row.where, case, mask, digests[mask]))
        return entries

    def _padded(
        self, names: Iterable[str], digests: Mapping[str, str]
    ) -> tuple[dict[str, bool], dict[str, str]]:
        """DICOM images whose grey levels changed when all of their padding was left out, see `_digest`.

        The second value is name -> why the file cannot be read, which leaves its digest open.
        """
        keys = {
            name: f"padding range {digests[name]}"
            for name in names
            if name in digests and not name.lower().endswith(_NEVER_DICOM)
        }
        padded, errors = self.memo.facts(keys, lambda name: self._has_padding_range(name, digests[name]))
        return padded, {name: error.problems[0].what.removesuffix(".") for name, error in errors.items()}

    def _has_padding_range(self, name: str, digest: str) -> bool | None:
        """Whether an image is a DICOM file with a range of padding; None if it cannot be decoded anyway.

        Raises:
            FileUnavailableError: It cannot be read now.
        """
        from xferlab.data.dicom import has_padding_range

        try:
            data = self.memo.read(name, digest)
        except FileUnavailableError:
            raise
        except DataError:
            return None  # decoding tells what is wrong with the file
        return is_dicom(self.root / name, data) and has_padding_range(self.root / name, data)

    def _with_slashes(self, row: Row) -> Row:
        """Returns the row with `/` in its paths, where a table from Windows has backslashes."""
        paths = {
            column: row.cells[column].replace("\\", "/")
            for column in ("image", "mask")
            if "\\" in row.cells[column] and not os.path.lexists(self.root / row.cells[column])
        }
        return Row(row.where, {**row.cells, **paths}) if paths else row

    def _linked(self, names: Iterable[str]) -> list[Problem]:
        """A warning if links lead out of the folder."""
        targets = outside(self.root, names)
        if not targets:
            return []
        name = min(targets)
        what = (
            f"{len(targets)} files lie outside of {self.root}, because links lead there, such as {name} at"
            f" {targets[name]}. They are used. Copy them into the folder if you do not want that."
        )
        return [Problem(f"data.{self.name}", what, "warning", "folders with files elsewhere")]

    def _digest(self, image_digest: str, mask_digest: str, *, padding_range: bool) -> str:
        recipe: dict[str, object] = {
            "image": image_digest,
            "mask": mask_digest,
            "labels": self.labels.recipe,
            "decode": DECODE_VERSION,
        }
        if padding_range:  # only these images changed their grey levels, so DECODE_VERSION stays
            recipe["padding"] = "range"
        if self.config.simulate:
            from xferlab.phantoms import device

            recipe["simulate"] = device.recipe(self.config.simulate)
        return digest_of(recipe)


def _row_problems(row: Row) -> Iterator[Problem]:
    for column in REQUIRED:
        cell = row.cells[column]
        if not cell:
            yield Problem(
                row.where, f"{column} is empty; every case needs one. Fill it in, or leave the row out."
            )
        if not cell.isprintable() and any(unicodedata.category(character) == "Cc" for character in cell):
            yield Problem(row.where, f"{column} {cell!r} holds a line break or another control character.")
    for column in ("image", "mask"):
        path = _path(row, column)
        if path.startswith(("/", "..")) or _DRIVE.match(path):
            cell = row.cells[column]
            yield Problem(
                row.where, f"{column} {cell!r} leaves the section's folder; paths are relative to it."
            )


def _path(row: Row, column: str) -> str:
    return posixpath.normpath(row.cells[column])


def _remarks(picture: Picture, labels: Labels, target: NDArray[np.uint8]) -> tuple[str, ...]:
    remarks = list(picture.remarks)
    if picture.turned != labels.turned:
        turned, other = _turned(picture)
        remarks.append(
            f"the {turned} carries an EXIF orientation, which was applied, the {other} none: see that it"
            " lies on it."
        )
    if (target == IGNORED).all():
        remarks.append("the mask ignores every pixel: nothing is learnt or measured here.")
    elif (target == STRUCTURE).all():
        remarks.append("the mask is full: every pixel belongs to the structure.")
    return tuple(remarks)


def _sizes(entry: _Entry, picture: Picture, labels: Labels) -> str:
    (height, width), (mask_height, mask_width) = picture.pixels.shape, labels.values.shape
    what = f"the mask is {mask_width}x{mask_height} pixels, its image {entry.case.name} is {width}x{height}."
    if picture.turned != labels.turned and picture.pixels.shape == labels.values.shape[::-1]:
        turned, other = _turned(picture)
        what += f" The {turned} carries an EXIF orientation that was applied; turn the {other} alike."
    return what


def _turned(picture: Picture) -> tuple[str, str]:
    """What carries an EXIF orientation, and what does not."""
    return ("image", "mask") if picture.turned else ("mask", "image")
