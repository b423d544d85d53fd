"""Deep features of real tiny trials: what is stored, when, and that it is what it says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.studies import recorded
from tests.trial import conftest
from tests.trial.conftest import Bench, Make
from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import LEVELS
from xferlab.records import layout, reader
from xferlab.records.complete import is_complete, lacks_features
from xferlab.records.schema import FEATURES_SCHEMA
from xferlab.tasks import registry
from xferlab.tasks.segmentation.config import LAYERS
from xferlab.training.learner import Layer
from xferlab.trial.features import change, gram, kernels, pooled

pytestmark = pytest.mark.component

GENERAL, PORTABLE = "a/general/r01", "a/portable/r01"
ASKED = {"on": "portable.hold_out", "cases": 6}
ENCODER = LAYERS[:5]
STAGES: dict[str, Any] = dict(conftest.STAGES)
FROZEN = {**STAGES, "portable": {**STAGES["portable"], "adapt": {"freeze": {"part": "encoder"}}}}


def rows_of(trials: Bench, name: str) -> dict[str, dict[str, Any]]:
    spec = trials[name]
    assert spec.features is not None
    record = reader.read_features_record(trials.session.store, spec.trial_id, spec.features.features_id)
    assert record is not None
    table = reader.read_features(trials.session.store, record)
    assert table.schema.equals(FEATURES_SCHEMA)
    assert table.column("layer").to_pylist() == list(LAYERS)
    return {row["layer"]: row for row in table.to_pylist()}


def test_the_layers_are_the_levels_of_the_network_without_its_head() -> None:
    assert [*LAYERS, "head"] == list(LEVELS)


def test_a_gram_is_that_of_the_activations_computed_directly(bench: Make) -> None:
    trials = bench(features=ASKED)
    trials.run(GENERAL)
    spec = trials[GENERAL]
    assert spec.features is not None
    from xferlab.trial.examples import TrialContext, examples
    from xferlab.trial.origin import trained_weights

    place = TrialContext(trials.session.store, trials.session.cache_dir, torch.device("cpu"))
    digests = trials.plan.selections[spec.features.selection].digests
    assert len(digests) == 6
    loaded = examples(spec, spec.features.source, digests, place)
    learner = registry.learner_of(spec.identity, place.device)
    model: Any = learner.networks["network"]
    model.load_state_dict(trained_weights(place.store, spec.trial_id))
    model.eval()
    with torch.inference_mode():
        images = learner.load(loaded, np.arange(6), None).inputs
        first = model.encoder1(images)
        second = model.encoder2(nn.functional.max_pool2d(first, 2))
        last = model.features(images)
    found = rows_of(trials, GENERAL)
    for layer, values in (("encoder1", first), ("encoder2", second), ("decoder1", last)):
        pooled = values.double().numpy().mean(axis=(2, 3))
        centring = np.eye(6) - 1 / 6
        expected = centring @ pooled @ pooled.T @ centring
        np.testing.assert_allclose(
            np.reshape(found[layer]["gram_best"], (6, 6)), expected, rtol=1e-4, atol=1e-4 * expected.max()
        )


def test_a_child_starts_where_its_parent_ended(bench: Make) -> None:
    trials = bench(features=ASKED)
    for name in (GENERAL, PORTABLE):
        trials.run(name)
    parent, child = rows_of(trials, GENERAL), rows_of(trials, PORTABLE)
    for layer in LAYERS:
        assert child[layer]["gram_start"] == parent[layer]["gram_best"]
        assert child[layer]["distance"] > 0
        assert 0 < child[layer]["cosine"] < 1


def test_a_frozen_encoder_has_not_moved(bench: Make) -> None:
    trials = bench(features=ASKED, stages=FROZEN)
    for name in (GENERAL, PORTABLE):
        trials.run(name)
    for layer, row in rows_of(trials, PORTABLE).items():
        rests = layer in ENCODER
        assert (row["gram_start"] == row["gram_best"]) == rests
        assert (row["distance"] == 0) == rests
        assert (max(row["filter_changes"]) == 0) == rests
        if rests:
            assert row["cosine"] == pytest.approx(1, abs=1e-12)


def test_a_complete_trial_gets_its_features_without_training(bench: Make, tmp_path: Path) -> None:
    trials = bench()
    trials.run(GENERAL)
    assert trials[GENERAL].features is None
    before = recorded(tmp_path / "results")
    asking = bench(features=ASKED)
    spec = asking[GENERAL]
    assert spec.trial_id == trials[GENERAL].trial_id
    assert lacks_features(asking.session.store, spec, "w")
    assert not is_complete(asking.session.store, spec)
    epochs: list[int] = []
    asking.run(GENERAL, on_epoch=lambda result, best_loss: epochs.append(result.epoch))
    assert epochs == []
    assert is_complete(asking.session.store, spec)
    after = recorded(tmp_path / "results")
    assert before.items() <= after.items()
    assert [Path(name).parts[2] for name in after.keys() - before.keys()] == ["features"] * 2


def test_features_are_equal_byte_for_byte_whenever_they_are_taken(bench: Make) -> None:
    at_once, later = bench(storage="at_once", features=ASKED), bench(storage="later")
    at_once.run(GENERAL)
    later.run(GENERAL)
    later = bench(storage="later", features=ASKED)
    later.run(GENERAL)
    for name in ("features.parquet", "record.json"):
        path = f"features/{at_once[GENERAL].features.features_id}/{name}"  # type: ignore[union-attr]
        assert (at_once.folder(GENERAL) / path).read_bytes() == (later.folder(GENERAL) / path).read_bytes()


def test_lost_features_are_taken_again(bench: Make) -> None:
    trials = bench(features=ASKED)
    trials.run(GENERAL)
    spec = trials[GENERAL]
    assert spec.features is not None
    name = layout.TrialFiles(spec.trial_id).features(spec.features.features_id).record
    trials.session.store.write(name, b"torn")
    assert not is_complete(trials.session.store, spec)
    trials.run(GENERAL)
    assert is_complete(trials.session.store, spec)


def test_what_is_stored_grows_with_cases_and_filters_and_not_with_the_image(bench: Make) -> None:
    trials = bench(features=ASKED)
    trials.run(GENERAL)
    spec = trials[GENERAL]
    assert spec.features is not None
    name = layout.TrialFiles(spec.trial_id).features(spec.features.features_id).features
    data = trials.session.store.read(name) or b""
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
    found = pooled(learner, ["encoder1"], loaded)["encoder1"]
    assert found.shape == (3, 2)
    assert not model.encoder1._forward_hooks
    with torch.inference_mode():
        expected = [model.encoder1(images[..., side]).mean(dim=(2, 3)) for side in (slice(16), slice(16, 32))]
    np.testing.assert_allclose(found, sum(expected) / 2, rtol=1e-5)


@pytest.mark.parametrize("tiles", [{}, {"model.tiles": {"size": 16}}], ids=["whole", "tiles"])
def test_networks_at_native_size_show_features_too(bench: Make, tiles: dict[str, Any]) -> None:
    trials = bench(features=ASKED, arms={"a": {"model.image_size": "native", **tiles}})
    trials.run(GENERAL)
    found = np.array(rows_of(trials, GENERAL)["decoder1"]["gram_best"]).reshape(6, 6)
    assert np.abs(found).max() > 0
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-5 * np.abs(found).max())


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
    found = change(before, after)
    assert found["filter_changes"].tolist() == [0.1, 0.0, 0.0, np.inf]
    assert found["distance"] == pytest.approx(np.sqrt((0.25 + 4) / 26))
    assert found["cosine"] == pytest.approx(28 / np.sqrt(26 * (9 + 20.25 + 1 + 4)))
    nothing = change([np.zeros((1, 2))], [np.zeros((1, 2))])
    assert nothing["distance"] == 0
    assert np.isnan(nothing["cosine"])


def test_a_gram_of_equal_cases_is_zero() -> None:
    assert not gram(np.full((4, 3), 0.5)).any()
