"""Patches: where their centres lie, their pixels, their votes, and the map that they make of an image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.tasks.classification.learners import CLASSES, examples, make
from tests.tasks.classification.test_contract import INSIDE
from tests.training.images import CPU, STRONG
from xferlab.metrics.classes import voted
from xferlab.plan.spec import GATE, Input
from xferlab.records.predictions import PredictedCases, table_of
from xferlab.tasks.classification.patch_heat import PatchHeat
from xferlab.tasks.classification.patches import Boxes, Places, draws
from xferlab.tasks.classification.prediction import CLASSES as FROM
from xferlab.tasks.classification.prediction import Prediction
from xferlab.tasks.classification.sampling import balanced_rows
from xferlab.training.learner import AugmentationSeed
from xferlab.trial.given import passes

SIDE = 50
KEYS = np.arange(3, dtype=np.uint64) * np.uint64(10**15 + 7)
PATCHES = {"patches": {"size_px": 32, "number": 6, "validation": 2}, "image_size": 48}
BOTH = {**INSIDE, "trials": {}}


def masks() -> np.ndarray:
    """An L, two specks, and nothing, at another size than the images have."""
    planes = np.zeros((3, 12, 12), bool)
    planes[0, 2:9, 3] = planes[0, 8, 3:11] = True
    planes[1, 0, 0] = planes[1, 11, 11] = True
    return planes


def stretched(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def centres(number: int, *, apart: bool = False, epoch: int = 1) -> np.ndarray:
    places = Places(masks(), side=SIDE, device=CPU)
    drawn = draws(KEYS, number=number, seed=5, epoch=epoch)
    return places.centres(np.arange(3), drawn, apart=apart).numpy()


def test_a_centre_is_each_pixel_of_the_region_equally_often() -> None:
    found = centres(4000)
    for case, mask in enumerate(masks()[:2]):
        inside = stretched(mask)
        counts = np.zeros((SIDE, SIDE))
        np.add.at(counts, tuple(found[case].T), 1)
        assert (counts > 0).sum() > 0.99 * inside.sum()
        assert not counts[~inside].any()
        expected = 4000 / inside.sum()
        chi2 = ((counts[inside] - expected) ** 2 / expected).sum()
        assert abs(chi2 - inside.sum()) < 5 * np.sqrt(2 * inside.sum())


def test_without_a_region_centres_lie_anywhere() -> None:
    places = Places(masks(), side=SIDE, device=CPU)
    assert places.is_empty.tolist() == [False, False, True]
    assert len(np.unique(centres(4000)[2], axis=0)) > 1800


def test_rows_and_columns_apart_follow_those_of_the_region_each_by_itself() -> None:
    """The specks of opposite corners give all four corners alike, two of which no speck is in."""
    found = centres(4000, apart=True)[1] > SIDE // 2
    shares = [(found == corner).all(axis=1).mean() for corner in ([0, 0], [0, 1], [1, 0], [1, 1])]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)


def test_the_first_patches_are_the_same_however_many_there_are_and_in_any_batch() -> None:
    assert np.array_equal(centres(20)[:, :4], centres(4))
    places = Places(masks(), side=SIDE, device=CPU)
    alone = places.centres(np.array([1]), draws(KEYS[1:2], number=4, seed=5, epoch=1), apart=False)
    assert np.array_equal(alone[0], centres(4)[1])
    assert not np.array_equal(centres(4), centres(4, epoch=2))


def test_a_patch_inside_is_the_pixels_themselves_and_one_at_the_border_is_stretched() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 1, SIDE, SIDE), np.uint8))
    boxes = Boxes.around(torch.tensor([[[25, 20]], [[3, 48]]]), size_px=16, side=SIDE)
    inner, border = boxes.pixels(images)
    assert torch.equal(inner, images[0, :, 17:33, 12:28])
    expected = F.interpolate(images[1:, :, 0:11, 40:50].float(), size=(16, 16), mode="bilinear")
    assert (border.float() - expected[0]).abs().max() <= 0.501
    around = Places(masks(), side=SIDE, device=CPU)
    inside = boxes.inside(around.masks[:2], around.lines)[0, 0]
    assert np.array_equal(inside.numpy(), stretched(masks()[0])[17:33, 12:28])


def plain(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Grad-CAM at the size of a patch: stretched, and divided by its maximum."""
    whole = F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
    highest = whole.amax(dim=(2, 3), keepdim=True)
    return torch.where(highest > 0, whole / highest, 0.0)


