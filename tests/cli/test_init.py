"""`xferlab init` writes a study that can be planned as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.importing.layouts import image
from tests.importing.test_nnunet import data_set


@pytest.mark.parametrize("masks", [["left"], ["lungs=left", "lungs=right"], ["a=left", "b=right"]])
def test_a_written_study_passes_the_check(command: Command, folder: Path, masks: list[str]) -> None:
    words = [name.replace("left", f"{folder}/left").replace("right", f"{folder}/right") for name in masks]
    said = command(
        "init", "--out", "mine.yaml", "--from", folder / "images", *words, "--patient", "P[0-9]+", code=0
    )
    assert said.out.endswith("Next: xferlab check mine.yaml\n")
    command("check", "mine.yaml", code=0)
    assert "15 trials" in command("plan", "mine.yaml", code=0).out


def test_a_data_set_of_others_has_a_study_too(command: Command, tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    image(folder / "imagesTs" / "P9_0_0000.png", 99)
    said = command("init", "--from", folder, "--patient", "(P[0-9]+)_", code=0)
    assert "read as a data set of nnU-Net" in said.out
    assert "part: [training]" in Path("study.yaml").read_text()
    command("check", "study.yaml", code=0)
    assert "15 trials" in command("plan", "study.yaml", code=0).out


def test_a_study_is_named_for_its_file(command: Command, folder: Path) -> None:
    command("init", "--out", "sub/my lungs.yaml", "--from", folder / "images", folder / "left", code=0)
    assert "study: my_lungs\n" in Path("sub/my lungs.yaml").read_text()
    command("plan", "sub/my lungs.yaml", code=0)


def test_an_existing_study_stays(command: Command, folder: Path) -> None:
    Path("study.yaml").write_text("mine")
    said = command("init", "--from", folder / "images", folder / "left", code=2)
    assert said.err == "xferlab: study.yaml exists; name another file, or remove it\n"
    assert Path("study.yaml").read_text() == "mine"
    assert not (folder / "metadata.csv").exists()
