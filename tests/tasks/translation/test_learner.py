"""Who learns from which step of a translation, which epoch is kept, and what is predicted of each domain."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.tasks.translation.learners import cases, examples, identity, make
from tests.training.learners import copied, same
from xferlab.tasks.translation.batches import DOMAINS, Batch
from xferlab.tasks.translation.learner import TranslationLearner
from xferlab.training.sets import CaseSets
from xferlab.trial.training import trainer_of

MUNIT = {"model": {"name": "munit_small"}, "segmenter": None, "labelled": False}
STYLES = {domain: torch.zeros(3, 0) for domain in DOMAINS}
OFF = {"adversarial": 0.0, "cycle": 0.0}


def batch_of(learner: TranslationLearner, *, labelled: bool = True) -> Batch:
    sets = examples(labelled=labelled)
    return learner.load(sets, learner.batches(sets, 1)[0], None)


def changed_by(learner: TranslationLearner, batch: Batch) -> set[str]:
    """The networks that a step changes the weights of."""
    learner.begin_epoch(1)
    before = {name: copied(network) for name, network in learner.networks.items()}
    learner.train_step(batch)
    return {name for name, network in learner.networks.items() if not same(copied(network), before[name])}


@pytest.mark.parametrize("options", [{}, MUNIT], ids=["cyclegan", "munit"])
def test_the_generators_step_leaves_no_gradient_in_discriminators_and_moves_generators(options: dict):
    learner = make(**options, weights={"cycle": 0.0, "image": 0.0, "content": 0.0, "style": 0.0})
    moved = changed_by(learner, batch_of(learner, labelled=False))
    assert {*learner._pair.generators, *learner._pair.discriminators} <= moved
    for network in learner._pair.discriminators.values():
        assert all(each.grad is None and each.requires_grad for each in network.parameters())


@pytest.mark.parametrize("options", [{}, MUNIT], ids=["cyclegan", "munit"])
def test_steps_of_the_generators_lower_the_cycle_loss_of_the_same_images(options: dict):
    learner = make(lr=1e-2, **options, weights={"adversarial": 0.0, "supervised": 0.0})
    batch = batch_of(learner, labelled=False)
    learner.begin_epoch(1)
    cycles = [float(learner.train_step(batch)["cycle"]) for _ in range(6)]
    assert cycles[-1] < 0.95 * cycles[0]


def test_the_supervised_loss_moves_segmenter_and_generators_and_no_discriminator():
    everything = {"generator_a", "generator_b", "segmenter"}
    learner = make(weights=OFF)
    learner._steppers["discriminators"].optimizer.param_groups[0]["lr"] = 0.0
    assert changed_by(learner, batch_of(learner)) == everything


def test_labels_of_the_second_domain_change_what_the_segmenter_learns():
    """They do so in a batch that has any; one without them has the losses of the first domain alone."""
    losses = []
    for labelled in (False, True):
        learner = make()
        learner.begin_epoch(1)
        losses.append(learner.train_step(batch_of(learner, labelled=labelled)))
    assert float(losses[0]["supervised"]) < float(losses[1]["supervised"])
    assert same({**losses[0], "supervised": 0}, {**losses[1], "supervised": 0})


@pytest.mark.parametrize("labelled", [False, True])
def test_without_labels_of_the_second_domain_the_last_epoch_is_kept(labelled: bool):
    sets, own = examples(labelled=labelled), identity(labelled=labelled, max_epochs=3, patience=1, lr=0.1)
    fitted = trainer_of(own, make(labelled=labelled, lr=0.1)).fit(sets, sets)
    losses = [result.values.get("validation_loss") for result in fitted.history]
    if labelled:
        assert fitted.best_epoch == losses.index(min(losses)) + 1
    else:
        assert (losses, fitted.best_epoch, fitted.best_score) == ([None] * 3, 3, None)


def test_the_style_that_is_predicted_with_is_the_mean_over_training_images():
    learner, sets = make(**MUNIT), examples(labelled=False)
    learner.prepare(sets)
    learner.validate(sets)
    for domain in DOMAINS:
        rows = range(len(sets.sets[domain]))
        images = [learner.load(sets.sets[domain], np.array([row]), None).single for row in rows]
        with torch.no_grad():
            codes = torch.cat([learner._pair.style_of(image, domain) for image in images])
        torch.testing.assert_close(learner.networks["styles"].of(domain), codes.mean(dim=0))
        assert codes.std(dim=0).max() > 0


def test_images_of_either_domain_are_shown_and_measured_by_their_own_way():
    learner = make()
    network, pair = learner.networks["segmenter"].eval(), learner._pair
    for name, direct in (("a", "probability"), ("b.labelled", "other")):
        own = cases(name, 2)
        batch = learner.load(own, np.array([0, 1]), None)
        (prediction, _) = learner.predict(batch)
        planes = learner._planes(prediction)
        with torch.no_grad():
            image = batch.single
            there = pair.translated(image, "b" if name == "a" else "a", STYLES["a"][:2])
            expected = torch.sigmoid(network((image + 1) / 2))[0]
        np.testing.assert_allclose(planes.translated, there[0, 0], atol=1e-4)
        np.testing.assert_allclose(getattr(planes, direct), expected, atol=1e-4)
        measured = learner.measure(own, 0, prediction)
        undefined = "DICE_UNTRANSLATED" if name == "a" else "DICE_RECOVERED"
        assert [key for key in ("DICE_RECOVERED", "DICE_UNTRANSLATED") if math.isnan(measured[key])] == [
            undefined
        ]


@pytest.mark.parametrize("name", ["cyclegan", "munit_small"])
@pytest.mark.parametrize(("first", "second"), [(1, 3), (5, 2)])
def test_domains_of_fewer_images_than_a_batch_come_again_in_it(name: str, first: int, second: int):
    sets = CaseSets(
        {"a": cases("a", first), "b": cases("b", second, masks=False), "b.labelled": cases("b.labelled", 2)}
    )
    learner = make(model={"name": name}, batch_size=4)
    learner.begin_epoch(1)
    for rows in learner.batches(sets, 1):
        divided = sets.divided(rows)
        assert {each: len(own) for each, own in divided.items()} == {"a": 4, "b": 4, "b.labelled": 2}
        assert set(divided["b"]) == set(range(second))
        losses = learner.train_step(learner.load(sets, rows, None))
    assert all(torch.isfinite(loss) for loss in losses.values())