def test_one_patch_that_covers_all_gives_its_probability_times_the_plain_map() -> None:
    maps = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    maps[0, 2] = 0.0
    probability = torch.tensor([[0.5, 0.3, 0.2]])
    heat = PatchHeat(3, 64, CPU)
    heat.add(maps, probability, Boxes.around(torch.tensor([[[32, 32]]]), size_px=64, side=64))
    expected = plain(maps, 64)[0] * probability.reshape(3, 1, 1)
    torch.testing.assert_close(heat.means(), expected, rtol=1e-5, atol=1e-6)
    assert heat.covered.all()


def test_a_constant_map_gives_the_probability_wherever_a_patch_lies() -> None:
    boxes = Boxes.around(torch.tensor([[[2, 60], [30, 30], [33, 28], [63, 0]]]), size_px=16, side=64)
    heat = PatchHeat(2, 64, CPU)
    for start in (0, 2):
        heat.add(
            torch.full((2, 2, 4, 4), 7.0), torch.tensor([[0.75, 0.25]] * 2), boxes.part(start, start + 2)
        )
    covered = heat.covered
    assert 0 < covered.float().mean() < 0.5
    for number, expected in enumerate((0.75, 0.25)):
        values = heat.means()[number]
        torch.testing.assert_close(values[covered], torch.full_like(values[covered], expected))
        assert not values[~covered].any()


def test_patches_add_up_as_when_each_is_put_at_its_place() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand(9, 2, 5, 5, generator=generator)
    probability = torch.softmax(torch.randn(9, 2, generator=generator), dim=1)
    middles = torch.randint(0, 48, (1, 9, 2), generator=generator)
    boxes = Boxes.around(middles, size_px=20, side=48)
    sums, counts = torch.zeros(2, 48, 48), torch.zeros(48, 48)
    for number in range(9):
        rows, columns = (slice(*span[number].tolist()) for span in (boxes.rows, boxes.columns))
        size = (rows.stop - rows.start, columns.stop - columns.start)
        whole = F.interpolate(maps[number : number + 1], size=size, mode="bilinear")[0]
        sums[:, rows, columns] += (
            whole / whole.amax(dim=(1, 2), keepdim=True) * probability[number, :, None, None]
        )
        counts[rows, columns] += 1
    heat = PatchHeat(2, 48, CPU)
    heat.add(maps, probability, boxes)
    torch.testing.assert_close(heat.means(), sums / counts.clamp_min(1), rtol=1e-4, atol=1e-6)


def test_most_votes_win_and_a_tie_goes_to_the_larger_sum() -> None:
    assert voted(np.array([[0.4, 0.6], [0.4, 0.6], [0.99, 0.01]], np.float32)) == 1
    assert voted(np.array([[0.4, 0.6], [0.7, 0.3]], np.float32)) == 0
    assert voted(np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)) == 1


def test_a_gate_lets_an_image_pass_by_the_class_that_predict_tells() -> None:
    """Four sure patches against five unsure ones: the mean is of the four, the votes are of the five."""
    learner = make(model={"image_size": 48, "patches": {"size_px": 32, "number": 9, "validation": 2}})
    patches = np.zeros((9, FROM + 3), np.float32)
    patches[:, FROM:] = [[0.04, 0.06, 0.9]] * 4 + [[0.1, 0.46, 0.44]] * 5
    prediction = Prediction.of_patches(patches, np.zeros((3, 4, 4), np.float32), 1.0)
    assert prediction.probability.argmax() == 2
    image = np.zeros((48, 48), np.uint8)
    shown = learner.present(image, prediction.array(), height=48, targets=CLASSES, threshold=0.5)
    given = learner.for_others(prediction.array(), 0.0)
    stored = PredictedCases(pq.read_table(pa.BufferReader(table_of([("a", given)]))))["a"]
    for place, name in enumerate(CLASSES):
        gate = Input(GATE, ("t",), names=(name,), places=(place,))
        assert passes(gate, given) == passes(gate, stored) == (shown.columns["class"] == name)


