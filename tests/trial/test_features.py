"""Deep features of real tiny trials: what is stored, when, and with which values."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.trial.conftest import CPU, GENERAL, PORTABLE, Bench, Make
from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import LEVELS
from xferlab.records.complete import is_complete, lacks_features
from xferlab.records.schema import FEATURES_SCHEMA
from xferlab.tasks import registry
from xferlab.tasks.segmentation import sections
from xferlab.training.learner import Layer
from xferlab.trial.examples import examples
from xferlab.trial.features import change, gram, kernels, pooled
from xferlab.trial.origin import trained_weights

LAYERS = sections.Model().layers
ENCODER = LAYERS[:5]
FROZEN = "frozen/portable/r01"
ARMS = {"a": {}, "frozen": {"stages.portable.adapt": {"freeze": {"part": "encoder"}}}}


@pytest.fixture(scope="module")
def trained(whole: Bench, bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A parent and its child of each arm."""
    folder = tmp_path_factory.mktemp("features")
    shutil.copytree(whole.store.root, folder / "results")
    return bench_in(folder, arms=ARMS).ran(FROZEN)


def test_the_layers_are_the_levels_of_the_network_without_its_head() -> None:
    assert [*sections.LAYERS, "head"] == list(LEVELS)
    assert sections.Model(name="fc_densenet56").layers == sections.LAYERS


def test_a_gram_is_that_of_the_activations_computed_directly(trained: Bench) -> None:
    spec = trained[GENERAL]
    asked = spec.features
    assert asked is not None
    digests = trained.plan.selections[asked.selection].digests
    assert len(digests) == 6
    loaded = examples(spec, asked.source, digests, trained.context)
    learner = registry.learner_of(spec.identity, CPU)
    model: Any = learner.networks["network"]
    model.load_state_dict(trained_weights(trained.store, spec.trial_id))
    model.eval()
    with torch.inference_mode():
        images = learner.load(loaded, np.arange(6), None).inputs
        first = model.encoder1(images)
        second = model.encoder2(nn.functional.max_pool2d(first, 2))
        last = model.features(images)
    rows = trained.features(GENERAL)
    for layer, values in (("encoder1", first), ("encoder2", second), ("decoder1", last)):
        means = values.double().numpy().mean(axis=(2, 3))
        centring = np.eye(6) - 1 / 6
        expected = centring @ means @ means.T @ centring
        np.testing.assert_allclose(
            np.reshape(rows[layer]["gram_best"], (6, 6)), expected, rtol=1e-4, atol=1e-4 * expected.max()
        )


def test_a_child_starts_where_its_parent_ended_and_a_frozen_encoder_has_not_moved(trained: Bench) -> None:
    parent, child = trained.features(GENERAL), trained.features(PORTABLE)
    for layer in LAYERS:
        assert child[layer]["gram_start"] == parent[layer]["gram_best"]
        assert child[layer]["distance"] > 0
        assert 0 < child[layer]["cosine"] < 1
    for layer, row in trained.features(FROZEN).items():
        is_frozen = layer in ENCODER
        assert (row["gram_start"] == row["gram_best"]) == is_frozen
        assert (row["distance"] == 0) == is_frozen
        assert (max(row["filter_changes"]) == 0) == is_frozen
        if is_frozen:
            assert row["cosine"] == pytest.approx(1, abs=1e-12)


def test_a_complete_trial_gets_absent_or_torn_features_without_training(whole: Bench, copied: Make) -> None:
    trials = copied()
    spec, (folder,) = trials[GENERAL], trials.folder(GENERAL).glob("features/*")
    shutil.rmtree(folder)
    assert lacks_features(trials.store, spec, "w")
    assert not is_complete(trials.store, spec)
    assert trials.epochs(GENERAL) == []
    assert is_complete(trials.store, spec)
    assert trials.records == whole.records
    (folder / "record.json").write_bytes(b"torn")
    assert not is_complete(trials.store, spec)
    trials.run(GENERAL)
    assert trials.records == whole.records


