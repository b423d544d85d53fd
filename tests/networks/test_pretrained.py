"""Networks that start from published weights: what is loaded, left out, new, folded, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.learners import copied, same
from xferlab.errors import DonorError
from xferlab.networks.build import build
from xferlab.networks.donors import read_weights, save_weights
from xferlab.networks.head import Head
from xferlab.networks.inherit import FOLDS, Fold, fold_channels, inherit
from xferlab.networks.pretrained import Pretrained
from xferlab.networks.published import IMAGENET, PUBLISHED, shapes_of

HEAD = Head((16, 8), dropout=(0.2,))
OWN_HEADS = {
    "vgg16": [f"classifier.{number}.{part}" for number in (0, 3, 6) for part in ("weight", "bias")],
    "vgg19": [f"classifier.{number}.{part}" for number in (0, 3, 6) for part in ("weight", "bias")],
    "resnet18": ["fc.weight", "fc.bias"],
    "efficientnet_lite0": ["_fc.weight", "_fc.bias"],
}
SMALL = ("resnet18", "efficientnet_lite0")
NEW = [f"head.dense{number}.{part}" for number in (1, 2, 3) for part in ("weight", "bias")]


def published_file(network: str, folder: Path) -> dict[str, Tensor]:
    """The content of a file of the keys and shapes of the published one, as `torch.save` writes it.

    Of large tensors it holds a single number, so that a file of 575 MB is a small one.
    """
    generator = torch.Generator().manual_seed(5)
    state = {
        key: torch.rand(value.shape, generator=generator) * 0.1 + 0.05
        if value.is_floating_point() and value.numel() < 3_000_000
        else value
        for key, value in shapes_of(PUBLISHED[f"imagenet/{network}"]).items()
    }
    torch.save(state, folder / "weights.pth")
    return read_weights(folder / "weights.pth")


@pytest.mark.parametrize("network", OWN_HEADS)
def test_a_given_head_stays_and_the_published_one_is_left_out_by_name(network, tmp_path):
    asked, state = Pretrained(network), published_file(network, tmp_path)
    model = asked.build(3, out_channels=2, head=HEAD)
    before = copied(model)
    taken = asked.start(model, state, origin="x")
    after = copied(model)
    assert (list(taken.dropped), list(taken.fresh)) == (OWN_HEADS[network], NEW)
    assert str(taken) == f"left out: {', '.join(OWN_HEADS[network])}; new: {', '.join(NEW)}"
    assert all(after[key].equal(before[key]) for key in NEW)
    assert {key for key in after if key not in NEW} == {key for key in state if key not in taken.dropped}
    assert all(after[key].equal(state[key]) for key in after if key not in NEW)


@pytest.mark.parametrize(
    ("network", "output"),
    [("resnet18", ["fc.weight", "fc.bias"]), ("efficientnet_lite0", ["_fc.weight", "_fc.bias"])],
)
def test_of_the_own_head_the_last_layer_is_new(network, output, tmp_path):
    asked, state = Pretrained(network), published_file(network, tmp_path)
    model = asked.build(3, out_channels=4)
    before = copied(model)
    taken = asked.start(model, state, origin="x")
    assert list(taken.dropped) == list(taken.fresh) == output
    assert all(copied(model)[key].equal(before[key]) for key in output)
    # Also where the numbers of outputs happen to be equal.
    model = asked.build(3)
    taken = asked.start(model, state, origin="x")
    assert list(taken.dropped) == output
    assert not copied(model)[output[0]].equal(state[output[0]])


def test_a_file_of_vgg19_fills_its_three_layers_or_all_but_the_last(tmp_path):
    asked, state = Pretrained("vgg19"), published_file("vgg19", tmp_path)
    assert (tmp_path / "weights.pth").stat().st_size < 90e6
    with torch.device("meta"):
        model = build("vgg19", in_channels=3, out_channels=1000)
    model.to_empty(device="cpu")
    taken = asked.start(model, state, origin="x")
    assert list(taken.dropped) == list(taken.fresh) == OWN_HEADS["vgg19"][-2:]
    taken = asked.start(model, state, origin="x", keep_outputs=True)
    assert (taken.dropped, taken.fresh, str(taken)) == ((), (), "left out: nothing; new: nothing")
    assert all(value.equal(state[key]) for key, value in model.state_dict().items())


def test_a_file_without_counters_of_batches_is_as_good(tmp_path):
    asked, state = Pretrained("resnet18"), published_file("resnet18", tmp_path)
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    model = asked.build(3)
    taken = asked.start(model, old, origin="x", keep_outputs=True)
    assert len(taken.fresh) == len(state) - len(old) == 20
    assert same(copied(model), state)
    some = {key: value for key, value in state.items() if key != "bn1.num_batches_tracked"}
    with pytest.raises(DonorError, match=r"1 missing: bn1\.num_batches_tracked"):
        asked.start(model, some, origin="x")


def test_weights_without_a_head_fill_a_network_with_a_given_one(tmp_path):
    asked, state = Pretrained("vgg16"), published_file("vgg16", tmp_path)
    trunk = {key: value for key, value in state.items() if key.startswith("features.")}
    assert asked.start(asked.build(3, out_channels=2, head=HEAD), trunk, origin="x").dropped == ()


def test_a_child_takes_over_the_whole_network_of_its_parent(tmp_path):
    asked = Pretrained("resnet18", fold="sum")
    parent, child = (asked.build(seed, out_channels=2, head=HEAD) for seed in (3, 4))
    asked.start(parent, published_file("resnet18", tmp_path), origin="x")
    (tmp_path / "best.safetensors").write_bytes(save_weights(parent))
    inherit(child, read_weights(tmp_path / "best.safetensors"), origin="parent")
    assert same(copied(child), copied(parent))


# --- what is refused ----------------------------------------------------------------------------------------


def without(state: dict[str, Tensor], *keys: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: without(state, "layer1.0.conv1.weight"),
            r"x: .* 1 missing: layer1\.0\.conv1\.weight\.",
        ),
        (lambda state: {**state, "layer5.weight": state["fc.bias"]}, r"1 unexpected: layer5\.weight\."),
        (lambda state: without(state, "fc.bias") | {"fc_bias": state["fc.bias"]}, r"1 unexpected: fc_bias\."),
        (
            lambda state: {**state, "bn1.bias": state["fc.bias"]},
            r"of another shape: bn1\.bias \(1000,\), not \(64,",
        ),
        (lambda state: {f"net.{key}": value for key, value in state.items()}, r"stand behind 'net\.'"),
        (
            lambda state: without(state, "conv1.weight") | {"conv1.weight": state["conv1.weight"][:, :1]},
            r"first convolution has 1 input channels while model\.in_channels is 3: set in_channels: 1\.",
        ),
    ],
    ids=["missing", "unexpected", "renamed", "shape", "prefix", "channels"],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change, message, tmp_path):
    asked, state = Pretrained("resnet18"), published_file("resnet18", tmp_path)
    model = asked.build(3, out_channels=2)
    before = copied(model)
    with pytest.raises(DonorError, match=message):
        asked.start(model, change(state), origin="x")
    assert same(copied(model), before)


def test_weights_of_another_network_are_refused(tmp_path):
    asked = Pretrained("resnet18")
    with pytest.raises(DonorError, match=r"weights of another architecture, .* first is 'conv1\.weight'"):
        asked.start(asked.build(3), published_file("efficientnet_lite0", tmp_path), origin="x")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Pretrained("unet"), r"found 'imagenet/unet'; accepted: buda2019, imagenet/"),
        (Pretrained("resnet81"), r"found 'imagenet/resnet81'; .* Did you mean 'imagenet/resnet18'\?"),
        (Pretrained("vgg16", "imagnet"), r"Did you mean 'imagenet/vgg16'\?"),
    ],
)
def test_weights_that_are_not_published_are_refused_with_the_nearest(asked, message):
    with pytest.raises(DonorError, match=message):
        asked.build(0)


def test_published_outputs_fit_no_given_head(tmp_path):
    asked, state = Pretrained("resnet18"), published_file("resnet18", tmp_path)
    with pytest.raises(
        DonorError, match=r"x: keep_outputs loads the published outputs, .* without `head`\.$"
    ):
        asked.start(asked.build(3, out_channels=1000, head=HEAD), state, origin="x", keep_outputs=True)
    with pytest.raises(DonorError, match=r"of another shape: fc\.weight \(1000, 512\), not \(4, 512\)"):
        asked.start(asked.build(3, out_channels=4), state, origin="x", keep_outputs=True)


# --- folding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "how"),
    [("vgg16", "luminance"), ("vgg19", "mean"), *((name, how) for name in SMALL for how in FOLDS)],
)
def test_every_network_folds_its_first_convolution_and_normalises_one_channel(network, how: Fold, tmp_path):
    state = published_file(network, tmp_path)
    asked, kernels_alone = Pretrained(network, fold=how), Pretrained(network, fold=how, normalised=False)
    model, other = (one.build(3, out_channels=2, head=HEAD) for one in (asked, kernels_alone))
    assert asked.in_channels == 1
    asked.start(model, state, origin="x")
    kernels_alone.start(other, state, origin="x")
    three = PUBLISHED[asked.name].normalisation
    assert asked.normalisation == three.grey()
    assert kernels_alone.normalisation is None
    assert Pretrained(network).normalisation == three
    changed = {key for key in copied(other) if key in state and not copied(other)[key].equal(state[key])}
    assert len(changed) == 1
    assert copied(other)[changed.pop()].shape[1] == 1
    if network != "efficientnet_lite0":  # its three channels have one mean and one deviation
        assert not same(copied(model), copied(other))


@pytest.mark.parametrize("how", FOLDS)
def test_the_first_layer_of_resnet_gives_a_share_of_each_channel_behind_its_batch_normalisation(
    how, tmp_path
):
    """ImageNet's channels differ in mean and deviation; the running mean takes up what the means leave."""
    asked, state = Pretrained("resnet18", fold=how), published_file("resnet18", tmp_path)
    model = asked.build(3).double().eval()
    asked.start(model, {key: value.double() for key, value in state.items()}, origin="x")
    image = torch.randint(0, 256, (2, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    kernels = state["conv1.weight"].double()
    channels = IMAGENET.apply(image).double()
    response = sum(
        share * nn.functional.conv2d(channels[:, [n]], kernels[:, [n]], stride=2, padding=3)
        for n, share in enumerate(FOLDS[how])
    )
    mean, variance, scale, shift = (
        state[f"bn1.{part}"].double().reshape(1, -1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    expected = (response - mean) / (variance + 1e-5).sqrt() * scale + shift
    with torch.inference_mode():
        actual = model.bn1(model.conv1(asked.normalisation.apply(image).double()))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(actual[inside], expected[inside], rtol=0, atol=1e-5)
    assert not torch.allclose(actual, expected, atol=1e-2), "the padding counts at the border"


def test_one_mean_and_deviation_for_all_channels_leave_nothing_but_the_kernels(tmp_path):
    state = published_file("efficientnet_lite0", tmp_path)
    normalisation = PUBLISHED["imagenet/efficientnet_lite0"].normalisation
    for how in FOLDS:
        assert same(fold_channels(state, how), fold_channels(state, how, normalisation=normalisation))
