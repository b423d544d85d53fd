"""The defect of experiment 1 of arias-garzon2021: people who are positive in one image, negative in another.

Of its 4,610 negative images, 1,370 are of people who are among the positives, too, on either side of the
split. Here, drawn people have a second exposure of the same diseased lungs, which is labelled negative.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.cli.main import main
from xferlab.phantoms import chest_mask, chest_xray
from xferlab.phantoms.device import simulate_portable

pytestmark = pytest.mark.slow
SIDE, SEED, PEOPLE = 48, 3, 130
AGAIN = round(PEOPLE * 1370 / (4610 - 1370))
"""Second exposures: the paper's share of the negatives."""
NAMES = {"SENSITIVITY_covid19": "sensitivity", "SPECIFICITY_covid19": "specificity", "AUROC_covid19": "auc"}


def expose(person: int, pathology: str, key: str) -> np.ndarray:
    """An image of a person by a portable device, another one for each key."""
    drawn = chest_xray(seed=SEED, index=person, pathology=pathology, size_px=SIDE)
    mask = (chest_mask(drawn.labels) > 0)[None] * np.uint8(255)
    return simulate_portable(drawn.image, mask, seed=SEED, key=f"{person} {key}")[0]


def write_people(folder: Path) -> Path:
    """As many healthy people as diseased ones, some of whom have a second image, labelled healthy."""
    folder.mkdir()
    shown = [(person, "covid19", "first", "covid19") for person in range(PEOPLE)]
    shown += [(person, "normal", "first", "normal") for person in range(PEOPLE, 2 * PEOPLE)]
    shown += [(person, "covid19", "again", "normal") for person in range(AGAIN)]
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "patient_id", "pathology", "exposure"])
        for person, drawn, exposure, label in shown:
            name = f"{person}-{exposure}.png"
            Image.fromarray(expose(person, drawn, exposure)).save(folder / name)
            table.writerow([name, f"person-{person}", label, exposure])
    return folder


def study(folder: Path, people: Path) -> Path:
    """Curated as it stands; its profiles have the defect, split by patient or by image."""
    kinds: dict[str, Any] = {
        "task": "classification",
        "data": "people",
        "classes": {"names": {"covid19": ["covid19"], "negative": ["normal"]}},
        "model": {"name": "resnet18", "width": 0.125, "image_size": SIDE},
        "training": {"lr": 2e-3, "batch_size": 16, "max_epochs": 12, "patience": 12},
    }
    everybody = {"data.people.where": {}}
    fields = {
        "study": "defect",
        "seed": 1,
        "repetitions": 10,
        "data": {
            "people": {
                "source": "manifest", "root": str(people), "read": [], "where": {"exposure": "first"},
            }
        },
        "stages": {"kinds": kinds},
        "training": {"device": "cpu", "precision": "float32"},
        "overlay_cases": 0,
        "profiles": {"patients": everybody, "images": {**everybody, "split.group_by": None}},
    }  # fmt: skip
    path = folder / "defect.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def measured(path: Path, profile: str | None) -> dict[str, float]:
    storage = path.parent / (profile or "curated")
    words = ["--profile", profile] if profile else []
    assert main(["run", str(path), *words, "--executor", "in-process", "--storage", str(storage)]) == 0
    contents = Contents(load_study(storage, "defect"))
    rows = EvaluationSet("kinds", "people", "test").rows(contents.of_targets)
    rows = rows[rows["pathology"] == "all"].set_index("metric")["mean"]
    return {short: float(rows[name]) for name, short in NAMES.items()}


def test_people_who_are_labelled_both_ways_cost_all_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    path = study(tmp_path, write_people(tmp_path / "people"))
    curated, patients, images = (measured(path, profile) for profile in (None, "patients", "images"))
    print(curated, patients, images)
    assert curated["auc"] > 0.7
    assert max(patients["auc"], images["auc"]) < curated["auc"] - 0.1
    for name in ("sensitivity", "specificity"):
        assert max(patients[name], images[name]) < curated[name]
