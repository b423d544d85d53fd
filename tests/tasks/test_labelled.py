"""A task that learns labels, from plan to report: in this process and on Ray, on one section and on a set."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from tests.conftest import Command
from tests.data.sources.test_lgg import slice_pixels
from tests.studies import attempts
from tests.tasks.contract import LearnerContract, assert_ray_records_the_same, run
from tests.tasks.labelled import Pack, stage, study_of, write
from tests.training.images import noisy, resized
from xferlab.analysis import load_study
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import ImageExamples

pytestmark = pytest.mark.usefixtures("added_tasks")


class TestLabelled(LearnerContract):
    targets = ("well", "sick", "worse")

    @property
    def identity(self) -> TrialIdentity:
        return registry.identity_of(
            {
                "task": "labelled", "version": 1, "selection": "", "seed": 1, "num_classes": 3,
                "model": {"image_size": 16, "width": 4},
                "training": {"batch_size": 2, "max_epochs": 2, "patience": 9, "lr": 0.01},
                "execution": {"device": "cpu", "precision": "float32", "compile": False},
            }
        )  # fmt: skip

    def examples(self) -> ImageExamples:
        examples = resized(*noisy(5, 16))
        examples.label([0, 1, 2, 1, 0], self.targets)
        return examples


GROUPED = {"column": "finding", "names": {"well": ["normal"], "sick": ["tb", "viral"]}}


@pytest.fixture
def packs(tmp_path: Path) -> tuple[Pack, Pack]:
    """Images of two hospitals; the second has a finding that the first lacks."""
    return (
        Pack(tmp_path / "a", ["normal", "tb"], each=10),
        Pack(tmp_path / "b", ["normal", "tb", "viral", "?"], each=8, first=100),
    )


@pytest.fixture
def study(tmp_path: Path, packs: tuple[Pack, Pack]) -> Path:
    """One stage on a section, and another that goes on from it on a set of both."""
    first, second = packs
    data = {"a": first.section(), "b": second.section(hold_out=0.3, note="From another town")}
    stages = {
        "one": stage("a", classes=GROUPED | {"names": {"well": ["normal"], "sick": ["tb"]}}, repetitions=2),
        "both": stage(["a", "b"], classes=GROUPED, starts_from="one", evaluate_on=["a+b.test", "b.hold_out"]),
    }
    return write(tmp_path, study_of(data, stages, subgroups=["site"]))


def test_labels_run_from_plan_to_report(study: Path, command: Command) -> None:
    said = command("check", study, code=0).out
    assert "stage both, data.b, finding: well 8, sick 16; in no class: '?' 8\n" in said
    assert "warning: stage 'both' leaves out 8 images that are in no class, by finding: '?' 8" in said
    said = command("plan", study, code=0).out
    assert "stage one, data.a, finding: well 10, sick 10\n" in said
    assert "a+b.test, b.hold_out" in said
    assert "all 4 trials complete" in run(command, study)
    run(command, study)  # nothing is left to do
    command("report", study, "--out", "report", code=0)
    report = (study.parent / "report/report.md").read_text()
    of_set = report.partition("stage both on a+b.test")[2].partition("\n### ")[0]
    assert "b: From another town." in of_set
    assert "b: From another town." not in report.partition("stage one on a.test")[2].partition("\n### ")[0]
    for heading in ("Accuracy", "AUC (macro)", "## Class by class", "stage both on a+b.test, class by class"):
        assert heading in report
    names = {path.name.partition("_")[2] for path in (study.parent / "report/figures").glob("*.png")}
    assert {f"{kind}_both_on_b_hold_out.png" for kind in ("roc", "precision_recall", "confusion")} <= names
    assert "stage both on b.hold_out, what images of each class are called" in report
    by_site = report.partition("stage both on b.hold_out, by site")[2].partition("\n#")[0]
    assert all(f"| {value} " in by_site for value in ("north", "south", "all images"))
    assert "4 complete" in command("status", study, code=0).out
    stored = {path for path in (study.parent / "results").rglob("*") if path.is_file()}
    command("prune", study, "--yes", code=0)
    assert {path for path in (study.parent / "results").rglob("*") if path.is_file()} == stored


def true_labels(packs: tuple[Pack, Pack]) -> dict[bytes, int]:
    """The class of each image by its bytes; those in no class are left out."""
    return {
        (pack.root / row["image"]).read_bytes(): int(row["finding"] != "normal")
        for pack in packs
        for row in pack.rows
        if row["finding"] != "?"
    }


@pytest.mark.slow
def test_tables_have_what_scikit_learn_computes(study: Path, command: Command) -> None:
    run(command, study)
    command("report", study, "--out", "report", code=0)
    cases = load_study(study.parent / "results", "labels").cases
    rows = cases[(cases["stage"] == "both") & (cases["part"] == "test")]
    assert set(rows["section"]) == {"a+b"}
    wide = rows.pivot_table(index=["repetition", "case"], columns="metric", values="value").reset_index()
    expected: dict[str, list[float]] = {"AUROC_sick": [], "F1_SCORE_sick": [], "F1_SCORE_well": []}
    accuracies = list[float]()
    for _, each in wide.groupby("repetition"):
        truth, called = each["IS_sick"].astype(int), each["CALLED_sick"].astype(int)
        accuracies.append(accuracy_score(truth, called))
        expected["AUROC_sick"].append(roc_auc_score(truth, each["P_sick"]))
        expected["F1_SCORE_sick"].append(f1_score(truth, called))
        expected["F1_SCORE_well"].append(f1_score(1 - truth, 1 - called))
    tables = study.parent / "report/tables"
    (path,) = tables.glob("table*_classes_both_on_a-b_test.csv")
    table = pd.read_csv(path).query("pathology == 'all'").set_index(["metric", "of"])
    for metric, values in expected.items():
        whole, _, name = metric.rpartition("_")
        assert table.loc[(whole, name), "mean"] == pytest.approx(np.mean(values), abs=1e-12)
    macro = (np.array(expected["F1_SCORE_sick"]) + expected["F1_SCORE_well"]) / 2
    assert table.loc[("F1_SCORE", "all classes"), "mean"] == pytest.approx(np.mean(macro), abs=1e-12)
    (path,) = tables.glob("table*_both_a-b_test.csv")
    table = pd.read_csv(path).query("pathology == 'all'").set_index("metric")
    assert table.loc["ACCURACY", "mean"] == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_what_is_learnt_is_what_the_table_says(tmp_path: Path, command: Command) -> None:
    """Images that differ in brightness are told apart; the labels of the first file are not another's."""
    pack = Pack(tmp_path / "a", ["normal", "tb"], each=24)
    training = {"batch_size": 4, "max_epochs": 40, "patience": 40, "lr": 0.05}
    learns = stage("a", training=training, model={"width": 8})
    study = write(tmp_path, study_of({"a": pack.section()}, {"one": learns}))
    run(command, study)
    cases = load_study(tmp_path / "results", "labels").cases
    assert cases[cases["metric"] == "ACCURACY"]["value"].mean() > 0.9


