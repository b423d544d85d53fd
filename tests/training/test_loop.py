from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tasks.segmentation.test_resized import IMAGES, make_examples, make_task, network
from xferlab.errors import NonFiniteLossError
from xferlab.records.schema import EpochResult
from xferlab.training.learner import AugmentationSeed
from xferlab.training.loop import Fitted, Recipe, Trainer
from xferlab.training.randomness import case_keys, permutation

pytestmark = pytest.mark.component
NAN = float("nan")


class Cases:
    def __init__(self, count: int):
        self.keys = case_keys([f"{number * 7919 % 997:016x}" for number in range(count)])

    def __len__(self) -> int:
        return len(self.keys)


class Script:
    """A task whose losses are written down; every training batch moves the one weight downhill."""

    def __init__(self, validation: Sequence[float], *, train: Sequence[float] = ()):
        self.validation, self.train = list(validation), list(train)
        self.batches: list[tuple[list[int], AugmentationSeed | None]] = []

    def batch(self, examples: Cases, rows: np.ndarray, draw: AugmentationSeed | None) -> np.ndarray:
        self.batches.append((rows.tolist(), draw))
        return rows

    def loss(self, model: nn.Module, batch: np.ndarray) -> torch.Tensor:
        value = (self.train.pop(0) if self.train else 0.5) if model.training else self.validation.pop(0)
        weight = next(model.parameters())
        return (weight - weight.detach()).sum() + value

    def predict(self, model: nn.Module, batch: np.ndarray) -> Any:
        raise AssertionError

    measure = pixels = predict


def recipe(**changed: Any) -> Recipe:
    return Recipe(**{"seed": 1, "lr": 1e-3, "batch_size": 16, "max_epochs": 9, "patience": 9, **changed})


def run(script: Script, recipe: Recipe, *, count: int = 8) -> tuple[Fitted, list[float]]:
    """Returns the outcome, and the weight after each epoch."""
    model = nn.Linear(1, 1, bias=False)
    after: list[float] = []
    fitted = Trainer(model, script, recipe).fit(
        Cases(count), Cases(4), after_epoch=lambda result: after.append(float(model.weight.detach()))
    )
    return fitted, after


# --- stopping and selecting ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best", "by"),
    [
        ([5, 4, 3, 2], 2, 4, 4, "max_epochs"),
        ([5, 4, 4.5, 4.5, 1], 2, 4, 2, "patience"),  # the second in a row without improvement
        ([5, 4, 4.5, 3, 3.5, 3.5, 1], 2, 6, 4, "patience"),  # an improvement starts the count again
        ([5, 5, 5, 5], 2, 3, 1, "patience"),  # an equal loss is no improvement
        ([5, 6, 1], 1, 2, 1, "patience"),
        ([-0.1, -0.3, -0.2, -0.25], 2, 4, 2, "patience"),  # the loss as printed goes below 0
    ],
)
def test_stops_at_the_pth_validation_in_a_row_without_improvement(losses, patience, epochs, best, by):
    fitted, _ = run(Script(losses), recipe(patience=patience, max_epochs=len(losses)))
    assert (len(fitted.history), fitted.best_epoch, fitted.stopped_by) == (epochs, best, by)
    assert fitted.best_loss == pytest.approx(losses[best - 1])
    assert [result.epoch for result in fitted.history] == list(range(1, epochs + 1))
    lowest = [min(losses[: n + 1]) == losses[n] and losses[n] not in losses[:n] for n in range(epochs)]
    assert [result.improved for result in fitted.history] == lowest


def test_the_weights_are_those_of_the_best_epoch():
    fitted, after = run(Script([5, 3, 4, 4, 2, 6]), recipe(max_epochs=6))
    assert len(set(after)) == 6
    assert float(fitted.weights["weight"]) == after[4]
    assert fitted.weights["weight"].device.type == "cpu"


def test_the_learning_rate_falls_after_more_than_patience_epochs_without_improvement():
    losses = [5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3]
    fitted, _ = run(Script(losses), recipe(max_epochs=11, patience=99, plateau=(0.1, 2)))
    # Two epochs are borne, at the third the rate falls, and the count starts again.
    expected = [1e-3] * 5 + [1e-4] * 3 + [1e-5] * 3
    assert [result.values["lr"] for result in fitted.history] == pytest.approx(expected)


def test_without_plateau_the_learning_rate_stays():
    fitted, _ = run(Script([5] * 9), recipe(patience=99))
    assert {result.values["lr"] for result in fitted.history} == {1e-3}


# --- what is trained on ----------------------------------------------------------------------------


