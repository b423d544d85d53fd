"""What plan and run say of odd data: findings of one kind are one line, and check says all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command
from tests.leakage.test_audit import Pack
from tests.studies import write_study
from xferlab.cli.findings import counted, grouped
from xferlab.errors import Problem


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Twelve images; two rows stand twice, and one pathology is spelled in two ways."""
    pack = Pack(tmp_path / "pack")
    for number in range(8, 12):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96), dtype=np.uint8)
        pack.show(f"{number}", Image.fromarray(pixels))
    pack.rows[0]["pathology"] = "Covid19"
    pack.rows += [pack.rows[1], pack.rows[2]]
    pack.show("12", Image.effect_noise((96, 96), 40))
    return pack


def study_of(pack: Pack, folder: Path, **fields: Any) -> Path:
    section = {"source": "manifest", "root": str(pack.root), "labels": {"lung": [255]}}
    stages = {"one": {"data": "lungs"}}
    split = {"train": 0.4, "validation": 0.3, "test": 0.3}
    return write_study(
        folder, data={"lungs": section}, stages=stages, split=split, arms={"a": {}}, repetitions=1, **fields
    )


SUMMARY = "warnings: repeated rows (2), spellings of pathologies (1), "


@pytest.mark.component
def test_plan_counts_what_check_lists(command: Command, pack: Pack, tmp_path: Path) -> None:
    study = study_of(pack, tmp_path)
    for words in (("plan", study), ("plan", study, "--json")):
        said = command(*words)
        assert said.code == 0
        (line,) = said.err.splitlines()
        assert SUMMARY in line
        assert line.endswith(f"; `xferlab check {study}` shows them")
        assert "differ in case" not in said.out
    check = command("check", study)
    assert check.code == 0
    assert "only that row is used. (1 more like this: metadata.csv:15)" in check.out
    assert "pathologies 'Covid19' and 'covid19' differ in case or blanks only" in check.out


@pytest.mark.component
def test_run_counts_them_too(command: Command, pack: Pack, tmp_path: Path) -> None:
    training = {"max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32"}
    study = study_of(pack, tmp_path, training=training)
    said = command("run", study, "--executor", "in-process", "--storage", tmp_path / "st")
    assert said.code == 0
    assert said.err.count(SUMMARY) == 1
    assert f"`xferlab check {study} --storage {tmp_path / 'st'}` shows them" in said.err


def masks(*numbers: int) -> list[Problem]:
    return [Problem(f"/x/masks/{n:03}.png", f"mask values {n} ({n * 9} px) are strange") for n in numbers]


def test_messages_that_differ_in_numbers_and_paths_are_one() -> None:
    empty = [Problem(f"data.d: images/{n}.png", "the mask is empty.", "warning") for n in range(3)]
    size = [Problem(f"/x/masks/{n}.png", f"its image a/{n}.png is {n}x9.") for n in range(2)]
    assert [str(problem) for problem in grouped([*masks(1, 2), *empty, *size, *masks(3)])] == [
        "/x/masks/001.png: mask values 1 (9 px) are strange (2 more like this: 002.png, 003.png)",
        "data.d: images/0.png: warning: the mask is empty. (2 more like this: 1.png, 2.png)",
        "/x/masks/0.png: its image a/0.png is 0x9. (1 more like this: 1.png)",
    ]


def test_places_in_other_folders_keep_what_differs() -> None:
    wheres = ("data.d: a/1.png", "data.d: a/2.png", "data.d: b/1.png")
    (problem,) = grouped([Problem(where, "the mask is empty.", "warning") for where in wheres])
    assert problem.what.endswith("(2 more like this: 2.png, b/1.png)")
    files = grouped([Problem(where, "is empty.") for where in ("/x/a/1.png", "/x/b/1.png", "/x/t.csv:3")])
    assert files[0].what.endswith("(2 more like this: /x/b/1.png, /x/t.csv:3)")


def test_few_places_are_listed() -> None:
    (problem,) = grouped(masks(*range(1, 41)), shown=2)
    assert problem.what.endswith("(39 more like this: 002.png, 003.png, ...)")


def test_a_single_problem_stays_as_it_is() -> None:
    assert grouped(masks(1)) == masks(1)


def test_severity_and_kind_divide_and_join() -> None:
    first, second = Problem("a", "x"), Problem("b", "x", "warning")
    assert grouped([first, second]) == [first, second]
    named = [Problem(place, what, kind="empty masks") for place, what in (("a", "x"), ("b", "y"))]
    assert [problem.what for problem in grouped(named)] == ["x (1 more like this: b)"]


def test_problems_of_one_place_remain() -> None:
    found = [Problem("data.d", f"patient {number} is odd", kind="odd patients") for number in range(3)]
    assert grouped(found) == found


def test_counts_in_words() -> None:
    named = [Problem("a", str(number), kind="repeated rows") for number in range(3)]
    assert counted([*named, *masks(1, 2)]) == "5 warnings: repeated rows (3), others (2)"
    assert counted(named[:1]) == "1 warning: repeated rows (1)"
    assert counted(masks(1, 2)) == "2 warnings"