@pytest.mark.parametrize("where", ["test", "train"])
def test_a_corrected_label_repeats_what_it_must_and_nothing_else(
    tmp_path: Path, study: Path, packs: tuple[Pack, Pack], command: Command, where: str
) -> None:
    run(command, study)
    before = {trial: len(tries) for trial, tries in attempts(tmp_path / "results").items()}
    pack = packs[0]
    plan = json.loads((tmp_path / "results/studies/labels/plan.json").read_text())
    names = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    parts = parts_of(command, study)
    row = next(
        row for row in pack.rows if parts[row["image"]] == [where, where] and row["finding"] == "normal"
    )
    row["finding"] = "tb"
    pack.write()
    run(command, study)
    after = {trial: len(tries) for trial, tries in attempts(tmp_path / "results").items()}
    new = after.keys() - before.keys()
    assert len(new) == (0 if where == "test" else 4)
    again = {trial for trial in before if after[trial] > before[trial]}
    assert again == (set(names.values()) if where == "test" else set())
    assert attempts_trained(tmp_path / "results", again) == Counter()


def attempts_trained(storage: Path, trials: set[str]) -> Counter[str]:
    """Trials among these that trained an epoch in their last attempt."""
    tries = attempts(storage)
    return Counter(trial for trial in trials if "last_epoch" in tries[trial][-1])


