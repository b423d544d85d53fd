"""Predictions of a real, tiny trial through the command line."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import Command, Said
from tests.data.test_dicom import write
from xferlab.cli.main import main
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.trial.trained_on import UNKNOWN_STEPS

pytestmark = pytest.mark.component

STUDY = """\
study: tiny
repetitions: 1
data:
  cxr: {source: phantom_cxr, count: 24, size_px: 64, seed: 3}
  mri: {source: phantom_mri, count: 40, size_px: 64, seed: 3}
model: {name: unet, init_features: 4, in_channels: 3, image_size: 64}
stages:
  donor: {data: mri}
  general: {data: cxr, starts_from: donor, evaluate_on: [cxr.test]}
training: {batch_size: 4, max_epochs: 2, lr: 1.0e-2, device: cpu}
arms:
  baseline: {}
profiles:
  other: {training.max_epochs: 3}
"""
NAME = "baseline/general/r01"
PATIENT, PATIENT_ID, UID = "Doe^Jane Q", "ID-4711-0815", "1.2.826.0.1.3680043.8.498.4711"


@dataclass(frozen=True)
class Trained:
    """A complete study on disk.

    Attributes:
        study: Its file.
        store: Its storage.
        trial_id: Id of `NAME`.
        case: One row of its stored outputs, pixels as arrays.
    """

    study: Path
    store: Store
    trial_id: str
    case: dict[str, Any]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Trains the study, once."""
    root = tmp_path_factory.mktemp("predict")
    study = root / "tiny.yaml"
    study.write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(root / "cache"))
        location = str(root / "storage")
        assert main(["run", str(study), "--executor", "in-process", "--storage", location]) == 0
    store = Store.open(location)
    (trial,) = (one for one in reader.read_plan(store, "tiny")["trials"] if NAME in one["names"])
    record = reader.read_evaluation(store, trial["trial_id"], trial["evaluations"][0]["evaluation_id"])
    assert record is not None
    case = reader.read_outputs(store, record)[0]
    yield Trained(study, store, trial["trial_id"], case.arrays)
    torch.set_num_threads(1)


Predict = Callable[..., Said]


@pytest.fixture
def level(trained: Trained) -> str:
    """A threshold that leaves some of the stored case on either side."""
    values = np.unique(trained.case["probability"])
    return f"{(float(values[(len(values) - 1) // 2]) + 0.5) / 255:.4f}"


@pytest.fixture
def wide(trained: Trained, tmp_path: Path) -> Image.Image:
    """A picture of another shape than the network's images, also as `a.png` in the test's folder."""
    wide = Image.fromarray(trained.case["image"]).resize((150, 110), Image.Resampling.BICUBIC)
    wide.save(tmp_path / "a.png")
    return wide


@pytest.fixture
def predict(trained: Trained, wide: Image.Image, command: Command) -> Predict:
    """Predicts `a.png`, or other images, into the folder `out` of the test's folder."""

    def predict(
        *images: object,
        model: object = NAME,
        out: str = "out",
        storage: str = "",
        code: int | None = None,
        **options: object,
    ) -> Said:
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        place = ("--out", out, "--storage", storage or trained.store.location)
        return command("predict", model, *(images or ("a.png",)), *place, *words, code=code)

    return predict


def write_dicom(path: Path, values: np.ndarray, *, modality: str | None = "DX") -> None:
    """Writes a file whose header names a patient: grey values of 12 bits, or colours of 8."""
    height, width, *colours = values.shape
    header = {
        "PatientName": PATIENT, "PatientID": PATIENT_ID, "PatientBirthDate": "19310724",
        "StudyInstanceUID": UID + ".1", "SeriesInstanceUID": UID + ".2", "SOPInstanceUID": UID + ".3",
        "InstitutionName": "Saint Somewhere", **({"Modality": modality} if modality else {}),
    }  # fmt: skip
    colour = {
        "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0,
        "Rows": height, "Columns": width, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
    }  # fmt: skip
    write(path, values.astype(np.uint8 if colours else np.uint16), **header, **(colour if colours else {}))


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def best_weights(trained: Trained) -> Path:
    return Path(trained.store.path(layout.TrialFiles(trained.trial_id).weights))


