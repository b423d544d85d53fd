"""The link between data sections and the device simulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def simulation_recipe(name: str) -> dict[str, object]:
    """Returns what identifies the simulation `name` within a case digest."""
    from xferlab.phantoms.device import DEVICE_VERSION

    return {"name": name, "version": DEVICE_VERSION}


def simulate(
    image: NDArray[np.uint8], target: NDArray[np.uint8], *, seed: int, key: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns image and target `(H, W)` as a portable device would have taken them."""
    from xferlab.phantoms.device import simulate_portable

    return simulate_portable(image, target, seed=seed, key=key)
