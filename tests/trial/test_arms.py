"""Adapted trainings on tiny phantoms: frozen parts stay bit for bit, folded channels are as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor

from tests.studies import TINY
from tests.training.learners import same
from tests.trial.conftest import CPU, Bench, Make, quick
from xferlab.data.pixels import Picture
from xferlab.networks.inherit import fold_channels, matched_control
from xferlab.networks.unet import FIRST_CONVOLUTION
from xferlab.tasks import registry
from xferlab.tasks.segmentation.sections import LAYERS
from xferlab.trial.origin import load_origins, trained_weights
from xferlab.trial.predictor import Predictor

SPACES = Path(__file__).parents[2] / "search_spaces" / "ablations.yaml"
SHIPPED = yaml.safe_load(SPACES.read_text())
ENCODER = tuple(f"{level}." for level in LAYERS[:5])
ARMS = {
    name: SHIPPED[name] for name in ("domain_translator", "frozen_encoder", "folded_sum", "matched_control")
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
    trials.ran(*(f"{arm}/{name}/r01" for name in stages[: stages.index(stage) + 1]))
    return trained_weights(trials.store, trials[f"{arm}/{stage}/r01"].trial_id)


def started(trials: Bench, arm: str) -> dict[str, Tensor]:
    """The weights that `general` of an arm starts from."""
    weights(trials, arm, "donor")
    spec = trials[f"{arm}/general/r01"]
    learner = registry.learner_of(spec.identity, CPU)
    load_origins(spec, learner, trials.context)
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


# --- what the donor becomes ---------------------------------------------------------------------


def test_an_arm_starts_with_the_donor_as_it_says_and_keeps_its_channels(trials: Bench) -> None:
    donor, seed = weights(trials, "folded_sum", "donor"), trials["matched_control/general/r01"].identity.seed
    assert same(started(trials, "folded_sum"), fold_channels(donor, "sum"))
    assert same(started(trials, "matched_control"), matched_control(donor, seed))
    chain = [weights(trials, "folded_sum", stage) for stage in ("donor", "general", "portable")]
    assert [state[FIRST_CONVOLUTION].shape[1] for state in chain] == [3, 1, 1]


# --- prediction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["domain_translator", "folded_sum"])
def test_a_trial_and_its_weights_file_predict_alike(trials: Bench, arm: str) -> None:
    store = trials.store
    weights(trials, arm, "portable")
    trial_id = trials[f"{arm}/portable/r01"].trial_id
    path = trials.weights(f"{arm}/portable/r01")
    by_trial = Predictor.of_trial(store, trial_id, CPU)
    by_file = Predictor.of_weights(path, options={"image_size": 32, "intensity": "zscore"}, device=CPU)
    image = np.random.default_rng(3).integers(0, 256, (40, 50), dtype=np.uint8)
    outputs = [network.predictions([network.prepared(Picture(image))])[0] for network in (by_trial, by_file)]
    assert np.array_equal(outputs[0], outputs[1])
    assert outputs[0].std() > 0