def test_the_mask_is_the_evaluations_output_above_the_threshold(
    trained: Trained, predict: Predict, level: str, tmp_path: Path
) -> None:
    Image.fromarray(trained.case["image"]).save(tmp_path / "b.png")
    assert predict("b.png", threshold=level).code == 0
    stored = trained.case["probability"] / 255
    certain = np.abs(stored - float(level)) > 1 / 255
    mask = pixels(tmp_path / "out/b_mask.png")
    assert (mask[certain] == 255 * (stored > float(level))[certain]).all()
    assert certain.mean() > 0.5


def test_outputs_have_the_size_of_the_image(
    trained: Trained, predict: Predict, level: str, wide: Image.Image, tmp_path: Path
) -> None:
    out, grey = tmp_path / "out", np.asarray(wide).astype(np.uint16)
    Image.fromarray(grey * 200 + 500).save(tmp_path / "b.tif")
    write_dicom(tmp_path / "IM0001", grey * 16)
    said = predict("a.png", "b.tif", "IM0001", threshold=level)
    assert (said.code, said.err) == (0, "")  # no progress bar where nobody sees it
    assert f"3 images predicted by {NAME}, trial {trained.trial_id} at 64 px" in said.out
    outputs = {f"{name}_{kind}.png" for name in ("a", "b", "IM0001") for kind in ("mask", "overlay")}
    assert set(contents(out)) == {"predictions.csv", *outputs}
    for row in rows(out):
        found = pixels(out / row["mask"])
        assert found.shape == (110, 150)
        assert pixels(out / row["overlay"]).shape == (110, 150, 3)
        assert (row["width"], row["height"]) == ("150", "110")
        assert set(np.unique(found)) == {0, 255}
        assert int(row["lung_pixels"]) == (found == 255).sum()
        assert float(row["lung_share"]) == pytest.approx((found == 255).mean(), abs=1e-6)
        assert int(row["components"]) >= 1
    # Stretching by percentiles and z-scores are both affine but for the clipped tails.
    assert (pixels(out / "b_mask.png") == pixels(out / "a_mask.png")).mean() > 0.95
    assert (pixels(out / "b_mask.png") == pixels(out / "IM0001_mask.png")).mean() > 0.99


def test_nothing_of_a_dicom_header_is_written(predict: Predict, wide: Image.Image, tmp_path: Path) -> None:
    write_dicom(tmp_path / "b.dcm", np.asarray(wide).astype(np.uint16) * 16)
    source = (tmp_path / "b.dcm").read_bytes()
    secrets = (PATIENT, "Doe", "Jane", PATIENT_ID, "19310724", UID, "Saint Somewhere")
    assert all(secret.encode() in source for secret in secrets)
    assert predict("b.dcm").code == 0
    written = contents(tmp_path / "out")
    assert len(written) == 3
    for name, data in written.items():
        assert not [secret for secret in secrets if secret.encode() in data or secret in name]
        if name.endswith(".png"):
            with Image.open(tmp_path / "out" / name) as picture:
                assert picture.info == {}


def test_a_file_whose_name_is_no_utf8_stands_in_the_table_as_it_is_called(
    predict: Predict, wide: Image.Image, tmp_path: Path
) -> None:
    wide.save(tmp_path / "c\udcff.png")
    assert "2 images predicted" in predict("a.png", "c\udcff.png", code=0).out
    table = (tmp_path / "out" / "predictions.csv").read_text(errors="surrogateescape")
    assert [row["input"] for row in csv.DictReader(table.splitlines())] == ["a.png", "c\udcff.png"]


def test_keys_of_a_storage_for_outputs_are_not_printed(
    trained: Trained, predict: Predict, tmp_path: Path
) -> None:
    uri = f"file://{tmp_path}/out"
    said = predict(out=f"{uri}?secret_key=word", code=0)
    assert f"written to {uri}: " in said.out
    assert "word" not in said.out + said.err
    assert rows(tmp_path / "out")
    missing = predict(model="no/such/r01", storage=f"file://{trained.store.location}?key=word", code=2)
    assert "word" not in missing.err


