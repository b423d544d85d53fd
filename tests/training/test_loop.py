"""The loop: when it stops, what it keeps, what it trains on, and that it resumes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.learners import (
    Cases,
    Pair,
    Script,
    Small,
    assert_resumes,
    copied,
    loaded,
    same,
    saved,
    trainer,
)  # fmt: skip
from xferlab.errors import NonFiniteLossError
from xferlab.metrics.score import Score
from xferlab.training.learner import AugmentationSeed
from xferlab.training.loop import Fitted, weights_of
from xferlab.training.randomness import permutation

NAN = float("nan")
HIGHER = Score("accuracy", "higher")


def run(script: Script, *, count: int = 8, **schedule: Any) -> tuple[Fitted, list[float]]:
    """Returns the outcome, and the weight after each epoch."""
    after: list[float] = []
    fitted = trainer(script, **schedule).fit(
        Cases(count), Cases(4), after_epoch=lambda result: after.append(script.weight)
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
@pytest.mark.parametrize("sign", [1, -1], ids=["lower", "higher"])
def test_stops_at_the_pth_validation_in_a_row_without_improvement(losses, patience, epochs, best, by, sign):
    """The same epochs are kept where higher values of the negated score are better."""
    script = Script([sign * loss for loss in losses])
    score = HIGHER if sign < 0 else Score("loss", "lower")
    fitted, after = run(script, patience=patience, max_epochs=len(losses), score=score)
    assert (len(fitted.history), fitted.best_epoch, fitted.stopped_by) == (epochs, best, by)
    assert fitted.best_score == pytest.approx(sign * losses[best - 1])
    assert [result.epoch for result in fitted.history] == list(range(1, epochs + 1))
    assert [result.score for result in fitted.history] == pytest.approx([sign * n for n in losses[:epochs]])
    lowest = [min(losses[: n + 1]) == losses[n] and losses[n] not in losses[:n] for n in range(epochs)]
    assert [result.improved for result in fitted.history] == lowest
    assert len(set(after)) == epochs
    assert float(fitted.weights["weight"]) == after[best - 1]
    assert fitted.weights["weight"].device.type == "cpu"


def test_without_a_score_the_last_epoch_is_kept_and_patience_never_ends():
    fitted, after = run(Script([1, 5, 5, 5, 5]), max_epochs=5, patience=1, score=None)
    assert (len(fitted.history), fitted.stopped_by) == (5, "max_epochs")
    assert (fitted.best_epoch, fitted.best_score) == (5, None)
    assert float(fitted.weights["weight"]) == after[-1]
    assert [(result.score, result.improved) for result in fitted.history] == [(None, True)] * 5


@pytest.mark.parametrize("score", [Score("loss", "lower"), None])
def test_the_learning_rate_falls_after_more_than_patience_epochs_without_improvement(score):
    losses = [5, 4, 4, 4, 4, 4, 4, 4, 3, 3, 3]
    fitted, _ = run(Script(losses, plateau=(0.1, 2)), max_epochs=11, score=score)
    # Two epochs are borne, at the third the rate falls, and the count starts again.
    expected = [1e-3] * 5 + [1e-4] * 3 + [1e-5] * 3 if score else [1e-3] * 11
    assert [result.values["lr"] for result in fitted.history] == pytest.approx(expected)


@pytest.mark.parametrize("score", [Score("accuracy", "higher"), None])
def test_the_learning_rate_may_follow_the_training_loss_whatever_the_score_is(score):
    train = [5, 4, 4, 4, 4, 3, 3, 3, 3, 3]
    script = Script(list(range(10)), train=train, plateau=(0.1, 2), follows="training_loss")
    fitted, _ = run(script, max_epochs=10, score=score, count=16)
    assert [result.values["train_loss"] for result in fitted.history] == pytest.approx(train)
    expected = [1e-3] * 5 + [1e-4] * 4 + [1e-5]
    assert [result.values["lr"] for result in fitted.history] == pytest.approx(expected)


def test_without_plateau_the_learning_rate_stays():
    fitted, _ = run(Script([5] * 9))
    assert {result.values["lr"] for result in fitted.history} == {1e-3}


# --- what is trained on ----------------------------------------------------------------------------


def test_every_epoch_visits_every_case_once_in_the_order_of_its_permutation():
    script = Script([5, 4, 3], batch_size=4)
    run(script, max_epochs=3, count=11)
    trained = [(rows, draw) for rows, draw in script.batches_seen if draw is not None]
    assert [len(rows) for rows, _ in trained] == [4, 7] * 3
    for epoch in (1, 2, 3):
        rows = [row for batch, draw in trained if draw == AugmentationSeed(1, epoch) for row in batch]
        assert rows == permutation(Cases(11).keys, seed=1, epoch=epoch).tolist()


def test_validation_takes_the_cases_in_order_and_draws_nothing():
    script = Script([5] * 6, batch_size=3)
    trainer(script, max_epochs=2).fit(Cases(8), Cases(7))
    validated = [rows for rows, draw in script.batches_seen if draw is None]
    assert validated == [[0, 1, 2], [3, 4, 5], [6]] * 2


def test_losses_are_weighted_by_images():
    script = Script([1.0, 2.0, 9.0], train=[1.0, 4.0], batch_size=4)
    values = trainer(script, max_epochs=1).fit(Cases(11), Cases(9)).history[0].values
    assert values["train_loss"] == pytest.approx((4 * 1.0 + 7 * 4.0) / 11)
    assert values["validation_loss"] == pytest.approx((4 * 1.0 + 4 * 2.0 + 1 * 9.0) / 9)


def test_it_prepares_from_the_training_cases_once_and_again_where_it_resumes():
    script = Script([5] * 3, batch_size=4)
    training, states = trainer(script, max_epochs=3), []
    training.fit(Cases(11), Cases(4), after_batch=lambda: states.append(saved(training)))
    assert script.prepared == [11]
    for state in states:
        again = trainer(Script([5] * 3, batch_size=4), max_epochs=3)
        again.restore(loaded(state))
        again.fit(Cases(11), Cases(4))
        assert again.learner.prepared == ([] if state is states[-1] else [11])  # the last one is trained


# --- a loss that is no number ----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_a_bad_training_loss_raises_before_the_step(bad):
    seen: list[float] = []
    script = Script([5, 5], train=[0.5, 0.5, 0.5, bad], batch_size=4, lr=0.25)
    training = trainer(script)
    with pytest.raises(
        NonFiniteLossError, match=r"training loss became -?(nan|inf) in epoch 2, batch 2; .*now 0.25"
    ):
        training.fit(Cases(8), Cases(4), after_batch=lambda: seen.append(script.weight))
    assert script.weight == seen[-1]
    assert len(seen) == 3  # two batches, one validation: nothing is stored after the bad batch
    assert [result.epoch for result in training.cursor.history] == [1]


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
    with pytest.raises(NonFiniteLossError, match=text):
        trainer(Script([5], train=train, batch_size=4)).fit(Cases(8), Cases(4))


def test_weights_that_a_step_has_damaged_are_named():
    class Overflowing(Script):
        def loss(self, forward, batch):  # a finite loss with a gradient that is not
            weight = self.network.weight
            return super().loss(forward, batch) + (weight - weight.detach()).abs().sum().sqrt()

    with pytest.raises(
        NonFiniteLossError, match=r"batch 2; a step before it made 'weight' NaN or infinite\. Most"
    ):
        trainer(Overflowing([5], train=[0.5, NAN], batch_size=4)).fit(Cases(8), Cases(4))


def test_a_bad_validation_loss_raises_and_is_never_the_best():
    training = trainer(Script([5, NAN]))
    with pytest.raises(NonFiniteLossError, match="validation loss became nan in epoch 2"):
        training.fit(Cases(8), Cases(4))
    assert (training.cursor.best_epoch, training.cursor.best_score) == (1, 5.0)


def test_a_state_after_a_bad_loss_is_never_stored():
    script = Script([], train=[NAN])
    training = trainer(script)
    script.train_step(script.load(Cases(4), Cases(4).keys, None))  # as on a device: nobody has looked yet
    with pytest.raises(NonFiniteLossError, match="training loss became nan in epoch 1, by batch 0"):
        training.state()


# --- resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"plateau": (0.5, 1)},
        {"plateau": (0.5, 1), "precision": "bfloat16"},
        {"plateau": (0.5, 1), "follows": "training_loss", "weight_decay": 0.1},
        {"milestones": ((2, 4), 0.5)},
    ],
)
def test_a_training_resumed_after_any_batch_equals_the_uninterrupted_one_bit_for_bit(how):
    """Weights, dropout, optimizer, learning rate and history; with a reduction and a stop on the way."""
    fitted = assert_resumes(
        lambda: trainer(Small(lr=0.3, **how), max_epochs=12, patience=4),
        Cases(11),
        Cases(5),
    )
    assert len({result.values["lr"] for result in fitted.history}) > 1
    assert 1 < fitted.best_epoch < len(fitted.history)
    assert fitted.stopped_by == "patience"


def test_networks_that_are_trained_together_are_kept_and_resumed_together():
    score = Score("likeness", "higher")
    fitted = assert_resumes(lambda: trainer(Pair(1), max_epochs=3, score=score), Cases(11), Cases(4))
    names = {f"{network}.{part}" for network in ("teacher", "pupil") for part in ("weight", "bias")}
    assert fitted.weights.keys() == names
    values = fitted.history[-1].values
    assert values.keys() == {"train_teacher", "train_pupil", "validation_likeness", "teacher_lr", "pupil_lr"}
    assert fitted.best_score == max(result.values["validation_likeness"] for result in fitted.history)


def test_several_networks_have_their_names_before_the_weights_and_one_has_none():
    pair, small = Pair(1), Small()
    assert weights_of(pair)["pupil.bias"] is not None
    assert same(weights_of(small), copied(small.network))


def test_another_seed_gives_other_weights_and_the_same_seed_the_same():
    one, same_seed, other = (
        trainer(Small(seed=seed), max_epochs=1).fit(Cases(8), Cases(4)).weights for seed in (1, 1, 2)
    )
    assert same(one, same_seed)
    assert not same(one, other)


def test_a_finished_training_that_is_restored_trains_no_more():
    training = trainer(Script([5, 4]), max_epochs=2)
    fitted = training.fit(Cases(8), Cases(4))
    script = Script([])
    again = trainer(script, max_epochs=2)
    again.restore(loaded(saved(training)))
    assert same(again.fit(Cases(8), Cases(4)).weights, fitted.weights)
    assert script.batches_seen == []


def test_a_state_of_another_network_is_refused():
    with pytest.raises(RuntimeError, match="Missing key"):
        trainer(Small()).restore(trainer(Script([])).state())


def test_training_learns():
    """The one test that the direction of the step is right: the loss on what is trained on falls."""
    history = trainer(Small(p=0.0, lr=0.03), max_epochs=25).fit(Cases(20), Cases(20)).history
    assert history[-1].values["train_loss"] < 0.5 * history[0].values["train_loss"]


def test_validating_changes_no_weight_and_is_blind_to_dropout_precision_and_seed():
    losses, weights = set(), copied(Small().network)
    for precision, seed in (("float32", 1), ("bfloat16", 1), ("float32", 2)):
        learner = Small(precision=precision, seed=seed)
        learner.start_from(weights, origin="")
        losses.add(learner.validate(Cases(9))["loss"])
        assert same(weights, copied(learner.network))
    assert len(losses) == 1


def test_a_compiled_network_runs_steps_and_nothing_else(monkeypatch):
    calls: list[bool] = []

    def compiled(network: torch.nn.Module, *, dynamic: bool) -> Any:
        assert not dynamic

        def view(inputs: torch.Tensor) -> torch.Tensor:
            calls.append(network.training)
            return network(inputs)

        return view

    monkeypatch.setattr(torch, "compile", compiled)
    plain = trainer(Small(), max_epochs=2).fit(Cases(8), Cases(4))
    fitted = trainer(Small(compiled=True), max_epochs=2).fit(Cases(8), Cases(4))
    assert calls == [True] * 4
    assert same(fitted.weights, plain.weights)
