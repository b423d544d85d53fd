"""Weights as other programs leave them are taken as they are meant, with a line; damaged ones are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import load_strict, read_weights


def network() -> nn.Module:
    model = build("unet", in_channels=1, out_channels=1, init_features=2)
    initialise(model, 3)
    return model


STATE: Mapping[str, Tensor] = network().state_dict()
KEY = "decoder1.dec1conv1.weight"


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in STATE.items()}


def read(folder: Path, content: object) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the weights that a file with this content gives, and the notes about it."""
    notes: list[str] = []
    torch.save(content, folder / "w.pt")
    return read_weights(folder / "w.pt", note=notes.append), notes


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (dict(STATE), []),
        (
            prefixed("module."),
            ["all names begin with 'module.', as DataParallel leaves them; it is stripped"],
        ),
        (
            prefixed("_orig_mod."),
            ["all names begin with '_orig_mod.', as torch.compile leaves them; it is stripped"],
        ),
        (
            prefixed("module._orig_mod."),
            [
                "all names begin with 'module.', as DataParallel leaves them; it is stripped",
                "all names begin with '_orig_mod.', as torch.compile leaves them; it is stripped",
            ],
        ),
        ({"epoch": 3, "state_dict": dict(STATE)}, ["is a training checkpoint; its 'state_dict' is used"]),
        (
            {"model": prefixed("module."), "optimizer": {"state": {}}},
            [
                "is a training checkpoint; its 'model' is used",
                "all names begin with 'module.', as DataParallel leaves them; it is stripped",
            ],
        ),
    ],
)
def test_wrapped_weights_are_those_of_the_bare_network_and_it_is_told(
    tmp_path: Path, content: object, notes: list[str]
) -> None:
    weights, lines = read(tmp_path, content)
    load_strict(network(), weights, origin="w")
    assert all(weights[key].equal(value) for key, value in STATE.items())
    assert lines == [f"{tmp_path}/w.pt: {line}" for line in notes]


def test_a_name_without_the_prefix_leaves_all_names_as_they_are(tmp_path: Path) -> None:
    weights, notes = read(tmp_path, {**prefixed("module."), "head.weight": torch.zeros(1)})
    assert "module." + KEY in weights
    assert notes == []


def test_of_several_state_dicts_none_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(
        DonorError, match=r"w\.pt: is a checkpoint with several state dicts \(state_dict, model\);"
    ):
        read(tmp_path, {"model": dict(STATE), "state_dict": dict(STATE)})


def with_value(value: float, dtype: torch.dtype) -> Tensor:
    damaged = STATE[KEY].to(dtype, copy=True)
    damaged.view(-1)[1] = value
    return damaged


VARIANCE = "encoder1.enc1norm1.running_var"
NO_NUMBERS = rf"/w\.pt: the tensor '{KEY}' holds 1 of 72 values that are NaN or infinite\. No training"


@pytest.mark.parametrize(
    ("damaged", "text"),
    [
        *[
            ({KEY: with_value(value, dtype)}, NO_NUMBERS)
            for value in (float("nan"), float("inf"), -float("inf"))
            for dtype in (torch.float32, torch.bfloat16)
        ],
        (
            {VARIANCE: -STATE[VARIANCE], KEY: STATE[KEY] / 0},
            rf"'{VARIANCE}' holds negative variances, and 1 more tensors are damaged",
        ),
        ({KEY: STATE[KEY].to_sparse()}, f"'{KEY}' is sparse, quantized or without values"),
    ],
)
def test_a_damaged_tensor_is_told_with_its_file(
    tmp_path: Path, damaged: dict[str, Tensor], text: str
) -> None:
    with pytest.raises(DonorError, match=text):
        read(tmp_path, {**STATE, **damaged})


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            {"layers.0.conv1.weight": torch.zeros(1), "layers.1.bias": torch.zeros(1)},
            r"No name is one of the network's: these are weights of another architecture, .* accepted: "
            r"weights under the network's names, of which the first is 'encoder1\.enc1conv1\.weight'\.$",
        ),
        (prefixed("net.unet."), r"names stand behind 'net\.unet\.': save"),
        (
            prefixed("net."),
            r"The network's names stand behind 'net\.': save the state dict of that part by itself",
        ),
    ],
)
def test_weights_of_another_network_are_told_as_such(state: dict[str, Tensor], text: str) -> None:
    with pytest.raises(DonorError, match=text):
        load_strict(network(), state, origin="w")
