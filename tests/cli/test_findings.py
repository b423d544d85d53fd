"""What plan and run say of odd data: findings of one kind are one line, and check says all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import Command
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
    split = {"train": 0.4, "validation": 0.3, "test": 0.3}
    shared = {"data": {"lungs": section}, "stages": {"one": {"data": "lungs"}}, "split": split}
    return write_study(folder, **{**shared, "arms": {"a": {}}, "repetitions": 1, **fields})


SUMMARY = "warnings: repeated rows (2), spellings of pathologies (1), "


@pytest.mark.component
def test_plan_and_run_count_what_check_lists(command: Command, pack: Pack, tmp_path: Path) -> None:
    training = {"max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32"}
    study, storage = study_of(pack, tmp_path, training=training), ("--storage", "st")
    for words in (("plan", study), ("plan", study, "--json"), ("run", study, "--executor", "in-process")):
        said = command(*words, *storage, code=0)
        (line,) = (line for line in said.err.splitlines() if SUMMARY in line)
        assert line.endswith(f"; `xferlab check {study} --storage st` shows them")
        assert "differ in case" not in said.out + said.err
    check = command("check", study, code=0)
    assert "only that row is used. (1 more like this: metadata.csv:15)" in check.out
    assert "pathologies 'Covid19' and 'covid19' differ in case or blanks only" in check.out


@pytest.mark.component
def test_masks_of_other_structures_than_a_stage_reads_do_not_matter(
    command: Command, pack: Pack, tmp_path: Path
) -> None:
    """Those of `odd` hold a value that is not listed; a run is refused that reads them, and plan says so."""
    mask = np.zeros((96, 96), np.uint8)
    mask[20:40, 20:40], mask[50:60, 50:60] = 255, 33
    for row in pack.rows:
        row["mask_odd"] = f"masks/odd_{row['image'].rpartition('/')[2]}"
        with Image.open(pack.root / row["mask"]) as own:
            odd = Image.fromarray(mask).resize(own.size, Image.Resampling.NEAREST)
        odd.save(pack.root / row["mask_odd"])
    pd.DataFrame(pack.rows).to_csv(pack.root / "metadata.csv", index=False)
    structures = {"lung": "mask", "odd": "mask_odd"}
    section = {
        "source": "manifest", "root": str(pack.root), "labels": {"lung": [255], "odd": [255]},
        "structures": structures,
    }  # fmt: skip
    for structure, code in (("odd", 2), ("lung", 0)):
        study = study_of(
            pack,
            tmp_path,
            data={"lungs": section},
            stages={"one": {"data": "lungs", "structures": [structure]}},
        )
        said = command("plan", study, "--storage", "st")
        assert said.code == code, said
        assert ("unusable images or masks that no chosen trial reads" in said.err) == (code == 0)
        assert ("mask values 33 (" in said.err) == (code == 2), said


def masks(*numbers: int) -> list[Problem]:
    return [Problem(f"/x/masks/{n:03}.png", f"mask values {n} ({n * 9} px) are strange") for n in numbers]


EMPTY = [Problem(f"data.d: a/{n}.png", "the mask is empty.", "warning") for n in range(3)]
ELSEWHERE = Problem("data.d: b/1.png", "the mask is empty.", "warning")
SIZE = [Problem(f"/x/masks/{n}.png", f"its image a/{n}.png is {n}x9.") for n in range(2)]
FOLDERS = [Problem(where, "is empty.") for where in ("/x/a/1.png", "/x/b/1.png", "/x/t.csv:3")]
NAMED = [Problem(where, what, kind="empty masks") for where, what in (("a", "x"), ("b", "y"))]
SEVERITIES = [Problem("a", "x"), Problem("b", "x", "warning")]
ONE_PLACE = [Problem("data.d", f"patient {number} is odd", kind="odd patients") for number in range(3)]


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        (
            [*masks(1, 2), *EMPTY, *SIZE, *masks(3)],  # they differ in numbers and paths only
            [
                "/x/masks/001.png: mask values 1 (9 px) are strange (2 more like this: 002.png, 003.png)",
                "data.d: a/0.png: warning: the mask is empty. (2 more like this: 1.png, 2.png)",
                "/x/masks/0.png: its image a/0.png is 0x9. (1 more like this: 1.png)",
            ],
        ),
        # Places in other folders keep what differs.
        (
            [*EMPTY[:2], ELSEWHERE],
            ["data.d: a/0.png: warning: the mask is empty. (2 more like this: 1.png, b/1.png)"],
        ),
        (FOLDERS, ["/x/a/1.png: is empty. (2 more like this: /x/b/1.png, /x/t.csv:3)"]),
        (NAMED, ["a: x (1 more like this: b)"]),
        (masks(1), [str(problem) for problem in masks(1)]),
        (SEVERITIES, ["a: x", "b: warning: x"]),
        (ONE_PLACE, [str(problem) for problem in ONE_PLACE]),
    ],
)
def test_problems_of_one_kind_are_one(problems: list[Problem], expected: list[str]) -> None:
    assert [str(problem) for problem in grouped(problems)] == expected


def test_few_places_are_listed() -> None:
    (problem,) = grouped(masks(*range(1, 41)), shown=2)
    assert problem.what.endswith("(39 more like this: 002.png, 003.png, ...)")


def test_counts_in_words() -> None:
    named = [Problem("a", str(number), kind="repeated rows") for number in range(3)]
    assert counted([*named, *masks(1, 2)]) == "5 warnings: repeated rows (3), others (2)"
    assert counted(named[:1]) == "1 warning: repeated rows (1)"
    assert counted(masks(1, 2)) == "2 warnings"
