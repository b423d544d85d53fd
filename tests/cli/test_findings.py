"""What plan and run say of odd data: a summary in place of a wall, all of it in check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command
from tests.leakage.test_audit import Pack
from tests.studies import write_study

pytestmark = pytest.mark.component


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Twelve images; two rows stand twice, and one pathology is spelled in two ways."""
    pack = Pack(tmp_path / "pack")
    for number in range(8, 12):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96), dtype=np.uint8)
        pack.add(f"{number}", Image.fromarray(pixels))
    pack.rows[0]["pathology"] = "Covid19"
    pack.rows += [pack.rows[1], pack.rows[2]]
    pack.add("12", Image.effect_noise((96, 96), 40))
    return pack


def study_of(pack: Pack, folder: Path, **fields: Any) -> Path:
    section = {"source": "manifest", "root": str(pack.root), "labels": {"lung": [255]}}
    stages = {"one": {"data": "lungs"}}
    split = {"train": 0.4, "validation": 0.3, "test": 0.3}
    return write_study(
        folder, data={"lungs": section}, stages=stages, split=split, arms={"a": {}}, repetitions=1, **fields
    )


SUMMARY = "warnings: repeated rows (2), spellings of pathologies (1), "


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


def test_run_counts_them_too(command: Command, pack: Pack, tmp_path: Path) -> None:
    training = {"max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32"}
    study = study_of(pack, tmp_path, training=training)
    said = command("run", study, "--executor", "in-process", "--storage", tmp_path / "st")
    assert said.code == 0
    assert said.err.count(SUMMARY) == 1
    assert f"`xferlab check {study} --storage {tmp_path / 'st'}` shows them" in said.err
