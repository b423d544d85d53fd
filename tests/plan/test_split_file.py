"""Somebody else's split: what a file may say, what it decides, and what is wrong with one, line by line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.plan.studies import HERE, parts, patients, phantom_cases, trial
from tests.refusals import problems_of
from xferlab.cohort import Case, Cohort
from xferlab.errors import FileUnavailableError, StudyError
from xferlab.plan.document import to_document
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.plan.selection import Index
from xferlab.plan.split_file import read_split
from xferlab.study.load import load

DATA = "data: {cxr: {source: phantom_cxr, count: 12}}\n"
STUDY = f"study: s\nseed: 7\n{DATA}stages: {{a: {{data: cxr}}}}\n"
PATIENTS = [f"patient phantom_cxr 0 {number}" for number in range(6)]
ROLES = ("train", "train", "train", "train", "validation", "test")

PlanOfFile = Callable[..., Plan]


def rows(names: Iterable[str], roles: Sequence[str] = ROLES, number: str = "") -> str:
    ending = f",{number}" if number else ""
    return "".join(f"{name},{role}{ending}\n" for name, role in zip(names, roles, strict=True))


USUAL = "patient_id,part\n" + rows(PATIENTS)
TWICE = (
    "patient_id,part,repetition\n" + rows(PATIENTS, number="1") + rows(PATIENTS[::-1], number="2")
)  # fmt: skip


@pytest.fixture
def plan_of_file(tmp_path: Path) -> PlanOfFile:
    """The plan of a study with a split of these bytes."""

    def plan_of_file(
        content: str | bytes,
        *,
        name: str = "splits.csv",
        base: str = STUDY,
        more: str = "",
        index: Index = phantom_cases,
    ) -> Plan:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        (tmp_path / "study.yaml").write_text(f"{base}split: {{file: {name}{more}}}\n")
        return expand(load(tmp_path / "study.yaml", environ={}), index, HERE)

    return plan_of_file


def roles_of(plan: Plan, name: str) -> dict[str, str]:
    """The part of every patient in a trial."""
    who = patients(plan)
    (tests,) = (e.selection for e in trial(plan, name).evaluations)
    fitted = {who[digest]: part for digest, part in parts(plan, name)}
    return {**fitted, **{who[digest]: "test" for digest in plan.selections[tests].digests}}


# --- what a file decides ---------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_each_repetition_has_the_parts_of_its_lines(
    plan_of_file: PlanOfFile, separator: str, mark: bytes, ending: str
) -> None:
    plan = plan_of_file(mark + TWICE.replace(",", separator).replace("\n", ending).encode())
    assert plan.loaded.base.repetitions == 2
    assert len(plan.trials) == 2
    assert roles_of(plan, "baseline/a/r01") == dict(zip(PATIENTS, ROLES, strict=True))
    assert roles_of(plan, "baseline/a/r02") == dict(zip(PATIENTS[::-1], ROLES, strict=True))


def test_a_plan_says_how_many_patients_a_file_lets_test(plan_of_file: PlanOfFile) -> None:
    """Shares of the split would say it, and comparisons need it."""
    roles = ("train", "train", "train", "validation", "test", "test")
    content = "patient_id,part,repetition\n" + rows(PATIENTS, number="1") + rows(PATIENTS, roles, number="2")
    assert to_document(plan_of_file(content))["data"]["cxr"]["test_patients"] == 1.5


def test_without_repetitions_all_have_the_same_parts_and_other_seeds(plan_of_file: PlanOfFile) -> None:
    plan = plan_of_file(USUAL, base=STUDY.replace("seed: 7", "seed: 7\nrepetitions: 3"))
    assert len(plan.trials) == 3
    assert len({spec.selection for spec in plan.trials}) == 1
    assert len({spec.identity.seed for spec in plan.trials}) == 3


def test_what_is_in_a_file_decides_ids_and_neither_its_name_nor_its_order(plan_of_file: PlanOfFile) -> None:
    plan = plan_of_file(TWICE)
    head, *lines = TWICE.splitlines(keepends=True)
    assert plan_of_file("".join([head, *reversed(lines)]), name="other.csv").names == plan.names
    swapped = TWICE.replace("validation", "?").replace("test", "validation").replace("?", "test")
    assert set(plan_of_file(swapped).names.values()).isdisjoint(plan.names.values())


def test_a_split_that_equals_a_drawn_one_has_its_trials(plan_of_file: PlanOfFile, tmp_path: Path) -> None:
    """Ids know the result of a split, never the recipe."""
    study = tmp_path / "drawn.yaml"
    study.write_text(STUDY.replace("seed: 7", "seed: 7\nrepetitions: 2"))
    drawn = expand(load(study, environ={}), phantom_cases, HERE)
    content = "patient_id,part,repetition\n"
    for number in (1, 2):
        given = drawn.selector.cohort.parts(number)
        content += rows(given.keys(), list(given.values()), str(number))
    assert plan_of_file(content).names == drawn.names


def test_the_example_of_the_page_is_such_a_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text()
    (example,) = re.findall(r"```\n(patient_id,.*?)```", page, re.DOTALL)
    (tmp_path / "splits.csv").write_text(example)
    names = [row.split(",")[0] for row in example.split()[1:]]
    cases = [Case(name, f"{name}.png", name, "normal") for name in names]
    rule = read_split(tmp_path / "splits.csv", Cohort(1, {"cxr": cases}, {}))
    assert rule.given == (dict(zip(names, ("train", "validation", "test"), strict=True)),)
    assert rule.num_repetitions == 1


def test_lines_may_name_images(plan_of_file: PlanOfFile) -> None:
    by_image = [f"{number}.png" for number in range(12)]
    doubled = [role for role in ROLES for _ in (0, 1)]
    plan = plan_of_file("image,part\n" + rows(by_image, doubled))
    assert set(plan.names.values()) == set(plan_of_file(USUAL).names.values())
    backslashes = [f".\\{name}" for name in by_image]
    assert plan_of_file("image,part\n" + rows(backslashes, doubled)).names == plan.names


def test_ids_that_look_alike_are_alike_however_unicode_writes_them(plan_of_file: PlanOfFile) -> None:
    """As in a table from macOS, which takes letters and their accents apart."""

    def accented(name: str, config: Any) -> Sequence[Case]:
        cases = phantom_cases(name, config)
        return [replace(case, patient=case.patient.replace("patient", "Jos\u00e9")) for case in cases]

    content = USUAL.replace("patient ", "Jose\u0301 ")
    assert content != USUAL
    found, expected = (
        plan_of_file(text, index=accented) for text in (content, content.replace("e\u0301", "\u00e9"))
    )
    assert found.names == expected.names


def test_images_of_a_patient_may_be_in_two_parts_in_a_profile_for_it(plan_of_file: PlanOfFile) -> None:
    mixed = ["train", "test"] * 5 + ["validation", "train"]
    content = "image,part\n" + rows([f"{number}.png" for number in range(12)], mixed)
    plan = plan_of_file(content, more=", group_by: null")
    counted = [part for _, part in parts(plan, "baseline/a/r01")]
    assert (counted.count("train"), counted.count("validation")) == (6, 1)
    assert any("in repetition 1, 6 of 6 patients have images in more" in w.what for w in plan.warnings)
    with pytest.raises(
        StudyError, match=r"is in part 'test', and .*splits\.csv:2 says 'train' of '0\.png', which"
    ):
        plan_of_file(content)


def joined(name: str, config: Any) -> Sequence[Case]:
    """The first two patients are one person; the table has their own ids."""
    cases = (
        replace(case, columns={"patient_id": case.patient.replace("patient ", "id ")})
        for case in phantom_cases(name, config)
    )
    return [replace(c, patient=PATIENTS[0]) if c.patient == PATIENTS[1] else c for c in cases]


def test_joined_ids_are_known_by_those_of_the_table_and_have_one_part(plan_of_file: PlanOfFile) -> None:
    content = USUAL.replace("patient ph", "id ph")
    plan = plan_of_file(content, index=joined)
    assert roles_of(plan, "baseline/a/r01")[PATIENTS[0]] == "train"
    with pytest.raises(
        StudyError, match=r"splits\.csv:3: patient_id 'id phantom_cxr 0 1' is in part 'test', "
    ):
        plan_of_file(content.replace("id phantom_cxr 0 1,train", "id phantom_cxr 0 1,test"), index=joined)


def test_those_who_are_held_out_need_no_part_and_what_they_have_is_not_used(plan_of_file: PlanOfFile) -> None:
    base = STUDY.replace("count: 12", "count: 12, hold_out: 0.3").replace(
        "{data: cxr}", "{data: cxr, evaluate_on: [cxr.hold_out]}"
    )
    plan = plan_of_file(USUAL, base=base)
    held_out = plan.selector.cohort.held_out()
    assert held_out == {PATIENTS[1], PATIENTS[4]} or len(held_out) == 2
    assert [w.what for w in plan.warnings if w.where == "split.file"] == [
        "2 of those in the file are held out (`hold_out` of their data section); their parts are not used"
    ]
    content = "".join(
        line for line in USUAL.splitlines(keepends=True) if line.partition(",")[0] not in held_out
    )
    assert plan_of_file(content, base=base).names == plan.names


# --- what is wrong with one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", [": split.file is empty; it is a table such as"]),
        ("\n \n", [": split.file is empty; it is a table such as"]),
        ("patient_id,part\n", [": split.file has no line below its header; it is such as"]),
        (
            b"\xff\xfe\x00",
            [": split.file cannot be read: 'utf-8' codec can't decode byte 0xff in pos"],
        ),
        (
            "version https://git-lfs.github.com/spec/v1\n",
            [": split.file is no table. It is a git-LFS pointer, not the file itself: run `git lfs pull` "],
        ),
        (
            USUAL.replace("patient_id", "patient"),
            [":1: unknown column 'patient' (accepted: patient_id, image, part, repetition). Did you "],
        ),
        (
            USUAL.replace("part\n", "part,fold\n", 1),
            [":1: unknown column 'fold' (accepted: patient_id, image, part, repetition)."],
        ),
        ("part\ntrain\n", [":1: the header has neither patient_id and image; give one of them."]),
        ("patient_id,image,part\na,b,test\n", [":1: the header has both patient_id and image; give one of "]),
        ("patient_id,part,part\na,test,test\n", [":1: the column 'part' stands twice."]),
        ("patient_id\na\n", [":1: no column 'part' (columns: patient_id)."]),
        (
            USUAL.replace(f"{PATIENTS[2]},train", f"{PATIENTS[2]},tain").replace("validation", "val"),
            [
                ":4: part is 'tain'; it must be one of train, validation, test. Did you mean 'train'?",
                ":6: part is 'val'; it must be one of train, validation, test. Did you mean 'validation'?",
            ],
        ),
        (USUAL + "a\n", [":8: 1 cells for 2 columns."]),
        (USUAL + ",test\n", [":8: patient_id is empty."]),
        (
            TWICE.replace("train,2", "train,second", 1).replace("test,2", "test,0"),
            [
                ":8: repetition is 'second'; it must be a whole number from 1 to 10000.",
                ":13: repetition is '0'; it must be a whole number from 1 to 10000.",
            ],
        ),
        (
            TWICE.replace(",2\n", ",4\n"),
            [": the last repetition is 4, and no line has repetition 2, 3; leave no gap."],
        ),
        (
            USUAL.replace(PATIENTS[0], "patient phantom_cxr 0 00"),
            [
                ":2: no case of the study's data sections has patient_id 'patient phantom_cxr 0 00'. ",
                f": 1 of the study have no part (patient_id {PATIENTS[0]!r}); add them, or leave them ",
            ],
        ),
        (
            TWICE.replace(f"{PATIENTS[5]},train,2\n", ""),
            [f": 1 of the study have no part in repetition 2 (patient_id {PATIENTS[5]!r}); add them, or "],
        ),
        (
            USUAL + f"{PATIENTS[0]},test\n{PATIENTS[1]},train\n",
            [
                f":8: patient_id {PATIENTS[0]!r} is in part 'test', and {{path}}:2 says 'train'; give one "
                "part at once."
            ],
        ),
        (
            "patient_id,part\n" + "".join(f"x{number},train\n" for number in range(30)),
            [
                *(f":{2 + n}: no case of the study's data sections has patient_id 'x{n}'" for n in range(10)),
                ": 21 more such problems.",
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    plan_of_file: PlanOfFile, tmp_path: Path, content: str | bytes, told: list[str]
) -> None:
    path, found = (
        tmp_path / "splits.csv",
        [str(problem) for problem in problems_of(StudyError, plan_of_file, content)],
    )
    assert len(found) == len(told), found
    for problem, start in zip(found, told, strict=True):
        assert problem.startswith(f"{path}{start}".replace("{path}", str(path))), problem


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"{STUDY}split: {{file: none.csv}}\n")
    with pytest.raises(
        FileUnavailableError, match=r"/none\.csv: split\.file cannot be read: No such file or "
    ):
        expand(load(study, environ={}), phantom_cases, HERE)


def test_images_of_one_name_in_two_sections_are_not_mistaken(plan_of_file: PlanOfFile) -> None:
    by_image = [f"{number}.png" for number in range(12)]
    content = "image,part\n" + rows(by_image, [role for role in ROLES for _ in (0, 1)])
    base = STUDY.replace("cxr: {", "more: {source: phantom_cxr, count: 12, seed: 1}, cxr: {")
    with pytest.raises(StudyError, match=r"splits\.csv:2: image '0\.png' is that of 2 patients in the st"):
        plan_of_file(content, base=base)


def test_the_number_of_repetitions_in_a_file_counts(plan_of_file: PlanOfFile) -> None:
    base = STUDY.replace("seed: 7", "seed: 7\nrepetitions: 3")
    with pytest.raises(
        StudyError, match=r"3: repetitions is 3, and the split has 2 \(in its file\); leave rep"
    ):
        plan_of_file(TWICE, base=base)
