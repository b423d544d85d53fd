"""A real, tiny study whose repetitions are an ensemble, and what its tests ask of it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import Command, Said
from xferlab.cli.main import main
from xferlab.data.pixels import Picture
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.trial.predictor import Predictor

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