def test_every_epoch_visits_every_case_once_in_the_order_of_its_permutation():
    script = Script([5, 4, 3])
    run(script, recipe(batch_size=4, max_epochs=3), count=11)
    trained = [(rows, draw) for rows, draw in script.batches if draw is not None]
    assert [len(rows) for rows, _ in trained] == [4, 7] * 3
    for epoch in (1, 2, 3):
        rows = [row for batch, draw in trained if draw == AugmentationSeed(1, epoch) for row in batch]
        assert rows == permutation(Cases(11).keys, seed=1, epoch=epoch).tolist()


def test_validation_takes_the_cases_in_order_and_draws_nothing():
    script = Script([5] * 6)
    Trainer(nn.Linear(1, 1), script, recipe(batch_size=3, max_epochs=2)).fit(Cases(8), Cases(7))
    validated = [rows for rows, draw in script.batches if draw is None]
    assert validated == [[0, 1, 2], [3, 4, 5], [6]] * 2


def test_losses_are_weighted_by_images():
    script = Script([1.0, 2.0, 9.0], train=[1.0, 4.0])
    fitted = Trainer(nn.Linear(1, 1), script, recipe(batch_size=4, max_epochs=1)).fit(Cases(11), Cases(9))
    assert fitted.history[0].values["train_loss"] == pytest.approx((4 * 1.0 + 7 * 4.0) / 11)
    assert fitted.history[0].values["validation_loss"] == pytest.approx((4 * 1.0 + 4 * 2.0 + 1 * 9.0) / 9)


def test_the_validation_loss_is_blind_to_augmentation_precision_and_seed():
    model = network()
    examples = make_examples()
    settings = [({}, 1), ({"rotation": None}, 1), ({"autocast": torch.bfloat16}, 1), ({}, 2)]
    losses = {
        Trainer(model, make_task(**changed), recipe(batch_size=4, seed=seed)).validation_loss(examples)
        for changed, seed in settings
    }
    assert len(losses) == 1


def test_validating_changes_no_weight_and_no_statistic():
    model = network()
    before = copied(model.state_dict())
    Trainer(model, make_task(), recipe()).validation_loss(make_examples())
    assert equal(model.state_dict(), before)


# --- a loss that is no number ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_a_bad_training_loss_raises_before_the_step(bad):
    model = nn.Linear(1, 1, bias=False)
    seen: list[float] = []
    script = Script([5, 5], train=[0.5, 0.5, 0.5, bad])
    trainer = Trainer(model, script, recipe(batch_size=4, lr=0.25))
    with pytest.raises(
        NonFiniteLossError, match=r"training loss became -?(nan|inf) in epoch 2, batch 2; .*now 0.25"
    ):
        trainer.fit(Cases(8), Cases(4), after_batch=lambda: seen.append(float(model.weight.detach())))
    assert float(model.weight.detach()) == seen[-1]
    assert len(seen) == 3  # two batches, one validation: nothing is stored after the bad batch
    assert [result.epoch for result in trainer.cursor.history] == [1]


@pytest.mark.parametrize(
    ("train", "text"),
    [
        ([NAN], r"batch 1; no step was taken yet, so the learning rate is not the cause\. Look at the w"),
        (
            [0.5, NAN],
            r"batch 2; the weights are finite, and .*\. Most often training\.lr \(now 0\.001\) is too",
        ),
    ],
)
def test_a_bad_loss_blames_the_learning_rate_only_after_a_step(train, text):
    trainer = Trainer(nn.Linear(1, 1), Script([5], train=train), recipe(batch_size=4))
    with pytest.raises(NonFiniteLossError, match=text):
        trainer.fit(Cases(8), Cases(4))


def test_weights_that_a_step_has_damaged_are_named():
    class Overflowing(Script):
        def loss(self, model, batch):  # a finite loss with a gradient that is not
            weight = next(model.parameters())
            return super().loss(model, batch) + (weight - weight.detach()).abs().sum().sqrt()

    trainer = Trainer(nn.Linear(1, 1), Overflowing([5], train=[0.5, NAN]), recipe(batch_size=4))
    with pytest.raises(
        NonFiniteLossError, match=r"batch 2; a step before it made 'weight' NaN or infinite\. Most"
    ):
        trainer.fit(Cases(8), Cases(4))


def test_a_bad_validation_loss_raises_and_is_never_the_best():
    trainer = Trainer(nn.Linear(1, 1), Script([5, NAN]), recipe())
    with pytest.raises(NonFiniteLossError, match="validation loss became nan in epoch 2"):
        trainer.fit(Cases(8), Cases(4))
    assert (trainer.cursor.best_epoch, trainer.cursor.best_loss) == (1, 5.0)


# --- resuming --------------------------------------------------------------------------------------


