"""The values of a paper of two tasks, against its tables as they were read from the text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from xferlab.analysis.published.paper import read_paper
from xferlab.analysis.results import EvaluationSet

ARMS = {
    "table5": {"1": "baseline", "0": "original"},
    "table10": {"global": "global", "local": "baseline"},
    "table11": {"global": "global", "local": "baseline"},
    "table13": {"U-Net": "unet", "FC-DenseNet103": "baseline"},
    "table14": {"U-Net": "unet", "FC-DenseNet67": "fc_densenet67", "FC-DenseNet103": "baseline"},
    "table15": {"100": "", "50": "half", "30": "third", "10": "tenth"},
    "table16": {"without": "without_mask", "with": "baseline"},
    "table17": {"112": "patch_112", "224": "baseline", "448": "patch_448"},
}
WRITTEN = {
    "accuracy": "ACCURACY",
    "precision": "PRECISION",
    "recall": "SENSITIVITY",
    "f1": "F1_SCORE",
    "specificity": "SPECIFICITY",
    "lung_intensity_mean": "LUNG_MEAN",
    "lung_intensity_std": "LUNG_SD",
    "lung_intensity_std_without_ap_supine": "LUNG_SD",
    "cardiothoracic_ratio": "CTR",
}
_NAMES = ("V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI", "XVII")
ROMAN = dict(enumerate(_NAMES, start=5))
Cell = tuple[object, ...]
Reader = Callable[[str], list[dict[str, str]]]


@pytest.fixture(scope="module")
def read(real_data: Path) -> Reader:
    """Returns the rows of the paper's tables as they were read, by the beginning of a file's name."""
    folder = real_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder}, with the paper's tables as they were read, is not there")

    def rows(stem: str) -> list[dict[str, str]]:
        (path,) = folder.glob(f"oh2020_{stem}*.csv")
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return rows


def cell(row: Mapping[str, str]) -> Cell:
    """Table, section, arm, pathology, metric, mean and SD of a row of the reference."""
    table = row["source"]
    number, arms = ROMAN[int(table.removeprefix("table"))], ARMS.get(table, {})
    if "marker" in row:
        arm = "without_ap_supine" if table == "table8" else "baseline"
        place: Cell = ("triage", arm, row["class"], WRITTEN[row["marker"]])
        return (number, *place, float(row["mean"]), float(row["std"]))
    if "percent" in row:
        name = {"viral+covid19": "viral"}.get(row.get("class", ""), row.get("class"))
        metric = f"SENSITIVITY_{name}" if name else WRITTEN[row["metric"]]
        arm = arms[row["approach"] if name else row["level"]]
        return (number, "triage", arm, "all", metric, round(float(row["percent"]) / 100, 6), None)
    is_jsrt = row["evaluated_on"] == "JSRT"
    arm = arms[row.get("network") or row.get("trainset_percent") or row["preprocessed"]]
    if table == "table15" and row["preprocessed"] == "0":
        arm = f"{arm}_original".lstrip("_")
    structure = row["structure"] + ("s" if row["structure"] == "lung" and not is_jsrt else "")
    place = ("jsrt" if is_jsrt else "montgomery", arm or "baseline", "all", f"JACC_SMOOTH_{structure}")
    return (number, *place, float(row["mean"]), float(row["std"]))


def test_values_are_those_that_were_read_cell_by_cell(read: Reader) -> None:
    values = read_paper("oh2020").values
    stems = ("table05", "table06_09_bio", *(f"table{number}" for number in (10, 11, 13, 14, 15, 16, 17)))
    cells = [cell(row) for stem in stems for row in read(stem)]
    columns = ["table", "section", "arm", "pathology", "metric", "mean", "sd"]
    stored = values[columns].astype(object).where(values[columns].notna(), None)
    assert set(cells) == set(stored.itertuples(index=False, name=None))
    assert len(cells) == len(values) == len(set(cells)) == 94


def test_exact_counts_of_a_table_are_its_shares_and_add_up_to_those_of_another(read: Reader) -> None:
    values = read_paper("oh2020").values
    for approach, arm in ARMS["table11"].items():
        rows = [row for row in read("table11") if row["approach"] == approach]
        counts = [(int(row["correct"]), int(row["of"])) for row in rows]
        of_classes = values[(values["table"] == "XI") & (values["arm"] == arm)]["mean"]
        assert list(of_classes) == [pytest.approx(right / whole, abs=6e-4) for right, whole in counts]
        of_all = values[(values["table"] == "X") & (values["arm"] == arm)].set_index("metric")["mean"]
        right, whole = map(sum, zip(*counts, strict=True))
        assert of_all["ACCURACY"] == pytest.approx(right / whole, abs=6e-4)
        assert of_all["SENSITIVITY"] == pytest.approx(of_classes.mean(), abs=6e-4)


def test_marks_are_those_that_were_read_and_open_cells_say_so(read: Reader) -> None:
    marks = read_paper("oh2020").significance
    stored = {
        (row["table"], frozenset((row["first"], row["second"]))): (row["mark"], row["ambiguous"])
        for row in marks.to_dict("records")
    }
    for row in read("table06_09_sig"):
        number, is_open = ROMAN[int(row["source"].removeprefix("table"))], "not certain" in row["note"]
        for name in row["class"].split(" or "):
            mark, ambiguous = stored.pop((number, frozenset((name, row["against"]))))
            assert ambiguous == ("yes" if is_open else "")
            assert mark == row["significance"].replace("-", "p > 0.05") if not is_open else "or none" in mark
    left = {(table, *sides): mark for (table, sides), (mark, _) in stored.items()}
    assert {table for table, *_ in left} == {"V", "XIII", "XV"}
    for row in read("table15"):
        if row["significance"] != "reference":
            mark, ambiguous = stored["XV", frozenset(("baseline", str(cell(row)[2])))]
            assert (mark, ambiguous) == (row["significance"], "" if row["preprocessed"] == "1" else "yes")


def test_cohorts_are_its_first_two_tables(read: Reader) -> None:
    images = read_paper("oh2020").cohorts
    totals = images.groupby("section")["images"].sum().to_dict()
    assert totals == {"jsrt": 247, "montgomery": 73, "triage": 502}
    by_class = Counter[str]()
    for row in read("table02"):
        by_class[row["class"]] += int(row["images"])
    triage = images[images["section"] == "triage"]
    assert dict(zip(triage["pathology"], triage["images"], strict=True)) == by_class


def test_images_before_preprocessing_take_no_number() -> None:
    paper = read_paper("oh2020")
    entries = [("table", number, table.shows) for number, table in paper.tables.items()]
    entries += [("figure", number, shows) for number, shows in paper.figures.items()]
    shown = [entry for entry in entries if entry[2].get("section") == "triage"]
    assert len(shown) == 11
    for kind, number, shows in shown:
        assert paper.number(kind, shows) == number
        assert paper.number(kind, {**shows, "section": "triage_original"}) is None


def test_tables_that_say_the_same_of_an_arm_share_a_line() -> None:
    paper = read_paper("oh2020")
    rows = EvaluationSet("triage", "triage", "test").rows(paper.values)
    labels = [line.label for line in paper.lines(rows[~rows["metric"].str.contains("_[a-z]")])]
    assert labels[:3] == [
        "oh2020, Table X, global",
        "oh2020, Tables X, XIV, XVI, XVII, baseline",
        "oh2020, Table XIV, unet",
    ]
    assert len(labels) == 7
