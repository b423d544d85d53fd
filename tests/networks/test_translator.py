from __future__ import annotations

import pytest
import torch

from xferlab.networks.build import build, initialise
from xferlab.networks.translator import Translator, translator_in

SMALL = Translator(depth=2, width=5)


def translated(translator: Translator | None = SMALL, *, seed: int = 3, channels: int = 3):
    model = build("unet", in_channels=channels, out_channels=1, init_features=4, translator=translator)
    initialise(model, seed)
    return model


def shapes(model) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def test_the_state_is_the_donors_and_the_translators():
    donor, adapted = shapes(translated(None)), shapes(translated(Translator(depth=2, width=5, kernel=7)))
    assert list(adapted)[: len(donor)] == list(donor)
    new = {key: shape for key, shape in adapted.items() if key not in donor}
    assert {key: adapted[key] for key in donor} == donor
    norms = {
        f"translator.norm{number}.{part}": (5,)
        for number in (1, 2)
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    assert new == {
        "translator.conv1.weight": (5, 4, 7, 7),
        "translator.conv2.weight": (5, 5, 7, 7),
        "translator.norm1.num_batches_tracked": (),
        "translator.norm2.num_batches_tracked": (),
        "translator.head.weight": (1, 5, 1, 1),
        "translator.head.bias": (1,),
        **norms,
    }


def test_all_but_the_translator_is_drawn_as_without_it():
    donor, adapted = translated(None).state_dict(), translated().state_dict()
    assert all(adapted[key].equal(donor[key]) for key in donor)


def test_no_translator_is_the_plain_network():
    assert [name for name, _ in translated().named_children()][-1] == "translator"
    assert "translator" not in dict(translated(None).named_children())


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_an_image_keeps_its_size(kernel):
    model = translated(Translator(depth=1, width=2, kernel=kernel), channels=1)
    assert model(torch.zeros(2, 1, 32, 48)).shape == (2, 1, 32, 48)


def test_a_translator_that_hands_on_is_the_donor():
    """Identity kernels and the head's weights: what the layers are put after, by an exact case."""
    donor, model = translated(None).eval(), translated(Translator(depth=1, width=4, kernel=3)).eval()
    new = model.translator
    with torch.no_grad():
        new.conv1.weight.zero_()
        new.conv1.weight[range(4), range(4), 1, 1] = torch.sqrt(torch.tensor(1.0) + new.norm1.eps)
        new.head.weight.copy_(donor.conv.weight)
        new.head.bias.copy_(donor.conv.bias)
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(model(images), donor(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [(1, 4, 1), (2, 5, 3), (3, 2, 5)])
def test_a_state_tells_its_translator(options):
    translator = Translator(*options)
    assert translator_in(translated(translator).state_dict()) == translator


def test_a_plain_state_has_none():
    assert translator_in(translated(None).state_dict()) is None
