"""No patient id and no file name of a section that is not shareable stands in what a study writes."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from tests.conftest import Command
from tests.end_to_end.written import holding
from tests.tracking.wandb_files import offline_runs
from xferlab.errors import DataError
from xferlab.phantoms import PATHOLOGIES, chest_mask, chest_xray

PATIENTS = [
    f"{name}_Doe_1959{number:04d}" for number, name in enumerate(["Jane", "Ömer", "Li"] * 8, start=301)
]
WORDS = ["Jane_Doe", "Ömer_Doe", "mer_Doe", "_Doe_", "_1959", "thorax-of"]
SIZE_PX = 32


def write_pack(root: Path) -> None:
    """Writes two images of each patient, all file names with the patient's."""
    root.mkdir()
    rows = ["image,mask,patient_id,pathology"]
    for index, patient in enumerate(PATIENTS):
        for view in "ab":
            number = 2 * index + (view == "b")
            pathology = PATHOLOGIES[index % len(PATHOLOGIES)]
            drawn = chest_xray(seed=1, index=number, pathology=pathology, size_px=SIZE_PX)
            name = f"thorax-of-{patient}-{view}.png"
            Image.fromarray(drawn.image).save(root / name)
            Image.fromarray(chest_mask(drawn.labels).astype("uint8") * 255).save(root / f"mask-{name}")
            rows.append(f"{name},mask-{name},{patient},{pathology}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_study(folder: Path, *, shareable: bool) -> Path:
    section = {
        "source": "manifest", "root": "pack", "hold_out": 0.4, "shareable": shareable,
        "same_patient": [PATIENTS[:2]],
    }  # fmt: skip
    study: dict[str, Any] = {
        "study": "private", "seed": 3, "repetitions": 1,
        "data": {"lungs": section},
        "model": {"init_features": 2, "image_size": SIZE_PX},
        "stages": {"lungs": {"data": "lungs", "evaluate_on": ["lungs.test", "lungs.hold_out"]}},
        "training": {
            "batch_size": 4, "max_epochs": 2, "patience": 2, "device": "cpu", "precision": "float32",
        },
        "overlay_cases": 2,
        "features": {"on": "lungs.hold_out", "cases": 4},
        "arms": {
            "baseline": {},
            "more": {
                "data.lungs": section,  # as a whole, with its patients
                "data.lungs2": {**section, "hold_out": 0.0, "same_patient": []},
                "stages.lungs.evaluate_on": ["lungs2.test"],
            },
        },
        "tracking": {"wandb": {"project": "p", "mode": "offline"}},
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def run_all(command: Command, folder: Path, *, shareable: bool) -> tuple[dict[str, list[str]], str]:
    """Runs a study to its report; returns what was found where, and what the verbs printed."""
    write_pack(folder / "pack")
    study = write_study(folder, shareable=shareable)
    storage = ("--storage", folder / "storage")
    said = [
        command("run", study, *storage, "--executor", "in-process"),
        command("report", study, *storage, "--out", folder / "report"),
        command("status", study, *storage),
        command("plan", study, *storage, "--json"),
        command("dashboard", study, *storage, "--output", folder / "report" / "pages.json"),
        command("archive", study, *storage, "--out", folder / "study.zip"),
    ]
    assert [one.code for one in said] == [0, 0, 0, 0, 0, 0], said
    shutil.unpack_archive(folder / "study.zip", folder / "archived")
    written = [folder / "storage", folder / "report", folder / "cache" / "wandb", folder / "archived"]
    assert all(any(one.rglob("*")) for one in written), "the test would prove nothing"
    # What is wrong with the data is told on the terminal, by name, to who has the data.
    return holding(WORDS, *written), "".join(one.out for one in said)


@pytest.mark.component
def test_no_byte_of_a_private_study_names_anybody(command: Command, tmp_path: Path) -> None:
    found, printed = run_all(command, tmp_path, shareable=False)
    assert found == {}
    assert not [word for word in WORDS if word in printed]
    finds_its_way_back(command, tmp_path)
    says_nobody_when_it_fails(tmp_path)


@pytest.mark.slow
@pytest.mark.component
def test_a_shareable_study_names_its_patients(command: Command, tmp_path: Path) -> None:
    found, _ = run_all(command, tmp_path, shareable=True)
    assert set(found) == set(WORDS)  # the search above finds what is there
    kinds = {Path(path).name for paths in found.values() for path in paths}
    assert {"cases.parquet", "outputs.parquet"} <= kinds


def write_mixed_study(folder: Path) -> Path:
    """Writes a study whose arms put private images in the place of shareable ones, and beside them."""
    drawn = {"source": "phantom_cxr", "count": 24, "size_px": SIZE_PX, "shareable": True}
    private = {"source": "manifest", "root": "pack"}
    study: dict[str, Any] = {
        "study": "mixed", "seed": 3, "repetitions": 1,
        "data": {"general": {**drawn, "seed": 1}, "site": {**drawn, "seed": 2}},
        "model": {"init_features": 2, "image_size": SIZE_PX},
        "stages": {"general": {"data": "general", "evaluate_on": ["general.test", "site.test"]}},
        "training": {
            "batch_size": 4, "max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32",
        },
        "overlay_cases": 2,
        "arms": {
            "baseline": {},
            "clinic": {"data.general": private},
            "elsewhere": {
                "data.site": {**private, "shareable": False},
                "data.more": private,
                "stages.general.evaluate_on": ["site.test", "more.test"],
            },
        },
        "tracking": {"wandb": {"project": "p", "mode": "offline", "images": 16}},
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.component
def test_no_picture_of_the_private_data_of_an_arm_leaves(command: Command, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack")
    study, storage = write_mixed_study(tmp_path), ("--storage", tmp_path / "storage")
    command("run", study, *storage, "--executor", "in-process", code=0)
    shows_what_may_leave_and_no_more(tmp_path / "cache" / "wandb", sets={"general.validation"})
    assert "0 written" in command("mirror", study, *storage, code=0).out
    shutil.rmtree(tmp_path / "cache" / "wandb")
    command("mirror", study, *storage, code=0)
    shows_what_may_leave_and_no_more(tmp_path / "cache" / "wandb", sets={"general.test", "site.test"})
    command("dashboard", study, *storage, "--output", tmp_path / "pages.json", code=0)
    assert PRIVATE in (tmp_path / "pages.json").read_text()
    command("report", study, *storage, "--out", tmp_path / "report", code=0)
    told = (tmp_path / "report" / "index.html").read_text()
    for whose in ("general (arm clinic)", "more"):  # of `site`, it shows no picture
        assert f"{whose} is not declared shareable: check the licences" in told
    assert "general is not declared" not in told


PRIVATE = "of general@clinic, site@elsewhere, more are withheld"


def shows_what_may_leave_and_no_more(mirror: Path, *, sets: set[str]) -> None:
    assert holding([*WORDS, "case-"], mirror) == {}  # no pseudonym either
    runs = {run.run.run_group: run for run in offline_runs(mirror)}
    of_study, clinic, shared = (runs[name] for name in ("studies", "clinic/general", "baseline/general"))
    assert of_study.config["withheld"] == ["general@clinic", "site@elsewhere", "more"]
    assert PRIVATE in of_study.run.notes
    table = json.loads(of_study.stored["overlays.table.json"].read_text())
    assert {(row[0], row[2]) for row in table["data"]} == {
        ("baseline", "general.test"), ("baseline", "site.test"), ("clinic", "site.test")
    }  # fmt: skip
    assert set(clinic.summary.get("output_sets", ())) == sets & {"site.test"}
    assert clinic.config["withheld"] == ["general.validation", "general.test"]
    assert set(shared.summary["output_sets"]) == sets
    assert shared.config["withheld"] == ["site@elsewhere.test", "more.test"]
    assert "of site@elsewhere, more are withheld" in shared.run.notes


def finds_its_way_back(command: Command, folder: Path) -> None:
    """Who has the data gets from every row of the records to a patient and a file."""
    table = folder / "who.csv"
    said = command("plan", folder / "study.yaml", "--storage", folder / "storage", "--cases", table)
    assert (said.code, stat.S_IMODE(table.stat().st_mode)) == (0, 0o600)
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    joined = {row["patient"] for row in rows if row["section"] == "lungs"}
    assert joined == set(PATIENTS) - {max(PATIENTS[:2])}
    known = {(row["case"], row["recorded_name"], row["recorded_patient"]): row for row in rows}
    recorded = set()
    for path in (folder / "storage").glob("trials/*/evaluations/*/cases.parquet"):
        for one in pq.read_table(path).select(["case", "name", "patient"]).to_pylist():
            row = known[one["case"], one["name"], one["patient"]]
            assert (folder / "pack" / row["name"]).is_file()
            assert row["patient"] in row["name"] or row["patient"] in PATIENTS[:2]
            recorded.add(one["patient"])
    held_out = {row["recorded_patient"] for row in rows if row["part_r01"] == "hold_out"}
    assert held_out
    assert held_out <= recorded


def says_nobody_when_it_fails(folder: Path) -> None:
    """A worker that meets a file that is gone says so, and not whose it is."""
    from xferlab.plan.spec import TrialSpec
    from xferlab.records import codec, layout
    from xferlab.records.store import Store
    from xferlab.trial.run import run_trial

    store = Store.open(folder / "storage")
    trial_id = next((folder / "storage" / "trials").iterdir()).name
    body = codec.read_json(store, layout.TrialFiles(trial_id).spec)
    assert body is not None
    spec = replace(TrialSpec.from_json(body), trial_id="f" * 16)
    gone = next((folder / "pack").glob("mask-*"))
    shutil.move(gone, folder / "gone.png")
    with pytest.raises(DataError, match="xferlab check"):
        run_trial(spec, store, cache_dir=folder / "other cache")
    assert store.exists(layout.TrialFiles(spec.trial_id).failure)
    assert holding(WORDS, folder / "storage") == {}
