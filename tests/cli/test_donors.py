"""Weights files as people have them: damaged ones are named with file and tensor, wrapped ones are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from tests.cli.conftest import Command
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
def study(tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Path]:
    def study(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        model = build("unet", in_channels=3, out_channels=1, init_features=2)
        initialise(model, 5)
        torch.save(change(model.state_dict()), tmp_path / "donor.pt")
        Image.new("L", (32, 32), 90).save(tmp_path / "image.png")
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
        return path

    return study


def test_a_damaged_donor_is_named_before_any_trial(
    command: Command, study: Callable[..., Path], tmp_path: Path
) -> None:
    path = study(damaged)
    check = command("check", path)
    text = f"{tmp_path}/donor.pt: the tensor '{KEY}' holds 1 of 72 values that are NaN or infinite."
    assert check.code == 2
    assert f"{path}:{DONOR_LINE}: baseline/a/r01: {text}" in check.out
    run = command("run", path, "--executor", "in-process")
    assert (run.code, text in run.err) == (2, True)
    predict = command("predict", "donor.pt", "image.png", "--out", "out", *HOW)
    assert (predict.code, "donor.pt: the tensor" in predict.err) == (2, True)


def test_all_files_without_weights_are_told_at_once(
    command: Command, study: Callable[..., Path], tmp_path: Path
) -> None:
    path = study(damaged)
    (tmp_path / "donor.pt").write_text("not weights")
    (tmp_path / "other.pt").write_text("neither")
    arms = {"baseline": {}, "b": {"stages.donor.weights": {"path": "other.pt"}}}
    path.write_text(yaml.safe_dump({**STUDY, "arms": arms}, sort_keys=False))
    run = command("run", path, "--executor", "in-process")
    first, second, total = run.err.splitlines()
    assert run.code == 2
    assert first.startswith(f"{path}:{DONOR_LINE}: {tmp_path}/donor.pt: ")
    assert ": arm 'b': " in second
    assert f"{tmp_path}/other.pt: " in second
    assert total == "2 problems"


def test_weights_that_do_not_fit_are_told_at_the_arm_of_the_trial(
    command: Command, study: Callable[..., Path], tmp_path: Path
) -> None:
    path = study(dict)
    again = {"stages.donor.weights": {"path": "donor.pt"}}
    arms = {"baseline": {}, "c": {**again, "model.init_features": 4}}
    path.write_text(yaml.safe_dump({**STUDY, "arms": arms}, sort_keys=False))
    run = command("run", path, "--executor", "in-process")
    line = path.read_text().splitlines().index("    stages.donor.weights:") + 1
    told = f"{path}:{line}: arm 'c': c/a/r01: "
    assert run.code == 2
    assert run.err.startswith(told)
    assert command("check", path).out.startswith(told)


def test_a_wrapped_donor_is_taken_with_a_line_that_says_so(
    command: Command, study: Callable[..., Path], tmp_path: Path
) -> None:
    path = study(wrapped)
    told = [
        f"{tmp_path}/donor.pt: is a training checkpoint; its 'state_dict' is used",
        f"{tmp_path}/donor.pt: all names begin with 'module.', as DataParallel leaves them; it is stripped",
    ]
    check = command("check", path)
    assert check.code == 0
    assert all(f"{path}:{DONOR_LINE}: warning: {line}" in check.out for line in told)
    run = command("run", path, "--executor", "in-process")
    assert (run.code, [line for line in run.err.splitlines() if "donor.pt" in line]) == (0, told)
    predict = command("predict", tmp_path / "donor.pt", "image.png", "--out", "out", *HOW)
    assert (predict.code, all(line in predict.err for line in told)) == (0, True)
