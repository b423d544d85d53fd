"""Kernels that a process compiled for earlier trials change no later one."""

from __future__ import annotations

import pytest

from tests.studies import TINY
from tests.trial.conftest import GENERAL, Make, quick

pytestmark = [
    pytest.mark.slow,  # a minute of compiling
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # PyTorch's compiler uses it itself
]

OTHER = "a/general/r02"


def test_compiled_trials_are_equal_in_any_order_and_when_they_are_resumed(bench: Make) -> None:
    # The last batch of an epoch is larger than the others.
    changes = {
        "data": {**TINY["data"], "general": {"source": "phantom_cxr", "count": 72, "seed": 1, "size_px": 64}},
        "model": {"init_features": 4, "image_size": 64},
        "training": quick(compile=True, max_epochs=3, batch_size=8),
    }
    plain = bench(storage="plain", **changes).ran(GENERAL, OTHER)
    again = bench(storage="again", **changes).ran(OTHER)
    again.run_in_pieces(GENERAL, batches=2)
    assert again.records == plain.records
