"""Ensembles of the repetitions of a real, tiny study through the command line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import Command, Said
from tests.studies import recorded
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.ensembles import ensembles_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.temperature import temperature_tables
from xferlab.cli.last_plan import compare
from xferlab.cli.main import main
from xferlab.cli.options import ReportOptions
from xferlab.cli.reprediction import repredictor
from xferlab.data.cache import default_cache_dir
from xferlab.data.pixels import Picture
from xferlab.errors import UsageError
from xferlab.records import layout, reader
from xferlab.records.store import Store
from xferlab.tasks.segmentation.learner import SegmentationLearner
from xferlab.training.structures import at_size
from xferlab.trial.examples import TrialContext
from xferlab.trial.predictor import Predictor
from xferlab.trial.reprediction import temperature_of

pytestmark = pytest.mark.component

NAME, SIDE, PATIENTS = "a/general", 48, 14
MASKS = {"lung": "mask", "heart": "heart"}
"""The column of the masks of each structure; stages read one of them."""
STUDY = {
    "study": "ensemble",
    "seed": 5,
    "repetitions": 3,
    "data": {
        "cxr": {
            "source": "manifest", "root": "pack", "where": {"device": "fixed"}, "hold_out": 0.15,
            "same_patient": [["p13", "pfriend"]], "structures": MASKS,
        },
        "old": {
            "source": "manifest", "root": "pack", "where": {"device": "portable"}, "structures": MASKS,
        },
    },
    "model": {"init_features": 2, "image_size": 32},
    "stages": {
        "donor": {"data": "old", "structures": ["lung"], "evaluate_on": []},
        "general": {
            "data": "cxr", "structures": ["lung"], "starts_from": "donor",
            "evaluate_on": ["cxr.test", "cxr.hold_out"],
        },
        "alone": {"data": "cxr", "structures": ["lung"], "evaluate_on": ["cxr.test"]},
    },
    "training": {"batch_size": 4, "max_epochs": 2, "lr": 1.0e-2, "device": "cpu", "precision": "float32"},
    "arms": {"a": {}},
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A complete study on disk.

    Attributes:
        study: Its file; the folder `pack` lies beside it.
        store: Its storage.
        trials: Ids of the repetitions.
        unseen: Which of them neither trained nor selected with a patient, nor their donor, by the
            number of the patient.
        parts: The part of each patient's image in each repetition, as `plan --cases` writes it.
    """

    study: Path
    store: Store
    trials: list[str]
    unseen: dict[int, list[str]]
    parts: dict[int, dict[str, str]]

    def image(self, patient: object, device: str = "fixed") -> Path:
        return self.study.parent / f"pack/{patient}-{device}.png"

    def who(self, number: int) -> int:
        """A patient whom so many of the networks have not seen."""
        return next(patient for patient, trials in self.unseen.items() if len(trials) == number)


