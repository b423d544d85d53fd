"""On a CUDA device: equal bytes with the deterministic option, agreement with the CPU within a tolerance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.end_to_end.classified import PATCHED, fields
from tests.studies import TINY, recorded, write_study
from tests.training.images import STRONG, digests, noisy
from tests.training.learners import copied, same
from xferlab.cli.main import main
from xferlab.errors import NonFiniteLossError
from xferlab.networks.build import initialise
from xferlab.networks.cyclegan import Generator, PatchDiscriminator
from xferlab.networks.dropout import Dropout, reseed
from xferlab.networks.munit import DESIGNS, AutoEncoder, MultiScaleDiscriminator
from xferlab.networks.segnet import unpooled
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.tasks.classification.patches import Boxes, Places
from xferlab.tasks.segmentation.resized import ImageBatch, ResizedSegmentation
from xferlab.training.augment import rotate
from xferlab.training.degradation import degrade
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.precision import float32
from xferlab.training.randomness import case_keys
from xferlab.training.step import Optimisation, Stepper
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


def test_a_densenet_and_patches_of_its_masks_give_equal_bytes(tmp_path: Path) -> None:
    changes = fields(repetitions=1, arms={"patches": PATCHED})
    training = {**changes["training"], "device": "cuda"}
    study = write_study(tmp_path, **{**changes, "training": training})
    for storage in ("first", "second"):
        words = ["--executor", "in-process", "--storage", str(tmp_path / storage)]
        assert main(["run", str(study), *words]) == 0
    assert recorded(tmp_path / "first") == recorded(tmp_path / "second")


def test_patches_are_the_same_on_both_devices() -> None:
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.integers(0, 256, (3, 1, 96, 96), np.uint8))
    masks, numbers = rng.random((3, 24, 24)) > 0.7, rng.random((3, 20, 2))
    cut = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        places = Places(masks, side=96, device=device)
        centres = places.centres(np.arange(3), numbers, apart=False)
        boxes = Boxes.around(centres, size_px=32, side=96)
        inside = boxes.inside(places.masks, places.lines)
        cut.append([value.cpu() for value in (centres, boxes.pixels(images.to(device)), inside)])
    assert all(map(torch.equal, *cut))


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
    result, labels = rotate(images.cuda(), targets.cuda(), angles)
    assert torch.allclose(result.cpu(), expected, atol=1e-4)
    assert (labels.cpu() != moved).float().mean() < 1e-3


@pytest.mark.parametrize("intensity", ["zscore", "minmax", "equalise"])
def test_augmentation_is_the_same_on_both_devices_with_deterministic_algorithms(intensity: str) -> None:
    images, _ = noisy(12, 32)
    keys = case_keys(digests(range(12)))

    def prepared(device: str) -> torch.Tensor:
        raw = torch.from_numpy(images).to(device)
        return normalise(degrade(raw, keys, STRONG, AugmentationSeed(1, 1)), intensity).cpu()

    torch.use_deterministic_algorithms(True)
    try:
        difference = prepared("cuda") - prepared("cpu")
    finally:
        torch.use_deterministic_algorithms(False)
    # A grey level here and there may be rounded the other way.
    assert float(difference.abs().mean()) < 1e-3


@pytest.mark.parametrize(
    "make",
    [
        Generator,
        PatchDiscriminator,
        partial(AutoEncoder, DESIGNS["munit_small"]),
        partial(MultiScaleDiscriminator, DESIGNS["munit"]),
    ],
)
def test_networks_that_translate_have_deterministic_gradients(make: Callable[[], torch.nn.Module]) -> None:
    def gradients() -> dict[str, torch.Tensor]:
        network = make().cuda()
        initialise(network, 1)
        images = torch.rand(2, 1, 96, 96, generator=torch.Generator().manual_seed(1)).cuda().requires_grad_()
        output = network(images)
        maps = output if isinstance(output, tuple) else (output,)
        torch.stack([scores.square().mean() for scores in maps]).sum().backward()
        return {"images": images.grad, **{name: value.grad for name, value in network.named_parameters()}}

    torch.use_deterministic_algorithms(True)
    try:
        assert same(gradients(), gradients())
    finally:
        torch.use_deterministic_algorithms(False)


def test_unpooling_runs_with_deterministic_algorithms_and_is_the_same_on_both_devices() -> None:
    values = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for device in ("cpu", "cuda"):
            below = values.to(device).requires_grad_()
            above = unpooled(*torch.nn.functional.max_pool2d(below, 2, return_indices=True))
            above.square().sum().backward()
            assert below.grad is not None
            found.append((above.detach().cpu(), below.grad.cpu()))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, *found))


def test_no_step_follows_a_loss_that_is_not_finite() -> None:
    model = torch.nn.Linear(3, 1).cuda()
    stepper, inputs = Stepper(model, Optimisation(lr=0.1)), torch.ones(4, 3).cuda()
    stepper(model(inputs).square().mean())
    before = copied(model)
    for factor in (float("nan"), 1.0):
        stepper(model(inputs).square().mean() * factor)
    assert same(copied(model), before)
    with pytest.raises(NonFiniteLossError, match="training loss became nan in epoch 1"):
        stepper.check("in epoch 1")


def test_dropout_draws_the_same_again() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), Dropout(0.5)).cuda()
    drawn = []
    for batch in (0, 1, 0):
        reseed(network, seed=1, epoch=1, batch=batch)
        drawn.append(network[1](torch.ones(64).cuda()))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("tf32", [False, True])
def test_a_prediction_in_float32_agrees_with_float64(*, tf32: bool) -> None:
    """cuDNN rounds to TF32 by default, which errs by 1e-4 or more; so may the training around it."""
    model = torch.nn.Conv2d(64, 1, kernel_size=3, padding=1).cuda().eval()
    images = torch.randn(4, 64, 64, 64, generator=torch.Generator().manual_seed(1)).cuda()
    view, nothing = ResizedSegmentation(in_channels=64), torch.zeros(4, 1, 64, 64).cuda()
    with float32(tf32=tf32):
        result = view.predict(model, ImageBatch(images, nothing, nothing))
    exact = torch.sigmoid(model.double()(images.double()))[:, 0].detach().cpu().numpy()
    assert np.abs(result / exact - 1).max() < 1e-6


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