def test_a_folder_with_bad_files(predict: Predict, wide: Image.Image, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "in/out"
    (folder / "ward/deep").mkdir(parents=True)
    for name in ("a.png", "ward/a.png", "ward/deep/b.png"):
        wide.save(folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "fake.dcm").write_text("nothing")
    said = predict("in", out="in/out", code=1)
    assert "3 images predicted" in said.out
    assert "1 other file skipped" in said.out
    assert [line.split(":")[0] for line in said.err.splitlines()[:-1]] == ["in/fake.dcm", "in/torn.png"]
    assert said.err.endswith("2 inputs could not be predicted\n")
    assert [row["mask"] for row in rows(out)] == ["a_mask.png", "ward/a_mask.png", "ward/deep/b_mask.png"]
    before = contents(out)
    assert predict("in", out="in/out").code == 1
    assert contents(out) == before  # masks were not taken for images, nothing temporary is left


def test_a_weights_file_gives_the_trials_pixels(
    trained: Trained, predict: Predict, level: str, tmp_path: Path
) -> None:
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (70, 90), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
    images, best = sorted(tmp_path.glob("*.png")), best_weights(trained)
    assert predict(*images, threshold=level, out="trial").code == 0
    expected = contents(tmp_path / "trial")
    assert len(np.unique(pixels(tmp_path / "trial/a_mask.png"))) == 2
    (tmp_path / "copied").mkdir()
    for path in (best, best.parents[1] / "record.json", best.parents[1] / "spec.json"):
        shutil.copy(path, tmp_path / "copied")
    for number, model in enumerate((best, tmp_path / "copied" / best.name)):
        said = predict(*images, threshold=level, out=str(number), model=model, code=0)
        assert f"by {model}, trial {trained.trial_id} at 64 px (zscore" in said.out
        assert contents(tmp_path / str(number)) == expected
    shutil.copy(best, tmp_path / "bare.safetensors")
    torch.save(load_file(best), tmp_path / "bare.pt")
    unnamed = expected["predictions.csv"].replace(b"lung_", b"structure_")
    for model in ("bare.safetensors", "bare.pt"):
        options = {"model": model, "image_size": 64, "intensity": "zscore"}
        said = predict(*images, threshold=level, out=model[-2:], **options, code=0)
        assert f"warning: {model}: {UNKNOWN_STEPS}" in said.err
        assert contents(tmp_path / model[-2:]) == {**expected, "predictions.csv": unnamed}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no record beside these weights says how they were trained; give --image-size PX and --inten"),
        ({"image_size": 64}, "no record beside these weights says how they were trained; give --image-siz"),
        ({"intensity": "unit"}, "no record beside these weights says how they were trained; give --image-"),
        (
            {"image_size": 250, "intensity": "zscore"},
            "--image-size: found 250; accepted: multiples of 16, such as 256",
        ),
    ],
)
def test_a_weights_file_alone_is_asked_how_it_was_trained(
    trained: Trained, predict: Predict, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    shutil.copy(best_weights(trained), tmp_path / "mine.safetensors")
    (tmp_path / "record.json").write_text('{"made by": "another program"}')
    said = predict(model="mine.safetensors", **options, code=2)
    assert message in said.err


def test_images_of_another_kind_than_the_weights_were_trained_on_are_told(
    predict: Predict, wide: Image.Image, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name, modality in (("a", "CT"), ("b", "CT"), ("c", "MR"), ("d", "DX"), ("e", None)):
        values = np.asarray(wide).astype(np.uint16) * 16
        write_dicom(tmp_path / f"in/{name}.dcm", values, modality=modality)
    write_dicom(tmp_path / "in/f.dcm", np.asarray(wide.convert("RGB")))
    said = predict("in")
    assert (said.code, said.err.splitlines()) == (0, [
        "warning: 2 CT images (first: in/a.dcm); the weights were trained on chest X-rays",
        "warning: 1 MR image (first: in/c.dcm); the weights were trained on chest X-rays",
        "warning: 1 colour DX image (first: in/f.dcm); the weights were trained on chest X-rays",
    ])  # fmt: skip
    said = predict("in/c.dcm", model="baseline/donor/r01")
    assert (said.code, said.err) == (0, "")
    assert "lesion_pixels" in rows(tmp_path / "out")[0]
    said = predict(model="baseline/donor/r01", code=0)
    assert "trained on slices of three channels (phantom_mri)" in said.err


def test_every_way_to_name_a_trial(trained: Trained, predict: Predict, tmp_path: Path) -> None:
    assert predict(out="0").code == 0
    assert predict(out="1", model=trained.trial_id).code == 0
    assert predict(out="2", study=trained.study).code == 0
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")


def test_what_cannot_be_is_refused(trained: Trained, predict: Predict, tmp_path: Path) -> None:
    wrong = trained.trial_id[:-1] + ("0" if trained.trial_id[-1] != "0" else "1")
    accepts = "says how the weights were trained. Leave this"
    for message, options in {
        f"Did you mean {NAME!r}?": {"model": "baseline/genral/r01"},
        f"Did you mean {trained.trial_id!r}?": {"model": wrong},
        "mine.safetensors: there is no such file": {"model": "mine.safetensors"},
        "no study has run here": {"storage": "nowhere"},
        f"it has not run here. Run it first: xferlab run {trained.study} --storage nowhere": {
            "study": trained.study, "storage": "nowhere",
        },
        "last ran with no profile": {"study": trained.study, "profile": "other"},
        "--threshold: found 1.0; accepted: 0 to below 1": {"threshold": 1},
        "--threshold: found nan": {"threshold": "nan"},
        f"--image-size: a trial's record {accepts}": {"image_size": 64},
        f"--image-size: the record beside the weights file {accepts}": {
            "model": best_weights(trained), "image_size": 64,
        },
        f"--intensity: a trial's record {accepts}": {"intensity": "unit"},
    }.items():  # fmt: skip
        said = predict(**options)  # type: ignore[arg-type]
        assert (said.code, message in said.err) == (2, True), said.err
    assert not (tmp_path / "out").exists()


def test_a_trial_that_is_not_complete(trained: Trained, predict: Predict, tmp_path: Path) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    (tmp_path / "s" / layout.TrialFiles(trained.trial_id).record).unlink()
    said = predict(storage="s", study=trained.study, code=2)
    assert (
        f"trial {NAME} is not complete (2 epochs so far); `xferlab run {trained.study} --storage s`"
        in said.err
    )


def test_a_name_in_several_studies(trained: Trained, predict: Predict, tmp_path: Path) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    plan = reader.read_plan(store, "tiny")
    codec.write_json(store, layout.StudyFiles("twin").plan, plan | {"study": "twin"})
    assert predict(storage="s").code == 0  # both mean the same trial
    trials = [{**trial, "trial_id": trial["trial_id"][::-1]} for trial in plan["trials"]]
    codec.write_json(store, layout.StudyFiles("twin").plan, plan | {"study": "twin", "trials": trials})
    said = predict(storage="s", code=2)
    assert f"tiny ({trained.trial_id}), twin ({trained.trial_id[::-1]})" in said.err
    assert "Give --study, or the id" in said.err
    assert predict(storage="s", study=trained.study).code == 0


def test_all_bad_and_nothing_found(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("nothing")
    said = predict("in")
    assert (said.code, "in: no image among 1 file; accepted: .png" in said.err) == (2, True)
    (tmp_path / "in/a.png").write_text("nothing")
    said = predict("in", "absent.png", code=2)
    assert "absent.png: cannot be read: No such file or directory" in said.err
    assert "a.png: is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file" in said.err
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = predict(out="taken")
    assert (said.code, "cannot be written" in said.err) == (2, True)
    (tmp_path / "out/predictions.csv").mkdir(parents=True)
    (tmp_path / "out/predictions.csv/in-the-way").write_text("")
    said = predict(code=1)
    assert said.out.endswith("; written to out: *_mask.png, *_overlay.png\n")
    assert "predictions.csv" in said.err
    assert "cannot be written" in said.err
    assert list((tmp_path / "out").glob("a_*.png"))
