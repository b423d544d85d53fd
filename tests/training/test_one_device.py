"""What is computed on CUDA stays there, and steps and batches of validation do not wait for it.

CUDA is not needed: the device is pretended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.classification import learners as classification
from tests.tasks.classification.test_contract import DROPOUT, INSIDE
from tests.tasks.segmentation import learners as segmentation
from tests.tasks.translation import learners as translation
from tests.training.images import CPU, STRONG, images_of, native, noisy, resized
from tests.training.pretended import CUDA, pretended
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import learner_of
from xferlab.training.learner import AugmentationSeed, Learner
from xferlab.training.sets import predicted_of

Cases = Callable[[torch.device], Any]

AUGMENTED = {"augmentation": vars(STRONG), "rotation": {"degrees": 9, "probability": 1}}
PATCHES = {"patches": {"size_px": 32, "number": 2, "validation": 1}}
TILES = {"size": 32, "overlap": 0.25, "hit": 0.5}
SIZES = [(40, 48), (33, 50), (48, 48), (40, 40), (50, 33), (36, 36)]


def fixed(device: torch.device) -> Any:
    return resized(*noisy(6, 16), device=device)


def own(device: torch.device) -> Any:
    return native(images_of(SIZES), device=device)


def labelled(device: torch.device) -> Any:
    return classification.examples(masks=True, device=device)


def two(device: torch.device) -> Any:
    return translation.examples(device=device)


CASES: dict[str, tuple[Callable[[], TrialIdentity], Cases]] = {
    "resized": (partial(segmentation.identity, **AUGMENTED), fixed),
    "equalised": (partial(segmentation.identity, intensity="equalise"), fixed),
    "dropout": (partial(segmentation.identity, model={"name": "unet_dropout"}), fixed),
    "native": (partial(segmentation.identity, model={"image_size": "native"}, **AUGMENTED), own),
    "still": (partial(segmentation.identity, model={"image_size": "native"}), own),
    "tiled": (
        partial(segmentation.identity, model={"image_size": "native", "tiles": TILES}, **AUGMENTED),
        own,
    ),
    "masked": (partial(classification.identity, masks=INSIDE, model={"head": DROPOUT}), labelled),
    "patches": (partial(classification.identity, masks=INSIDE, model=PATCHES), labelled),
    "translation": (translation.identity, two),
}


@pytest.fixture
def waits() -> Iterator[list[str]]:
    with pretended() as waits:
        yield waits


def prepared(name: str, *, device: torch.device = CUDA, batch_size: int = 2) -> tuple[Learner[Any, Any], Any]:
    """A learner in its first epoch, and what it learns from."""
    identity, cases = CASES[name]
    learner, examples = learner_of(identity(batch_size=batch_size), device), cases(device)
    learner.prepare(examples)
    learner.begin_epoch(1)
    return learner, examples


def test_what_mixes_devices_fails_and_what_waits_is_noted(waits: list[str]) -> None:
    host = torch.from_numpy(np.ones((1, 1, 8, 8), np.float32))
    there, layer = host.to(CUDA, non_blocking=True), torch.nn.Conv2d(1, 2, 3)
    assert (host.device, there.device, waits) == (CPU, CUDA, [])
    for mixed in (
        lambda: host + there,
        lambda: layer(there),
        lambda: torch.ones(3, device=CUDA) + torch.ones(3),
    ):
        with pytest.raises(RuntimeError, match="of two devices"):
            mixed()
    with pytest.raises(TypeError, match="no array"):
        there.numpy()
    with pytest.raises(RuntimeError, match="another device"):
        torch.rand(3, device=CUDA, generator=torch.Generator())
    layer.to(CUDA)
    waits.clear()
    output = layer(there).mean()
    output.backward()
    assert (layer.weight.grad.device, waits) == (CUDA, [])
    assert float(output.detach()) == output.detach().cpu().numpy()
    assert waits == ["aten._local_scalar_dense.default", "a copy to the CPU"]
    for read in (float, bool, torch.Tensor.tolist, torch.Tensor.nonzero, lambda value: value[value > 0]):
        for mode in (torch.inference_mode, torch.no_grad):
            waits.clear()
            with mode():
                read(there.mean())
            assert len(waits) == 1, (read, mode)


@pytest.mark.parametrize("name", CASES)
def test_no_step_waits_for_the_device(name: str, waits: list[str]) -> None:
    learner, examples = prepared(name)
    steps = []
    for rows in learner.batches(examples, 1):
        waits.clear()
        learner.train_step(learner.load(examples, rows, AugmentationSeed(1, 1)))
        steps.append(list(waits))
    assert len(steps) > 1
    assert not any(steps[1:])  # the first fetches what all need


@pytest.mark.parametrize("name", CASES)
def test_no_batch_of_validation_waits_for_the_device(name: str, waits: list[str]) -> None:
    found = []
    for batch_size in (1, 6):
        learner, examples = prepared(name, batch_size=batch_size)
        learner.validate(examples)
        waits.clear()
        learner.validate(examples)
        found.append(list(waits))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CASES)
def test_steps_and_predictions_are_those_of_the_cpu(name: str, waits: list[str]) -> None:
    found = []
    for device in (CPU, CUDA):
        learner, examples = prepared(name, device=device)
        for rows in learner.batches(examples, 1):
            losses = learner.train_step(learner.load(examples, rows, AugmentationSeed(1, 1)))
        predictions = learner.predict(learner.load(predicted_of(examples), np.arange(2), None))
        values = [*map(float, losses.values()), *learner.validate(examples).values()]
        found.append([np.array(values), *map(np.asarray, predictions)])
    for own, expected in zip(*found, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)
