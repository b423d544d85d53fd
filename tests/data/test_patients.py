"""Odd patients: each is reported once, and nobody else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from xferlab.cohort import Case
from xferlab.data.sources.patients import alike, as_yaml, odd_patients, person_key
from xferlab.study.yaml_lines import read


def cases(*patients: str, pathology: str = "normal") -> list[Case]:
    return [
        Case(f"{number:064x}", f"{number}.png", patient, pathology) for number, patient in enumerate(patients)
    ]


def messages(*patients: str) -> list[str]:
    problems = list(odd_patients("s", cases(*patients)))
    assert {(problem.where, problem.severity) for problem in problems} <= {("data.s", "warning")}
    return [problem.what for problem in problems]


@pytest.mark.parametrize("other", ["P1", "p 1", " p1", "p1\u200b", "\uff501", "p\u00a01"])
def test_alike(other: str) -> None:
    assert alike(other) == alike("p1")
    assert alike("p1") not in map(alike, ["p2", "p01", "p-1", "1p", "p1.0"])


@pytest.mark.parametrize(
    "group",
    [
        ["1", "1.0", "001", "01.0", "1.00", "\uff11", " 1"],
        ["P1", "P01", "p 1", "P001", "p1.0"],
        ["A 1", "a1", "A1", "a01"],
        ["007", "7", "7.0"],
        ["0", "000", "0.0"],
        ["10", "010", "10.0"],
        ["site.01", "site.1", "Site.001"],
        ["1-02-3", "01-2-3"],
        ["M\u00fcller", "Mu\u0308ller", "m\u00fcller "],
        ["Stra\u00dfe", "STRASSE"],
    ],
)
def test_spellings_of_one_id(group: list[str]) -> None:
    assert len({person_key(patient) for patient in group}) == 1


@pytest.mark.parametrize(
    "group",
    [
        ["1", "10", "100", "1.1", "1.01", "1.10", "11", "-1", "1-0", "1_0", "1a", "a1"],
        ["1.0", "10"],
        ["0", "", ".0", "\u200b", "0x", "x0"],
        ["1.2.0", "1.2", "1.20"],
        ["p1", "p10", "p100", "p-1"],
        ["TCGA_CS_4941", "TCGA_CS_49410", "TCGA_CS_0_4941"],
        ["10.0.0.1", "10.0.1", "100.1"],
    ],
)
def test_ids_of_different_people(group: list[str]) -> None:
    assert len({person_key(patient) for patient in group}) == len(group)


PLAIN = "a2 Müller p-1 1 001 1.0 1e3 it's [x] {x} #1 null No ~ *a &a !a %a @a \\n .inf 0x1f 2020-01-05"
SPACED = ["", "p 1", "a, b", 'say "x"', "- a", "a: b", "\u00a0"]


@pytest.mark.parametrize("patient", [*PLAIN.split(), *SPACED])
def test_ids_to_paste_are_read_as_the_same_text(patient: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"same_patient: [{as_yaml([patient, 'b'])}]\n", encoding="utf-8")
    assert read(path).value == {"same_patient": [[patient, "b"]]}
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == read(path).value


def test_placeholders_count_as_one_person() -> None:
    (what,) = messages("nan", "p1", "nan")
    assert what.startswith("patient 'nan' looks like a missing value; its 2 images count as one person's.")


def test_most_images_of_one_patient() -> None:
    assert messages(*["a"] * 10, *map(str, range(10))) == []
    assert messages(*["a"] * 9, "b") == []
    (what,) = messages(*["a"] * 10, *map(str, range(9)))
    assert what.startswith("patient 'a' has 10 of 19 images")


def test_a_pathology_called_all_is_told_from_all_images() -> None:
    named = [*cases("a", "b", pathology="all"), *cases("c")]
    (problem,) = odd_patients("s", named)
    assert (
        "pathology 'all' is what tables call all images together: the 2 images that have it" in problem.what
    )
    assert not list(odd_patients("s", named[:2]))  # as where the table has no such column


def test_pathologies_spelled_in_two_ways() -> None:
    (problem,) = odd_patients("s", [*cases("a"), *cases("b", pathology="Normal")])
    assert problem.what.startswith(
        "pathologies 'Normal' and 'normal' differ in case or blanks only, and count as 2."
    )
