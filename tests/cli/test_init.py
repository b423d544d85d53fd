"""`xferlab init` writes a study that can be planned as it is, and templates."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command
from tests.importing.layouts import image
from tests.importing.test_nnunet import data_set
from xferlab.cli.options import VERBS
from xferlab.cli.templates import SHIPPED, templates
from xferlab.study.load import load

ROOT = Path(__file__).parents[2]
TEMPLATES = templates()


@pytest.mark.parametrize("masks", [["left"], ["lungs=left", "lungs=right"], ["a=left", "b=right"]])
def test_a_written_study_passes_the_check(command: Command, folder: Path, masks: list[str]) -> None:
    words = [name.replace("left", f"{folder}/left").replace("right", f"{folder}/right") for name in masks]
    said = command(
        "init", "--out", "mine.yaml", "--from", folder / "images", *words, "--patient", "P[0-9]+", code=0
    )
    assert said.out.endswith("Next: xferlab check mine.yaml\n")
    command("check", "mine.yaml", code=0)
    assert "15 trials" in command("plan", "mine.yaml", code=0).out


def test_the_folder_of_a_project_may_move(command: Command, folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    folder.rename(project / "mine")
    words = ("--from", project / "mine/images", project / "mine/left", "--patient", "P[0-9]+")
    command("init", "--out", project / "study.yaml", *words, code=0)
    command("init", "--out", "elsewhere/study.yaml", *words, code=0)
    moved = project.rename(tmp_path / "moved")
    assert load(moved / "study.yaml").base.data["mine"].root == str(moved / "mine")
    assert "root: mine" in (moved / "study.yaml").read_text()
    command("check", moved / "study.yaml", code=0)
    assert f"root: {project}/mine" in Path("elsewhere/study.yaml").read_text()


def test_a_data_set_of_others_has_a_study_too(command: Command, tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    image(folder / "imagesTs" / "P9_0_0000.png", 99)
    said = command("init", "--from", folder, "--patient", "(P[0-9]+)_", code=0)
    assert "read as a data set of nnU-Net" in said.out
    assert "part: [training]" in Path("study.yaml").read_text()
    command("check", "study.yaml", code=0)
    assert "15 trials" in command("plan", "study.yaml", code=0).out


def test_a_layout_is_chosen_as_for_import(command: Command, tmp_path: Path) -> None:
    folder = data_set(tmp_path / "set")
    refused = command("init", "--from", folder, "--layout", "nnunnet", code=2)
    assert "--layout nnunnet: accepted are " in refused.err
    assert "--keep-ids is for --patient dicom" in command("init", "--from", folder, "--keep-ids", code=2).err
    assert "init takes either" in command("init", "--template", "smoke", "--layout", "jsrt", code=2).err
    # Images alone, as the folder of no layout: they teach nothing.
    refused = command("init", "--from", folder, "--layout", "none", code=2)
    assert "no image has a mask; give their folder, too: --from IMAGES MASKS" in refused.err
    assert not Path("study.yaml").exists()
    assert not list(folder.rglob("metadata.csv"))


def test_a_study_is_named_for_its_file(command: Command, folder: Path) -> None:
    command("init", "--out", "sub/my lungs.yaml", "--from", folder / "images", folder / "left", code=0)
    assert "study: my_lungs\n" in Path("sub/my lungs.yaml").read_text()
    command("plan", "sub/my lungs.yaml", code=0)


@pytest.mark.parametrize("name", ["2024", "1e3", "null", "x" * 70])
def test_a_folder_may_have_any_name(command: Command, folder: Path, name: str) -> None:
    renamed = folder.rename(folder.with_name(name))
    words = [f"null={renamed / side}" for side in ("left", "right")]  # the name of a structure, too
    command("init", "--from", renamed / "images", *words, "--patient", "P[0-9]+", code=0)
    command("check", "study.yaml", code=0)
    study = load(Path("study.yaml"))
    assert name.startswith(study.base.study)
    assert "structures: ['null']" in Path("study.yaml").read_text()


def test_an_existing_study_stays(command: Command, folder: Path) -> None:
    Path("study.yaml").write_text("mine")
    said = command("init", "--from", folder / "images", folder / "left", code=2)
    assert said.err == "xferlab: study.yaml exists; name another file, or remove it\n"
    assert Path("study.yaml").read_text() == "mine"
    assert not (folder / "metadata.csv").exists()


def test_a_study_is_named_for_its_data_unless_its_file_has_a_name(command: Command, folder: Path) -> None:
    command("init", "--from", folder / "images", folder / "left", code=0)
    assert "study: mine\n" in Path("study.yaml").read_text()


def test_values_of_masks_that_became_structures_are_told(command: Command, folder: Path) -> None:
    words = ("init", "--from", folder / "images", folder / "left")
    assert "note: " not in command(*words, code=0).out
    for path in (folder / "left").iterdir():
        values = np.full((40, 40), 127, np.uint8)
        values[:20] = 255
        Image.fromarray(values).save(path)
    said = command(*words, "--out", "again.yaml", code=0).out
    assert "each is a structure now: structure_127, structure_255. Give them their names" in said


def test_a_written_study_runs_quickly_and_declares_what_its_comments_say(
    command: Command, folder: Path
) -> None:
    command("init", "--from", folder / "images", folder / "left", code=0)
    path = Path("study.yaml")
    assert "6 trials" in command("plan", path, "--profile", "quick", code=0).out
    path.write_text(re.sub("^# (primary|contrasts):", r"\1:", path.read_text(), flags=re.MULTILINE))
    study = load(path)
    assert study.warnings == ()
    assert study.base.primary is not None
    assert len(study.base.contrasts) == 2


def test_a_full_disk_leaves_nothing_that_keeps_the_next_try(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 1

    def sync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", sync)
        said = command("init", "--template", "slurm", "--out", "x", code=2)
    assert re.search(r"^xferlab: x/\S+: cannot be written: No space left on device; free space", said.err)
    assert [path for path in Path("x").rglob("*") if path.is_file()] == []
    command("init", "--template", "slurm", "--out", "x", code=0)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_written_once(command: Command, name: str) -> None:
    told = json.loads(command("init", "--template", name, "--out", "a folder", "--json", code=0).out)
    assert told["study"] == told["files"][0] != ""
    texts = TEMPLATES[name].contents()
    assert {path.removeprefix("a folder/"): Path(path).read_text() for path in told["files"]} == texts
    for file in TEMPLATES[name].files if name != "own-images" else ():
        assert (SHIPPED / file).resolve() == ROOT / file  # what other tests read
    words = [word for word in shlex.split(told["next"]) if word.startswith("a folder/")]
    assert words
    assert all(Path(word).exists() for word in words)

    said = command("init", "--template", name, "--out", "a folder", code=2)
    assert said.err.startswith(f"xferlab: {told['files'][0]}")
    assert "name another folder (--out), or remove" in said.err
    kept, *others = told["files"]
    for other in others:
        Path(other).unlink()
    Path(kept).write_text("mine")
    command("init", "--template", name, "--out", "a folder", code=2)
    assert Path(kept).read_text() == "mine"
    assert not any(Path(other).exists() for other in others)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_study_of_a_template_loads_and_its_next_command_is_printed_last(
    command: Command, name: str
) -> None:
    said = command("init", "--template", name, code=0)
    study = Path(TEMPLATES[name].files[0])
    names = re.findall(r"\$\{(\w+)\}", study.read_text())
    assert load(study, environ=dict.fromkeys(names, "/data")).warnings == ()
    following = said.out.splitlines()[-1].removeprefix("Next: ")
    assert following == TEMPLATES[name].next_command(Path())
    assert "xferlab" not in shlex.split(following)[0] or shlex.split(following)[1] in VERBS


def test_the_job_of_kubernetes_runs_the_study_beside_it(command: Command) -> None:
    command("init", "--template", "k8s", code=0)
    assert "xferlab run /opt/xferlab/jobs/vidal2021.yaml " in Path("jobs/kuberay.yaml").read_text()
    assert "claimName: xferlab-data" in Path("jobs/kuberay.yaml").read_text()


def test_the_template_of_own_images_needs_only_the_images(command: Command, folder: Path) -> None:
    command("init", "--template", "own-images", code=0)
    said = command("check", "study.yaml", code=2)
    assert "chests/metadata.csv:2: " in said.out
    shutil.copytree(folder / "images", "chests/images")
    shutil.copytree(folder / "left", "chests/masks")
    with open("chests/metadata.csv", encoding="utf-8", newline="") as file:
        header, example = csv.reader(file)
    assert header[:3] == ["image", "mask", "patient_id"]
    with open("chests/metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for path in sorted(Path("chests/images").iterdir()):
            row = (f"images/{path.name}", f"masks/{path.stem}_mask.png", path.name[:2], example[3])
            writer.writerow(row)
    command("check", "study.yaml", code=0)
    assert "15 trials" in command("plan", "study.yaml", code=0).out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), r"either --from IMAGES MASKS, .*, or --template NAME: smoke, own-images, slurm, k8s, ci"),
        (("--template", "smoke", "--from", "a", "b"), "either --from"),
        (("--template", "smoke", "--patient", "P"), "either --from"),
        (("--template", "own_images"), r"found 'own_images'; accepted: smoke, .*Did you mean 'own-images'\?"),
        (("--template", "smoke", "--out", "file/below"), r"^xferlab: file exists; name another folder"),
    ],
)
def test_what_is_no_template_is_refused(command: Command, words: tuple[str, ...], what: str) -> None:
    Path("file").write_text("")
    assert re.search(what, command("init", *words, code=2).err)
    assert [path.name for path in Path.cwd().iterdir()] == ["file"]
