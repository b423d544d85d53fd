"""How a network takes over the weights of a donor, and the translator that may stand before it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.learners import copied, same
from xferlab.errors import DonorError
from xferlab.networks.build import build, initialise
from xferlab.networks.inherit import FOLDS, fold_channels, inherit, matched_control
from xferlab.networks.translator import Translator, translator_in
from xferlab.networks.unet import FIRST_CONVOLUTION


def network(*, seed: int = 0, channels: int = 3, translator: Translator | None = None) -> nn.Module:
    model = build("unet", in_channels=channels, out_channels=1, init_features=4, translator=translator)
    initialise(model, seed)
    return model


def trained(**options) -> dict[str, torch.Tensor]:
    """Weights whose statistics have moved, too."""
    model = network(**options)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        model(torch.randn(2, options.get("channels", 3), 32, 32, generator=generator))
    return copied(model)


# --- inherit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, Translator(2, 3)])
def test_a_network_takes_over_everything(layers):
    model, state = network(seed=5, translator=layers), trained(translator=layers)
    inherit(model, state, origin="x")
    assert same(copied(model), state)


def test_a_new_translator_keeps_its_weights_and_is_named():
    model, state = network(seed=5, translator=Translator(1, 3)), trained()
    before = copied(model)
    inherit(model, state, origin="x")
    after, fresh = copied(model), set(before) - set(state)
    assert all(key.startswith("translator.") for key in fresh)
    assert all(after[key].equal(before[key]) for key in fresh)
    assert all(after[key].equal(state[key]) for key in state)


@pytest.mark.parametrize(
    ("parent", "layers", "message"),
    [
        (Translator(1, 3), None, r"trial 7: .*unexpected: translator\.conv1\.weight"),
        (Translator(1, 3), Translator(1, 4), r"of another shape: translator\.conv1\.weight"),
        (Translator(1, 3), Translator(2, 3), r"missing: translator\.conv2\.weight"),
        (Translator(2, 3), Translator(1, 3), r"unexpected: translator\.conv2\.weight"),
    ],
)
def test_another_translator_is_refused_and_changes_nothing(parent, layers, message):
    model = network(seed=5, translator=layers)
    before = copied(model)
    with pytest.raises(DonorError, match=message):
        inherit(model, trained(translator=parent), origin="trial 7")
    assert same(copied(model), before)


@pytest.mark.parametrize(
    ("parent", "missing"),
    [
        (Translator(1, 3), "translator.head.bias"),
        (Translator(1, 3), "decoder2.dec2conv1.weight"),
        (None, "conv.bias"),
    ],
)
def test_half_a_translator_or_half_a_donor_is_refused(parent, missing):
    state = trained(translator=parent)
    del state[missing]
    with pytest.raises(DonorError, match=f"1 missing: {missing}"):
        inherit(network(translator=Translator(1, 3)), state, origin="x")


# --- fold ------------------------------------------------------------------------------------------


def outputs(state, channels: int, images: torch.Tensor) -> torch.Tensor:
    model = network(seed=9, channels=channels).double()
    inherit(model, {key: v.double() if v.is_floating_point() else v for key, v in state.items()}, origin="x")
    with torch.inference_mode():
        return model.eval()(images.double().expand(-1, channels, -1, -1))


def test_sum_is_exact_on_a_repeated_grey_image():
    state, images = trained(), torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    # In float64 nothing is left but the one rounding of the folded kernels to float32.
    difference = outputs(state, 3, images) - outputs(fold_channels(state, "sum"), 1, images)
    assert float(difference.abs().max()) < 1e-6
    doubled = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    difference = outputs(doubled, 3, images) - outputs(fold_channels(doubled, "sum"), 1, images)
    assert float(difference.abs().max()) < 1e-13


def test_kernels_by_hand_and_nothing_else_changes():
    state = trained()
    kernels = state[FIRST_CONVOLUTION].double()
    expected = {
        "sum": kernels[:, 0] + kernels[:, 1] + kernels[:, 2],
        "mean": (kernels[:, 0] + kernels[:, 1] + kernels[:, 2]) / 3,
        "luminance": 0.2989 * kernels[:, 0] + 0.587 * kernels[:, 1] + 0.114 * kernels[:, 2],
    }
    assert set(expected) == set(FOLDS)
    for how, folded in expected.items():
        result = fold_channels(state, how)
        assert result[FIRST_CONVOLUTION].dtype == torch.float32
        torch.testing.assert_close(result[FIRST_CONVOLUTION][:, 0], folded.float(), rtol=1e-6, atol=1e-8)
        assert list(result) == list(state)
        assert all(result[key] is state[key] for key in state if key != FIRST_CONVOLUTION)
    assert state[FIRST_CONVOLUTION].shape[1] == 3


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(DonorError, match=r"found 1 in .*Leave `fold` out and set in_channels: 1"):
        fold_channels(trained(channels=1), "sum")
    with pytest.raises(
        DonorError, match=r"fold: mean needs .* one of 'encoder1.*'conv1\.weight'.*; found none"
    ):
        fold_channels({"fc.weight": torch.zeros(2, 2)}, "mean")
    with pytest.raises(DonorError, match=r"found one of shape \(2, 2\)"):
        fold_channels({FIRST_CONVOLUTION: torch.zeros(2, 2)}, "mean")


# --- control ---------------------------------------------------------------------------------------


def test_a_control_has_the_same_values_elsewhere():
    state = trained()
    control = matched_control(state, 1)
    assert list(control) == list(state)
    for key, value in state.items():
        assert control[key].shape == value.shape
        assert control[key].dtype == value.dtype
        assert control[key].data_ptr() != value.data_ptr()
        assert control[key].flatten().sort().values.equal(value.flatten().sort().values)
        if value.unique().numel() > 50:
            one, other = value.flatten().double(), control[key].flatten().double()
            correlation = torch.corrcoef(torch.stack([one, other]))[0, 1]
            assert abs(float(correlation)) < 5 / value.numel() ** 0.5
    inherit(network(), control, origin="control")
    assert all((value > 0).all() for key, value in control.items() if key.endswith("running_var"))
    assert all(int(value) == 3 for key, value in control.items() if key.endswith("num_batches_tracked"))


def test_a_control_is_a_function_of_seed_and_name():
    state = trained()
    assert same(matched_control(state, 1), matched_control(state, 1))
    part = {key: value for key, value in state.items() if key.startswith("decoder1")}
    torch.manual_seed(7)
    whole = matched_control(state, 1)
    assert all(value.equal(whole[key]) for key, value in matched_control(part, 1).items())
    other = matched_control(state, 2)
    assert not whole["bottleneck.bottleneckconv1.weight"].equal(other["bottleneck.bottleneckconv1.weight"])
    numbers = torch.arange(100.0)
    shuffled = matched_control({"a": numbers, "b": numbers}, 0)
    assert not shuffled["a"].equal(shuffled["b"])


# --- translators -----------------------------------------------------------------------------------------


SMALL = Translator(depth=2, width=5)


def translated(translator: Translator | None = SMALL, *, channels: int = 3) -> nn.Module:
    return network(seed=3, channels=channels, translator=translator)


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