def put(root: Path, patient: object, device: str, seed: int) -> dict[str, str]:
    """Saves an image in which a bright disc is the structure."""
    rng, name = np.random.default_rng(seed), f"{patient}-{device}"
    rows, columns = np.indices((SIDE, SIDE))
    disc = (rows - rng.integers(14, 34)) ** 2 + (columns - rng.integers(14, 34)) ** 2 < 100
    image = rng.integers(0, 120, (SIDE, SIDE)) + 100 * disc
    Image.fromarray(image.astype(np.uint8)).save(root / f"{name}.png")
    Image.fromarray((255 * disc).astype(np.uint8)).save(root / f"{name}_mask.png")
    return {
        "image": f"{name}.png", "mask": f"{name}_mask.png", "heart": f"{name}_mask.png",
        "patient_id": f"p{patient}", "pathology": "all", "device": device,
    }  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Trains the study, once."""
    root = tmp_path_factory.mktemp("ensemble")
    (root / "pack").mkdir()
    devices = ("fixed", "portable", "lateral")
    table = [
        put(root / "pack", patient, device, 10 * patient + number)
        for patient in range(PATIENTS)
        for number, device in enumerate(devices)
    ]
    table.append(put(root / "pack", "friend", "lateral", 999))
    with open(root / "pack/metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    study = root / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(root / "cache"))
        words = ("run", study, "--executor", "in-process", "--storage", root / "storage")
        assert main(list(map(str, words))) == 0
        assert (
            main(["plan", str(study), "--storage", str(root / "storage"), "--cases", str(root / "w.csv")])
            == 0
        )
    store = Store.open(str(root / "storage"))
    plan = reader.read_plan(store, "ensemble")
    names = [f"{NAME}/r{number:02}" for number in (1, 2, 3)]
    trials = [trial["trial_id"] for name in names for trial in plan["trials"] if name in trial["names"]]
    with open(root / "w.csv", newline="") as file:
        parts = {row["name"]: row for row in csv.DictReader(file) if row["section"] == "cxr"}
    unseen = {
        patient: [
            trial
            for number, trial in enumerate(trials, start=1)
            if {parts[f"{patient}-fixed.png"][f"part_{each}"] for each in ("r01", f"r{number:02}")}
            <= {"test", "hold_out"}  # the donor trained in the division of the first repetition
        ]
        for patient in range(PATIENTS)
    }
    yield Trained(study, store, trials, unseen, {p: parts[f"{p}-fixed.png"] for p in range(PATIENTS)})
    torch.set_num_threads(1)


Predict = Callable[..., Said]


@pytest.fixture
def predict(trained: Trained, command: Command) -> Predict:
    """Predicts images into the folder `out` of the test's folder."""

    def predict(*images: object, model: str = NAME, code: int = 0, **options: object) -> Said:
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        where = () if {"study", "storage"} & set(options) else ("--storage", trained.store.location)
        return command("predict", model, *images, "--out", "out", *where, *words, code=code)

    return predict


