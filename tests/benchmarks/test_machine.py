from __future__ import annotations

import time

import machine
import pytest
import torch
from torch import nn


def test_flops_equal_hand_arithmetic() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 5, 2, stride=2))
    images = torch.randn(2, 3, 8, 6)
    first, second = 2 * 2 * 8 * 6 * (3 * 4 * 9), 2 * 2 * 8 * 6 * (4 * 5 * 4)
    # Images need no gradient, so the first layer's backward pass costs as much as its forward pass.
    assert machine.count_flops(network, images) == 2 * first + 3 * second


def test_share_is_network_over_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SHAPES", ((4, 8), (8, 8)))
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    found = machine.measure_share(network, images, dtype=torch.float32, repeats=3)
    expected = [mine / best for mine, best in zip(found.rate.values, found.best.values, strict=True)]
    assert found.share.values == pytest.approx(expected)
    assert all(value > 0 for value in expected)


def test_rate_is_operations_over_seconds() -> None:
    step = machine.Step(lambda: time.sleep(0.01), flops=1e9)
    assert 50 < step.rate(least_s=0.02) <= 100


def test_spread_names_its_ends() -> None:
    assert machine.Spread((3.0, 1.0, 2.0)).text() == "2.0 (1.0-3.0)"


def test_machine_is_described() -> None:
    body = machine.describe(1)
    assert body["cpu"]
    assert set(body["flags"]) <= set(machine.FLAGS)
    assert body["cores"] >= 1