def parts_of(command: Command, study: Path) -> dict[str, list[str]]:
    """The part of each image of section `a` in every repetition."""
    command("plan", study, "--cases", "cases.csv", code=0)
    with open(study.parent / "cases.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["section"] == "a"]
    return {row["name"]: [row["part_r01"], row["part_r02"]] for row in rows}


def test_records_name_nobody(study: Path, command: Command) -> None:
    run(command, study)
    results = study.parent / "results"
    for path in results.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"images/" not in content, path
        assert b'"p100"' not in content, path


def test_three_binary_tasks_decode_once(tmp_path: Path, command: Command) -> None:
    pack = Pack(tmp_path / "a", ["normal", "tb", "viral"], each=10)
    stages = {
        name: stage(
            "a",
            classes={"column": "finding", "names": {"not": [n for n in names if n != name], name: [name]}},
        )
        for names in [("normal", "tb", "viral")]
        for name in names
    }
    run(command, write(tmp_path, study_of({"a": pack.section()}, stages)))
    assert len(list((tmp_path / "cache").rglob("*px/*.images"))) == 1
    assert len(attempts(tmp_path / "results")) == 6


def test_predict_says_the_class(
    study: Path, packs: tuple[Pack, Pack], command: Command, tmp_path: Path
) -> None:
    run(command, study)
    image = tmp_path / "new" / "image.png"
    image.parent.mkdir()
    Image.open(packs[0].root / packs[0].rows[0]["image"]).save(image)
    command("predict", "baseline/both/r01", image, "--study", study, "--out", "out", code=0)
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["class"] in ("well", "sick")
    assert float(row["P_well"]) + float(row["P_sick"]) == pytest.approx(1.0)


def lesioned(volume: Path, *, first: int) -> None:
    """Eight slices in the layout of the LGG set, every second with a lesion."""
    volume.mkdir(parents=True)
    for number in range(8):
        mask = np.zeros((32, 32), np.uint8)
        mask[10 : 14 + number, 12:18] = 255 * (number % 2)
        Image.fromarray(slice_pixels(first + number)).save(volume / f"{volume.name}_{number}.tif")
        Image.fromarray(mask).save(volume / f"{volume.name}_{number}_mask.tif")


def test_sources_without_a_table_have_pathologies(tmp_path: Path, command: Command) -> None:
    for number in range(8):
        lesioned(tmp_path / "kaggle_3m" / f"TCGA_CS_{number}_19990101", first=8 * number)
    data = {
        "slices": {"source": "lgg", "root": str(tmp_path)},
        "chest": {"source": "phantom_cxr", "count": 30, "size_px": 32},
    }
    stages = {name: stage(name, classes={}) for name in data}
    said = command("plan", write(tmp_path, study_of(data, stages)), code=0).out
    assert "stage slices, data.slices, pathology: no_tumour 24, tumour 24\n" in said
    assert "stage chest, data.chest, pathology: covid19 10, normal 10, pathological 10\n" in said


def test_the_example_of_the_page_is_learnt(tmp_path: Path, command: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "classes:" in block)
    stages = yaml.safe_load(text.replace("task: mine", "task: labelled"))["stages"]
    cohen = Pack(tmp_path / "cohen", ["normal", "viral", "covid19", "other"])
    montgomery = Pack(tmp_path / "montgomery", ["normal", "tb"], first=100)
    data = {"cohen": cohen.section(), "montgomery": montgomery.section()}
    run(command, write(tmp_path, study_of(data, stages)))
    cases = load_study(tmp_path / "results", "labels").cases
    assert {"IS_normal", "P_tuberculosis", "CALLED_viral", "ACCURACY"} <= set(cases["metric"])


@pytest.mark.slow
def test_ray_records_the_same(study: Path, command: Command, tmp_path: Path) -> None:
    assert_ray_records_the_same(command, study, tmp_path)
    assert len(attempts(tmp_path / "ray")) == 4


@pytest.mark.slow
def test_a_search_tunes_on_a_set(study: Path, command: Command, tmp_path: Path) -> None:
    run(command, study)
    space = tmp_path / "space.yaml"
    space.write_text("training.lr: {loguniform: [1.0e-3, 1.0e-1]}\n")
    options = ("--space", space, "--stage", "both", "--samples", "2", "--workers", "2")
    command("tune", study, *options, "--out", "tuned.yaml", "--report", "tuning", code=0)
    tuned = yaml.safe_load((tmp_path / "tuned.yaml").read_text())["tuned_both"]["tuned"]
    assert {validated["section"] for validated in tuned["validated_on"]} == {"a+b"}
