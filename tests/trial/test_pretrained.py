"""Weights from outside a study: stored under their digest, loaded strictly, refused with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trial.conftest import GENERAL, PORTABLE, Bench, Make, replace_weights
from xferlab.errors import DonorError, RecordError
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import file_sha256, read_weights, save_weights
from xferlab.networks.published import published
from xferlab.records import layout
from xferlab.records.store import Store
from xferlab.study.stage import Weights
from xferlab.trial import pretrained
from xferlab.trial.pretrained import at_hand, check_file, check_fits, check_parent, store_weights

KEY = "decoder1.dec1conv1.weight"
CHILD = {"data": "general", "starts_from": "donor", "evaluate_on": ["general.test"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as the published weights are: a state dict by torch.save."""
    model = build("unet", in_channels=3, out_channels=1, init_features=2)
    initialise(model, 11)
    path = tmp_path / "donor.pt"
    torch.save(model.state_dict(), path)
    return path


def with_donor(bench: Make, path: Path) -> Bench:
    model = {"init_features": 2, "image_size": 32, "in_channels": 3}
    stages = {"donor": {"weights": {"path": str(path)}}, "general": CHILD}
    return bench(stages=stages, model=model, donors={str(path): file_sha256(path)})


def test_given_weights_reach_the_trial_unaltered_through_the_storage(
    bench: Make, tmp_path: Path, path: Path
) -> None:
    trials, weights = with_donor(bench, path), Weights(path=str(path), sha256=file_sha256(path))
    check_file(trials[GENERAL], trials[GENERAL].inputs[0], weights, cache_dir=tmp_path)
    digest = store_weights(weights, trials.store, cache_dir=tmp_path)
    assert digest == file_sha256(path) == at_hand(weights, cache_dir=tmp_path)
    check_fits(trials[GENERAL], trials[GENERAL].inputs[0], trials.store, cache_dir=tmp_path)
    path.unlink()  # workers do not see the user's disk
    stored = Path(trials.store.path(layout.donor_path(digest)))
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + b"x")
    with pytest.raises(RecordError, match=r"is altered .* and is now .*; run the study again"):
        trials.run(GENERAL)
    stored.write_bytes(whole)
    assert trials.run(GENERAL).started_from == digest