def test_a_prediction_survives_its_vector() -> None:
    rng = np.random.default_rng(3)
    patches = np.concatenate([rng.random((5, FROM)), rng.dirichlet(np.ones(3), 5)], axis=1).astype(np.float32)
    made = Prediction.of_patches(patches, rng.random((3, 8, 8), np.float32), 0.5)
    read = Prediction.of(made.array(), num_classes=3, num_patches=5)
    assert np.array_equal(read.patches, patches)
    assert np.array_equal(read.heats, made.heats)
    assert np.array_equal(read.heat, made.heats[made.voted])
    assert (read.voted, read.covered) == (made.voted, 0.5)
    np.testing.assert_allclose(read.probability, patches[:, FROM:].mean(axis=0))


def test_classes_are_drawn_alike_and_a_case_again_with_another_number() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    keys = np.random.default_rng(4).integers(0, 2**63, 100).astype(np.uint64)
    rows = np.concatenate([balanced_rows(keys, labels, seed=1, epoch=epoch) for epoch in range(1, 41)])
    assert (labels[rows % 100] == 1).mean() == pytest.approx(0.5, abs=0.03)
    once = balanced_rows(keys, labels, seed=1, epoch=1)
    assert len(set(once.tolist())) == 100
    order = np.random.default_rng(5).permutation(100)
    again = balanced_rows(keys[order], labels[order], seed=1, epoch=1)
    assert np.array_equal(keys[once % 100], keys[order][again % 100])


def test_a_case_that_is_drawn_twice_shows_two_patches() -> None:
    learner, cases = make(model=PATCHES), examples(side=48)
    seen = learner.load(cases, np.array([1, 1 + 6, 1]), AugmentationSeed(1, 1)).inputs
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("keep", ["inside", "outside", "whole"])
def test_a_patch_shows_what_masks_leave(keep: str) -> None:
    learner = make(model={**PATCHES, "intensity": "unit"}, masks={**BOTH, "keep": keep})
    cases = examples(side=48, masks=True)
    case = learner.load(cases, np.array([0]), None)
    table = Prediction.of(learner.predict(case)[0], num_classes=3, num_patches=6).patches
    assert table is not None
    inside = (cases.masks_of(0) > 0).any(axis=0)
    left = {"inside": inside, "outside": ~inside, "whole": np.ones_like(inside)}[keep]
    image = cases.case(0)[0][0] / 255.0
    seen = learner.judged(cases, np.array([0])).inputs
    for number, (row, column) in enumerate(table[:2, :2].astype(int)):
        assert left[row, column]
        rows, columns = (slice(max(0, at - 16), at + 16) for at in (row, column))
        if image[rows, columns].shape == (32, 32):
            np.testing.assert_allclose(seen[number, 0], (image * left)[rows, columns], atol=1e-6)
            assert table[number, 2] == pytest.approx(
                image[rows, columns][left[rows, columns]].mean(), abs=1e-5
            )
            assert table[number, 3] == pytest.approx(
                image[rows, columns][left[rows, columns]].std(), abs=1e-5
            )


