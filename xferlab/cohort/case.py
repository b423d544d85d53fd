"""A case (one image with its target) and a selection of cases, each with its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One image with what is read of its masks, as the plan sees it: no pixels.

    Attributes:
        digest: SHA-256 of what determines the pixels that are read: the file bytes of the image and of the
            masks that its section reads, and what their values mean; or a phantom's recipe; hex.
        name: For people: the image's file name within its section.
        patient: Patient id; the unit that splits keep whole.
        pathology: Class by which splits are stratified and tables are grouped.
        simulated: Name of the device simulation that the image passed through; empty for a real device.
        image_sha256: SHA-256 of the image file alone, the key of the patient's pseudonym. No record holds it,
            and it does not follow from `digest`. Empty for a case that was read from a record.
        has_mask: Whether there is a mask of one of the structures that its section reads, if it reads any:
            where masks are read, only such cases are trained on and measured.
        columns: What its source says of it, by column, such as `patient_id` before ids were joined; only for
            what divides patients. No record holds it. Empty for a case that was read from a record.
    """

    digest: str
    name: str
    patient: str
    pathology: str
    simulated: str = ""
    image_sha256: str = field(default="", compare=False, repr=False)
    has_mask: bool = field(default=True, compare=False, repr=False)
    columns: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False, kw_only=True)

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """What records say of it."""
        return self.digest, self.name, self.patient, self.pathology, self.simulated


def single_sections(name: str) -> tuple[str, ...]:
    """Returns the data sections of a set of cases: `a` and `b` of `a+b`; of a section, itself."""
    return tuple(name.split("+"))


STEPS = ("crop_black_band", "degrade_to", "equalise", "gamma")
"""Fields of a data section that say what is done to the pixels of an image before it is resized."""

_UNLABELLED = (1, 2, 5)
"""Lengths of the rows of a selection without labels."""


@dataclass(frozen=True)
class Selection:
    """An ordered choice of a section's cases, stored once under its digest and shared by trials.

    Attributes:
        section: Name of the data section, or set of sections, that holds the cases; no part of the digest.
        rows: What identifies the choice, one row a case: `[digest, part]` to train on, or
            `[digest, name, patient, pathology, simulated]` to evaluate on, or `[digest]` to predict. Where
            labels are learnt, the number of the case's class comes last.
    """

    section: str
    rows: tuple[tuple[str, ...], ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """The case digests, in order."""
        return tuple(row[0] for row in self.rows)

    def part(self, part: str) -> Selection:
        """Returns the cases of a part of a selection to train on."""
        return Selection(self.section, tuple(row for row in self.rows if row[1] == part))

    def only(self, digests: Container[str]) -> Selection:
        """Returns those of the cases that are among some."""
        return Selection(self.section, tuple(row for row in self.rows if row[0] in digests))

    def rows_from(self, start: int, number: int) -> Selection:
        """Returns so many cases from a row on."""
        return Selection(self.section, self.rows[start : start + number])

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each case, in order; empty where labels are not learnt."""
        return tuple(int(row[-1]) for row in self.rows if len(row) not in _UNLABELLED)

    def identity(self) -> str:
        """Returns the SHA-256 of the rows, hex."""
        return hashlib.sha256(json.dumps(self.rows, separators=(",", ":")).encode()).hexdigest()

    @staticmethod
    def to_train(
        section: str, parts: Iterable[tuple[Case, str]], labels: Mapping[str, int] | None = None
    ) -> Selection:
        """Returns the training and validation cases of a stage, in digest order.

        Args:
            section: What holds the cases.
            parts: Cases with their parts.
            labels: The label of each case, by its digest, where labels are learnt.
        """
        rows = ((case.digest, part, *_label(labels, case)) for case, part in parts)
        return Selection(section, tuple(sorted(rows)))

    @staticmethod
    def to_evaluate(
        section: str, cases: Iterable[Case], labels: Mapping[str, int] | None = None
    ) -> Selection:
        """Returns cases to evaluate on with all that their records say, in digest order.

        Cases of a section that is not shareable come with pseudonyms (`Pseudonyms`). Labels are as for
        `to_train`.
        """
        return Selection(section, tuple(sorted((*case.row, *_label(labels, case)) for case in cases)))

    @staticmethod
    def to_predict(section: str, digests: Iterable[str]) -> Selection:
        """Returns cases whose predictions another stage needs, in digest order."""
        return Selection(section, tuple((digest,) for digest in sorted(digests)))

    def cases(self) -> tuple[Case, ...]:
        """Returns the cases of an evaluation."""
        return tuple(
            Case(digest, name, patient, pathology, simulated)
            for digest, name, patient, pathology, simulated, *_ in self.rows
        )

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        return {"section": self.section, "rows": [list(row) for row in self.rows]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Selection:
        """Returns the selection that `to_json` wrote."""
        return Selection(value["section"], tuple(tuple(row) for row in value["rows"]))


def _label(labels: Mapping[str, int] | None, case: Case) -> tuple[str, ...]:
    return () if labels is None else (str(labels[case.digest]),)
