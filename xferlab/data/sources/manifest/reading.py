"""A folder of images and masks with a table: `metadata.csv` or `.parquet`."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data import preprocessing
from xferlab.data.decode import DECODE_VERSION, Labels, is_dicom, read_image, read_labels
from xferlab.data.formats import NOT_DICOM
from xferlab.data.pixels import Picture
from xferlab.data.sources.filters import apply_where, join_patients
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.manifest.labels import LabelMap, union
from xferlab.data.sources.manifest.spacing import SPACING, Spacing, reconciled, spacing_of
from xferlab.data.sources.manifest.table import (
    OPTIONAL,
    REQUIRED,
    Nearest,
    Row,
    Table,
    find_table,
    outside,
    read_table,
)
from xferlab.data.sources.patients import NO_STRATUM, odd_patients, person_key
from xferlab.data.sources.source import IGNORED, STRUCTURE, Decoded, FileSource, Survey, digest_of
from xferlab.errors import DataError, FileUnavailableError, Problem, attempt, joined, successes

IMAGE = "image"
_DRIVE = re.compile("[A-Za-z]:/")


class _File(NamedTuple):
    """A mask: its path below the section's folder, and its SHA-256."""

    name: str
    sha256: str


class _Entry(NamedTuple):
    """A row whose files can be read: where it stands in the table, its case, and its masks by their columns.

    The case's name is the image, whose SHA-256 is `image_sha256`; the spacing is what the table gives.
    """

    where: str
    case: Case
    masks: Mapping[str, _File]
    spacing_mm: Spacing | None


