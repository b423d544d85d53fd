"""What all phantoms promise: pure functions of their arguments, and the same picture at every size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xferlab.phantoms import BRAIN_LABELS, CHEST_LABELS, PATHOLOGIES, Phantom, brain_mri, chest_xray

Draw = Callable[..., Phantom]


def chest(pathology: str) -> Draw:
    return lambda **arguments: chest_xray(pathology=pathology, **arguments)


KINDS: dict[str, Draw] = {"brain": brain_mri, **{pathology: chest(pathology) for pathology in PATHOLOGIES}}


@pytest.fixture(params=KINDS)
def draw(request: pytest.FixtureRequest) -> Draw:
    return KINDS[request.param]


def test_the_order_of_drawing_does_not_matter(draw: Draw) -> None:
    first = draw(seed=1, index=5, size_px=64)
    draw(seed=1, index=3, size_px=64)
    second = draw(seed=1, index=5, size_px=64)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


def test_every_index_seed_and_pathology_is_another_picture() -> None:
    pictures = [
        draw(seed=seed, index=index, size_px=32).image.tobytes()
        for draw in KINDS.values()
        for seed in (0, 1)
        for index in range(4)
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("size_px", [16, 50, 64, 96])
@pytest.mark.parametrize(("kind", "channels"), [("brain", (3,)), ("normal", ())])
def test_shapes_dtypes_and_values(kind: str, channels: tuple[int, ...], size_px: int) -> None:
    phantom = KINDS[kind](seed=0, index=1, size_px=size_px)
    assert phantom.image.shape == (size_px, size_px, *channels)
    assert phantom.labels.shape == (size_px, size_px)
    assert phantom.image.dtype == phantom.labels.dtype == np.uint8
    accepted = BRAIN_LABELS.values() if kind == "brain" else range(sum(CHEST_LABELS.values()) + 1)
    assert set(np.unique(phantom.labels).tolist()) <= set(accepted)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", ["brain", "covid19"])
def test_the_picture_is_the_same_at_every_size(kind: str, index: int) -> None:
    large, small = (KINDS[kind](seed=4, index=index, size_px=size_px) for size_px in (256, 64))
    averaged = large.image.reshape(64, 4, 64, 4, -1).mean((1, 3))
    assert np.corrcoef(averaged.ravel(), small.image.ravel())[0, 1] > 0.95
    shrunk = (large.labels > 0).reshape(64, 4, 64, 4).mean((1, 3)) > 0.5
    common = np.sum(shrunk & (small.labels > 0))
    assert 2 * common >= 0.95 * (shrunk.sum() + np.sum(small.labels > 0))
