"""State dicts as other programs leave them: inside a checkpoint, under a wrapper's names, or damaged."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from xferlab.errors import DonorError

Note = Callable[[str], None]
"""Takes a sentence about what was done to weights on the way in."""

CHECKPOINT_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params",
)  # fmt: skip
"""Under which training programs keep a network's state dict in a checkpoint."""

WRAPPERS: Mapping[str, str] = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
"""What wrappers put before every name, and who does."""

UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, ArithmeticError,
)  # fmt: skip
"""What `torch.load` raises where bytes are no state: a damaged pickle calls functions with odd arguments."""

RUNNING_MEAN, _RUNNING_VARIANCE, COUNTER = "running_mean", "running_var", "num_batches_tracked"
"""How batch normalisation's statistics, and its number of batches, are called in state dicts."""


def silent(sentence: str) -> None:
    """A `Note` that does nothing."""


def unwrapped(state: object, *, origin: str, note: Note = silent) -> object:
    """Returns the state dict that a checkpoint holds, under the names of the bare network.

    What is neither a checkpoint nor wrapped is returned as it is.

    Args:
        state: What a file holds.
        origin: The file, for messages.
        note: Called with what was taken out, and which prefix was stripped.

    Raises:
        DonorError: A checkpoint holds several state dicts.
    """
    return _without_prefixes(_of_checkpoint(state, origin, note), origin, note)


def check_usable(state: Mapping[str, Tensor], *, origin: str) -> None:
    """Refuses weights from which no network can be trained or run.

    Raises:
        DonorError: A tensor holds NaN, infinity or a negative variance, or is no plain tensor in memory.
    """
    damaged = [(key, what) for key, value in state.items() if (what := _damage(key, value))]
    if damaged:
        key, what = damaged[0]
        more = f", and {len(damaged) - 1} more tensors are damaged" if len(damaged) > 1 else ""
        raise DonorError(
            f"{origin}: the tensor {key!r} {what}{more}. No training can start from such weights: use a "
            "sound copy of them, or train them again."
        )


def _of_checkpoint(state: object, origin: str, note: Note) -> object:
    if not isinstance(state, dict):
        return state
    inner = [key for key in CHECKPOINT_KEYS if _is_state_dict(state.get(key))]
    if not inner:
        return state
    if len(inner) > 1:
        raise DonorError(
            f"{origin}: is a checkpoint with several state dicts ({', '.join(inner)}); save the one that is "
            "meant in a file of its own"
        )
    note(f"{origin}: is a training checkpoint; its {inner[0]!r} is used")
    return state[inner[0]]


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, dict) and bool(value) and all(isinstance(item, Tensor) for item in value.values())
    )


def _without_prefixes(state: object, origin: str, note: Note) -> object:
    while isinstance(state, dict) and state:
        prefix = next((name for name in WRAPPERS if all(str(key).startswith(name) for key in state)), None)
        if prefix is None:
            break
        note(f"{origin}: all names begin with {prefix!r}, as {WRAPPERS[prefix]} leaves them; it is stripped")
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _damage(key: str, value: Tensor) -> str:
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        return "is sparse, quantized or without values"
    if not value.is_floating_point() or not value.numel():
        return ""
    number = int((~torch.isfinite(value.float())).sum())
    if number:
        return f"holds {number} of {value.numel()} values that are NaN or infinite"
    if key.endswith(_RUNNING_VARIANCE) and float(value.min()) < 0:
        return "holds negative variances"
    return ""
