"""Deep features of real tiny trials: what is stored, when, and with which values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.studies import recorded
from tests.trial.conftest import GENERAL, PORTABLE, Bench, Make, bench_in
from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import LEVELS
from xferlab.plan.spec import FeaturesSpec
from xferlab.records import layout, reader
from xferlab.records.complete import is_complete, lacks_features
from xferlab.records.schema import FEATURES_SCHEMA
from xferlab.tasks import registry
from xferlab.tasks.segmentation.config import LAYERS
from xferlab.training.learner import Layer
from xferlab.trial.examples import TrialContext, examples
from xferlab.trial.features import change, gram, kernels, pooled
from xferlab.trial.origin import trained_weights

pytestmark = pytest.mark.component

ASKED = {"on": "portable.hold_out", "cases": 6}
ENCODER = LAYERS[:5]
FROZEN = "frozen/portable/r01"
ARMS = {"a": {}, "frozen": {"stages.portable.adapt": {"freeze": {"part": "encoder"}}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A study that asks for features, after a parent and its child of each arm have run."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(folder / "cache"))
        trials = bench_in(folder, features=ASKED, arms=ARMS)
        for name in (GENERAL, PORTABLE, FROZEN):
            trials.run(name)
        yield trials


def asked_of(trials: Bench, name: str) -> FeaturesSpec:
    asked = trials[name].features
    assert asked is not None
    return asked


def files_of(trials: Bench, name: str) -> layout.MeasurementFiles:
    return layout.TrialFiles(trials[name].trial_id).features(asked_of(trials, name).features_id)


def rows_of(trials: Bench, name: str) -> dict[str, dict[str, Any]]:
    features_id = asked_of(trials, name).features_id
    record = reader.read_features_record(trials.store, trials[name].trial_id, features_id)
    assert record is not None
    table = reader.read_features(trials.store, record)
    assert table.schema.equals(FEATURES_SCHEMA)
    assert table.column("layer").to_pylist() == list(LAYERS)
    return {row["layer"]: row for row in table.to_pylist()}


def test_the_layers_are_the_levels_of_the_network_without_its_head() -> None:
    assert [*LAYERS, "head"] == list(LEVELS)


def test_a_gram_is_that_of_the_activations_computed_directly(trained: Bench) -> None:
    spec, asked = trained[GENERAL], asked_of(trained, GENERAL)
    context = TrialContext(trained.store, trained.session.cache_dir, torch.device("cpu"))
    digests = trained.plan.selections[asked.selection].digests
    assert len(digests) == 6
    loaded = examples(spec, asked.source, digests, context)
    learner = registry.learner_of(spec.identity, context.device)
    model: Any = learner.networks["network"]
    model.load_state_dict(trained_weights(context.store, spec.trial_id))
    model.eval()
    with torch.inference_mode():
        images = learner.load(loaded, np.arange(6), None).inputs
        first = model.encoder1(images)
        second = model.encoder2(nn.functional.max_pool2d(first, 2))
        last = model.features(images)
    rows = rows_of(trained, GENERAL)
    for layer, values in (("encoder1", first), ("encoder2", second), ("decoder1", last)):
        means = values.double().numpy().mean(axis=(2, 3))
        centring = np.eye(6) - 1 / 6
        expected = centring @ means @ means.T @ centring
        np.testing.assert_allclose(
            np.reshape(rows[layer]["gram_best"], (6, 6)), expected, rtol=1e-4, atol=1e-4 * expected.max()
        )


def test_a_child_starts_where_its_parent_ended_and_a_frozen_encoder_has_not_moved(trained: Bench) -> None:
    parent, child = rows_of(trained, GENERAL), rows_of(trained, PORTABLE)
    for layer in LAYERS:
        assert child[layer]["gram_start"] == parent[layer]["gram_best"]
        assert child[layer]["distance"] > 0
        assert 0 < child[layer]["cosine"] < 1
    for layer, row in rows_of(trained, FROZEN).items():
        is_frozen = layer in ENCODER
        assert (row["gram_start"] == row["gram_best"]) == is_frozen
        assert (row["distance"] == 0) == is_frozen
        assert (max(row["filter_changes"]) == 0) == is_frozen
        if is_frozen:
            assert row["cosine"] == pytest.approx(1, abs=1e-12)


def test_a_complete_trial_gets_absent_or_torn_features_without_training(bench: Make, tmp_path: Path) -> None:
    trials = bench()
    trials.run(GENERAL)
    assert trials[GENERAL].features is None
    before = recorded(tmp_path / "results")
    asking = bench(features=ASKED)
    spec = asking[GENERAL]
    assert spec.trial_id == trials[GENERAL].trial_id
    assert lacks_features(asking.store, spec, "w")
    assert not is_complete(asking.store, spec)
    assert asking.epochs(GENERAL) == []
    assert is_complete(asking.store, spec)
    after = recorded(tmp_path / "results")
    assert before.items() <= after.items()
    assert [Path(name).parts[2] for name in after.keys() - before.keys()] == ["features"] * 2
    bench(storage="at_once", features=ASKED).run(GENERAL)
    assert recorded(tmp_path / "at_once") == after
    asking.store.write(files_of(asking, GENERAL).record, b"torn")
    assert not is_complete(asking.store, spec)
    asking.run(GENERAL)
    assert recorded(tmp_path / "results") == after


def test_what_is_stored_grows_with_cases_and_filters_and_not_with_the_image(trained: Bench) -> None:
    data = trained.store.read(files_of(trained, GENERAL).table("features")) or b""
    num_numbers = sum(
        len(values)
        for column in ("gram_start", "gram_best", "filter_changes")
        for values in pq.read_table(io.BytesIO(data)).column(column).to_pylist()
    )
    model = build("unet", in_channels=3, out_channels=1, init_features=2)
    num_filters = sum(len(kernel) for layer in LAYERS for kernel in kernels(level(model, layer)))
    assert num_numbers == 2 * len(LAYERS) * 6**2 + num_filters
    assert len(data) < 4 * num_numbers + 8192


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


@pytest.mark.parametrize("tiles", [{}, {"model.tiles": {"size": 16}}], ids=["whole", "tiles"])
def test_networks_at_native_size_show_features_too(bench: Make, tiles: dict[str, Any]) -> None:
    trials = bench(features=ASKED, arms={"a": {"model.image_size": "native", **tiles}})
    trials.run(GENERAL)
    matrix = np.array(rows_of(trials, GENERAL)["decoder1"]["gram_best"]).reshape(6, 6)
    assert np.abs(matrix).max() > 0
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-5 * np.abs(matrix).max())


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