@pytest.mark.parametrize("model", [PATCHES, {"image_size": 48}], ids=["patches", "whole"])
@pytest.mark.parametrize("keep", ["inside", "outside"])
def test_nothing_of_what_masks_leave_out_can_be_read(keep: str, model: dict[str, object]) -> None:
    """Images that differ there only are the same to a network: stretched at a border, turned, and blurred."""
    training = {"rotation": {"degrees": 20.0, "probability": 1.0}, "augmentation": vars(STRONG)}
    model = {**model, "intensity": "unit"}
    learner = make(model=model, masks={**BOTH, "keep": keep}, **training)
    seen = []
    for hidden in (0, 255):
        cases = examples(side=48, masks=True)
        cases.images = np.array(cases.images)
        inside = (cases.masks_of(0) > 0).any(axis=0)
        cases.images[..., ~inside if keep == "inside" else inside] = hidden
        rows = np.arange(6)
        drawn = learner.load(cases, rows, AugmentationSeed(1, 1)).inputs
        seen.append((drawn, learner.judged(cases, rows).inputs))
    for first, second in zip(*seen, strict=True):
        assert first.any()
        assert torch.equal(first, second)


class Nothing:
    """Masks of a network that finds nothing."""

    structures = ("left",)

    def of(self, row: int) -> np.ndarray:
        return np.zeros((1, 12, 12), np.uint8)


class Speck(Nothing):
    """Masks of a pixel that images of half their side lose."""

    def of(self, row: int) -> np.ndarray:
        plane = np.zeros((1, 96, 96), np.uint8)
        plane[0, 40, 40] = 255
        return plane


@pytest.mark.parametrize("masks", [Nothing(), Speck()], ids=["nothing", "lost"])
def test_where_masks_leave_nothing_all_views_see_black_and_a_prediction_is_finite(masks: Nothing) -> None:
    cases = examples(side=48)
    cases.masks = masks
    rows = np.array([0])
    for model in (PATCHES, {"image_size": 48}):
        learner = make(model={**model, "intensity": "unit"}, masks={**BOTH, "places": [0]})
        inputs = learner.judged(cases, rows).inputs
        assert not inputs.any()
        (prediction,) = learner.predict(learner.load(cases, rows, None))
        assert np.isfinite(prediction).all()
        measured = learner.measure(cases, 0, prediction)
        assert np.isnan([measured["COVERED"], measured["PATCH_MEAN"]]).all()
        assert np.isnan(measured["LUNG_MEAN"]) == (not masks.of(0).any())
        assert not learner.outputs(cases, 0, prediction)["image"].any()


def test_only_some_structures_make_the_region() -> None:
    cases = examples(side=48, masks=True)
    left = make(masks={**BOTH, "region": ["left"]}, model={"image_size": 48})
    outputs = left.outputs(cases, 0, left.predict(left.load(cases, np.array([0]), None))[0])
    assert np.array_equal(outputs["mask"], cases.masks_of(0)[0])
    assert np.array_equal(outputs["mask_middle"], cases.masks_of(0)[1])
    assert outputs["whole"].shape == (1, 48, 48)


def test_patches_are_measured_and_stored() -> None:
    learner, cases = make(model=PATCHES, masks=BOTH), examples(side=48, masks=True)
    (prediction,) = learner.predict(learner.load(cases, np.array([2]), None))
    measured = learner.measure(cases, 2, prediction)
    assert 0.5 < measured["COVERED"] <= 1
    outputs = learner.outputs(cases, 2, prediction)
    assert outputs["heats"].shape == (3, 48, 48)
    assert outputs["patches"].shape == (6, FROM + 3)
    assert measured["CALLED"] == voted(outputs["patches"][:, FROM:])
    shown = learner.present(cases.case(2)[0][0], prediction, height=48, targets=CLASSES, threshold=0.5)
    assert shown.columns["class"] == CLASSES[int(measured["CALLED"])]


def test_training_counts_what_it_was_right_about() -> None:
    learner, cases = make(model=PATCHES, lr=1e-9), examples(side=48)
    learner.prepare(cases)
    learner.begin_epoch(1)
    batch = learner.load(cases, np.arange(6), AugmentationSeed(1, 1))
    with torch.no_grad():
        right = (learner.network(batch.inputs).argmax(dim=1) == batch.truth.argmax(dim=1)).float().mean()
    learner.begin_epoch(1)
    learner.train_step(batch)
    assert learner.end_epoch(1.0, {"loss": 1.0})["train_accuracy"] == pytest.approx(float(right))