def copied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in weights.items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved(trainer: Trainer[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(trainer.state(), buffer)
    return buffer.getvalue()


def outcomes(history: Sequence[EpochResult]) -> list[list[Any]]:
    return [result.outcome() for result in history]


TRAIN, VALIDATION = [0, 1, 2, 3, 4, 5, 6], [7, 8, 9]
BRIGHT = np.where(IMAGES[:, 0] > 128, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_training_resumed_after_any_batch_equals_the_uninterrupted_one_bit_for_bit(autocast):
    """Weights, statistics, optimizer, learning rate and history; with a reduction and a stop on the way."""
    settings = recipe(batch_size=2, max_epochs=12, patience=4, plateau=(0.5, 1), lr=0.03)
    # Validation asks for the opposite of what is trained, so that patience ends it.
    train = make_examples(targets=BRIGHT, rows=TRAIN)
    validation = make_examples(targets=255 - BRIGHT, rows=VALIDATION)

    def trainer() -> Trainer[Any, Any]:
        return Trainer(network(), make_task(autocast=autocast), settings)

    whole, states = trainer(), []
    fitted = whole.fit(train, validation, after_batch=lambda: states.append(saved(whole)))
    assert len({result.values["lr"] for result in fitted.history}) > 1
    assert 1 < fitted.best_epoch < len(fitted.history)
    assert fitted.stopped_by == "patience"
    assert len(states) == 3 * len(fitted.history)
    final = torch.load(io.BytesIO(states[-1]), weights_only=True)["optimizer"]["state"]
    for state in states:
        torch.manual_seed(len(state))  # no generator's state matters
        again = trainer()
        again.restore(torch.load(io.BytesIO(state), weights_only=True))
        resumed = again.fit(train, validation)
        assert equal(resumed.weights, fitted.weights)
        assert equal(dict(again.model.state_dict()), dict(whole.model.state_dict()))
        assert outcomes(resumed.history) == outcomes(fitted.history)
        assert (resumed.best_epoch, resumed.best_loss, resumed.stopped_by) == (
            fitted.best_epoch, fitted.best_loss, fitted.stopped_by,
        )  # fmt: skip
        for number, slots in again.optimizer.state_dict()["state"].items():
            assert equal(slots, final[number])


def test_the_order_of_cases_on_disk_does_not_matter():
    """Digest order decides; the rows of the table do not."""
    order = [3, 0, 6, 5, 1, 2, 4, 9, 7, 8]
    moved = np.empty_like(IMAGES)
    moved[order] = IMAGES
    targets = make_examples().targets
    moved_targets = np.empty_like(targets)
    moved_targets[order] = targets

    def fit(images: np.ndarray, targets: np.ndarray, place: Sequence[int]) -> Fitted:
        parts = []
        for rows in (TRAIN, VALIDATION):
            part = make_examples(images, targets=targets, rows=[place[row] for row in rows])
            part.keys = make_examples(rows=rows).keys
            parts.append(part)
        return Trainer(network(), make_task(), recipe(batch_size=2, max_epochs=2)).fit(*parts)

    one, other = fit(IMAGES, targets, range(10)), fit(moved, moved_targets, order)
    assert equal(one.weights, other.weights)


def test_another_seed_gives_other_weights_and_the_same_seed_the_same():
    def fit(seed: int) -> Fitted:
        trainer = Trainer(network(), make_task(), recipe(batch_size=4, max_epochs=1, seed=seed))
        return trainer.fit(make_examples(rows=TRAIN), make_examples(rows=VALIDATION))

    assert equal(fit(1).weights, fit(1).weights)
    assert not equal(fit(1).weights, fit(2).weights)


def test_a_finished_training_that_is_restored_trains_no_more():
    trainer = Trainer(nn.Linear(1, 1), Script([5, 4]), recipe(max_epochs=2))
    fitted = trainer.fit(Cases(8), Cases(4))
    script = Script([])
    again = Trainer(nn.Linear(1, 1), script, recipe(max_epochs=2))
    again.restore(torch.load(io.BytesIO(saved(trainer)), weights_only=True))
    assert equal(again.fit(Cases(8), Cases(4)).weights, fitted.weights)
    assert script.batches == []


def test_a_state_of_another_network_is_refused():
    trainer = Trainer(network(), make_task(), recipe())
    with pytest.raises(RuntimeError, match="size mismatch"):
        Trainer(network(1), make_task(in_channels=1), recipe()).restore(trainer.state())


def test_training_learns():
    """The one test that the direction of the step is right: the loss on what is trained on falls."""
    examples = make_examples(targets=BRIGHT)
    trainer = Trainer(
        network(), make_task(rotation=None), recipe(max_epochs=25, patience=25, lr=0.03, batch_size=5)
    )
    history = trainer.fit(examples, examples).history
    assert history[-1].values["train_loss"] < 0.5 * history[0].values["train_loss"]
