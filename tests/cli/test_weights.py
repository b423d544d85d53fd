"""Weights files as people have them: damaged and hostile ones are refused by name, wrapped ones are taken."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import Command
from xferlab.networks.build import build, initialise

pytestmark = pytest.mark.component

KEY = "decoder1.dec1conv1.weight"
STUDY: dict[str, Any] = {
    "study": "given",
    "data": {"a": {"source": "phantom_cxr", "count": 24, "size_px": 32}},
    "model": {"init_features": 2, "image_size": 32},
    "stages": {"donor": {"weights": {"path": "donor.pt"}}, "a": {"data": "a", "starts_from": "donor"}},
    "training": {"device": "cpu", "max_epochs": 1, "patience": 1},
    "arms": {"baseline": {}},
    "repetitions": 1,
}
DONOR_LINE = 12
HOW = ("--image-size", "32", "--intensity", "zscore")


def damaged(state: dict[str, Any]) -> dict[str, Any]:
    value = state[KEY].clone()
    value.view(-1)[0] = float("nan")
    return {**state, KEY: value}


def wrapped(state: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": 7, "state_dict": {f"module.{key}": value for key, value in state.items()}}


@pytest.fixture
def study(command: Command, tmp_path: Path) -> Callable[..., Path]:
    def study(change: Callable[[dict[str, Any]], dict[str, Any]], **changes: Any) -> Path:
        model = build("unet", in_channels=3, out_channels=1, init_features=2)
        initialise(model, 5)
        torch.save(change(model.state_dict()), tmp_path / "donor.pt")
        Image.new("L", (32, 32), 90).save(tmp_path / "image.png")
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
        return path

    return study


@pytest.fixture
def said(command: Command) -> Callable[[Path, int], dict[str, str]]:
    """What check, run and predict say of a study's weights file, which all end with one exit code."""

    def said(path: Path, code: int) -> dict[str, str]:
        check, run = command("check", path), command("run", path, "--executor", "in-process")
        predict = command("predict", path.parent / "donor.pt", "image.png", "--out", "out", *HOW)
        assert (check.code, run.code, predict.code) == (code, code, code)
        return {"check": check.out, "run": run.err, "predict": predict.err}

    return said


