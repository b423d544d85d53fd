"""Several structures at once: exclusive or overlapping outputs, losses and metrics of each and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, TverskyLoss
from sklearn.metrics import jaccard_score

from tests.networks.test_image_networks import count, on_meta
from tests.tasks.contract import LearnerContract
from tests.tasks.segmentation.learners import identity, make, trainer
from tests.training.images import STRONG, Images, images_of, native, noisy, resized
from xferlab.errors import DonorError
from xferlab.metrics.measuring import METRICS, measure, metrics_of
from xferlab.metrics.score import Score
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import task
from xferlab.tasks.segmentation.resized import ResizedSegmentation
from xferlab.tasks.segmentation.sections import Network
from xferlab.training.examples import ImageExamples, NativeExamples
from xferlab.training.learner import AugmentationSeed
from xferlab.training.pixel_losses import LOSSES, against_others, exclusive_cross_entropy, loss_of
from xferlab.training.structures import MAX_PIXELS

COUNT, SIZE = 5, 16
EXCLUSIVE = {"structures": 3, "outputs": "exclusive"}
OVERLAPPING = {"structures": 3, "outputs": "overlapping"}


def classes(seed: int = 0, shape: tuple[int, ...] = (4, 9, 8)) -> torch.Tensor:
    """Random numbers of classes, 0 (background) to 3, int64 (N, H, W)."""
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(seed))


def planes(numbers: torch.Tensor) -> torch.Tensor:
    """A plane for each of the three structures, float64 (N, 3, H, W)."""
    return F.one_hot(numbers, 4).movedim(-1, 1)[:, 1:].double()


def logits_for(numbers: torch.Tensor, channels: int = 4, seed: int = 1) -> torch.Tensor:
    shape = (len(numbers), channels, *numbers.shape[1:])
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- losses ----------------------------------------------------------------------------------------


def test_the_sigmoid_of_a_logit_against_the_others_is_its_softmax_probability() -> None:
    logits = logits_for(classes())
    assert torch.allclose(torch.sigmoid(against_others(logits)), logits.softmax(1)[:, 1:], atol=1e-14)
    extreme = torch.tensor([1e4, 0.0, -1e4, 1e4]).reshape(1, 4, 1, 1)
    assert torch.sigmoid(against_others(extreme)).flatten().tolist() == [0.0, 0.0, 0.5]


@pytest.mark.parametrize("name", LOSSES)
def test_overlapping_structures_have_the_mean_of_their_losses(name: str) -> None:
    target = planes(classes())
    valid = (torch.rand(target.shape, generator=torch.Generator().manual_seed(2)) < 0.7).double()
    logits = logits_for(classes(), channels=3)
    single = [LOSSES[name](*(v[:, [n]] for v in (logits, target, valid)), 2.0) for n in range(3)]
    assert float(loss_of(name, logits, target, valid, 2.0)) == pytest.approx(float(sum(single)) / 3)


@pytest.mark.parametrize("name", LOSSES)
def test_one_structure_has_its_loss_to_the_last_bit(name: str) -> None:
    logits, target = logits_for(classes(), channels=1).float(), planes(classes())[:, :1].float()
    valid = torch.ones_like(target)
    assert torch.equal(loss_of(name, logits, target, valid, 1.0), LOSSES[name](logits, target, valid, 1.0))


def test_exclusive_losses_are_those_of_monai_and_pytorch() -> None:
    numbers = classes()
    logits, target = logits_for(numbers), planes(numbers)
    valid, whole = torch.ones_like(target), F.one_hot(numbers, 4).movedim(-1, 1).double()
    options: dict[str, Any] = {"include_background": False, "softmax": True, "batch": True}
    # MONAI adds its constants once to 2 I and once to P + T, as `dice` does.
    dice = DiceLoss(**options, smooth_nr=2.0, smooth_dr=2.0)(logits, whole)
    tversky = TverskyLoss(**options, alpha=0.3, beta=0.7, smooth_nr=2.0, smooth_dr=2.0, reduction="none")
    entropy = F.cross_entropy(logits, numbers)
    expected = {
        "dice": dice,
        "cross_entropy": entropy,
        "dice_cross_entropy": dice + entropy,
        "focal_tversky": (tversky(logits, whole) ** 0.75).mean(),
    }
    for name, value in expected.items():
        found = loss_of(name, logits, target, valid, 2.0, is_exclusive=True)
        assert float(found) == pytest.approx(float(value), rel=1e-6), name


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_losses(name: str, is_exclusive: bool) -> None:
    numbers = classes(shape=(2, 3, 3))
    logits, target = logits_for(numbers, channels=3 + is_exclusive).requires_grad_(), planes(numbers)
    valid = torch.ones_like(target)
    valid[0, 1] = valid[1, :, 0] = 0
    assert torch.autograd.gradcheck(
        lambda z: loss_of(name, z, target, valid, 1.0, is_exclusive=is_exclusive), (logits,)
    )


def test_weighted_cross_entropy_is_that_of_pytorch() -> None:
    numbers, weights = classes(), [0.5, 1.0, 2.0, 0.25]
    logits, target = logits_for(numbers), planes(numbers)
    valid = torch.ones_like(target)
    valid[1] = 0
    expected = F.cross_entropy(logits[[0, 2, 3]], numbers[[0, 2, 3]], weight=torch.tensor(weights).double())
    options: dict[str, Any] = {"is_exclusive": True, "class_weights": weights}
    found = loss_of("cross_entropy", logits, target, valid, 1.0, **options)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    both = loss_of("dice_cross_entropy", logits, target, valid, 1.0, **options)
    assert float(both - found) == pytest.approx(
        float(loss_of("dice", logits, target, valid, 1.0, is_exclusive=True))
    )
    even = loss_of("cross_entropy", logits, target, valid, 1.0, is_exclusive=True, class_weights=[3.0] * 4)
    assert float(even) == pytest.approx(float(exclusive_cross_entropy(logits, target, valid)), rel=1e-12)
    assert float(loss_of("cross_entropy", logits, target, torch.zeros_like(valid), 1.0, **options)) == 0.0


def test_an_absent_mask_leaves_the_truth_open_and_no_more() -> None:
    """Without the mask of structure 2, background may be background or structure 2."""
    logits = logits_for(torch.zeros(1, 1, 4, dtype=torch.int64))
    p = logits.softmax(1)[0, :, 0]
    target = planes(torch.tensor([[[0, 1, 3, 0]]]))
    valid = torch.ones_like(target)
    valid[:, 1] = 0
    valid[:, :, :, 3] = 0  # a pixel that may be anything
    known = torch.stack([p[0, 0] + p[2, 0], p[1, 1], p[3, 2]])
    expected = -known.log().mean()
    assert float(exclusive_cross_entropy(logits, target, valid)) == pytest.approx(float(expected), rel=1e-12)
    weights = torch.tensor([(0.5 + 3.0) / 2, 1.0, 5.0]).double()  # of several classes, the mean
    weighted = exclusive_cross_entropy(logits, target, valid, [0.5, 1.0, 3.0, 5.0])
    assert float(weighted) == pytest.approx(float(-(weights * known.log()).sum() / weights.sum()), rel=1e-12)


@pytest.mark.parametrize("is_exclusive", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_a_structure_without_masks_takes_no_part(name: str, is_exclusive: bool) -> None:
    """Nothing is learnt of it, and the mean is over the others; without any, the loss is 0."""
    numbers = classes() % 3  # structure 3 is nowhere
    logits, target = logits_for(numbers, channels=3 + is_exclusive).requires_grad_(), planes(numbers)
    valid = torch.ones_like(target)
    valid[:, 2] = 0
    loss = loss_of(name, logits, target, valid, 1.0, is_exclusive=is_exclusive)
    loss.backward()
    loss = loss.detach()
    assert loss.isfinite()
    if not is_exclusive:
        two = loss_of(name, logits.detach()[:, :2], target[:, :2], valid[:, :2], 1.0)
        assert float(loss) == pytest.approx(float(two), rel=1e-12)
        assert logits.grad is not None
        assert (logits.grad[:, 2] == 0).all()
    nothing = loss_of(name, logits, target, torch.zeros_like(valid), 1.0, is_exclusive=is_exclusive)
    assert float(nothing.detach()) == 0.0


# --- batches, predictions, metrics -----------------------------------------------------------------


def overlapping(count: int = COUNT) -> ImageExamples:
    """Random targets of all three values; the case in row 2 has no mask of `b`."""
    images, _ = noisy(count, SIZE)
    random = np.random.default_rng(7)
    targets = random.choice(np.array([0, 127, 255], np.uint8), (count, 3, SIZE, SIZE), p=[0.5, 0.1, 0.4])
    targets[2, 1] = 127
    return resized(images, targets)


def test_an_absent_mask_stays_absent_when_the_image_is_turned() -> None:
    view = ResizedSegmentation(in_channels=1, rotation=(30.0, 1.0), augmentation=STRONG)
    batch = view.batch(overlapping(), np.arange(COUNT), AugmentationSeed(seed=3, epoch=1))
    assert batch.valid[2, 1].sum() == 0
    assert (batch.valid.sum(dim=(2, 3)) > 0).sum() == 3 * COUNT - 1


def test_exclusive_masks_are_where_a_structure_is_most_probable() -> None:
    logits = 2 * torch.randn(4, 20, 20, generator=torch.Generator().manual_seed(0))
    probability = logits.softmax(0)
    exclusive = ResizedSegmentation(in_channels=1, is_exclusive=True)
    masks = exclusive.masks(probability[1:].numpy())
    chosen = logits.argmax(0).numpy()
    assert (masks == np.stack([chosen == number for number in (1, 2, 3)])).all()
    assert (masks.sum(axis=0) <= 1).all()
    overlapping = ResizedSegmentation(in_channels=1).masks(probability[1:].numpy(), 0.2)
    assert (overlapping == (probability[1:].numpy() > 0.2)).all()
    assert (overlapping.sum(axis=0) > 1).any()


def ignoring() -> ImageExamples:
    """Cases with a structure, of whose pixels some are ignored."""
    images, targets = noisy(4, SIZE)
    targets[:, :3] = 127
    return resized(images, targets)


def test_a_pixel_at_the_threshold_is_background() -> None:
    assert not ResizedSegmentation(in_channels=1).masks(np.full((1, 4, 4), 0.5, np.float32)).any()


@pytest.mark.parametrize("model", [EXCLUSIVE, OVERLAPPING])
def test_each_structure_is_measured_by_itself_and_the_mean_is_over_those_with_a_mask(
    model: dict[str, Any],
) -> None:
    learner, examples = make(model=model), overlapping()
    prediction = learner.predict(learner.load(examples, np.arange(COUNT), None))[2]
    assert prediction.shape == (3, SIZE, SIZE)
    measured = learner.measure(examples, 2, prediction)
    assert tuple(measured) == tuple(metric.name for metric in metrics_of(("a", "b", "c")))
    masks = ResizedSegmentation(1, is_exclusive=model is EXCLUSIVE).masks(prediction)
    target = examples.case(2)[1]
    single = {
        name: measure(prediction[n], target[n] == 255, ignore=target[n] == 127, predicted=masks[n])
        for n, name in enumerate("abc")
    }
    for metric in METRICS:
        for name in "abc":
            assert measured[f"{metric.name}_{name}"] == pytest.approx(single[name][metric.name], nan_ok=True)
        assert np.isnan(measured[f"{metric.name}_b"])
        mean = np.mean([single["a"][metric.name], single["c"][metric.name]])
        assert measured[metric.name] == pytest.approx(mean, nan_ok=True)


@pytest.mark.parametrize("model", [EXCLUSIVE, OVERLAPPING])
def test_a_temperature_is_fitted_to_pixels_that_count_and_moves_no_mask(model: dict[str, Any]) -> None:
    learner, examples = make(model=model), overlapping()
    prediction = learner.predict(learner.load(examples, np.arange(COUNT), None))[0]
    target, p = examples.case(0)[1], torch.from_numpy(prediction).double()
    every = torch.cat([1 - p.sum(0, keepdim=True), p])
    halved = (every.log() / 2).softmax(0)[1:] if model is EXCLUSIVE else torch.sigmoid(p.logit() / 2)
    outcomes = learner.outcomes(examples, 0, prediction)
    if model is EXCLUSIVE:
        counted = (target != 127).all(axis=0)
        first = np.select([target[n] == 255 for n in range(3)], [1, 2, 3])[counted]
        np.testing.assert_allclose(outcomes.probability, every.numpy()[:, counted], atol=1e-6)
        assert (outcomes.truth.argmax(axis=0) == first).all()
        assert (outcomes.truth.sum(axis=0) == 1).all()
    else:
        assert (outcomes.probability[0] == prediction[target != 127]).all()
        assert (outcomes.truth[0] == (target == 255)[target != 127]).all()
    before, after = learner.measure(examples, 0, prediction), learner.measure_at(examples, 0, prediction, 2.0)
    for n, name in enumerate("abc"):
        expected = measure(halved[n].float().numpy(), target[n] == 255, ignore=target[n] == 127)
        assert after[f"ECE_{name}"] == pytest.approx(expected["ECE"], abs=1e-5)
        assert after[f"DICE_{name}"] == before[f"DICE_{name}"]
    assert after["ECE"] != before["ECE"]


def test_a_temperature_needs_some_pixels_of_a_large_case() -> None:
    learner, examples = make(), resized(*noisy(1, 160))
    (prediction,) = learner.predict(learner.load(examples, np.arange(1), None))
    drawn, again = (learner.outcomes(examples, 0, prediction) for _ in range(2))
    assert drawn.truth.shape == (1, MAX_PIXELS)
    assert (drawn.probability == again.probability).all()
    assert drawn.truth.mean() == pytest.approx(0.5, abs=0.02)  # of targets of three values, one is ignored


def test_what_is_shown_of_several_structures_has_a_target_and_a_mask_each() -> None:
    learner, examples = make(model=EXCLUSIVE), overlapping()
    (prediction,) = learner.predict(learner.load(examples, np.array([1]), None))
    shown = learner.outputs(examples, 1, prediction)
    assert list(shown) == ["image", *(f"{kind}_{name}" for name in "abc" for kind in ("target", "mask"))]
    assert (shown["target_b"] == examples.case(1)[1][1]).all()
    assert {value for name in "abc" for value in np.unique(shown[f"mask_{name}"])} <= {0, 255}
    assert sum((shown[f"mask_{name}"] == 255).astype(int) for name in "abc").max() <= 1


def discs(sizes: list[tuple[int, int]]) -> Images:
    """Images with the disc of `images_of`, its upper and its lower half, and nothing."""
    images = images_of(sizes)
    for row, target in enumerate(images.targets):
        upper, lower = target.copy(), target.copy()
        upper[len(target) // 2 :] = lower[: len(target) // 2] = 0
        images.targets[row] = np.stack([upper, lower, np.zeros_like(target)])
    return images


SIZES = [(48, 40), (33, 64), (50, 32), (40, 40), (64, 33)]


@pytest.mark.parametrize("outputs", ["exclusive", "overlapping"])
def test_a_tile_of_the_whole_image_is_the_whole_image(outputs: str) -> None:
    examples = native(discs([(32, 32)] * 2))
    predictions = [
        make(model={"image_size": "native", "structures": 3, "outputs": outputs, "tiles": tiles})
        for tiles in (None, {"size": 32})
    ]
    whole, tiled = (learner.predict(learner.load(examples, np.arange(2), None))[1] for learner in predictions)
    assert whole.shape == (3, 32, 32)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize("outputs", ["exclusive", "overlapping"])
def test_two_halves_of_a_disc_are_learnt(outputs: str) -> None:
    examples = native(discs([(32, 32)] * 6))
    training = trainer(
        model={"image_size": "native", "structures": 3, "outputs": outputs, "init_features": 4},
        max_epochs=40, batch_size=2, lr=0.01, rotation=None, loss="dice_cross_entropy",
    )  # fmt: skip
    training.fit(examples, examples)
    learner = training.learner
    (prediction,) = learner.predict(learner.load(examples, np.array([0]), None))
    measured = learner.measure(examples, 0, prediction)
    assert measured["DICE_a"] > 0.8
    assert measured["DICE_b"] > 0.8
    assert measured["DICE_c"] == 1.0  # nothing is there, and nothing is found


@pytest.mark.parametrize("model", [EXCLUSIVE, {**EXCLUSIVE, "image_size": "native"}, OVERLAPPING])
def test_epochs_may_be_judged_by_the_jaccard_index_of_scikit_learn(model: dict[str, Any]) -> None:
    """Over images and structures, without the structure that a case has no mask of."""
    is_native = "image_size" in model
    examples = native(discs(SIZES)) if is_native else overlapping()
    learner = make(model=model, score="jaccard", batch_size=2)
    values = []
    for row in range(COUNT):
        (prediction,) = learner.predict(learner.load(examples, np.array([row]), None))
        masks = ResizedSegmentation(1, is_exclusive=model is not OVERLAPPING).masks(prediction)
        for mask, target in zip(masks, examples.case(row)[1], strict=True):
            if (counted := target != 127).any():
                pair = (target == 255)[counted], mask[counted]
                values.append(jaccard_score(*pair, zero_division=1.0))
    assert len(values) == 3 * COUNT - (not is_native)
    assert learner.validate(examples)["jaccard"] == pytest.approx(np.mean(values), rel=1e-12)
    assert identity(score="jaccard").score == Score("jaccard", "higher")
    assert "jaccard" not in make(model=model).validate(examples)


# --- a single structure -----------------------------------------------------------------------------

SINGLE = {"outputs": "exclusive"}


def test_the_loss_of_a_single_exclusive_structure_is_the_cross_entropy_of_two_classes() -> None:
    learner, examples = make(model=SINGLE, loss="cross_entropy", class_weights=(1.0, 3.0)), ignoring()
    batch = learner.load(examples, np.arange(4), None)
    logits = learner.network(batch.inputs).detach()
    truth = torch.where(batch.valid == 1, batch.target, 127)[:, 0].long()
    expected = F.cross_entropy(logits, truth, torch.tensor([1.0, 3.0]), ignore_index=127)
    assert logits.shape[1] == 2
    assert (truth == 127).any()
    loss = learner.loss(learner.network, batch).detach()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_a_single_exclusive_structure_is_measured_and_shown_as_any_single_one() -> None:
    learner, examples = make(model=SINGLE), ignoring()
    batch = learner.load(examples, np.arange(4), None)
    (prediction, *_) = learner.predict(batch)
    with torch.no_grad():
        softmax = learner.network.eval()(batch.inputs).softmax(1)[0, 1:]
    np.testing.assert_allclose(prediction, softmax.numpy(), rtol=1e-5)
    for threshold in (0.3, 0.5, 0.6):
        expected = prediction > threshold
        given = learner.for_others(prediction, threshold)["structures"]
        assert (given == np.where(expected, 255, 0)).all()
        shown = learner.present(
            examples.case(0)[0][0], prediction, height=SIZE, targets=("lung",), threshold=threshold
        )
        assert sorted(shown.files) == sorted(task("segmentation").files(("lung",)))
    target = examples.case(0)[1][0]
    alone = measure(prediction[0], target == 255, ignore=target == 127, predicted=prediction[0] > 0.5)
    assert learner.measure(examples, 0, prediction) == pytest.approx(alone, nan_ok=True)
    assert set(learner.outputs(examples, 0, prediction)) == {"image", "target", "probability"}


def test_a_single_exclusive_structure_has_a_threshold_and_overlaps_with_nothing() -> None:
    single, several = identity(model=SINGLE), identity(model=EXCLUSIVE)
    assert (single.has_threshold, several.has_threshold) == (True, False)
    assert (single.exclusive_targets, several.exclusive_targets) == (False, True)
    assert single.to_json()["model"]["outputs"] == "exclusive"
    assert "outputs" not in identity().to_json()["model"]


def test_the_unet_of_the_paper_has_two_outputs() -> None:
    model = Network(**SINGLE, init_features=64, in_channels=1)  # type: ignore[arg-type]
    channels = {"in_channels": model.in_channels, "out_channels": model.out_channels}
    assert count(on_meta("unet", **channels, init_features=model.init_features)) == 31_036_546


# --- heads -----------------------------------------------------------------------------------------


def weights(**changed: Any) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in make(**changed).network.state_dict().items()}


@pytest.mark.parametrize("translator", [None, {"depth": 1, "width": 3}])
def test_a_new_head_keeps_its_random_weights_and_all_else_is_taken_over(translator: Any) -> None:
    parent = weights(seed=3, model={"translator": translator})
    child = make(seed=9, model={"translator": translator, **EXCLUSIVE}, adapt={"head": "new"})
    fresh = {key: value.clone() for key, value in child.network.state_dict().items()}
    child.start_from(parent, origin="parent")
    heads = [key for key in fresh if key.startswith(("conv.", "translator.head."))]
    for key, value in child.network.state_dict().items():
        assert torch.equal(value, fresh[key] if key in heads else parent[key]), key
    assert child.network.state_dict()["conv.weight"].shape[0] == 4


def test_weights_of_another_number_of_structures_are_refused_with_the_remedy() -> None:
    remedy = r"last layer has 1 outputs, and what .* needs 3: set adapt: {head: new}"
    with pytest.raises(DonorError, match=remedy):
        make(model=OVERLAPPING).start_from(weights(), origin="parent")


# --- the contract ----------------------------------------------------------------------------------


def tiny(**changed: object) -> TrialIdentity:
    return identity(batch_size=2, max_epochs=2, augmentation=vars(STRONG), lr=0.01, **changed)


class TestResized(LearnerContract):
    identity, targets = tiny(model=OVERLAPPING), ("a", "b", "c")

    def examples(self) -> ImageExamples:
        return overlapping()


class TestExclusive(LearnerContract):
    targets = ("a", "b", "c")
    identity = tiny(
        model={"image_size": "native", **EXCLUSIVE}, loss="cross_entropy", class_weights=(0.5, 1, 1, 1),
        score="jaccard", weight_decay=0.01, plateau={"of": "training_loss"},
    )  # fmt: skip

    def examples(self) -> NativeExamples:
        return native(discs(SIZES))


class TestTiled(TestExclusive):
    identity = tiny(model={"image_size": "native", "tiles": {"size": 32}, **OVERLAPPING})
