"""Arrays on their way to the device, without waiting for what it has to do before."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch


def uploaded(values: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Returns values on a device; on the CPU they share their memory.

    On CUDA the copy stands in line behind the work that the device was given before. The host goes on after
    small ones; for large ones (more than some 64 KiB) the driver may wait until it has read them. It has read
    the values when this returns, so they may be changed or deleted; of values in page-locked memory that
    would not be true.
    """
    host = values if isinstance(values, torch.Tensor) else torch.from_numpy(values)
    return host.to(device, non_blocking=True)