def test_the_weights_that_are_stored_are_those_that_were_checked(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced while it is read; the bytes under a digest are always those of the digest."""
    whole, store = path.read_bytes(), Store.open(tmp_path / "storage")

    def replacing(file: Path, *read: bytes, **options: Any) -> object:
        path.write_bytes(b"other bytes")
        return read_weights(file, *read, **options)

    monkeypatch.setattr(pretrained, "read_weights", replacing)
    digest = store_weights(Weights(path=str(path)), store, cache_dir=tmp_path)
    assert digest == hashlib.sha256(whole).hexdigest()
    assert store.read(layout.donor_path(digest)) == whole


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"in_channels": 1}, "has 3 input channels while model.in_channels is 1: set in_channels: 3; "),
        ({"init_features": 16}, "32 features while model.init_features is 16: set init_features: 32, or"),
    ],
)
def test_published_weights_that_do_not_fit_are_reported_before_they_are_fetched(
    bench: Make, tmp_path: Path, model: dict[str, int], message: str
) -> None:
    stages = {"donor": {"weights": "buda2019"}, "general": CHILD}
    fitting = {"init_features": 32, "image_size": 32, "in_channels": 3}
    weights, nowhere = Weights(name="buda2019"), tmp_path / "empty"
    whole = bench(stages=stages, model=fitting)[GENERAL]
    check_file(whole, whole.inputs[0], weights, cache_dir=nowhere)
    other = bench(stages=stages, model=fitting | model)[GENERAL]
    with pytest.raises(DonorError, match=message):
        check_file(other, other.inputs[0], weights, cache_dir=nowhere)


def test_weights_of_imagenet_are_stored_under_their_digest(tmp_path: Path) -> None:
    """Of a file that a package ships: what workers read is what was published."""
    weights, store = Weights(name="imagenet/efficientnet_lite0"), Store.open(tmp_path / "storage")
    assert at_hand(weights, cache_dir=tmp_path) is None
    digest = store_weights(weights, store, cache_dir=tmp_path)
    assert digest == published("imagenet/efficientnet_lite0").sha256 == at_hand(weights, cache_dir=tmp_path)
    data = store.read(layout.donor_path(digest))
    assert data is not None
    assert len(read_weights(Path("weights.pth"), data)) == 296


def test_weights_of_another_network_are_reported_before_they_are_fetched(bench: Make, tmp_path: Path) -> None:
    """Their shapes alone: those of VGG16 would take 553 MB."""
    stages = {"donor": {"weights": "imagenet/vgg16"}, "general": CHILD}
    trials = bench(stages=stages, model={"init_features": 2, "image_size": 32, "in_channels": 3})
    with pytest.raises(
        DonorError,
        match=r"^donor imagenet/vgg16: these are weights of a vgg16, and the network is a unet; start from",
    ):
        check_file(
            trials[GENERAL],
            trials[GENERAL].inputs[0],
            Weights(name="imagenet/vgg16"),
            cache_dir=tmp_path / "empty",
        )


def test_weights_of_vgg16_fit_a_network_made_of_it_if_it_is_as_wide(bench: Make, tmp_path: Path) -> None:
    stages = {"donor": {"weights": "imagenet/vgg16"}, "general": CHILD}
    weights, model = Weights(name="imagenet/vgg16"), {"name": "segnet", "image_size": 32, "in_channels": 3}
    whole, half = (bench(stages=stages, model=model | {"width": width})[GENERAL] for width in (1, 0.5))
    check_file(whole, whole.inputs[0], weights, cache_dir=tmp_path / "empty")
    with pytest.raises(DonorError, match=r"VGG16 with 64 filters .* network has 32; set model\.width to "):
        check_file(half, half.inputs[0], weights, cache_dir=tmp_path / "empty")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"path": "absent.pt"},
            "donor absent.pt: there is no such file; correct `weights.path`",
        ),
        (
            {"path": "donor.pt", "sha256": "0" * 64},
            f"the study gives {'0' * 64}. If you trust the file",
        ),
        (
            {"name": "buda2091"},
            r"found 'buda2091'; accepted: buda2019, .*, or a file. Did you mean 'buda2019'\?",
        ),
    ],
)
def test_weights_that_cannot_be_had(
    bench: Make, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, weights: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    trials = with_donor(bench, path)
    with pytest.raises(DonorError, match=message):
        store_weights(Weights(**weights), trials.store, cache_dir=tmp_path)
    assert not trials.store.list("donors")
    with pytest.raises(DonorError, match=message):
        check_file(trials[GENERAL], trials[GENERAL].inputs[0], Weights(**weights), cache_dir=tmp_path)


def test_a_parent_whose_weights_are_not_finite_is_named_before_and_when_it_is_read(copied: Make) -> None:
    trials = copied(lacking=PORTABLE)
    store, parent, path = trials.store, trials[GENERAL].trial_id, trials.weights(GENERAL)
    check_parent(trials.plan.names[PORTABLE], store)  # it is not complete, so there is nothing to check
    check_parent(parent, store)
    weights = load_file(path)
    weights[KEY].view(-1)[3] = float("inf")
    data = save_weights(weights)
    path.write_bytes(data)
    with pytest.raises(
        RecordError, match=r"best\.safetensors: these weights are altered .*; the next `run` trains"
    ):
        check_parent(parent, store)
    assert path.exists(), "a check changes nothing"
    replace_weights(trials, GENERAL, data)
    text = rf"{path}: the tensor '{KEY}' holds 1 of 72 values that are NaN or infinite"
    with pytest.raises(DonorError, match=text):
        check_parent(parent, store)
    with pytest.raises(DonorError, match=text):
        trials.run(PORTABLE)
