"""Given weights of any bytes are a state dict or a DonorError that names the file; no code in them runs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.fuzz.mutations import feed, mutated
from xferlab.errors import DonorError
from xferlab.networks.donors import read_weights

STATE = {"a.weight": torch.arange(6.0), "a.num": torch.tensor(3)}


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


ORIGINALS = {
    "w.pt": [saved(STATE), saved({"state_dict": STATE, "epoch": 3})],
    "w.safetensors": [safetensors.torch.save(STATE)],
}


@pytest.mark.component
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("name", ORIGINALS)
def test_weights(name: str, examples: int) -> None:
    def read(data: bytes) -> bool:
        try:
            state = read_weights(Path(name), data)
        except DonorError as error:
            told = str(error)
        else:
            assert all(isinstance(value, torch.Tensor) for value in state.values())
            return True
        assert told.startswith(name)
        return False

    assert all(read(original) for original in ORIGINALS[name])
    feed(mutated(ORIGINALS[name]), read, examples=examples, accepts=False)
