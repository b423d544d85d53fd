"""Adapted trainings on tiny phantoms: frozen parts stay bit for bit, folded channels are as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from tests.studies import TINY
from tests.trial.conftest import Bench, Make, quick
from xferlab.networks.unet import FIRST_CONVOLUTION
from xferlab.tasks import registry
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageBatch
from xferlab.trial.examples import TrialContext
from xferlab.trial.origin import load_origin, trained_weights
from xferlab.trial.predictor import Predictor

pytestmark = pytest.mark.component

CPU = torch.device("cpu")
SPACES = Path(__file__).parents[2] / "search_spaces" / "ablations.yaml"
SHIPPED = yaml.safe_load(SPACES.read_text())
ENCODER_PARTS = {"encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"}
ENCODER = tuple(f"{part}." for part in ENCODER_PARTS)
ARMS = {
    **{
        name: SHIPPED[name]
        for name in ("domain_translator", "frozen_encoder", "folded_sum", "matched_control")
    },
    "late": {"stages.general.adapt": {"freeze": {"part": "encoder", "unfreeze_after": 1}}},
}
STUDY: dict[str, Any] = {
    "repetitions": 1,
    "data": {"mri": {"source": "phantom_mri", "count": 48, "size_px": 32}, **TINY["data"]},
    "stages": {
        "donor": {"data": "mri"},
        "general": {"data": "general", "starts_from": "donor", "evaluate_on": ["general.test"]},
        "portable": {"data": "portable", "starts_from": "general", "evaluate_on": ["portable.hold_out"]},
    },
    "training": quick(max_epochs=2, patience=2),
    "features": None,
    "arms": ARMS,
}


@pytest.fixture(scope="module")
def trials(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One study whose trials run when they are asked for."""
    return bench_in(tmp_path_factory.mktemp("arms"), **STUDY)


def weights(trials: Bench, arm: str, stage: str) -> dict[str, Tensor]:
    """The best weights of a stage, after it and all that precedes it has run."""
    stages = list(STUDY["stages"])
    for name in stages[: stages.index(stage) + 1]:
        trials.run(f"{arm}/{name}/r01")
    return trained_weights(trials.store, trials[f"{arm}/{stage}/r01"].trial_id)


def started(trials: Bench, arm: str) -> dict[str, Tensor]:
    """The weights that `general` of an arm starts from."""
    weights(trials, arm, "donor")
    spec = trials[f"{arm}/general/r01"]
    learner = registry.learner_of(spec.identity, CPU)
    load_origin(spec, learner, TrialContext(trials.store, trials.session.cache_dir, CPU))
    return learner.networks["network"].state_dict()


def digests(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, str]:
    """SHA-256 of the bytes of every tensor whose name has one of the prefixes, if there are any."""
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in state.items()
        if name.startswith(prefixes or "")
    }


def moved(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> set[str]:
    """First parts of the names of tensors that differ."""
    before, after = digests(start), digests(end)
    return {name.split(".")[0] for name in before if before[name] != after[name]}


# --- what is frozen ------------------------------------------------------------------------------------


def test_a_translated_donor_is_bit_identical_through_both_stages(trials: Bench) -> None:
    donor = weights(trials, "domain_translator", "donor")
    fresh = started(trials, "domain_translator")
    general, portable = (weights(trials, "domain_translator", stage) for stage in ("general", "portable"))
    assert {name for name in digests(donor) if name.endswith("running_var")}
    for after in (fresh, general, portable):
        assert digests(donor).items() <= digests(after).items()
    assert moved(fresh, general) == moved(general, portable) == {"translator"}
    assert digests(general).keys() - digests(donor).keys() == {
        name for name in general if name.startswith("translator.")
    }


def test_a_frozen_encoder_is_bit_identical_and_the_decoder_is_not(trials: Bench) -> None:
    donor, general, portable = (
        weights(trials, "frozen_encoder", stage) for stage in ("donor", "general", "portable")
    )
    assert digests(donor, *ENCODER) == digests(general, *ENCODER) == digests(portable, *ENCODER)
    decoder = {"conv", *(f"{part}{n}" for part in ("upconv", "decoder") for n in (1, 2, 3, 4))}
    assert moved(donor, general) == moved(general, portable) == decoder


@pytest.mark.parametrize("arm", ["domain_translator", "late"])
def test_a_resumed_training_freezes_the_same_parts(trials: Bench, bench: Make, arm: str) -> None:
    weights(trials, arm, "general")
    parts = bench(**STUDY)
    parts.run(f"{arm}/donor/r01")
    parts.run_in_pieces(f"{arm}/general/r01", 2)
    assert parts.records.items() <= trials.records.items()


# --- what the donor becomes ---------------------------------------------------------------------


def test_a_folded_arm_trains_on_one_channel(trials: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: set[int] = set()
    batch = BinarySegmentation.batch

    def watched(task: BinarySegmentation, *args: Any) -> ImageBatch:
        result = batch(task, *args)
        shapes.add(result.inputs.shape[1])
        return result

    donor = weights(trials, "folded_sum", "donor")
    monkeypatch.setattr(BinarySegmentation, "batch", watched)
    general, portable = weights(trials, "folded_sum", "general"), weights(trials, "folded_sum", "portable")
    assert shapes == {1}
    assert [state[FIRST_CONVOLUTION].shape[1] for state in (donor, general, portable)] == [3, 1, 1]
    folded = started(trials, "folded_sum")[FIRST_CONVOLUTION]
    torch.testing.assert_close(folded, donor[FIRST_CONVOLUTION].sum(dim=1, keepdim=True))


def test_a_control_starts_with_the_donors_values_in_other_places(trials: Bench) -> None:
    donor, control = weights(trials, "matched_control", "donor"), started(trials, "matched_control")
    assert donor.keys() == control.keys()
    for name, value in donor.items():
        assert torch.equal(control[name].flatten().sort().values, value.flatten().sort().values)
    assert moved(donor, control) >= ENCODER_PARTS


# --- prediction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["domain_translator", "folded_sum"])
def test_a_trial_and_its_weights_file_predict_alike(trials: Bench, tmp_path: Path, arm: str) -> None:
    store = trials.store
    weights(trials, arm, "portable")
    trial_id = trials[f"{arm}/portable/r01"].trial_id
    path = trials.weights(f"{arm}/portable/r01")
    by_trial = Predictor.of_trial(store, trial_id, CPU)
    by_file = Predictor.of_weights(path, size_px=32, intensity="zscore", device=CPU)
    image = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
    outputs = [network.predictions([network.prepared(image)])[0] for network in (by_trial, by_file)]
    assert np.array_equal(outputs[0], outputs[1])
    assert outputs[0].std() > 0
