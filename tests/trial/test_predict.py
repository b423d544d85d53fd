"""Prediction without a study: a network with drawn weights, so that nothing has to be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.conftest import Folder, digests_of
from tests.data.test_grey_levels import DEEP, TONES, WINDOW, put_alone
from xferlab.data.cache import open_table
from xferlab.data.decode import read_image
from xferlab.data.pixels import Picture
from xferlab.data.sources.registry import read_section
from xferlab.errors import DataError, DonorError, RecordError, TaskError, UsageError
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import save_weights
from xferlab.records.store import Store
from xferlab.training.examples import untargeted
from xferlab.training.intensity import normalise
from xferlab.training.learner import Presented
from xferlab.trial.predict import Prediction, Request, predict
from xferlab.trial.predictor import Predictor
from xferlab.trial.trained_on import TrainedOn

CPU = torch.device("cpu")


def drawn_weights(path: Path, *, in_channels: int = 3, init_features: int = 4) -> Path:
    model = build("unet", in_channels=in_channels, out_channels=1, init_features=init_features)
    initialise(model, 5)
    path.write_bytes(save_weights(model))
    return path


def predictor(tmp_path: Path, **shape: int) -> Predictor:
    path = drawn_weights(tmp_path / "w.safetensors", **shape)
    return Predictor.of_weights(path, options={"image_size": 32, "intensity": "zscore"}, device=CPU)


def picture(seed: int, *, height: int = 45, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def requests(folder: Path, count: int) -> list[Request]:
    for seed in range(count):
        Image.fromarray(picture(seed)).save(folder / f"{seed:02}.png")
    return [Request(folder / f"{seed:02}.png", f"{seed:02}") for seed in range(count)]


def mask(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / f"{name}_mask.png") as image:
        return np.asarray(image)


def median(network: Predictor) -> float:
    """A threshold that about half of the pixels of the first picture pass."""
    return float(np.median(network.predictions([network.prepared(Picture(picture(0)))])))


def names(predictions: Sequence[Prediction]) -> list[str]:
    return [prediction.request.name for prediction in predictions]


@pytest.mark.parametrize(("in_channels", "init_features"), [(1, 4), (3, 2)])
def test_width_and_channels_are_those_of_the_weights(
    tmp_path: Path, in_channels: int, init_features: int
) -> None:
    network = predictor(tmp_path, in_channels=in_channels, init_features=init_features)
    prepared = network.prepared(Picture(picture(0)))
    assert prepared.shape == (1, 32, 32)
    model = build("unet", in_channels=in_channels, out_channels=1, init_features=init_features)
    initialise(model, 5)
    inputs = normalise(torch.tensor(prepared)[None], "zscore").expand(-1, in_channels, -1, -1)
    with torch.inference_mode():
        expected = torch.sigmoid(model.eval()(inputs))[0, 0].numpy()
    assert np.abs(network.predictions([prepared])[0] - expected).max() < 1e-5


def test_other_files_change_nothing_and_bad_files_are_left_out(tmp_path: Path) -> None:
    network, files = predictor(tmp_path), requests(tmp_path, 11)
    threshold = median(network)
    (tmp_path / "03.png").write_bytes((tmp_path / "03.png").read_bytes()[:60])
    progress: list[tuple[int, int]] = []
    together = Store.open(tmp_path / "together")
    predictions, problems = predict(
        network, files, together, threshold=threshold, progress=lambda *counts: progress.append(counts)
    )
    assert names(predictions) == [file.name for file in files if file.name != "03"]
    assert [Path(problem.where).name for problem in problems] == ["03.png"]
    assert progress[-1] == (11, 11)
    assert progress == sorted(progress)
    (alone,), _ = predict(network, [files[9]], Store.open(tmp_path / "alone"), threshold=threshold)
    assert 0 < alone.columns["structure_pixels"] < 45 * 60
    differing = mask(tmp_path / "alone", "09") != mask(tmp_path / "together", "09")
    assert differing.mean() < 0.002  # rounding at the threshold itself


def test_weights_at_the_top_of_the_file_system_have_one_folder_to_look_into() -> None:
    assert TrainedOn.record_beside(Path("/weights.safetensors"), b"") is None


def test_the_row_agrees_with_the_mask(tmp_path: Path) -> None:
    network, out = predictor(tmp_path), Store.open(tmp_path / "out")
    (prediction,), _ = predict(network, requests(tmp_path, 1), out, threshold=median(network))
    written = mask(tmp_path / "out", "00")
    assert written.shape == (45, 60)
    assert written.dtype == np.uint8
    assert set(np.unique(written)) == {0, 255}
    row = prediction.row()
    assert (row["width"], row["height"]) == (60, 45)
    assert row["structure_pixels"] == (written == 255).sum()
    assert row["structure_share"] == pytest.approx((written == 255).mean(), abs=1e-6)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other, several = tmp_path / "w.pt", tmp_path / "w.safetensors"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    several.write_bytes(save_weights(build("unet", in_channels=1, out_channels=3, init_features=2)))
    for path, message in (
        (other, r"found no 'encoder1.enc1conv1.weight'"),
        (several, "has 3 outputs, and only the record of their trial says whether these are overlapping"),
    ):
        with pytest.raises(DonorError, match=message):
            Predictor.of_weights(path, options={"image_size": 32, "intensity": "zscore"}, device=CPU)


def test_an_output_that_is_not_finite_is_reported_and_no_empty_mask_is_written(tmp_path: Path) -> None:
    network, files = predictor(tmp_path), requests(tmp_path, 3)

    def spoiled(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        output[1] = torch.nan
        return output

    network.learner.networks["network"].register_forward_hook(spoiled)
    predictions, problems = predict(network, files, Store.open(tmp_path / "out"), threshold=0.5)
    assert names(predictions) == ["00", "02"]
    text = "the network's output is not finite, although its weights are; nothing is written for it."
    assert [str(problem) for problem in problems] == [f"{files[1].image}: {text}"]
    assert not (tmp_path / "out" / "01_mask.png").exists()


def test_a_file_that_the_task_does_not_declare_ends_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = predictor(tmp_path)
    shown = Presented({"mask": b"", "card": b""}, {})
    monkeypatch.setattr(network.learner, "present", lambda *arguments, **options: shown)
    with pytest.raises(TaskError, match=r"what Learner\.present returned has 'card', unlike Task\.files"):
        predict(network, requests(tmp_path, 1), Store.open(tmp_path / "out"), threshold=0.5)


def test_an_output_that_cannot_be_written_is_reported_and_all_others_are_written(tmp_path: Path) -> None:
    network, files = predictor(tmp_path), requests(tmp_path, 4)
    (tmp_path / "out" / "01_mask.png").mkdir(parents=True)
    (tmp_path / "out" / "03_overlay.png").mkdir()
    predictions, problems = predict(network, files, Store.open(tmp_path / "out"), threshold=0.5)
    assert names(predictions) == ["00", "02"]
    assert [problem.where for problem in problems] == [str(files[1].image), str(files[3].image)]
    assert all(problem.what.startswith("its outputs cannot be written: ") for problem in problems)
    assert mask(tmp_path / "out", "02").shape == (45, 60)


def test_an_image_too_large_for_the_device_is_reported_and_all_others_are_predicted(tmp_path: Path) -> None:
    network, files = predictor(tmp_path), requests(tmp_path, 3)
    files.append(Request(files[2].image, "large"))

    def full(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > 1 or inputs[0].equal(largest):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    cases = untargeted([network.prepared(Picture(picture(1)))], 32, device=CPU)
    largest = network.learner.load(cases, np.arange(1), None).inputs
    network.learner.networks["network"].register_forward_pre_hook(full)
    predictions, problems = predict(network, files, Store.open(tmp_path / "out"), threshold=0.5)
    assert names(predictions) == ["00", "02", "large"]
    assert [str(problem) for problem in problems] == [
        f"{files[1].image}: does not fit into the memory that is free on the cpu device."
    ]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ([[0, 1], [2, 3]], "list"),
        (picture(0) / 255, r"float64 \(45, 60\)"),
        (np.dstack([picture(0)] * 3), r"uint8 \(45, 60, 3\)"),
        (picture(0)[:0], r"uint8 \(0, 60\)"),
    ],
)
def test_what_is_no_grey_image_is_refused(tmp_path: Path, image: Any, found: str) -> None:
    with pytest.raises(UsageError, match=f"image: found {found}; accepted: a grey image with pixels"):
        predictor(tmp_path).predict(image)


def test_a_threshold_is_checked_as_on_the_command_line(tmp_path: Path) -> None:
    network = predictor(tmp_path)
    for threshold in (2, 1, -1, math.nan, "half"):
        with pytest.raises(UsageError, match=rf"threshold: found {threshold}; accepted: 0 to below 1"):
            network.predict(picture(0), threshold=threshold)  # type: ignore[arg-type]
    shown = [network.predict(picture(0), threshold=threshold) for threshold in (None, np.float32(0.5))]
    assert shown[0].files == shown[1].files
    model = network.identity.model.model_copy(update={"outputs": "exclusive", "structures": 2})
    exclusive = replace(network, identity=network.identity.model_copy(update={"model": model}))
    with pytest.raises(UsageError, match=r"threshold: the outputs of this network .* have none"):
        exclusive.accepted_threshold(0.5)
    assert exclusive.accepted_threshold(None) == 0.5


def test_an_output_that_is_not_finite_is_no_empty_mask(tmp_path: Path) -> None:
    network = predictor(tmp_path)
    network.learner.networks["network"].register_forward_hook(lambda *of_call: of_call[2] * torch.nan)
    with pytest.raises(DataError, match="image: the network's output is not finite"):
        network.predict(picture(0))


def test_a_trial_without_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is no complete trial"):
        Predictor.of_trial(Store.open(tmp_path), "0123456789abcdef", CPU)


def trained_on(section: Any, tmp_path: Path, size: int | str) -> Predictor:
    network = replace(predictor(tmp_path), sections=(section,))
    model = network.identity.model.model_copy(update={"image_size": size})
    return replace(network, identity=network.identity.model_copy(update={"model": model}))


@pytest.mark.parametrize("size", [32, "native"])
def test_files_are_read_as_the_training_read_them(tmp_path: Path, size: int | str) -> None:
    """A black band is cut off and lies in the outputs without a structure; the rest loses its sharpness."""
    config = {"source": "manifest", "root": str(tmp_path), "crop_black_band": True, "degrade_to": 16}
    network = trained_on(read_section(config), tmp_path, size)
    image = np.maximum(picture(0, height=48, width=64), 9)
    image[32:] = 0
    small = Image.fromarray(image[:32]).resize((16, 8), Image.Resampling.BILINEAR)
    seen = small.resize((64, 32), Image.Resampling.BILINEAR)
    expected = seen if size == "native" else seen.resize((32, 32), Image.Resampling.BILINEAR)
    assert (network.prepared(Picture(image))[0] == np.asarray(expected)).all()
    if size == "native":
        return
    Image.fromarray(image).save(tmp_path / "00.png")
    out = Store.open(tmp_path / "out")
    (prediction,), _ = predict(network, [Request(tmp_path / "00.png", "00")], out, threshold=0.0)
    assert (prediction.columns["width"], prediction.columns["height"]) == (64, 48)
    assert (mask(tmp_path / "out", "00") == np.where(np.arange(48) < 32, 255, 0)[:, None]).all()


@pytest.mark.parametrize("size", [32, "native"])
@pytest.mark.parametrize(("name", "fields"), [("a.png", {}), ("a.dcm", WINDOW)])
def test_files_of_any_depth_are_equalised_as_the_training_equalised_them(
    tmp_path: Path, name: str, fields: dict[str, Any], size: Any
) -> None:
    """Bit for bit as the image cache has them."""
    folder = Folder(tmp_path / "pack", 1)
    put_alone(folder, name, DEEP, DEEP.shape, **fields)
    config = folder.section(crop_black_band=True, degrade_to=24, **TONES)
    (digest,) = digests_of(config, tmp_path)
    table = open_table({"s": config}, size=size, digests=[digest], cache_dir=tmp_path / "cache")
    network = trained_on(config, tmp_path, size)
    (trained, *_), path = table.case(digest), folder.root / "images" / name
    picture = read_image(path, own_depth=network.own_depth)
    assert np.array_equal(network.prepared(picture), trained)
    assert not np.array_equal(network.prepared(replace(picture, levels=None)), trained)
    if size == "native":
        return
    seen: list[torch.Tensor] = []
    module = network.learner.networks["network"]
    module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    predict(network, [Request(path, "a")], Store.open(tmp_path / "out"), threshold=0.5)
    cases = untargeted([trained], size, device=CPU)
    assert seen[0].equal(network.learner.load(cases, np.arange(1), None).inputs)
