"""Transfer by unpaired translation, from the study file to a prediction: labels, draws and kills."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tests.conftest import Command
from tests.data.test_dicom import write
from tests.end_to_end.test_kills import files_after_kills
from tests.studies import TINY, noise, write_pack, write_study
from tests.tasks.contract import assert_ray_records_the_same, run
from xferlab.analysis import load_study
from xferlab.cli.main import main

pytestmark = pytest.mark.component

DOMAINS = {"a": "seen", "b": "new"}
NARROW = {"width": 2, "blocks": 1, "discriminator_width": 2, "image_size": 32}
BRIEF = {"batch_size": 4, "max_epochs": 2, "patience": 2, "pool": 3}


def packs(folder: Path) -> dict[str, Any]:
    """Two sections of drawn discs; those of `new` are brighter."""
    rows, columns = np.mgrid[:40, :40]
    sections = {}
    for place, name in enumerate(DOMAINS.values()):
        numbers = range(100 * place, 100 * place + 16)
        discs = [
            (rows - 20 + 8 * place) ** 2 + (columns - 14 - number % 12) ** 2 < 90 + number % 7
            for number in numbers
        ]
        pairs = [
            ((noise(number, 40) // 2 + 60 * disc + 60 * place).astype(np.uint8), disc * np.uint8(255))
            for number, disc in zip(numbers, discs, strict=True)
        ]
        root = write_pack(folder / name, pairs, patient=name)
        sections[name] = {"source": "manifest", "root": str(root)}
    return sections


def fields(data: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A segmenter, a translation, the transfer by both without labels and with half of them, and a rival."""
    share = {"stratified": False, "fraction_of_validation": True}
    stages = {
        "segment": {"data": "seen", "evaluate_on": ["seen.test", "new.test"]},
        "translate": {"task": "translation", "data": DOMAINS, "model": NARROW, "training": BRIEF},
        "transfer": {
            "task": "translation",
            "data": DOMAINS,
            "starts_from": {"segmenter": "segment", "translation": "translate"},
            "model": NARROW,
            "label_fraction": {"b": 0},
            "training": BRIEF,
            **share,
        },
        "fine_tune": {"data": "new", "starts_from": "segment", "label_fraction": 0.5, **share},
    }
    stages["segment"]["repetitions"] = stages["translate"]["repetitions"] = 2
    return {
        "data": dict(data),
        "stages": stages,
        "training": {**TINY["training"], "max_epochs": 2, "patience": 2},
        "arms": {"baseline": {}, "half": {"stages.transfer.label_fraction": {"b": 0.5}}},
        **changes,
    }


