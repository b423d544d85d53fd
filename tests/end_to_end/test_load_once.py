"""Every verb reads and validates the study file once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command
from tests.studies import TINY, write_study
from xferlab.study.yaml_lines import Document, read


@pytest.mark.slow
def test_every_verb_reads_the_study_once(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(
        tmp_path,
        repetitions=1,
        stages={"general": {"data": "general", "evaluate_on": ["general.test"]}},
        training={**TINY["training"], "max_epochs": 1, "patience": 1},
        arms={"a": {}},
    )
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "image.png")
    files: list[Path] = []

    def counted(path: Path, *, name: str | None = None) -> Document:
        files.append(path)
        return read(path, name=name)

    command("schema")  # imports what is patched
    monkeypatch.setattr(sys.modules["xferlab.study.load"], "read", counted)
    for verb, *words in (
        ("check", study), ("plan", study), ("run", study, "--executor", "in-process"), ("status", study),
        ("failures", study), ("report", study), ("prune", study),
        ("predict", "a/general/r01", "image.png", "--study", study, "--out", "out"),
    ):  # fmt: skip
        files.clear()
        said = command(verb, *words)
        assert said.code == 0, said.err
        assert files == [study], verb
