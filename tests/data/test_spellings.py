"""One person under several spellings of an id: in one part of every split, told once, with what to paste."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.data.conftest import Folder, data_section
from tests.refusals import problems_of
from xferlab.cohort import Case, Cohort
from xferlab.data.sources.source import Source, Survey
from xferlab.errors import DataError
from xferlab.leakage import audit as auditing
from xferlab.leakage.audit import Audited
from xferlab.leakage.index import StudyIndex

pytestmark = pytest.mark.component


class Hospital(Folder):
    """A folder of one image a patient; all images differ."""

    def __init__(self, root: Path, *patients: str, first: int = 0):
        super().__init__(root, 0)
        for number, patient in enumerate(patients, first):
            self.rows.append(self.add(number) | {"patient_id": patient})
            with open(root / f"masks/{number}.png", "ab") as mask:
                mask.write(bytes([number]))  # equal masks are fine; equal files are no cases
        self.write()


def persons(index: StudyIndex, sections: dict[str, Any]) -> dict[str, str]:
    """Image -> person, over all sections."""
    return {
        f"{name}/{Path(case.name).stem}": case.patient
        for name, config in sections.items()
        for case in index(name, config)
    }


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., tuple[dict[str, str], list[str]]]:
    """Indexes two hospitals, whose images count from 0 and from 10; returns the persons and the warnings."""

    def join(
        one: tuple[str, ...], two: tuple[str, ...], /, **fields: Any
    ) -> tuple[dict[str, str], list[str]]:
        hospitals = {
            "one": Hospital(tmp_path / "one", *one),
            "two": Hospital(tmp_path / "two", *two, first=10),
        }
        sections = {name: hospital.section(**fields.get(name, {})) for name, hospital in hospitals.items()}
        index = StudyIndex(sections, memo_dir=tmp_path / "memo")
        return persons(index, sections), [warning.what for warning in index.audit.warnings]

    return join


ONE, TWO = ("1", "2", "3", "10", "P1"), ("1.0", "002", "4", "p 01", "100")


@pytest.fixture
def one(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "one", *ONE)


@pytest.fixture
def two(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "two", *TWO, first=10)


@pytest.fixture
def sections(one: Hospital, two: Hospital) -> dict[str, Any]:
    return {"one": one.section(), "two": two.section()}


EXPECTED = {
    "one/0": "1", "one/1": "002", "one/2": "3", "one/3": "10", "one/4": "P1",
    "two/10": "1", "two/11": "002", "two/12": "4", "two/13": "P1", "two/14": "100",
}  # fmt: skip


def test_spellings_of_two_exports_are_one_person(sections: dict[str, Any], tmp_path: Path) -> None:
    index = StudyIndex(sections, memo_dir=tmp_path / "memo")
    assert persons(index, sections) == EXPECTED
    (warning,) = index.audit.warnings
    assert (warning.severity, warning.where) == ("warning", "data.one, data.two")
    assert warning.what == (
        "3 persons have several patient ids that probably differ in spelling only ('002', '2'; '1', '1.0';"
        " 'P1', 'p 01'). Each counts as one person, who stays in one part of every split. If that is right,"
        " declare it with"
        ' `same_patient: [["002", "2"], ["1", "1.0"], [P1, "p 01"]]`; list ids of different people under'
        " `different_patients` in the same way."
    )
    (summary,) = index.audit.summary
    assert summary.what == (
        "judging by the spelling of their ids, 3 persons have several patient ids; each counts as one patient"
    )
    cases = {name: index(name, config) for name, config in sections.items()}
    for seed in range(10):
        assert set(Cohort(seed, cases, hold_out={"two": 0.4}).parts(1)) == set(EXPECTED.values())


def test_neither_the_order_of_rows_nor_of_sections_matters(
    one: Hospital, two: Hospital, sections: dict[str, Any], tmp_path: Path
) -> None:
    before = StudyIndex(sections, memo_dir=tmp_path / "memo")
    for hospital in (one, two):
        random.Random(0).shuffle(hospital.rows)
        hospital.write()
    swapped = dict(reversed(sections.items()))
    after = StudyIndex(swapped, memo_dir=tmp_path / "other")
    assert after.audit.persons == before.audit.persons
    assert persons(after, sections) == persons(before, sections)
    assert {name: set(after(name, c)) for name, c in sections.items()} == {
        name: set(before(name, c)) for name, c in sections.items()
    }


@pytest.mark.parametrize("place", [("one",), ("two",), ("one", "two")])
def test_what_is_pasted_silences_it_and_changes_nothing(
    one: Hospital, two: Hospital, sections: dict[str, Any], tmp_path: Path, place: tuple[str, ...]
) -> None:
    result = StudyIndex(sections, memo_dir=tmp_path / "memo")
    line = result.audit.warnings[0].what.split("`")[1]
    pasted = yaml.safe_load(line)
    declared = {
        name: hospital.section(**(pasted if name in place else {}))
        for name, hospital in (("one", one), ("two", two))
    }
    index = StudyIndex(declared, memo_dir=tmp_path / "memo")
    assert index.audit.warnings == index.audit.summary == ()
    assert persons(index, declared) == EXPECTED
    for name, config in declared.items():
        assert index(name, config) == result(name, sections[name])
        assert index._source(name, config).survey.problems == ()


THIRD = {"one/0": "1", "one/1": "01", "two/10": "1.0"}
SPELLED = "1 person has several patient ids that probably differ in spelling only "
UNCLEAR = (
    "1 patient id could belong to any of several people who are declared different: '1.0' ('01' or '1')."
    " It counts as a person of its own, so splits may put images of one person into different parts."
    ' Declare whose it is with `same_patient: [["1.0", "01"]]`, for example, or that it is somebody'
    ' else\'s with `different_patients: [["1.0", "01", "1"]]`.'
)


@pytest.mark.parametrize(
    ("patients", "fields", "expected", "warnings"),
    [
        (
            (ONE, TWO),
            {"two": {"different_patients": [["1", "1.0"], ["p 01", "P1", "2"]]}},
            EXPECTED | {"two/10": "1.0", "two/13": "p 01"},
            [f"{SPELLED}('002', '2')."],
        ),
        (
            (("p1", "P1", "p 1", "q"), ("r",)),
            {"one": {"same_patient": [["p1", "p 1"]], "different_patients": [["P1", "p1"]]}},
            {"one/0": "p 1", "one/1": "P1", "one/2": "p 1", "one/3": "q", "two/10": "r"},
            [],
        ),
        (
            (("1", "01", "7", "07"), ("1.0",)),
            {"one": {"different_patients": [["1", "01"]]}},
            THIRD | {"one/2": "07", "one/3": "07"},
            [UNCLEAR, f"{SPELLED}('07', '7')"],
        ),
    ],
    ids=["declared", "declared and joined", "a third spelling"],
)
def test_people_who_are_declared_different_are_left_apart(
    join: Any, patients: Any, fields: dict[str, Any], expected: dict[str, str], warnings: list[str]
) -> None:
    people, whats = join(*patients, **fields)
    assert people == expected
    assert len(whats) == len(warnings)
    assert all(map(str.startswith, whats, warnings))


def test_ids_of_numbers_in_parquet_and_text_in_csv(tmp_path: Path) -> None:
    one, two = Hospital(tmp_path / "one", "001", "002"), Hospital(tmp_path / "two", "", "", "", first=10)
    table = pa.Table.from_pylist(
        [row | {"patient_id": number} for row, number in zip(two.rows, (1.0, 2.0, 10.5), strict=True)]
    )
    (two.root / "metadata.csv").unlink()
    pq.write_table(table, two.root / "metadata.parquet")
    sections = {"one": one.section(), "two": two.section()}
    index = StudyIndex(sections, memo_dir=tmp_path / "memo")
    assert persons(index, sections) == {
        "one/0": "001", "one/1": "002", "two/10": "001", "two/11": "002", "two/12": "10.5",
    }  # fmt: skip


def test_volumes_of_one_patient_under_two_spellings(tmp_path: Path, section: Any) -> None:
    from tests.data.sources.test_lgg import slice_pixels
    from tests.data.test_planned_files import save_tiff

    for number, folder in enumerate(("volunteer_7", "volunteer_07", "volunteer_70")):
        (tmp_path / "lgg" / folder).mkdir(parents=True)
        path = tmp_path / "lgg" / folder / f"{folder}_1.tif"
        save_tiff(path, slice_pixels(number))
        save_tiff(path.with_name(f"{folder}_1_mask.tif"), slice_pixels(number)[..., 0] * 0)
    sections = {"mri": section(source="lgg", root=str(tmp_path / "lgg"), drop_ends=0)}
    index = StudyIndex(sections, memo_dir=tmp_path / "memo")
    assert sorted(persons(index, sections).values()) == ["volunteer_07", "volunteer_07", "volunteer_70"]


def test_who_only_an_arm_spells_otherwise_takes_the_id_of_the_study(
    one: Hospital, two: Hospital, tmp_path: Path
) -> None:
    sections, arm = {"one": one.section()}, {"two": two.section()}
    index = StudyIndex(sections, arms={"a": sections, "b": arm}, memo_dir=tmp_path / "memo")
    assert persons(index, sections) == {f"one/{n}": p for n, p in enumerate(["1", "2", "3", "10", "P1"])}
    assert persons(index, arm) == {
        "two/10": "1", "two/11": "2", "two/12": "4", "two/13": "P1", "two/14": "100",
    }  # fmt: skip


def test_an_arm_whose_spelling_may_be_either_of_two_people_is_refused(tmp_path: Path) -> None:
    one = Hospital(tmp_path / "one", "p1", "P1", "q")
    arm = {"two": Hospital(tmp_path / "two", "p 1", first=10).section()}
    sections = {"one": one.section(different_patients=[["p1", "P1"]])}
    (problem,) = problems_of(DataError, StudyIndex, sections, arms={"b": arm}, memo_dir=tmp_path / "memo")
    assert problem.where == "data.one, data.two"
    assert problem.what.startswith("an id that only an arm has joins patients 'P1', 'p1' of the study")
    assert '`same_patient: [[P1, "p 1", p1]]`' in problem.what


class Listed(Source):
    """Cases without files."""

    def __init__(self, *patients: str, **fields: Any):
        config = data_section(source="manifest", root="", **fields)
        super().__init__("s", config, memo_dir=Path())
        self.patients = patients

    def look(self) -> Survey:
        return Survey(
            tuple(Case(f"{n:064x}", str(n), patient, "normal") for n, patient in enumerate(self.patients))
        )

    def read(self, entry: Any) -> Any:
        raise DataError(())


def audited(monkeypatch: pytest.MonkeyPatch, *patients: str, **fields: Any) -> auditing.Audit:
    monkeypatch.setattr(auditing, "compare", lambda places, **_: ([], {}))
    return auditing.audit([Audited(Listed(*patients, **fields), own=True)], memo_dir=Path())


def test_many_persons_are_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = ("p1", "p2", "p10", "1", "10", "", "TCGA_CS_4941", "TCGA_CS_4942")
    assert audited(monkeypatch, *patients) == auditing.Audit({})
    result = audited(
        monkeypatch, *(form.format(n) for n in range(1, 501) for form in ("{}", "{}.0", "{:04}"))
    )
    (warning,) = result.warnings
    assert warning.what.startswith("500 persons have several patient ids")
    assert "('0001', '1', '1.0'; '0002', '2', '2.0'; '0003', '3', '3.0'; 497 more)" in warning.what
    pasted = yaml.safe_load(warning.what.split("`")[1])["same_patient"]
    assert len(pasted) == 20
    assert "]` (the first 20 of 500); list ids" in warning.what
    assert len(warning.what) < 1200
    assert len(set(result.persons.values())) == 500


@pytest.mark.parametrize(("different", "persons"), [((), {"0"}), ((["0", "00"],), set())])
def test_any_number_of_spellings_is_joined_or_left_apart_in_no_time(
    monkeypatch: pytest.MonkeyPatch, different: Any, persons: set[str]
) -> None:
    start_s = time.process_time()
    zeros = ["0" * length for length in range(1, 1000)]
    result = audited(monkeypatch, *zeros, different_patients=different)
    assert set(result.persons.values()) == persons
    assert len(result.warnings) == 1
    assert time.process_time() - start_s < 2


@pytest.mark.parametrize("place", ["one", "two"])
@pytest.mark.parametrize(
    ("declared", "person"),
    [
        ({"same_patient": [["1.0", "01"]]}, "01"),
        ({"same_patient": [["1.0", "1"]]}, "1"),
        ({"different_patients": [["1.0", "01", "1"]]}, "1.0"),
        ({"different_patients": [["1.0", "01"]]}, "1"),
    ],
)
def test_saying_whose_a_third_spelling_is_silences_it(
    join: Any, place: str, declared: dict[str, Any], person: str
) -> None:
    fields: dict[str, dict[str, Any]] = {"one": {"different_patients": [["1", "01"]]}, "two": {}}
    for name, groups in declared.items():
        fields[place][name] = [*fields[place].get(name, []), *groups]
    people, whats = join(("1", "01"), ("1.0",), **fields)
    assert people == THIRD | {"two/10": person}
    assert not any("several people" in what for what in whats)


def test_an_image_shows_whose_a_third_spelling_is(tmp_path: Path) -> None:
    one, two = Hospital(tmp_path / "one", "1", "01"), Hospital(tmp_path / "two", "1.0", first=10)
    (two.root / "images/10.png").write_bytes((one.root / "images/0.png").read_bytes())
    sections = {"one": one.section(different_patients=[["1", "01"]]), "two": two.section()}
    index = StudyIndex(sections, memo_dir=tmp_path / "memo")
    assert persons(index, sections) == {"one/0": "1", "one/1": "01", "two/10": "1"}
    (warning,) = index.audit.warnings
    assert "show one exposure" in warning.what


def test_people_whom_an_arm_declares_different_keep_the_spellings_of_the_study(tmp_path: Path) -> None:
    sections = {"one": Hospital(tmp_path / "one", "1", "1.0").section()}
    two = Hospital(tmp_path / "two", "01", "001", first=10)
    arm = {"two": two.section(different_patients=[["1", "01"]])}
    index = StudyIndex(sections, arms={"a": sections, "b": arm}, memo_dir=tmp_path / "memo")
    assert persons(index, sections) == {"one/0": "1", "one/1": "1"}
    assert persons(index, arm) == {"two/10": "01", "two/11": "001"}
    assert "'001' ('01' or '1')" in index.audit.warnings[0].what