class ManifestSource(FileSource):
    """Images of any devices, grey; see `xferlab.data.decode` for formats and grey levels."""

    config: ManifestData

    @cached_property
    def labels(self) -> Mapping[str, LabelMap]:
        """What mask values mean, by the columns of masks that are read."""
        return {column.name: LabelMap(column) for column in self.config.read_columns}

    @cached_property
    def parts(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Column and structure of what each structure that is read is made of."""
        columns = {name: column.name for column in self.config.read_columns for name in column.values}
        return {
            name: [(columns[part], part) for part in self.config.parts(name)] for name in self.config.targets
        }

    def look(self) -> Survey:
        """Returns the cases and all findings; reads the table, and the bytes of files that are new."""
        try:
            table = read_table(find_table(self.root, self.config.table), tuple(self.labels))
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
                what = f"image and masks equal those of {row}; only that row is used."
                problems.append(Problem(entry.where, what, "warning", "repeated rows"))
        cases = tuple(entry.case for entry in self._entries.values())
        problems += odd_patients(self.name, cases)
        return Survey(cases, tuple(problems), tuple(doubled))

    def read(self, entry: _Entry) -> Decoded:
        """Returns the grey pixels and the targets of a row; the targets' values come from `labels`.

        Raises:
            DataError: If a file cannot be read, sizes disagree, or a mask has values outside of `labels`.
        """
        picture = attempt(self._picture, entry)
        found = [attempt(self._mask, mask) for mask in entry.masks.values()]
        if isinstance(picture, DataError):
            raise joined([picture, *found])
        masks = dict(zip(entry.masks, successes(found), strict=True))
        image, targets = picture.pixels, self._targets(entry, picture, masks)
        values = [self.labels[column].occurring(mask) for column, mask in masks.items()]
        marked = {
            name: target
            for (name, parts), target in zip(self.parts.items(), targets, strict=True)
            if _is_complete(parts, masks)
        }
        remarks = _remarks(picture, tuple(masks.values()), marked)
        occurring = frozenset[tuple[str, int]]().union(*values)
        return Decoded(image, targets, picture.spacing_mm, tuple(remarks), occurring, levels=picture.levels)

    def device_key(self, entry: _Entry) -> tuple[int, str]:
        """Keyed by the image alone, so that a corrected mask keeps the picture."""
        return 0, entry.case.image_sha256

    def _picture(self, entry: _Entry) -> Picture:
        name = entry.case.name
        data = self.memo.read(name, entry.case.image_sha256)
        picture = read_image(self.root / name, data, own_depth=self.config.own_depth)
        spacing = reconciled(picture.spacing_mm, entry.spacing_mm, where=entry.where, name=name)
        return replace(picture, spacing_mm=spacing)

    def _mask(self, mask: _File) -> Labels:
        return read_labels(self.root / mask.name, self.memo.read(mask.name, mask.sha256))

    def _targets(self, entry: _Entry, picture: Picture, masks: Mapping[str, Labels]) -> NDArray[np.uint8]:
        """The plane of each structure that is read, `(S, H, W)`.

        One that lacks a mask is ignored everywhere: what the masks of its other parts leave out may be it.
        """
        marked: dict[tuple[str, str], NDArray[np.uint8]] = {}
        for column, labels in masks.items():
            path = self.root / entry.masks[column].name
            # Before the values: a mask that was resized to another size has odd values, too.
            if picture.pixels.shape != labels.values.shape:
                raise DataError.at(path, _sizes(entry, picture, labels), kind="masks of another size")
            found = self.labels[column].targets(labels, where=str(path))
            marked |= {(column, name): target for name, target in found.items()}
        absent = np.full(picture.pixels.shape, IGNORED, np.uint8)
        planes = [
            union([marked[part] for part in parts]) if _is_complete(parts, masks) else absent
            for parts in self.parts.values()
        ]
        return np.stack(planes) if planes else np.empty((0, *picture.pixels.shape), np.uint8)

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
            flaws = list(self._row_problems(row))
            problems += flaws
            if not any(flaw.severity == "error" for flaw in flaws):
                usable.append(row)
        digests, failures = self.memo.digests(path for row in usable for path in self._files(row).values())
        padded, unread = self._padded((_path(row, IMAGE) for row in usable), digests)
        failures |= unread
        self.memo.save()
        problems += self._linked(digests)
        same, nearest = join_patients(self.config.same_patient), Nearest(self.root)
        entries = []
        for row in usable:
            files = self._files(row)
            missing = [name for name in dict.fromkeys(files.values()) if name in failures]
            problems += [
                Problem(row.where, f"{self.root / name}: {failures[name]}.{nearest.hint(name)}")
                for name in missing
            ]
            if not missing:
                read = {column: _File(name, digests[name]) for column, name in files.items()}
                image = read.pop(IMAGE)
                patient, spacing = row.cells["patient_id"], spacing_of(row.cells.get(SPACING, ""))
                case = Case(
                    self._digest(image, read, spacing, padding_range=padded.get(image.name, False)),
                    image.name,
                    same.get(patient, patient),
                    row.cells.get("pathology", NO_STRATUM),
                    self.config.simulate or "",
                    image_sha256=image.sha256,
                    has_mask=not self.labels or any(_is_complete(of, read) for of in self.parts.values()),
                    columns=row.cells,
                )
                entries.append(_Entry(row.where, case, read, spacing))
        return entries

    def _files(self, row: Row) -> dict[str, str]:
        """The files of a row by their columns: its image, and the masks that it has."""
        named = [column for column in (IMAGE, *self.labels) if row.cells[column]]
        return {column: _path(row, column) for column in named}

    def _row_problems(self, row: Row) -> Iterator[Problem]:
        """What is wrong with the cells of a row; an absent mask is a warning."""
        for column in (*REQUIRED, *(name for name in OPTIONAL if name in row.cells)):
            if not row.cells[column]:
                yield Problem(
                    row.where, f"{column} is empty; every case needs one. Fill it in, or leave the row out."
                )
        for column in self.labels:
            if not row.cells[column]:
                yield Problem(row.where, self._absent(column), "warning", "absent masks")
        for column in (*REQUIRED, *self.labels, *OPTIONAL):
            cell = row.cells.get(column, "")
            if not cell.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in cell):
                yield Problem(
                    row.where, f"{column} {cell!r} holds a line break or another control character."
                )
        try:
            spacing_of(row.cells.get(SPACING, ""))
        except ValueError as error:
            yield Problem(row.where, f"{SPACING} {error}.")
        for column, path in self._files(row).items():
            if path.startswith(("/", "..")) or _DRIVE.match(path):
                yield Problem(
                    row.where,
                    f"{column} {row.cells[column]!r} leaves the section's folder; paths are relative to it.",
                )

    def _absent(self, column: str) -> str:
        what = f"the cell of column {column} is empty: no such mask is read."
        joined = [
            name for name, of in self.parts.items() if len(of) > 1 and column in (part for part, _ in of)
        ]
        return f"{what} {', '.join(joined)}, made of it and others, is ignored here." if joined else what

    def _padded(
        self, names: Iterable[str], digests: Mapping[str, str]
    ) -> tuple[dict[str, bool], dict[str, str]]:
        """DICOM images whose grey levels changed when all of their padding was left out, see `_digest`.

        The second value is name -> why the file cannot be read, which leaves its digest open.
        """
        keys = {
            name: f"padding range {digests[name]}"
            for name in names
            if name in digests and not name.lower().endswith(NOT_DICOM)
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
            for column in (IMAGE, *self.labels)
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

    def _digest(
        self, image: _File, masks: Mapping[str, _File], spacing: Spacing | None, *, padding_range: bool
    ) -> str:
        recipe: dict[str, object] = {"image": image.sha256, "decode": DECODE_VERSION}
        planes = [
            [
                {"mask": masks[column].sha256, "labels": self.labels[column].recipe(name)}
                for column, name in (parts if _is_complete(parts, masks) else ())
            ]
            for parts in self.parts.values()
        ]
        if len(planes) == 1 and len(planes[0]) == 1:
            recipe |= planes[0][0]
        elif planes:
            recipe["structures"] = planes
        if padding_range:  # only these images changed their grey levels, so DECODE_VERSION stays
            recipe["padding"] = "range"
        if spacing:  # as a header's, which is part of the image's bytes
            recipe["spacing_mm"] = spacing
        if self.config.simulate:
            from xferlab.phantoms import device

            recipe["simulate"] = device.recipe(self.config.simulate)
        return digest_of(recipe | preprocessing.recipe(self.config))


def _is_complete(parts: Sequence[tuple[str, str]], masks: Mapping[str, object]) -> bool:
    """Whether there is a mask in the column of each part of a structure."""
    return all(column in masks for column, _ in parts)


def _path(row: Row, column: str) -> str:
    return posixpath.normpath(row.cells[column])


def _remarks(
    picture: Picture, masks: Sequence[Labels], targets: Mapping[str, NDArray[np.uint8]]
) -> Iterator[str]:
    yield from picture.remarks
    if any(mask.turned != picture.turned for mask in masks):
        turned, other = _turned(picture)
        yield (
            f"the {turned} carries an EXIF orientation, which was applied, the {other} none: see that it"
            " lies on it."
        )
    for axes in sorted({mask.axes for mask in masks} - {picture.axes}):
        yield (
            f"the axes of the image lead to {picture.axes or 'no known side'}, those of a mask to "
            f"{axes or 'no known side'}: see that the mask lies on it."
        )
    for name, target in targets.items():
        of = f" of {name}" if len(targets) > 1 else ""
        if (target == IGNORED).all():
            yield f"the mask{of} ignores every pixel: nothing is learnt or measured here."
        elif (target == STRUCTURE).all():
            yield f"the mask{of} is full: every pixel belongs to the structure."


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
