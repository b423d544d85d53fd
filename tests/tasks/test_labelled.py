"""A task that learns labels, from plan to report: in this process and on Ray, on one section and on a set."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from tests.data.sources.test_lgg import slice_pixels
from tests.studies import attempts, recorded
from tests.tasks.contract import LearnerContract
from tests.tasks.labelled import Pack, added, stage, study_of, write
from tests.training.images import noisy, resized
from xferlab.analysis import load_study
from xferlab.cli.main import main
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import ImageExamples

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True, scope="module")
def _task() -> Iterator[None]:
    with added():
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


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


def run(study: Path, *options: str) -> int:
    return main(["run", str(study), "--executor", "in-process", *options])


GROUPED = {"column": "finding", "names": {"well": ["normal"], "sick": ["tb", "viral"]}}


@pytest.fixture
def packs(folder: Path) -> tuple[Pack, Pack]:
    """Images of two hospitals; the second has a finding that the first lacks."""
    return (
        Pack(folder / "a", ["normal", "tb"], each=10),
        Pack(folder / "b", ["normal", "tb", "viral", "?"], each=8, first=100),
    )


@pytest.fixture
def study(folder: Path, packs: tuple[Pack, Pack]) -> Path:
    """One stage on a section, and another that goes on from it on a set of both."""
    first, second = packs
    data = {"a": first.section(), "b": second.section(hold_out=0.3, note="From another town")}
    stages = {
        "one": stage("a", classes=GROUPED | {"names": {"well": ["normal"], "sick": ["tb"]}}, repetitions=2),
        "both": stage(["a", "b"], classes=GROUPED, starts_from="one", evaluate_on=["a+b.test", "b.hold_out"]),
    }
    return write(folder, study_of(data, stages, subgroups=["site"]))


def test_labels_run_from_plan_to_report(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(study)]) == 0
    said = capsys.readouterr().out
    assert "stage both, data.b, finding: well 8, sick 16; in no class: '?' 8\n" in said
    assert "warning: stage 'both' leaves out 8 images that are in no class, by finding: '?' 8" in said
    assert main(["plan", str(study)]) == 0
    said = capsys.readouterr().out
    assert "stage one, data.a, finding: well 10, sick 10\n" in said
    assert "a+b.test, b.hold_out" in said
    assert run(study) == 0
    assert "all 4 trials complete" in capsys.readouterr().out
    assert run(study) == 0  # nothing is left to do
    out = study.parent / "report"
    assert main(["report", str(study), "--out", str(out)]) == 0
    report = (out / "report.md").read_text()
    of_set = report.partition("stage both on a+b.test")[2].partition("\n### ")[0]
    assert "b: From another town." in of_set
    assert "b: From another town." not in report.partition("stage one on a.test")[2].partition("\n### ")[0]
    for heading in ("Accuracy", "AUC (macro)", "## Class by class", "stage both on a+b.test, class by class"):
        assert heading in report
    names = {path.name.partition("_")[2] for path in (out / "figures").glob("*.png")}
    assert {f"{kind}_both_on_b_hold_out.png" for kind in ("roc", "precision_recall", "confusion")} <= names
    assert "stage both on b.hold_out, what images of each class are called" in report
    by_site = report.partition("stage both on b.hold_out, by site")[2].partition("\n#")[0]
    assert all(f"| {value} " in by_site for value in ("north", "south", "all images"))
    capsys.readouterr()
    assert main(["status", str(study)]) == 0
    assert "4 complete" in capsys.readouterr().out
    stored = {path for path in (study.parent / "results").rglob("*") if path.is_file()}
    assert main(["prune", str(study), "--yes"]) == 0
    assert {path for path in (study.parent / "results").rglob("*") if path.is_file()} == stored


def true_labels(packs: tuple[Pack, Pack]) -> dict[bytes, int]:
    """The class of each image by its bytes; those in no class are left out."""
    return {
        (pack.root / row["image"]).read_bytes(): int(row["finding"] != "normal")
        for pack in packs
        for row in pack.rows
        if row["finding"] != "?"
    }


def test_tables_have_what_scikit_learn_computes(study: Path, packs: tuple[Pack, Pack]) -> None:
    assert run(study) == 0
    out = study.parent / "report"
    assert main(["report", str(study), "--out", str(out)]) == 0
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
    (path,) = out.glob("tables/table*_classes_both_on_a-b_test.csv")
    table = pd.read_csv(path)
    table = table[table["pathology"] == "all"].set_index(["metric", "of"])
    for metric, values in expected.items():
        whole, _, name = metric.rpartition("_")
        assert table.loc[(whole, name), "mean"] == pytest.approx(np.mean(values), abs=1e-12)
    macro = (np.array(expected["F1_SCORE_sick"]) + expected["F1_SCORE_well"]) / 2
    assert table.loc[("F1_SCORE", "all classes"), "mean"] == pytest.approx(np.mean(macro), abs=1e-12)
    (path,) = out.glob("tables/table*_both_a-b_test.csv")
    table = pd.read_csv(path).query("pathology == 'all'").set_index("metric")
    assert table.loc["ACCURACY", "mean"] == pytest.approx(np.mean(accuracies), abs=1e-12)


def test_what_is_learnt_is_what_the_table_says(folder: Path) -> None:
    """Images that differ in brightness are told apart; the labels of the first file are not another's."""
    pack = Pack(folder / "a", ["normal", "tb"], each=24)
    training = {"batch_size": 4, "max_epochs": 40, "patience": 40, "lr": 0.05}
    learns = stage("a", training=training, model={"width": 8})
    study = write(folder, study_of({"a": pack.section()}, {"one": learns}))
    assert run(study) == 0
    cases = load_study(folder / "results", "labels").cases
    assert cases[cases["metric"] == "ACCURACY"]["value"].mean() > 0.9