def rows() -> list[dict[str, str]]:
    with open("out/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def values(name: str) -> np.ndarray:
    with Image.open(Path("out") / name) as picture:
        return np.asarray(picture)


def probabilities(trained: Trained, trials: list[str], pixels: np.ndarray) -> np.ndarray:
    """Of each network by itself, (N, 32, 32)."""
    networks = [Predictor.of_trial(trained.store, trial, torch.device("cpu")) for trial in trials]
    return np.stack([network.predictions([network.prepared(Picture(pixels))])[0][0] for network in networks])


def test_an_ensemble_predicts_the_mean_and_says_how_far_its_networks_agree(
    trained: Trained, predict: Predict, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    several = probabilities(trained, trained.trials, pixels)
    level = round(float(np.median(several.mean(axis=0))), 4)
    said = predict("new.png", threshold=level)
    assert f"1 image predicted by {NAME} (3 repetitions) at 32 px" in said.out
    assert said.err == ""
    (row,) = rows()
    name = next(column for column in row if column.endswith("_pixels")).removesuffix("_pixels")
    assert (row["networks"], row["width"], row["height"]) == ("3", "80", "60")
    mean = at_size(several.mean(axis=0)[None], width=80, height=60)[0]
    mask = values("new_mask.png") == 255
    assert np.array_equal(mask, mean > level)
    assert float(row[f"{name}_probability"]) == pytest.approx(mean[mask].mean(), abs=1e-5)
    p = several.mean(axis=0).astype(float)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert float(row["entropy"]) == pytest.approx(entropy.mean(), abs=1e-5)
    assert float(row["disagreement"]) == pytest.approx(several.std(axis=0).mean(), abs=1e-5)
    assert 0 < float(row["mutual_information"]) < float(row["entropy"]) < np.log(2)
    for kind, expected, largest in (
        ("entropy", entropy, np.log(2)),
        ("disagreement", several.std(axis=0), 0.5),
    ):
        stored = values(f"new_{kind}.png")
        assert (stored.shape, stored.dtype) == ((60, 80), np.uint16)
        wide = at_size(expected.astype(np.float32)[None], width=80, height=60)[0]
        assert np.abs(stored / 65535 * largest - wide).max() < 1e-4
        assert float(row[f"{name}_{kind}"]) == pytest.approx(wide[mask].mean(), abs=1e-5)


def test_images_that_are_left_out_for_one_reason_are_told_in_one_line(
    trained: Trained, predict: Predict
) -> None:
    known, other = trained.who(0), trained.who(1)
    said = predict(
        trained.image(known, "fixed"), trained.image(known, "lateral"), trained.image(other, "fixed"), code=1
    )
    line, last = said.err.splitlines()
    assert line.startswith(f"{trained.image(known, 'fixed')}: is of the study's data")
    assert f"(1 more like this: {known}-lateral.png)" in line
    assert last == "2 inputs could not be predicted"


@pytest.mark.parametrize("device", ["fixed", "lateral"])
def test_an_image_of_the_study_is_predicted_by_those_who_never_saw_its_patient(
    trained: Trained, predict: Predict, device: str
) -> None:
    """Also where it is not of the section that they trained on."""
    patients = [trained.who(number) for number in (0, 1, 3)]
    said = predict(*(trained.image(patient, device) for patient in patients), code=1)
    shown = {Path(row["input"]).name: int(row["networks"]) for row in rows()}
    assert shown == {f"{patients[1]}-{device}.png": 1, f"{patients[2]}-{device}.png": 3}
    refused, last = said.err.splitlines()
    assert refused.startswith(
        f"{trained.image(patients[0], device)}: is of the study's data, and all networks"
    )
    assert last == "1 input could not be predicted"
    assert "3 images of the study's data: predicted by those networks only" in said.out
    (alone,) = (row for row in rows() if row["networks"] == "1")
    assert (float(alone["disagreement"]), float(alone["mutual_information"])) == (0, 0)
    with Image.open(trained.image(patients[1], device)) as picture:
        single = probabilities(trained, trained.unseen[patients[1]], np.asarray(picture))
    p = single[0].astype(float)
    assert float(alone["entropy"]) == pytest.approx(
        (-p * np.log(p) - (1 - p) * np.log(1 - p)).mean(), abs=1e-5
    )


def test_the_study_file_says_who_is_one_patient(trained: Trained, predict: Predict) -> None:
    friend = trained.image("friend", "lateral")
    predict(friend)
    assert rows()[0]["networks"] == "3"
    number = len(trained.unseen[13])
    assert 0 < number < 3
    predict(friend, study=trained.study, storage=trained.store.location, code=0)
    assert rows()[0]["networks"] == str(number)


def test_a_misspelt_stage_is_told_the_nearest_one(trained: Trained, predict: Predict) -> None:
    said = predict(trained.image(0), model="a/genral", code=2)
    assert (
        "accepted: an id, arm/stage/rNN such as a/alone/r01, arm/stage such as a/alone for the mean of its "
        "repetitions, or a weights file. Did you mean 'a/general'?"
    ) in said.err
    assert "Did you mean 'a/general/r02'?" in predict(trained.image(0), model="a/genral/r02", code=2).err


def test_images_that_all_networks_know_are_left_out_together(trained: Trained, predict: Predict) -> None:
    said = predict(trained.image(trained.who(0)), code=2)
    assert "learned from its patient (training or validation), so that an ensemble would look too" in said.err
    assert not Path("out").exists()


def test_data_that_is_elsewhere_and_repetitions_that_lack(
    trained: Trained, predict: Predict, tmp_path: Path
) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    image = shutil.copy(trained.image(trained.who(0)), tmp_path / "x.png")
    (tmp_path / "s" / layout.TrialFiles(trained.trials[1]).record).unlink()
    pack = trained.study.parent / "pack"
    pack.rename(pack.with_name("away"))
    try:
        said = predict(image, storage="s")
    finally:
        pack.with_name("away").rename(pack)
    assert "cases that these networks learned from are not found on this machine" in said.err
    for trial in (trained.trials[0], trained.trials[2]):
        (tmp_path / "s" / layout.TrialFiles(trial).record).unlink()
    said = predict(image, storage="s", code=2)
    assert f"{NAME}: none of 3 repetitions is complete" in said.err


@pytest.fixture
def moved(trained: Trained, tmp_path: Path) -> Iterator[Path]:
    """The folder of the images, which has moved, as `study.yaml` beside it says."""
    pack, moved = trained.study.parent / "pack", tmp_path / "moved"
    study = yaml.safe_load(trained.study.read_text())
    for section in study["data"].values():
        section["root"] = "moved"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    shutil.copytree(pack, moved)
    pack.rename(pack.with_name("away"))
    yield moved
    pack.with_name("away").rename(pack)


def test_data_that_have_moved_are_found_by_the_study_file(
    trained: Trained, predict: Predict, moved: Path
) -> None:
    """Also by stages that read some structures of a section: their cases have other digests."""
    images = [moved / f"{trained.who(number)}-fixed.png" for number in (0, 1)]
    said = predict(*images, study="study.yaml", storage=trained.store.location, code=1)
    assert [row["networks"] for row in rows()] == ["1"]
    assert "2 images of the study's data: predicted by those networks only" in said.out
    assert "not found on this machine" not in said.err
    said = predict(*images, "--json", storage=trained.store.location)
    document = json.loads(said.out)
    assert [image["networks"] for image in document["images"]] == [3, 3]
    (problem,) = document["problems"]
    assert problem["severity"] == "warning"
    assert "are not found on this machine" in problem["what"]
    assert f"{NAME}: warning: {problem['what']}" in said.err


def test_nothing_is_assured_where_only_some_of_the_data_are_found(
    trained: Trained, predict: Predict, moved: Path
) -> None:
    table = moved / "metadata.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if f"p{trained.who(0)}," not in line))
    image = moved / f"{trained.who(3)}-fixed.png"
    said = predict(image, study="study.yaml", storage=trained.store.location)
    assert "cases that these networks learned from are not found on this machine" in said.err
    assert "predicted by those networks only" not in said.out


def dice_of_mean(trained: Trained, trials: list[str], patient: int) -> float:
    """Of the mean of some networks, at their size, computed from the files of the image."""
    with (
        Image.open(trained.image(patient)) as picture,
        Image.open(trained.study.parent / f"pack/{patient}-fixed_mask.png") as target,
    ):
        mean = probabilities(trained, trials, np.asarray(picture)).mean(axis=0)
        truth = np.asarray(target.resize((32, 32), Image.Resampling.NEAREST)) > 127
    return 2 * (truth & (mean > 0.5)).sum() / (truth.sum() + (mean > 0.5).sum())


def contents(trained: Trained, storage: object, **asked: bool) -> tuple[Contents, list[str]]:
    """What a report is made of with reprediction, and what that says."""
    said: list[str] = []
    options = ReportOptions(study=str(trained.study), storage=str(storage), **asked)
    networks = repredictor(compare(options, must_have_run=True), options, said.append)
    return Contents(load_study(str(storage), "ensemble"), networks), said


def tables(trained: Trained, storage: object) -> tuple[dict[str, Table], list[str]]:
    """The tables of ensembles of a report by name, and what could not be read."""
    known, said = contents(trained, storage, ensembles=True)
    found = {table.name: table for table in ensembles_tables(known)}
    assert said[0] == "predicting again: cxr.test by 3 networks of a/alone"
    return found, known.results.problems


def test_a_report_shows_the_ensemble_of_those_who_never_saw_a_patient(trained: Trained) -> None:
    before = recorded(Path(trained.store.root))
    found, problems = tables(trained, trained.store.location)
    assert recorded(Path(trained.store.root)) == before
    assert not problems
    # The donor of all repetitions trained on test patients of two of them, which leaves one network.
    assert list(found) == ["ensembles_alone_on_cxr_test", "ensembles_general_on_cxr_hold_out"]
    alone, general = found.values()

    held = [patient for patient in trained.parts if trained.parts[patient]["part_r01"] == "hold_out"]
    hold_out = general.data.set_index(["pathology", "metric", "by"])
    together = hold_out.loc[("all", "DICE", "ensemble")]
    dice = [dice_of_mean(trained, trained.trials, patient) for patient in held]
    assert together["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert together[["sd_repetitions", "num_repetitions"]].isna().all()
    each = [np.mean([dice_of_mean(trained, [trial], p) for p in held]) for trial in trained.trials]
    single = hold_out.loc[("all", "DICE", "single networks")]
    assert single["mean"] == pytest.approx(np.mean(each), abs=1e-6)

    plan = reader.read_plan(trained.store, "ensemble")
    ids = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    members = {
        patient: [ids[f"a/alone/r{n:02}"] for n in (1, 2, 3) if parts[f"part_r{n:02}"] == "test"]
        for patient, parts in trained.parts.items()
    }
    enough = {patient: trials for patient, trials in members.items() if len(trials) > 1}
    left_out = sum(len(trials) == 1 for trials in members.values())
    assert enough
    assert left_out
    together = alone.data.set_index(["pathology", "metric", "by"]).loc[("all", "DICE", "ensemble")]
    dice = [dice_of_mean(trained, trials, patient) for patient, trials in enough.items()]
    assert together["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert alone.groups[0].labels[3:] == (str(len(enough)), str(len(enough)), str(left_out))


def test_ensembles_that_cannot_be_made_are_told(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    weights = tmp_path / "s" / layout.TrialFiles(trained.trials[0]).weights
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    found, problems = tables(trained, tmp_path / "s")
    assert list(found) == ["ensembles_alone_on_cxr_test"]
    (problem,) = problems
    assert problem.startswith("ensemble of a, stage general on cxr.hold_out: ")
    pack = trained.study.parent / "pack"
    pack.rename(pack.with_name("away"))
    try:
        with pytest.raises(UsageError, match=r"--ensembles: .* the data of the study cannot be read here"):
            tables(trained, trained.store.location)
    finally:
        pack.with_name("away").rename(pack)


LACKS = "task 'segmentation' declares ensemble_files, and its learner has no "


@pytest.mark.parametrize(
    ("asked", "method", "error", "reason"),
    [
        ("ensembles", "measure_ensemble", NotImplementedError(), f"{LACKS}measure_ensemble; the package"),
        ("temperature", "outcomes", NotImplementedError(), f"{LACKS}outcomes or measure_at; the package"),
        (
            "ensembles",
            "measure_ensemble",
            torch.OutOfMemoryError("CUDA out of memory.\nSee"),
            "OutOfMemoryError: CUDA out of memory; use a machine with more memory, or leave the option out",
        ),
        ("temperature", "measure_at", MemoryError(), "MemoryError; use a machine with more memory, or leave"),
    ],
)
def test_too_little_memory_or_a_task_that_cannot_do_it_leaves_the_rest_of_a_report(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, asked: str, method: str, error: Exception, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(SegmentationLearner, method, fail)
    known, _ = contents(trained, trained.store.location, **{asked: True})
    assert not list(ensembles_tables(known)) + list(temperature_tables(known))
    assert len(known.results.problems) == (2 if asked == "ensembles" else 3)
    assert all(reason in problem for problem in known.results.problems)
    assert len(list(metrics_tables(known, hold_out=True)))


def test_a_temperature_is_fitted_to_validation_images_and_judged_on_others(trained: Trained) -> None:
    known, _ = contents(trained, trained.store.location, temperature=True)
    tables = {table.name: table for table in temperature_tables(known)}
    assert not list(ensembles_tables(known))
    table = tables["temperature_alone_on_cxr_test"]
    parts = {n: {p: each[f"part_r{n:02}"] for p, each in trained.parts.items()} for n in (1, 2, 3)}
    plan = reader.read_plan(trained.store, "ensemble")
    ids = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    temperatures, errors = [], []
    for n in (1, 2, 3):
        trial = [ids[f"a/alone/r{n:02}"]]
        temperatures.append(fitted(trained, trial, {p for p in parts[n] if parts[n][p] == "validation"}))
        tested = [logits_of(trained, trial, p) for p, part in parts[n].items() if part == "test"]
        errors.append(np.mean([gap(1 / (1 + np.exp(-z / temperatures[-1])), y) for z, y in tested]))
    after = table.data.set_index(["pathology", "metric", "scaling"]).loc[("all", "ECE", "after")]
    numbers = ["temperature_min", "temperature_median", "temperature_max"]
    assert after[numbers].astype(float).tolist() == pytest.approx(sorted(temperatures), rel=2e-3)
    assert after["mean"] == pytest.approx(np.mean(errors), abs=1e-3)
    (group,) = table.groups
    assert [row.label for row in group.rows] == ["before", "after"]
    before = known.aggregated.query("stage == 'alone' and metric == 'ECE' and pathology == 'all'")
    assert group.rows[0].cells[1].startswith(f"{before['mean'].item():.4f}")

    # The donor of all repetitions learned from patients whom two of them validate on.
    table = tables["temperature_general_on_cxr_hold_out"]
    temperatures, told = [], []
    for n in (1, 2, 3):
        validation = {p for p, part in parts[n].items() if part == "validation"}
        kept = validation if n == 1 else {p for p in validation if parts[1][p] in {"test", "hold_out"}}
        temperatures += [fitted(trained, [trained.trials[n - 1]], kept)] if kept else []
        if kept != validation:
            told.append(f"a, repetition {n} ({len(validation - kept)} of {len(validation)})")
    assert told
    assert table.notes[0].endswith(f"in another repetition: {', '.join(told)}.")
    after = table.data.set_index(["pathology", "metric", "scaling"]).loc[("all", "ECE", "after")]
    expected = [np.min(temperatures), np.median(temperatures), np.max(temperatures)]
    assert after[numbers].astype(float).tolist() == pytest.approx(expected, rel=2e-3)
    assert after["num_repetitions"] == len(temperatures)


def test_without_validation_images_there_is_no_temperature(trained: Trained) -> None:
    spec = reader.required_spec(trained.store, trained.trials[0])
    every = frozenset(reader.read_selection(trained.store, spec.selection).digests)
    context = TrialContext(trained.store, default_cache_dir(), torch.device("cpu"))
    temperature = temperature_of(spec, context, without=every)
    assert temperature is not None
    assert np.isnan(temperature)


def fitted(trained: Trained, trial: list[str], patients: set[int]) -> float:
    """The temperature of a network on images of patients, by search on a grid."""
    logits, truth = zip(*(logits_of(trained, trial, patient) for patient in patients), strict=True)
    grid = 100 ** np.linspace(-1, 1, 4001)
    z, y = np.stack(logits).ravel(), np.stack(truth).ravel()
    sign = z * (1 - 2 * y)
    return float(grid[np.argmin([np.logaddexp(0, sign / temperature).sum() for temperature in grid])])


def logits_of(trained: Trained, trials: list[str], patient: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one network and an image, with the truth of its pixels."""
    with (
        Image.open(trained.image(patient)) as picture,
        Image.open(trained.study.parent / f"pack/{patient}-fixed_mask.png") as target,
    ):
        p = probabilities(trained, trials, np.asarray(picture))[0].astype(float)
        truth = np.asarray(target.resize((32, 32), Image.Resampling.NEAREST)) > 127
    return np.log(p / (1 - p)), truth.astype(float)


def gap(p: np.ndarray, y: np.ndarray) -> float:
    """The expected calibration error of 15 bins."""
    bins = np.minimum((p * 15).astype(int), 14)
    return sum(abs((p - y)[bins == each].sum()) for each in range(15)) / p.size


@pytest.mark.slow
def test_the_page_has_ensembles_where_they_are_asked_for(trained: Trained, command: Command) -> None:
    words = ("report", trained.study, "--storage", trained.store.location, "--out", "report")
    for more, has_any in (((), False), (("--ensembles", "--temperature"), True)):
        command(*words, *more, code=0)
        page = " ".join(Path("report/report.md").read_text().split())
        assert ("no deviation over repetitions, no interval, no test and no verdict" in page) == has_any
        assert bool(list(Path("report/tables").glob("*_ensembles_alone_on_cxr_test.tex"))) == has_any
        assert ("fitted to its validation images" in page) == has_any