def planned(storage: Path) -> dict[str, dict[str, Any]]:
    """The plan's entry of each trial, by each of its names."""
    plan = json.loads((storage / "studies/tiny/plan.json").read_text())
    return {name: trial for trial in plan["trials"] for name in trial["names"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translated")
    path = write_study(folder, **fields(packs(folder)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XFERLAB_CACHE", str(folder / "cache"))
        words = ["run", str(path), "--executor", "in-process", "--storage", str(folder / "results")]
        assert main(words) == 0
    return path


@pytest.mark.slow
def test_arms_share_what_reads_no_labels(study: Path) -> None:
    trials = planned(study.parent / "results")
    for stage in ("segment", "translate"):
        assert trials[f"baseline/{stage}/r01"] is trials[f"half/{stage}/r01"]
    assert trials["baseline/transfer/r01"]["trial_id"] != trials["half/transfer/r01"]["trial_id"]


def test_rivals_have_the_same_labels(study: Path) -> None:
    trials = planned(study.parent / "results")
    for number in ("r01", "r02"):
        sets = {other["name"]: other for other in trials[f"half/transfer/{number}"]["others"]}
        assert sets["b.labelled"]["selection"] == trials[f"baseline/fine_tune/{number}"]["selection"]
        assert [other["name"] for other in trials[f"baseline/transfer/{number}"]["others"]] == ["b"]
        assert sets["b.labelled"]["num_train"] == round(0.5 * sets["b"]["num_train"])


def test_only_labels_of_b_choose_an_epoch(study: Path) -> None:
    results = load_study(study.parent / "results", "tiny")
    trials = planned(study.parent / "results")
    records = {
        name: json.loads((study.parent / f"results/trials/{trial['trial_id']}/record.json").read_text())
        for name, trial in trials.items()
    }
    assert records["baseline/transfer/r01"]["best_score"] is None
    assert records["baseline/transfer/r01"]["best_epoch"] == records["baseline/transfer/r01"]["num_epochs"]
    assert records["half/transfer/r01"]["best_score"] is not None
    measured = results.cases[results.cases["stage"] == "transfer"]
    wide = measured.pivot(index=["arm", "repetition", "section", "case"], columns="metric", values="value")
    assert wide.xs("new", level="section")["DICE_RECOVERED"].isna().all()
    assert wide.xs("new", level="section")["DICE_UNTRANSLATED"].notna().all()
    assert wide.xs("seen", level="section")["DICE_RECOVERED"].notna().all()


@pytest.mark.slow
def test_without_labels_no_mask_of_b_is_read(study: Path, tmp_path: Path, command: Command) -> None:
    """Masks of b that cannot be read, and then other masks, leave weights and results as they are."""
    stages = fields({})["stages"]
    del stages["fine_tune"]
    for stage in stages.values():
        stage["evaluate_on"] = ["seen.test"]
    weights = []
    for name in ("unreadable", "other"):
        folder = tmp_path / name
        folder.mkdir()
        changed = write_study(folder, **fields(packs(folder), stages=stages, arms={"baseline": {}}))
        for path in (folder / "new").glob("*_mask.png"):
            if name == "unreadable":
                path.write_bytes(b"no picture")
            else:
                Image.fromarray(noise(1, 40) // 128 * np.uint8(255)).save(path)
        run(command, changed, "--storage", folder / "results")
        trials = planned(folder / "results")
        files = [folder / f"results/trials/{trials[f'baseline/{s}/r01']['trial_id']}" for s in stages]
        weights.append([(file / "checkpoint/best.safetensors").read_bytes() for file in files])
    assert weights[0] == weights[1]


def test_predict_translates_before_it_segments(study: Path, tmp_path: Path, command: Command) -> None:
    Image.fromarray(noise(3, 50)).save(tmp_path / "a.png")
    where = ["--storage", study.parent / "results", "--out", tmp_path / "out"]
    command("predict", "half/transfer/r01", tmp_path / "a.png", *where, code=0)
    with (tmp_path / "out/predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    for column in ("mask", "translated"):
        with Image.open(tmp_path / "out" / row[column]) as written:
            assert written.size == (50, 50)
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": "1.4"}
    write(tmp_path / "b.dcm", noise(3, 50).astype(np.uint16), SOPClassUID="1.2.840.10008.5.1.4.1.1.1", **uids)
    command("predict", "half/transfer/r01", tmp_path / "b.dcm", *where, "--format", "dicom-seg", code=0)
    with Image.open(tmp_path / "out/b_mask.png") as mask:
        assert (dcmread(tmp_path / "out/b_seg.dcm").pixel_array * 255 == np.asarray(mask)).all()


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        ({"data": "seen"}, "learns from 2 sets of cases; write {a: SECTION, b: SECTION}"),
        ({"label_fraction": 0.5}, "label_fraction is of one of several sets; write {b: 0.5}"),
        ({"label_fraction": {"a": 0.5}}, "label_fraction names 'a', which is no set"),
        ({"evaluate_on": ["seen+new.test"]}, "is not of one set of cases"),
        ({"structures": ["structure"]}, "leave structures out"),
        ({"model": {**NARROW, "image_size": 64}}, "its segmenter takes 32"),
        ({"model": {**NARROW, "width": 3}}, "has model.width 3, and 2 in the translation"),
        ({"model": {**NARROW, "name": "munit", "image_size": 48}}, "need 64 or more"),
        (
            {"starts_from": {"segmenter": "translate", "translation": "translate"}},
            "must be a stage of this study that segments",
        ),
        (
            {"starts_from": {"translation": "translate"}, "training": {**BRIEF, "score": "jaccard"}},
            "score is about",
        ),
        ({"gate": {"from": "fine_tune", "keep": "normal"}}, "leave gate out"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, command: Command, stage: Mapping[str, Any], what: str
) -> None:
    changed = fields(packs(tmp_path))
    changed["stages"]["transfer"] |= stage
    assert what in command("check", write_study(tmp_path, **changed), code=2).err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyclegan", "munit_small"])
def test_four_networks_and_a_pool_survive_kills(tmp_path: Path, name: str) -> None:
    changed = fields(packs(tmp_path), repetitions=1, retries=20)
    for stage in ("translate", "transfer"):
        changed["stages"][stage]["model"] = {**NARROW, "name": name}
    for stage in ("segment", "translate"):
        changed["stages"][stage]["repetitions"] = 1
    changed["training"]["checkpoint_every_s"] = 0.05
    assert files_after_kills(tmp_path, write_study(tmp_path, **changed))


@pytest.mark.slow
def test_ray_records_the_same(cache: Path, tmp_path: Path, command: Command) -> None:
    assert_ray_records_the_same(command, write_study(tmp_path, **fields(packs(tmp_path))), tmp_path)
