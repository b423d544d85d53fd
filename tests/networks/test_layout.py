"""How images and kernels lie in memory: a step copies no activation from one layout to another."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from xferlab.networks.build import build
from xferlab.networks.layout import layout

CPU = torch.device("cpu")


def copied(name: str, memory_format: torch.memory_format) -> int:
    """How many maps of features a step copies as they are."""
    network = build(name, in_channels=3, out_channels=1, init_features=4).to(memory_format=memory_format)
    images = torch.rand(2, 3, 32, 32).contiguous(memory_format=memory_format)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        network(images).sum().backward()
    copies = [event.input_shapes[:2] for event in found.events() if event.name == "aten::copy_"]
    return sum(one == other and len(one) == 4 and one[0] == 2 for one, other in copies)


@pytest.mark.parametrize(
    ("name", "chosen", "other"),
    [
        ("unet", torch.channels_last, torch.contiguous_format),
        ("unet_instance", torch.contiguous_format, torch.channels_last),
    ],
)
def test_a_network_gets_the_layout_in_which_it_copies_less(
    name: str, chosen: torch.memory_format, other: torch.memory_format
) -> None:
    network = build(name, in_channels=3, out_channels=1, init_features=4)
    assert layout(network, CPU) == chosen
    assert layout(network, torch.device("cuda")) == torch.channels_last
    assert copied(name, chosen) <= copied(name, other)
    assert name != "unet_instance" or copied(name, chosen) < copied(name, other) // 2
