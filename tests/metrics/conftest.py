"""Images that the tests of all metrics share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

Output = NDArray[np.float32]
Mask = NDArray[np.bool_]


@pytest.fixture(params=range(4))
def scored(request: pytest.FixtureRequest) -> tuple[Output, Mask]:
    """Output and target of two ellipses: blurred, noisy, full of ties, in an image that is not square."""
    rng = np.random.default_rng(request.param)
    rows, columns = np.mgrid[:40, :56]
    centre = rng.uniform(-3, 3, size=2)
    target = (((rows - 20) / 15) ** 2 + ((columns - 15) / 9) ** 2 < 1) | (
        ((rows - 19) / 14) ** 2 + ((columns - 41) / 8) ** 2 < 1
    )
    shifted = np.roll(target, centre.astype(int), axis=(0, 1))
    logits = 3.0 * shifted - 1.5 + rng.normal(scale=1.0, size=target.shape)
    return np.round(1 / (1 + np.exp(-logits)), 2).astype(np.float32), target


@pytest.fixture
def ignored() -> Mask:
    """A block to ignore, over one of the ellipses and over background."""
    mask = np.zeros((40, 56), dtype=bool)
    mask[5:18, 10:30] = True
    return mask
