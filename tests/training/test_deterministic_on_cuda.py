"""Steps, predictions and saliency use nothing that PyTorch refuses on CUDA where it is to be deterministic.

CUDA is not needed: what a step asks of PyTorch is the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tasks.classification import learners as classification
from tests.tasks.classification.test_contract import INSIDE
from tests.tasks.segmentation import learners as segmentation
from tests.tasks.translation import learners as translation
from tests.training.images import STRONG, noisy, resized
from xferlab.networks.build import NETWORKS, build
from xferlab.networks.vgg import averaged
from xferlab.training.learner import AugmentationSeed, Learner

REFUSED = {
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "bincount", "embedding_bag",
    "fractional_max_pool2d_backward", "grid_sampler_2d_backward", "histc", "kthvalue", "max_unpool2d",
    "median", "nll_loss2d_forward", "nll_loss_forward", "put_", "reflection_pad2d_backward",
    "upsample_bicubic2d_backward", "upsample_bilinear2d_backward", "upsample_linear1d_backward",
}  # fmt: skip
"""Those of the list in `torch.use_deterministic_algorithms` that two dimensions have, by their names in ATen,
and one that waits for the device. Sums of floating-point numbers one after the other are another."""


class Seen(TorchDispatchMode):
    """Notes what is asked of PyTorch that it would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in REFUSED or (name == "cumsum" and args[0].is_floating_point()):
            self.refused.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def seen() -> Iterator[Seen]:
    torch.use_deterministic_algorithms(mode=True)
    try:
        with Seen() as mode:
            yield mode
    finally:
        torch.use_deterministic_algorithms(mode=False)


def test_what_is_refused_is_noticed(seen: Seen) -> None:
    values = torch.rand(1, 1, 8, 8, requires_grad=True)
    F.adaptive_avg_pool2d(values, 3).sum().backward()
    F.interpolate(values, scale_factor=2, mode="bilinear").sum().backward()
    torch.rand(3).cumsum(dim=0)
    torch.ones(3, dtype=torch.int64).cumsum(dim=0)
    assert seen.refused == {"_adaptive_avg_pool2d_backward", "upsample_bilinear2d_backward", "cumsum"}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_asks_for_it(name: str, seen: Seen) -> None:
    network = build(name, in_channels=1, out_channels=2)
    network(torch.rand(2, 1, 96, 96)).square().mean().backward()
    assert seen.refused == set()


def assert_nothing_refused(learner: Learner[Any, Any], examples: Any, seen: Seen) -> None:
    learner.prepare(examples)
    learner.begin_epoch(1)
    for rows in learner.batches(examples, 1):
        learner.train_step(learner.load(examples, rows, AugmentationSeed(1, 1)))
    learner.validate(examples)
    assert seen.refused == set()


@pytest.mark.parametrize(
    "training",
    [
        {"augmentation": vars(STRONG), "rotation": {"degrees": 9, "probability": 1}},
        {"loss": "cross_entropy", "intensity": "equalise"},
        {"loss": "focal_tversky", "intensity": "minmax"},
    ],
)
def test_no_step_of_a_segmentation_asks_for_it(training: dict[str, Any], seen: Seen) -> None:
    assert_nothing_refused(segmentation.make(**training), resized(*noisy(4, 16)), seen)


@pytest.mark.parametrize("side", [classification.SIDE, 160])
def test_no_step_or_map_of_a_classification_asks_for_it(side: int, seen: Seen) -> None:
    learner = classification.make(model={"image_size": side}, masks=INSIDE, sampling="balanced")
    examples = classification.examples(masks=True, side=side)
    assert_nothing_refused(learner, examples, seen)
    learner.predict(learner.load(examples, np.arange(2), None))
    assert seen.refused == set()


FIRST_COUNTS = {
    **translation.SEGMENTER,
    "out_channels": 2,
    "is_exclusive": True,
    "first_counts": True,
    "intensity": "equalise",
}


@pytest.mark.parametrize("segmenter", [translation.SEGMENTER, FIRST_COUNTS])
def test_no_step_of_a_translation_asks_for_it(segmenter: dict[str, Any], seen: Seen) -> None:
    assert_nothing_refused(translation.make(segmenter=segmenter), translation.examples(), seen)


@pytest.mark.parametrize("size", [(7, 7), (5, 12), (10, 13), (14, 6)])
@pytest.mark.parametrize("is_short", [False, True])
def test_means_over_parts_are_those_of_the_adaptive_pooling(size: tuple[int, int], is_short: bool) -> None:
    values, slope = torch.rand(2, 3, *size, requires_grad=True), torch.rand(2, 3, 7, 7)
    expected = F.adaptive_avg_pool2d(values, 7)
    (expected_slope,) = torch.autograd.grad((expected * slope).sum(), values)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_short):
            found = averaged(values, 7)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad((found * slope).sum(), values)[0], expected_slope)
