"""Odd patients: told once each, and quiet about those that are not odd."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xferlab.cohort import Case
from xferlab.data.patients import alike, odd_patients


def cases(*patients: str, pathology: str = "normal") -> list[Case]:
    return [Case(f"{number:064x}", f"{number}.png", one, pathology) for number, one in enumerate(patients)]


def told(*patients: str, different: Sequence[Sequence[str]] = ()) -> list[str]:
    found = odd_patients("s", cases(*patients), different)
    assert {(one.where, one.severity) for one in found} <= {("data.s", "warning")}
    return [one.what for one in found]


@pytest.mark.parametrize("other", ["P1", "p 1", " p1", "p1\u200b", "p1", "p\u00a01"])
def test_alike(other: str) -> None:
    assert alike(other) == alike("p1")


@pytest.mark.parametrize("other", ["p2", "p01", "p-1", "1p", "p1.0"])
def test_not_alike(other: str) -> None:
    assert alike(other) != alike("p1")


def test_one_warning_for_each_group() -> None:
    assert told("p1", "p2", "P1", "p 1", "p2", "q", "Q") == [
        "patients 'P1' and 'p 1' and 'p1' differ in case or blanks only. If they are one person, add"
        " `same_patient: [[P1, p 1, p1]]`, else `different_patients: [[P1, p 1, p1]]`.",
        "patients 'Q' and 'q' differ in case or blanks only. If they are one person, add"
        " `same_patient: [[Q, q]]`, else `different_patients: [[Q, q]]`.",
    ]


def test_who_is_known_to_be_different_is_not_odd() -> None:
    assert told("P1", "p1", different=[["q", "P1", "p1"]]) == []
    assert len(told("P1", "p1", "p 1", different=[["P1", "p1"]])) == 1


def test_placeholders_count_as_one_person() -> None:
    (what,) = told("nan", "p1", "nan")
    assert what.startswith("patient 'nan' looks like a missing value; its 2 images count as one person's.")


def test_most_images_of_one_patient() -> None:
    assert told(*["a"] * 10, *map(str, range(10))) == []
    assert told(*["a"] * 9, "b") == []
    (what,) = told(*["a"] * 10, *map(str, range(9)))
    assert what.startswith("patient 'a' has 10 of 19 images")


def test_pathologies_spelled_in_two_ways() -> None:
    (found,) = odd_patients("s", [*cases("a"), *cases("b", pathology="Normal")], ())
    assert found.what.startswith(
        "pathologies 'Normal' and 'normal' differ in case or blanks only, and count as 2."
    )
