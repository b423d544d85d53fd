"""Odd patients and pathologies of a section: spelled in two ways, unknown, or one with most images."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from xferlab.cohort import Case
from xferlab.errors import Problem

_UNKNOWN = frozenset(
    ("na", "n/a", "#n/a", "nan", "none", "null", "nil", "unknown", "anonymous", "-", "?", ".")
)
_MANY = 10
"""Fewer images of one patient are no surprise, whatever their share."""


def alike(text: str) -> str:
    """Returns what is equal for texts that differ in case, blanks, invisible or composed characters only."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in plain if character.isprintable() and not character.isspace())


def odd_patients(section: str, cases: Sequence[Case], different: Sequence[Sequence[str]]) -> list[Problem]:
    """Returns warnings about patients and pathologies that a split would take for what they are not.

    Args:
        section: As in the study, for messages.
        cases: Those of the section.
        different: Groups of ids that are known to be of different people.
    """
    patients = Counter(case.patient for case in cases)
    problems = []
    for group in _spelled_alike(patients):
        if any(set(group) <= set(known) for known in different):
            continue
        ids = ", ".join(group)
        what = f"patients {_quoted(group)} differ in case or blanks only. If they are one person, add"
        what += f" `same_patient: [[{ids}]]`, else `different_patients: [[{ids}]]`."
        problems.append(_warning(section, what))
    for group in _spelled_alike({case.pathology for case in cases}):
        what = f"pathologies {_quoted(group)} differ in case or blanks only, and count as {len(group)}."
        problems.append(_warning(section, f"{what} Spell them alike in the table."))
    for patient, count in sorted(patients.items()):
        if alike(patient) in _UNKNOWN:
            what = (
                f"patient {patient!r} looks like a missing value; its {count} images count as one person's."
            )
            problems.append(_warning(section, f"{what} Give every patient an id."))
        elif count >= _MANY and 2 * count > len(cases):
            what = f"patient {patient!r} has {count} of {len(cases)} images, which all go to one part of a"
            problems.append(_warning(section, f"{what} split. See that they are one person's."))
    return problems


def _spelled_alike(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[alike(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _warning(section: str, what: str) -> Problem:
    return Problem(f"data.{section}", what, "warning")
