"""Masks that a translation predicts for another stage are those that it is itself measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.studies import TINY
from tests.trial.conftest import Bench, Make
from xferlab.plan.spec import MASKS
from xferlab.records.reader import read_selection
from xferlab.training.learner import predicted_rows
from xferlab.trial.examples import examples
from xferlab.trial.predictions import predictions_for

pytestmark = pytest.mark.component

SEEN, NEW = "seen", "new"
NARROW = {"width": 2, "blocks": 1, "discriminator_width": 2, "image_size": 32}
CHESTS = {"source": "phantom_cxr", "count": {"normal": 10, "covid19": 10}, "size_px": 32}


def fields() -> dict[str, Any]:
    learning = {"batch_size": 8, "max_epochs": 1, "patience": 1}
    return {
        "data": {
            SEEN: {**CHESTS, "seed": 1},
            NEW: {**CHESTS, "seed": 2, "simulate": "portable", "gamma": 2.0},
        },
        "training": {**TINY["training"], "lr": 0.01, "max_epochs": 8, "patience": 8},
        "stages": {
            "segment": {"data": SEEN, "repetitions": 2},
            "transfer": {
                "task": "translation", "data": {"a": SEEN, "b": NEW}, "starts_from": {"segmenter": "segment"},
                "model": NARROW, "training": {"batch_size": 4, "max_epochs": 1},
            },
            "told": {
                "task": "classification", "data": [NEW, SEEN], "masks": {"from": "transfer"},
                "model": {"name": "resnet18", "width": 0.125, "image_size": 32}, "training": learning,
            },
        },
        "arms": {"a": {}},
        "features": None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def bench(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = bench_in(tmp_path_factory.mktemp("translated"), **fields())
    return made.ran("a/segment/r01", "a/transfer/r01", "a/told/r01")


def masks_as(bench: Bench, section: str, set_name: str) -> dict[str, np.ndarray]:
    """Masks of the images of a section by the network of `transfer`, as its evaluation of a set has them."""
    spec, told = bench["a/transfer/r01"], bench["a/told/r01"]
    own = read_selection(bench.store, told.selection).digests
    in_section = {case.digest for name, case, _ in bench.plan.selector.listed() if name == section}
    digests = [digest for digest in own if digest in in_section]
    loaded, learner = examples(spec, section, digests, bench.context), bench.learner(spec)
    loaded.set_name = set_name
    rows = predicted_rows(learner, loaded, 4)
    return {digests[row]: learner.for_others(planes, 0.5)["structures"] for row, planes in rows}


def test_masks_of_the_first_domain_are_of_images_as_they_are_and_others_by_way_of_it(bench: Bench) -> None:
    told = bench["a/told/r01"]
    given = predictions_for(told, told.predicted, told.section, bench.context)
    taken = {digest: cases[digest]["structures"] for digest, cases in given.cases[MASKS].items()}
    expected = {**masks_as(bench, SEEN, "a"), **masks_as(bench, NEW, "b")}
    assert taken.keys() == expected.keys()
    for digest, mask in expected.items():
        assert np.array_equal(taken[digest], mask)
    translated = masks_as(bench, SEEN, "b")
    assert any(not np.array_equal(taken[digest], mask) for digest, mask in translated.items())
