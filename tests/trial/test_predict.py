"""Prediction without a study: a network with drawn weights, so that nothing has to be trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from xferlab.trial.overlay import FILL, FILL_OPACITY, overlay
from xferlab.trial.segmenter import TrainedOn

from xferlab.errors import DonorError, RecordError
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import save_weights
from xferlab.records.store import Store
from xferlab.tasks.segmentation.resized import normalise
from xferlab.trial.predict import Folder, Prediction, Request, Segmenter, at_size, columns, segment

CPU = torch.device("cpu")


def drawn_weights(path: Path, *, in_channels: int = 3, init_features: int = 4) -> Path:
    model = build("unet", in_channels=in_channels, out_channels=1, init_features=init_features)
    initialise(model, 5)
    path.write_bytes(save_weights(model))
    return path


def segmenter(tmp_path: Path, **shape: int) -> Segmenter:
    path = drawn_weights(tmp_path / "w.safetensors", **shape)
    return Segmenter.of_weights(path, size_px=32, intensity="zscore", device=CPU)


def picture(seed: int, *, height: int = 45, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def requests(folder: Path, count: int) -> list[Request]:
    for seed in range(count):
        Image.fromarray(picture(seed)).save(folder / f"{seed:02}.png")
    return [Request(folder / f"{seed:02}.png", f"{seed:02}") for seed in range(count)]


def mask(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / f"{name}_mask.png") as picture:
        return np.asarray(picture)


@pytest.mark.component
def test_the_size_is_antialiased_bilinear_as_in_pytorch() -> None:
    small = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    for height, width in ((45, 60), (20, 100), (11, 7), (32, 32)):
        expected = functional.interpolate(
            torch.from_numpy(small)[None, None], (height, width), mode="bilinear", antialias=True
        )
        found = at_size(small, width=width, height=height)
        assert found.shape == (height, width)
        assert np.abs(found - expected[0, 0].numpy()).max() < 1e-5


@pytest.mark.component
@pytest.mark.parametrize(("in_channels", "init_features"), [(1, 4), (3, 2)])
def test_width_and_channels_are_those_of_the_weights(
    tmp_path: Path, in_channels: int, init_features: int
) -> None:
    own = segmenter(tmp_path, in_channels=in_channels, init_features=init_features)
    prepared = own.prepared(picture(0))
    assert prepared.shape == (1, 32, 32)
    model = build("unet", in_channels=in_channels, out_channels=1, init_features=init_features)
    initialise(model, 5)
    inputs = normalise(torch.tensor(prepared)[None], "zscore").expand(-1, in_channels, -1, -1)
    with torch.inference_mode():
        expected = torch.sigmoid(model.eval()(inputs))[0, 0].numpy()
    assert np.abs(own.probabilities([prepared])[0] - expected).max() < 1e-5


@pytest.mark.component
def test_company_changes_nothing_and_bad_files_are_left_out(tmp_path: Path) -> None:
    own, asked = segmenter(tmp_path), requests(tmp_path, 11)
    level = float(np.median(own.probabilities([own.prepared(picture(0))])))
    (tmp_path / "03.png").write_bytes((tmp_path / "03.png").read_bytes()[:60])
    told: list[tuple[int, int]] = []
    together = Folder(Store.open(tmp_path / "together"), level)
    predictions, problems = segment(
        own, asked, together, progress=lambda done, total: told.append((done, total))
    )
    assert [one.request.name for one in predictions] == [one.name for one in asked if one.name != "03"]
    assert [Path(problem.where).name for problem in problems] == ["03.png"]
    assert told[-1] == (11, 11)
    assert told == sorted(told)
    (alone,), _ = segment(own, [asked[9]], Folder(Store.open(tmp_path / "alone"), level))
    assert 0 < alone.pixels < 45 * 60
    differing = mask(tmp_path / "alone", "09") != mask(tmp_path / "together", "09")
    assert differing.mean() < 0.002  # rounding at the threshold itself


@pytest.mark.component
def test_weights_at_the_top_of_the_file_system_have_one_folder_to_look_into() -> None:
    assert TrainedOn.record_beside(Path("/weights.safetensors"), b"") is None


def test_the_row_agrees_with_the_mask(tmp_path: Path) -> None:
    own, (asked,) = segmenter(tmp_path), requests(tmp_path, 1)
    level = float(np.median(own.probabilities([own.prepared(picture(0))])))
    (found,), _ = segment(own, [asked], Folder(Store.open(tmp_path / "out"), level))
    written = mask(tmp_path / "out", "00")
    assert written.shape == (45, 60)
    assert written.dtype == np.uint8
    assert set(np.unique(written)) == {0, 255}
    row = columns(found, "heart")
    assert (row["width"], row["height"]) == (60, 45)
    assert row["heart_pixels"] == (written == 255).sum()
    assert row["heart_share"] == pytest.approx((written == 255).mean(), abs=1e-6)


@pytest.mark.component
def test_components_touch_at_corners(tmp_path: Path) -> None:
    probability = np.zeros((6, 6), np.float32)
    probability[[0, 1, 4], [0, 1, 4]] = 1
    folder = Folder(Store.open(tmp_path), 0.5)
    found = folder.put(Request(Path("a.png"), "a"), np.zeros((6, 6), np.uint8), probability)
    assert found == Prediction(Request(Path("a.png"), "a"), 6, 6, pixels=3, components=2)
    assert (mask(tmp_path, "a") == probability * 255).all()


@pytest.mark.component
def test_a_pixel_at_the_threshold_is_background(tmp_path: Path) -> None:
    folder = Folder(Store.open(tmp_path), 0.5)
    probability = np.full((4, 4), 0.5, np.float32)
    assert folder.put(Request(Path("a.png"), "a"), np.zeros((4, 4), np.uint8), probability).pixels == 0


@pytest.mark.component
def test_refuses_weights_that_are_no_unet(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(DonorError, match=r"found no 'encoder1.enc1conv1.weight'"):
        Segmenter.of_weights(path, size_px=32, intensity="zscore", device=CPU)


@pytest.mark.component
def test_refuses_a_network_with_several_outputs(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(save_weights(build("unet", in_channels=1, out_channels=3, init_features=2)))
    with pytest.raises(DonorError, match=r"conv.weight \(3, 2, 1, 1\), not \(1, 2, 1, 1\)"):
        Segmenter.of_weights(path, size_px=32, intensity="zscore", device=CPU)


@pytest.mark.component
def test_an_output_that_is_not_finite_is_told_and_no_empty_mask(tmp_path: Path) -> None:
    own, asked = segmenter(tmp_path), requests(tmp_path, 3)

    def spoiled(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        output[1] = torch.nan
        return output

    own.network.register_forward_hook(spoiled)
    found, problems = segment(own, asked, Folder(Store.open(tmp_path / "out"), 0.5))
    assert [one.request.name for one in found] == ["00", "02"]
    text = (
        f"{asked[1].image}: the network's output is not finite, although its weights are; no mask is written."
    )
    assert [str(problem) for problem in problems] == [text]
    assert not (tmp_path / "out" / "01_mask.png").exists()


@pytest.mark.component
def test_an_output_that_cannot_be_written_is_told_and_all_others_are(tmp_path: Path) -> None:
    own, asked = segmenter(tmp_path), requests(tmp_path, 4)
    (tmp_path / "out" / "01_mask.png").mkdir(parents=True)
    (tmp_path / "out" / "03_overlay.png").mkdir()
    found, problems = segment(own, asked, Folder(Store.open(tmp_path / "out"), 0.5))
    assert [one.request.name for one in found] == ["00", "02"]
    assert [problem.where for problem in problems] == [str(asked[1].image), str(asked[3].image)]
    assert all(problem.what.startswith("its outputs cannot be written: ") for problem in problems)
    assert mask(tmp_path / "out", "02").shape == (45, 60)


@pytest.mark.component
def test_an_image_too_large_for_the_device_is_told_and_all_others_are_segmented(tmp_path: Path) -> None:
    own, asked = segmenter(tmp_path), requests(tmp_path, 3)
    asked.append(Request(asked[2].image, "large"))

    def full(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 1 or inputs[0].equal(largest):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    read = own.task.batch(own._square([own.prepared(picture(1))]), np.arange(1), None)
    largest = read.inputs
    own.network.register_forward_pre_hook(full)
    found, problems = segment(own, asked, Folder(Store.open(tmp_path / "out"), 0.5))
    assert [one.request.name for one in found] == ["00", "02", "large"]
    assert [str(problem) for problem in problems] == [
        f"{asked[1].image}: does not fit into the memory that is free on the cpu device."
    ]


@pytest.mark.component
def test_a_trial_without_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is no complete trial"):
        Segmenter.of_trial(Store.open(tmp_path), "0123456789abcdef", CPU)


def disc(size_px: int, radius_px: float) -> np.ndarray:
    y, x = np.indices((size_px, size_px)) - (size_px - 1) / 2
    return np.asarray(x**2 + y**2 < radius_px**2)


def test_overlay_keeps_the_image_beyond_the_outline() -> None:
    image = picture(1, height=90, width=90)
    drawn = overlay(image, disc(90, 20))
    assert drawn.shape == (90, 90, 3)
    assert drawn.dtype == np.uint8
    outside = ~disc(90, 24)
    assert (drawn[outside] == image[outside][:, None]).all()


def test_overlay_is_translucent_inside() -> None:
    image = picture(1, height=90, width=90)
    inside = disc(90, 14)
    expected = image[inside][:, None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(overlay(image, disc(90, 20))[inside] - expected).max() <= 0.51


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_outline_stands_out_from_its_ground(grey: int) -> None:
    # Relative luminance, as in WCAG: the line or its casing differs from what is on either side.
    image, inside = np.full((700, 700), grey, np.uint8), disc(700, 200)
    row = overlay(image, inside)[350].astype(np.float64) @ (0.2126, 0.7152, 0.0722)
    edge = row[145:157]
    assert np.ptp(edge) > 60


def test_overlay_of_nothing_and_of_everything() -> None:
    image = picture(1, height=40, width=50)
    empty = overlay(image, np.zeros((40, 50), bool))
    assert (empty == image[..., None]).all()
    full = overlay(image, np.ones((40, 50), bool))
    expected = image[..., None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(full - expected).max() <= 0.51


def test_overlay_depends_on_neither_position_nor_crop() -> None:
    image, inside = np.full((80, 80), 100, np.uint8), np.zeros((80, 80), bool)
    inside[20:30, 15:40] = True
    moved = overlay(image, np.roll(inside, (25, 30), (0, 1)))
    assert (np.roll(overlay(image, inside), (25, 30), (0, 1)) == moved).all()
