"""Predictions of a real, tiny trial through the command line."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from xferlab.cli.main import main
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store

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


@pytest.fixture
def level(trained: Trained) -> str:
    """A threshold that leaves some of the stored case on either side."""
    return f"{(float(np.percentile(trained.case['probability'], 70)) + 0.5) / 255:.4f}"


def predict(trained: Trained, *words: object, model: object = NAME) -> int:
    return main(["predict", str(model), *map(str, words), "--storage", trained.store.location])


def wide_picture(trained: Trained) -> Image.Image:
    return Image.fromarray(trained.case["image"]).resize((150, 110), Image.Resampling.BICUBIC)


def write_dicom(path: Path, values: np.ndarray, *, modality: str | None = "DX") -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = UID + ".3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, PATIENT_ID, "19310724"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        UID + ".1",
        UID + ".2",
        UID + ".3",
    )
    if modality is not None:
        dataset.Modality = modality
    dataset.InstitutionName = "Saint Somewhere"
    dataset.Rows, dataset.Columns = values.shape[:2]
    if values.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    else:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        values = values.astype(np.uint16)
    dataset.PixelRepresentation = 0
    dataset.PixelData = values.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_preprocessing_is_the_trainings(trained: Trained) -> None:
    from xferlab.trial.predict import Segmenter

    own = Segmenter.of_trial(trained.store, trained.trial_id, torch.device("cpu"))
    prepared = own.prepared(trained.case["image"])
    assert (prepared[0] == trained.case["image"]).all()
    found = own.probabilities([prepared])[0] * 255
    assert np.abs(found - trained.case["probability"]).max() <= 1


def test_the_mask_is_the_evaluations_output_above_the_threshold(
    trained: Trained, level: str, tmp_path: Path
) -> None:
    image, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(trained.case["image"]).save(image)
    assert predict(trained, image, "--out", out, "--threshold", level) == 0
    stored = trained.case["probability"] / 255
    certain = np.abs(stored - float(level)) > 1 / 255
    mask = pixels(out / "a_mask.png")
    assert (mask[certain] == 255 * (stored > float(level))[certain]).all()
    assert certain.mean() > 0.5


def test_outputs_have_the_size_of_the_image(
    trained: Trained, level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, out = wide_picture(trained), tmp_path / "out"
    wide.save(tmp_path / "a.png")
    grey = np.asarray(wide)
    Image.fromarray(grey.astype(np.uint16) * 200 + 500).save(tmp_path / "b.tif")
    write_dicom(tmp_path / "IM0001", grey.astype(np.uint16) * 16)
    capsys.readouterr()
    inputs = [tmp_path / name for name in ("a.png", "b.tif", "IM0001")]
    assert predict(trained, *inputs, "--out", out, "--threshold", level) == 0
    text = capsys.readouterr()
    assert text.err == ""  # no progress bar where nobody sees it
    assert f"3 images segmented by {NAME}, trial {trained.trial_id} at 64 px" in text.out
    assert set(contents(out)) == {
        "predictions.csv",
        *(f"{name}_{kind}.png" for name in ("a", "b", "IM0001") for kind in ("mask", "overlay")),
    }
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


def test_nothing_of_a_dicom_header_is_written(trained: Trained, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.asarray(wide_picture(trained)).astype(np.uint16) * 16)
    source = (tmp_path / "a.dcm").read_bytes()
    secrets = (PATIENT, "Doe", "Jane", PATIENT_ID, "19310724", UID, "Saint Somewhere")
    assert all(secret.encode() in source for secret in secrets)
    assert predict(trained, tmp_path / "a.dcm", "--out", tmp_path / "out") == 0
    written = contents(tmp_path / "out")
    assert len(written) == 3
    for name, data in written.items():
        assert not [one for one in secrets if one.encode() in data or one in name]
        if name.endswith(".png"):
            with Image.open(tmp_path / "out" / name) as picture:
                assert picture.info == {}


def test_a_folder_with_bad_files(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    for name in ("a.png", "ward/a.png", "ward/deep/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wide_picture(trained).save(folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "fake.dcm").write_text("nothing")
    capsys.readouterr()
    assert predict(trained, folder, "--out", out) == 1
    text = capsys.readouterr()
    assert "3 images segmented" in text.out
    assert "1 other file skipped" in text.out
    assert [line.split(":")[0] for line in text.err.splitlines()[:-1]] == [
        str(folder / "fake.dcm"),
        str(folder / "torn.png"),
    ]
    assert text.err.endswith("2 inputs could not be segmented\n")
    assert [row["mask"] for row in rows(out)] == ["a_mask.png", "ward/a_mask.png", "ward/deep/b_mask.png"]
    before = contents(out)
    assert predict(trained, folder, "--out", out) == 1
    assert contents(out) == before  # masks were not taken for images, nothing temporary is left


def test_a_weights_file_gives_the_trials_pixels(trained: Trained, level: str, tmp_path: Path) -> None:
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (70, 90), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
    wide_picture(trained).save(tmp_path / "a.png")
    images = sorted(tmp_path.glob("*.png"))
    best = Path(trained.store.path(layout.TrialFiles(trained.trial_id).weights))
    moved = tmp_path / "mine.safetensors"
    shutil.copy(best, moved)
    as_torch = tmp_path / "mine.pt"
    from safetensors.torch import load_file

    torch.save(load_file(best), as_torch)
    common = [*images, "--threshold", level]
    assert predict(trained, *common, "--out", tmp_path / "t") == 0
    for number, path in enumerate((moved, as_torch)):
        out = tmp_path / str(number)
        told = ("--image-size", 64, "--intensity", "zscore")
        assert predict(trained, *common, "--out", out, *told, model=path) == 0
        unnamed = (tmp_path / "t" / "predictions.csv").read_text().replace("lung_", "structure_")
        assert contents(out) == {**contents(tmp_path / "t"), "predictions.csv": unnamed.encode()}
    assert len(np.unique(pixels(tmp_path / "t" / "a_mask.png"))) == 2


def test_a_weights_file_beside_its_record_needs_no_options(
    trained: Trained, level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    best = Path(trained.store.path(layout.TrialFiles(trained.trial_id).weights))
    copied = tmp_path / "copied"
    copied.mkdir()
    shutil.copy(best, copied / "mine.safetensors")
    for name in ("record.json", "spec.json"):
        shutil.copy(best.parents[1] / name, copied)
    common = (tmp_path / "a.png", "--threshold", level)
    assert predict(trained, *common, "--out", tmp_path / "t") == 0
    for number, path in enumerate((best, copied / "mine.safetensors")):
        capsys.readouterr()
        assert predict(trained, *common, "--out", tmp_path / str(number), model=path) == 0
        assert f"by {path}, trial {trained.trial_id} at 64 px (zscore" in capsys.readouterr().out
        assert contents(tmp_path / str(number)) == contents(tmp_path / "t")
    words = (*common, "--out", tmp_path / "o", "--image-size", 64)
    text = refusal(capsys, predict(trained, *words, model=best))
    assert "--image-size: the record beside the weights file tells how the weights were trained" in text


@pytest.mark.parametrize("told", [(), ("--image-size", 64), ("--intensity", "unit")])
def test_a_weights_file_alone_is_asked_how_it_was_trained(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: tuple[object, ...]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    best = Path(trained.store.path(layout.TrialFiles(trained.trial_id).weights))
    shutil.copy(best, tmp_path / "mine.safetensors")
    (tmp_path / "record.json").write_text('{"made by": "another program"}')
    words = (tmp_path / "a.png", "--out", tmp_path / "o", *told)
    text = refusal(capsys, predict(trained, *words, model=tmp_path / "mine.safetensors"))
    assert (
        "no record beside these weights tells how they were trained; give --image-size PX and --inten" in text
    )


def test_images_of_another_kind_than_the_weights_were_trained_on_are_told(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.asarray(wide_picture(trained)).astype(np.uint16) * 16
    for name, modality in (("a", "CT"), ("b", "CT"), ("c", "MR"), ("d", "DX"), ("e", None)):
        write_dicom(tmp_path / f"{name}.dcm", values, modality=modality)
    write_dicom(tmp_path / "f.dcm", np.asarray(wide_picture(trained).convert("RGB")))
    capsys.readouterr()
    assert predict(trained, tmp_path, "--out", tmp_path / "o") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"warning: 2 CT images (first: {tmp_path}/a.dcm); the weights were trained on chest X-rays",
        f"warning: 1 MR image (first: {tmp_path}/c.dcm); the weights were trained on chest X-rays",
        f"warning: 1 colour DX image (first: {tmp_path}/f.dcm); the weights were trained on chest X-rays",
    ]
    assert predict(trained, tmp_path / "c.dcm", "--out", tmp_path / "o", model="baseline/donor/r01") == 0
    assert capsys.readouterr().err == ""
    assert "lesion_pixels" in rows(tmp_path / "o")[0]


def test_every_way_to_name_a_trial(trained: Trained, tmp_path: Path) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    ways = [[NAME], [trained.trial_id], [NAME, "--study", trained.study]]
    for number, (model, *more) in enumerate(ways):
        assert predict(trained, tmp_path / "a.png", *more, "--out", tmp_path / str(number), model=model) == 0
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_network_of_three_channels_warns_on_grey(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    assert predict(trained, tmp_path / "a.png", "--out", tmp_path / "o", model="baseline/donor/r01") == 0
    assert "trained on slices of three channels (phantom_mri)" in capsys.readouterr().err


def refusal(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert code == 2
    return capsys.readouterr().err


def test_typos_get_a_suggestion(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (tmp_path / "a.png", "--out", tmp_path / "o")
    assert f"Did you mean {NAME!r}?" in refusal(capsys, predict(trained, *words, model="baseline/genral/r01"))
    wrong = trained.trial_id[:-1] + ("0" if trained.trial_id[-1] != "0" else "1")
    assert f"Did you mean {trained.trial_id!r}?" in refusal(capsys, predict(trained, *words, model=wrong))
    assert "mine.safetensors: there is no such file" in refusal(
        capsys, predict(trained, *words, model="mine.safetensors")
    )
    empty = main(["predict", NAME, *map(str, words), "--storage", str(tmp_path / "nowhere")])
    assert "no study has run here" in refusal(capsys, empty)


def test_a_trial_that_is_not_complete(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    (tmp_path / "s" / layout.TrialFiles(trained.trial_id).record).unlink()
    words = ["predict", NAME, str(tmp_path / "a.png"), "--out", str(tmp_path / "o")]
    code = main([*words, "--storage", str(tmp_path / "s"), "--study", str(trained.study)])
    text = refusal(capsys, code)
    assert f"trial {NAME} is not complete (2 epochs so far); `xferlab run {trained.study}`" in text


def test_a_name_in_several_studies(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    wide_picture(trained).save(tmp_path / "a.png")
    store = Store.open(tmp_path / "s")
    plan = reader.read_plan(store, "tiny")
    codec.write_json(store, layout.StudyFiles("twin").plan, plan | {"study": "twin"})
    words = ["predict", NAME, str(tmp_path / "a.png"), "--out", str(tmp_path / "o")]
    words += ["--storage", str(tmp_path / "s")]
    assert main(words) == 0  # both mean the same trial
    trials = [{**one, "trial_id": one["trial_id"][::-1]} for one in plan["trials"]]
    codec.write_json(store, layout.StudyFiles("twin").plan, plan | {"study": "twin", "trials": trials})
    capsys.readouterr()
    text = refusal(capsys, main(words))
    assert f"tiny ({trained.trial_id}), twin ({trained.trial_id[::-1]})" in text
    assert "Give --study, or the id" in text
    assert main([*words, "--study", str(trained.study)]) == 0


def test_a_profile_that_the_study_did_not_run_with(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (tmp_path / "a.png", "--out", tmp_path / "o", "--study", trained.study, "--profile", "other")
    assert "last ran with no profile" in refusal(capsys, predict(trained, *words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "1"], "--threshold: found 1.0; accepted: 0 to below 1"),
        (["--threshold", "nan"], "--threshold: found nan"),
        (
            ["--image-size", "64"],
            "--image-size: a trial's record tells how the weights were trained. Leave it",
        ),
        (["--intensity", "unit"], "--intensity: a trial's record tells how the weights were trained."),
    ],
)
def test_options_that_do_not_fit(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    text = refusal(capsys, predict(trained, tmp_path / "a.png", "--out", tmp_path / "o", *words))
    assert message in text
    assert not (tmp_path / "o").exists()


def test_an_image_size_that_does_not_fit_the_network(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    best = trained.store.path(layout.TrialFiles(trained.trial_id).weights)
    shutil.copy(best, tmp_path / "w.safetensors")
    words = (tmp_path / "a.png", "--out", tmp_path / "o", "--image-size", 250, "--intensity", "zscore")
    text = refusal(capsys, predict(trained, *words, model=tmp_path / "w.safetensors"))
    assert "--image-size: found 250; accepted: multiples of 16, such as 256" in text


def test_all_bad_and_nothing_found(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing")
    out = ("--out", tmp_path / "o")
    text = refusal(capsys, predict(trained, folder, *out))
    assert f"{folder}: no image among 1 file; accepted: .png" in text
    (folder / "a.png").write_text("nothing")
    text = refusal(capsys, predict(trained, folder, tmp_path / "absent.png", *out))
    assert "absent.png: cannot be read: No such file or directory" in text
    assert "a.png: is no PNG, JPEG, TIFF or DICOM file" in text
    assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_written(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    (tmp_path / "taken").write_text("a file")
    text = refusal(capsys, predict(trained, tmp_path / "a.png", "--out", tmp_path / "taken"))
    assert "cannot be written" in text


def test_a_table_that_cannot_be_written_leaves_the_masks(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_picture(trained).save(tmp_path / "a.png")
    out = tmp_path / "out"
    (out / "predictions.csv").mkdir(parents=True)
    (out / "predictions.csv/in-the-way").write_text("")
    assert predict(trained, tmp_path / "a.png", "--out", out) == 1
    said = capsys.readouterr()
    assert f"; masks and overlays are in {out}\n" in said.out
    assert "predictions.csv" in said.err
    assert "cannot be written" in said.err
    assert any(path.is_file() and path.suffix == ".png" for path in out.rglob("*"))
