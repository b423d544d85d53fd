"""Odd patients and pathologies: spelled in several ways, unknown, or one patient with most images."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from xferlab.cohort import Case
from xferlab.errors import Problem

NO_STRATUM = "all"
"""The pathology of cases whose table has none; tables call all images together so, too."""
_UNKNOWN = frozenset(
    ("na", "n/a", "#n/a", "nan", "none", "null", "nil", "unknown", "anonymous", "-", "?", ".")
)
_LEADING_ZEROS = re.compile(r"(?<![0-9])(?<![0-9]\.)0+(?=[0-9])")
_ZERO_FRACTION = re.compile(r"(?<![0-9])(?<![0-9]\.)([0-9]+)\.0+$")
_PLAIN_YAML = re.compile(r"[^\W\d][\w-]*")
_YAML_VALUES = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
_MANY = 10
"""Fewer images of one patient are not odd, even if they are most of a section."""


def alike(text: str) -> str:
    """Returns what is equal for texts that differ in case, blanks, invisible or composed characters only."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in plain if character.isprintable() and not character.isspace())


def person_key(patient: str) -> str:
    """Returns what is equal for several spellings of one patient id.

    Beside what `alike` ignores: leading zeros of a number (`P01` is `P1`, `007` is `7`, but `1.01` is not
    `1.1`), and a fraction of zeros behind a whole number at the end (`1.0` is `1`, and never `10`).
    """
    whole = _ZERO_FRACTION.sub(r"\1", alike(patient))
    return _LEADING_ZEROS.sub("", whole) or patient


def spelled_alike(names: Iterable[str], *, key: Callable[[str], str] = alike) -> list[list[str]]:
    """Returns the groups of different names that have one key, sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def as_yaml(patients: Iterable[str]) -> str:
    """Returns a list of ids as a study file takes it: in quotes what YAML would not read as the same text."""
    return f"[{', '.join(map(_yaml_text, patients))}]"


def _yaml_text(text: str) -> str:
    plain = _PLAIN_YAML.fullmatch(text) and text.lower() not in _YAML_VALUES
    return text if plain else json.dumps(text, ensure_ascii=False)


def odd_patients(section: str, cases: Sequence[Case]) -> Iterator[Problem]:
    """Yields warnings about patients and pathologies that a split would misunderstand.

    Args:
        section: As in the study, for messages.
        cases: Those of the section.
    """
    patients = Counter(case.patient for case in cases)
    where = f"data.{section}"
    for group in spelled_alike(case.pathology for case in cases):
        names = " and ".join(map(repr, group))
        yield Problem(
            where,
            f"pathologies {names} differ in case or blanks only, and count as {len(group)}. Spell them alike"
            " in the table.",
            "warning",
            "spellings of pathologies",
        )
    pathologies = Counter(case.pathology for case in cases)
    if NO_STRATUM in pathologies and len(pathologies) > 1:
        yield Problem(
            where,
            f"pathology {NO_STRATUM!r} is what tables call all images together: the {pathologies[NO_STRATUM]}"
            " images that have it get no line of their own. Give them another name in the table.",
            "warning",
            "pathologies named all",
        )
    for patient, count in sorted(patients.items()):
        if alike(patient) in _UNKNOWN:
            yield Problem(
                where,
                f"patient {patient!r} looks like a missing value; its {count} images count as one person's."
                " Give every patient an id.",
                "warning",
                "unknown patients",
            )
        elif count >= _MANY and 2 * count > len(cases):
            yield Problem(
                where,
                f"patient {patient!r} has {count} of {len(cases)} images, which all go to one part of a"
                " split. See that they are one person's.",
                "warning",
                "patients with most of the images",
            )