def test_a_damaged_donor_is_named_before_any_trial(
    study: Callable[..., Path], said: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    path = study(damaged)
    text = f"{tmp_path}/donor.pt: the tensor '{KEY}' holds 1 of 72 values that are NaN or infinite."
    by_verb = said(path, 2)
    assert f"{path}:{DONOR_LINE}: baseline/a/r01: {text}" in by_verb["check"]
    assert text in by_verb["run"]
    assert text in by_verb["predict"]


def test_weights_from_which_nothing_starts_are_not_looked_for(
    study: Callable[..., Path], command: Command
) -> None:
    stages = {
        **STUDY["stages"],
        "spare": {"weights": "imagenet/resnet18"},
        "other": {"weights": {"path": "no.pt"}},
    }
    path = study(dict, stages=stages)
    assert command("run", path, "--executor", "in-process").code == 0
    check = command("check", path)
    assert check.code == 0
    assert "no stage starts from" in check.out


def test_a_wrapped_donor_is_taken_with_a_line_that_says_so(
    study: Callable[..., Path], said: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    path = study(wrapped)
    notes = [
        f"{tmp_path}/donor.pt: is a training checkpoint; its 'state_dict' is used",
        f"{tmp_path}/donor.pt: all names begin with 'module.', as DataParallel leaves them; it is stripped",
    ]
    by_verb = said(path, 0)
    assert all(f"{path}:{DONOR_LINE}: warning: {note}" in by_verb["check"] for note in notes)
    assert [line for line in by_verb["run"].splitlines() if "donor.pt" in line] == notes
    assert all(note in by_verb["predict"] for note in notes)


def test_all_files_without_weights_are_told_at_once(
    command: Command, study: Callable[..., Path], tmp_path: Path
) -> None:
    path = study(damaged, arms={"baseline": {}, "b": {"stages.donor.weights": {"path": "other.pt"}}})
    for name in ("donor.pt", "other.pt"):
        (tmp_path / name).write_text("not weights")
    run = command("run", path, "--executor", "in-process")
    first, second, total = run.err.splitlines()
    assert run.code == 2
    assert first.startswith(f"{path}:{DONOR_LINE}: {tmp_path}/donor.pt: ")
    assert f": arm 'b': {tmp_path}/other.pt: " in second
    assert total == "2 problems"


def test_weights_that_do_not_fit_are_told_at_the_arm_of_the_trial(
    command: Command, study: Callable[..., Path]
) -> None:
    again = {"stages.donor.weights": {"path": "donor.pt"}}
    path = study(dict, arms={"baseline": {}, "c": {**again, "model.init_features": 4}})
    line = path.read_text().splitlines().index("    stages.donor.weights:") + 1
    run, check = command("run", path, "--executor", "in-process"), command("check", path)
    assert run.code == 2
    for text in (run.err, check.out):
        assert text.startswith(f"{path}:{line}: arm 'c': c/a/r01: ")


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_two(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Stages that start from one file, which two stages give."""
    return {
        "donor": {"weights": {"path": "donor.pt", **first}},
        "again": {"weights": {"path": "donor.pt", **second}},
        "a": {"data": "a", "starts_from": "donor"},
        "b": {"data": "a", "starts_from": "again"},
    }


def test_a_digest_that_one_stage_gives_holds_for_all_that_give_the_file(
    study: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    path = study(dict, stages=of_two({"sha256": "a" * 64}, {}))
    what = f"donor {tmp_path}/donor.pt has SHA-256 {digest_of(tmp_path / 'donor.pt')}; the study gives aaa"
    for verb in (["check"], ["run", "--executor", "in-process"]):
        said = command(verb[0], path, *verb[1:], code=2)
        assert what in said.out + said.err
        assert f"{path}:{DONOR_LINE}: " in said.out + said.err
    path = study(dict, stages=of_two({"sha256": "a" * 64}, {"sha256": "b" * 64}))
    said = command("plan", path, code=2)
    assert f"donor.pt has SHA-256 {'a' * 64} in one stage or arm and {'b' * 64} in this one" in said.err


def test_a_file_whose_digest_the_study_gives_may_go_once_the_storage_has_it(
    study: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    study(dict)
    digest = digest_of(tmp_path / "donor.pt")
    path = study(dict, stages=of_two({"sha256": digest}, {}))
    run = ("run", path, "--executor", "in-process")
    command(*run, code=0)
    (tmp_path / "donor.pt").unlink()
    for words in (run, ("check", path), ("plan", path)):
        command(*words, code=0)
    assert "2 trials (2 complete" in command("plan", path).out
    path.write_text(path.read_text().replace(digest, "a" * 64))
    assert "donor.pt: there is no such file; correct `weights.path`" in command("plan", path, code=2).err


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.victim),)


def torch_file(victim: Path, *, as_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1), "x": Harm(victim)}, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def numpy_file(victim: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Harm(victim)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FILES: dict[str, Callable[[Path], bytes]] = {
    "zip.pt": lambda victim: torch_file(victim, as_zip=True),
    "old.pt": lambda victim: torch_file(victim, as_zip=False),
    "bare.pth": lambda victim: pickle.dumps(Harm(victim), protocol=2),
    "array.npy": numpy_file,
    "array.pt": numpy_file,
    "pickle.safetensors": lambda victim: pickle.dumps({"w": Harm(victim)}),
    "zip.safetensors": lambda victim: torch_file(victim, as_zip=True),
}


HARMFUL: dict[str, Callable[[Path], Any]] = {
    "bare.pth": lambda path: pickle.loads(path.read_bytes()),
    "array.npy": lambda path: np.load(path, allow_pickle=True),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_weights_are_refused_and_do_not_run(command: Command, tmp_path: Path, name: str) -> None:
    victim, weights = tmp_path / "victim", tmp_path / name
    weights.write_bytes(FILES[name](victim))
    Image.new("L", (32, 32), 90).save(tmp_path / "image.png")
    study = {**STUDY, "stages": {**STUDY["stages"], "donor": {"weights": {"path": name}}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    asked = [
        command("predict", weights, tmp_path / "image.png", "--out", tmp_path / "out", *HOW),
        command("check", tmp_path / "study.yaml"),
        command("run", tmp_path / "study.yaml", "--executor", "in-process", "--storage", tmp_path / "s"),
    ]
    assert [one.code for one in asked] == [2, 2, 2], asked
    assert all(name in one.out + one.err for one in asked)
    assert not any("Traceback" in one.err for one in asked)
    assert not victim.exists()
    if name in HARMFUL:  # the files do harm where they are trusted
        HARMFUL[name](weights)
        assert victim.is_dir()
