"""On a CUDA device: equal bytes with the deterministic option, agreement with the CPU within a tolerance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.studies import TINY, recorded, write_study
from xferlab.cli.main import main
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageBatch
from xferlab.training.augment import rotate
from xferlab.training.precision import float32
from xferlab.trial.failure import Kind, described, on_device

pytestmark = pytest.mark.gpu

LOSS_TOLERANCE = 0.02
"""Of a tiny network's losses over four epochs between CPU and CUDA, float32: what the README promises."""


def run(folder: Path, storage: str, **training: object) -> Path:
    """Runs the tiny study in-process and returns its storage."""
    study = write_study(folder, training={**TINY["training"], **training})
    assert main(["run", str(study), "--executor", "in-process", "--storage", str(folder / storage)]) == 0
    return folder / storage


def losses(storage: Path) -> np.ndarray:
    """Training and validation losses of all trials in name order, (trials, epochs, 2)."""
    store = Store.open(storage)
    plan = reader.read_plan(store, "tiny")
    histories = [reader.read_history(store, trial["trial_id"]) for trial in plan["trials"]]
    return np.array(
        [
            [(one.values["train_loss"], one.values["validation_loss"]) for one in history]
            for history in histories
        ]
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_deterministic_runs_give_equal_bytes(tmp_path: Path, precision: str) -> None:
    first = run(tmp_path, "first", device="cuda", precision=precision)
    second = run(tmp_path, "second", device="cuda", precision=precision)
    assert recorded(first) == recorded(second)


def test_cuda_agrees_with_the_cpu(tmp_path: Path) -> None:
    on_cpu = run(tmp_path, "cpu", device="cpu", precision="float32")
    on_cuda = run(tmp_path, "cuda", device="cuda", precision="float32")
    assert np.abs(losses(on_cpu) - losses(on_cuda)).max() < LOSS_TOLERANCE


def test_facts_of_the_run_name_the_device(tmp_path: Path) -> None:
    storage = run(tmp_path, "facts", device="cuda")
    facts = [json.loads(path.read_text()) for path in storage.glob("trials/*/run.json")]
    assert {one["device"] for one in facts} == {"cuda"}
    assert {one["device_name"] for one in facts} == {torch.cuda.get_device_name()}
    assert all(one["memory_peak_gib"] > 0 and one["network_ms_per_image"]["mean"] > 0 for one in facts)


def test_rotation_is_the_same_on_both_devices() -> None:
    images = torch.rand(4, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    targets = (images > 0.5).float()
    angles = np.array([0.0, 7.0, -9.5, 3.0])
    expected, moved = rotate(images, targets, angles)
    found, labels = rotate(images.cuda(), targets.cuda(), angles)
    assert torch.allclose(found.cpu(), expected, atol=1e-4)
    assert (labels.cpu() != moved).float().mean() < 1e-3


@pytest.mark.parametrize("tf32", [False, True])
def test_a_prediction_in_float32_agrees_with_float64(*, tf32: bool) -> None:
    """cuDNN rounds to TF32 by default, which errs by 1e-4 or more; so may the training around it."""
    model = torch.nn.Conv2d(64, 1, kernel_size=3, padding=1).cuda().eval()
    images = torch.randn(4, 64, 64, 64, generator=torch.Generator().manual_seed(1)).cuda()
    view, nothing = BinarySegmentation(in_channels=64), torch.zeros(4, 1, 64, 64).cuda()
    with float32(tf32=tf32):
        found = view.predict(model, ImageBatch(images, nothing, nothing))
    exact = torch.sigmoid(model.double()(images.double()))[:, 0].detach().cpu().numpy()
    assert np.abs(found / exact - 1).max() < 1e-6


def test_a_step_in_tf32_is_rounded_and_one_in_float32_is_not() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device has no TF32")
    model = torch.nn.Conv2d(64, 64, kernel_size=3).cuda()
    images = torch.randn(4, 64, 64, 64, generator=torch.Generator().manual_seed(1)).cuda()
    errors = []
    for tf32 in (False, True):
        with float32(tf32=tf32):
            errors.append(model(images).double())
    exact = model.double()(images.double())
    plain, rounded = (float((one - exact).abs().max() / exact.abs().max()) for one in errors)
    assert plain < 1e-6 < 1e-5 < rounded


def test_want_of_device_memory_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    failure = described(caught.value, epoch=0)
    assert failure["kind"] == Kind.MEMORY
    assert on_device(failure)


BROKEN = """
import torch
from xferlab.trial.failure import described
try:
    torch.zeros(2, device="cuda")[torch.tensor([7], device="cuda")].cpu()
except RuntimeError as error:
    print(described(error, epoch=0)["kind"])
"""


def test_a_broken_device_is_known_as_such() -> None:
    """In a process of its own, which no kernel can be started in afterwards."""
    said = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [Kind.DEVICE.value]