@pytest.mark.parametrize("where", ["test", "train"])
def test_a_corrected_label_repeats_what_it_must_and_nothing_else(
    folder: Path, study: Path, packs: tuple[Pack, Pack], where: str
) -> None:
    assert run(study) == 0
    before = {trial: len(tries) for trial, tries in attempts(folder / "results").items()}
    pack = packs[0]
    plan = json.loads((folder / "results/studies/labels/plan.json").read_text())
    names = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    parts = parts_of(study, folder)
    row = next(
        row for row in pack.rows if parts[row["image"]] == [where, where] and row["finding"] == "normal"
    )
    row["finding"] = "tb"
    pack.write()
    assert run(study) == 0
    after = {trial: len(tries) for trial, tries in attempts(folder / "results").items()}
    new = after.keys() - before.keys()
    assert len(new) == (0 if where == "test" else 4)
    again = {trial for trial in before if after[trial] > before[trial]}
    assert again == (set(names.values()) if where == "test" else set())
    assert attempts_trained(folder, again) == Counter()


def attempts_trained(folder: Path, trials: set[str]) -> Counter[str]:
    """Trials among these that trained an epoch in their last attempt."""
    tries = attempts(folder / "results")
    return Counter(trial for trial in trials if "last_epoch" in tries[trial][-1])


def parts_of(study: Path, folder: Path) -> dict[str, list[str]]:
    """The part of each image of section `a` in every repetition."""
    table = folder / "cases.csv"
    assert main(["plan", str(study), "--cases", str(table)]) == 0
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["section"] == "a"]
    return {row["name"]: [row["part_r01"], row["part_r02"]] for row in rows}


def test_records_name_nobody(study: Path, packs: tuple[Pack, Pack]) -> None:
    assert run(study) == 0
    results = study.parent / "results"
    for path in results.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"images/" not in content, path
        assert b'"p100"' not in content, path


def test_three_binary_tasks_decode_once(folder: Path) -> None:
    pack = Pack(folder / "a", ["normal", "tb", "viral"], each=10)
    stages = {
        name: stage(
            "a",
            classes={"column": "finding", "names": {"not": [n for n in names if n != name], name: [name]}},
        )
        for names in [("normal", "tb", "viral")]
        for name in names
    }
    assert run(write(folder, study_of({"a": pack.section()}, stages))) == 0
    assert len(list((folder / "cache").rglob("*px/*.images"))) == 1
    assert len(attempts(folder / "results")) == 6


def test_predict_says_the_class(study: Path, packs: tuple[Pack, Pack], folder: Path) -> None:
    assert run(study) == 0
    image = folder / "new" / "image.png"
    image.parent.mkdir()
    Image.open(packs[0].root / packs[0].rows[0]["image"]).save(image)
    out = folder / "out"
    assert main(["predict", "baseline/both/r01", str(image), "--study", str(study), "--out", str(out)]) == 0
    with open(out / "predictions.csv", newline="") as file:
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


def test_sources_without_a_table_have_pathologies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        lesioned(folder / "kaggle_3m" / f"TCGA_CS_{number}_19990101", first=8 * number)
    data = {
        "slices": {"source": "lgg", "root": str(folder)},
        "chest": {"source": "phantom_cxr", "count": 30, "size_px": 32},
    }
    stages = {name: stage(name, classes={}) for name in data}
    assert main(["plan", str(write(folder, study_of(data, stages)))]) == 0
    said = capsys.readouterr().out
    assert "stage slices, data.slices, pathology: no_tumour 24, tumour 24\n" in said
    assert "stage chest, data.chest, pathology: covid19 10, normal 10, pathological 10\n" in said


def test_the_example_of_the_page_is_learnt(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "classes:" in block)
    stages = yaml.safe_load(text.replace("task: mine", "task: labelled"))["stages"]
    cohen = Pack(folder / "cohen", ["normal", "viral", "covid19", "other"])
    montgomery = Pack(folder / "montgomery", ["normal", "tb"], first=100)
    data = {"cohen": cohen.section(), "montgomery": montgomery.section()}
    assert run(write(folder, study_of(data, stages))) == 0
    cases = load_study(folder / "results", "labels").cases
    assert {"IS_normal", "P_tuberculosis", "CALLED_viral", "ACCURACY"} <= set(cases["metric"])


@pytest.mark.slow
def test_ray_records_the_same(study: Path, folder: Path) -> None:
    assert run(study, "--storage", str(folder / "plain")) == 0
    assert main(["run", str(study), "--executor", "ray", "--storage", str(folder / "ray")]) == 0
    assert recorded(folder / "ray") == recorded(folder / "plain")
    assert len(attempts(folder / "ray")) == 4


@pytest.mark.slow
def test_a_search_tunes_on_a_set(study: Path, folder: Path) -> None:
    assert run(study) == 0
    space = folder / "space.yaml"
    space.write_text("training.lr: {loguniform: [1.0e-3, 1.0e-1]}\n")
    options = ["--space", str(space), "--stage", "both", "--samples", "2", "--workers", "2"]
    written = ["--out", str(folder / "tuned.yaml"), "--report", str(folder / "tuning")]
    assert main(["tune", str(study), *options, *written]) == 0
    tuned = yaml.safe_load((folder / "tuned.yaml").read_text())["tuned_both"]["tuned"]
    assert {validated["section"] for validated in tuned["validated_on"]} == {"a+b"}