def test_what_is_stored_grows_with_cases_and_filters_and_not_with_the_image(trained: Bench) -> None:
    (file,) = trained.folder(GENERAL).glob("features/*/features.parquet")
    table = pq.read_table(file)
    assert table.schema.equals(FEATURES_SCHEMA)
    assert table.column("layer").to_pylist() == list(LAYERS)
    num_numbers = sum(
        len(values)
        for column in ("gram_start", "gram_best", "filter_changes")
        for values in table.column(column).to_pylist()
    )
    model = build("unet", in_channels=3, out_channels=1, init_features=2)
    num_filters = sum(len(kernel) for layer in LAYERS for kernel in kernels(level(model, layer)))
    assert num_numbers == 2 * len(LAYERS) * 6**2 + num_filters
    assert file.stat().st_size < 4 * num_numbers + 8192


def level(model: nn.Module, name: str) -> Layer:
    parts = dict(model.named_children())
    return Layer(parts[name], tuple(parts[part] for part in LEVELS[name]))


class Halves:
    """A learner that predicts an image in two tiles."""

    def __init__(self, model: nn.Module):
        self.model = model.eval()

    def load(self, loaded: torch.Tensor, rows: Any, draw: None) -> torch.Tensor:
        return loaded[rows]

    def predict(self, batch: torch.Tensor) -> Any:
        with torch.inference_mode():
            return [self.model(batch[..., side]).numpy() for side in (slice(0, 16), slice(16, 32))]

    def layers(self) -> dict[str, Layer]:
        return {"encoder1": level(self.model, "encoder1")}


def test_tiles_of_a_case_are_averaged_and_hooks_leave_nothing() -> None:
    model: Any = build("unet", in_channels=1, out_channels=1, init_features=2)
    initialise(model, 3)
    images = torch.randn(3, 1, 16, 32, generator=torch.Generator().manual_seed(1))
    learner: Any = Halves(model)
    loaded: Any = images
    means = pooled(learner, ["encoder1"], loaded)["encoder1"]
    assert means.shape == (3, 2)
    assert not model.encoder1._forward_hooks
    with torch.inference_mode():
        expected = [model.encoder1(images[..., side]).mean(dim=(2, 3)) for side in (slice(16), slice(16, 32))]
    np.testing.assert_allclose(means, sum(expected) / 2, rtol=1e-5)


def test_filters_are_the_output_channels_of_all_convolutions_of_a_level() -> None:
    model: Any = build("unet", in_channels=3, out_channels=1, init_features=2)
    initialise(model, 1)
    assert [kernel.shape for kernel in kernels(level(model, "encoder1"))] == [(2, 27), (2, 18)]
    up, first, _ = kernels(level(model, "decoder4"))
    assert (up.shape, first.shape) == ((16, 32 * 4), (16, 32 * 9))
    np.testing.assert_array_equal(up[5], model.upconv4.weight[:, 5].detach().double().numpy().ravel())


def test_change_by_hand() -> None:
    before = [np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0], [0.0]])]
    after = [np.array([[3.0, 4.5], [0.0, 0.0]]), np.array([[1.0], [2.0]])]
    changes = change(before, after)
    assert changes.filter_changes.tolist() == [0.1, 0.0, 0.0, np.inf]
    assert changes.distance == pytest.approx(np.sqrt((0.25 + 4) / 26))
    assert changes.cosine == pytest.approx(28 / np.sqrt(26 * (9 + 20.25 + 1 + 4)))
    nothing = change([np.zeros((1, 2))], [np.zeros((1, 2))])
    assert nothing.distance == 0
    assert np.isnan(nothing.cosine)


def test_a_gram_of_equal_cases_is_zero() -> None:
    assert not gram(np.full((4, 3), 0.5)).any()
