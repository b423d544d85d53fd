"""Two stages and many arms beside their paper: its lines, shares of the labels, and the test that it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.fractions import fractions_pictures
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.fractions import series_by_set
from xferlab.analysis.tables.fractions import fractions_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.signed_rank import signed_rank, signed_rank_tables, stars
from xferlab.analysis.tables.structures import classes_tables, structures_tables
from xferlab.metrics.classes import metrics_of_classes, values_of_classes
from xferlab.metrics.measuring import METRICS
from xferlab.metrics.metric import Metric
from xferlab.plan.identity import short_id
from xferlab.records.store import Store

pytestmark = pytest.mark.component
STRUCTURES, CLASSES = ("heart", "left_lung", "right_lung"), ("normal", "bacterial", "tuberculosis", "viral")
DICE = next(metric for metric in METRICS if metric.name == "DICE")
JACC = Metric(
    name="JACC_SMOOTH", label="Jaccard (+1)", better="higher", source="-", definition="-", undefined="-"
)
OF_STRUCTURES = [
    replace(JACC, name=f"JACC_SMOOTH_{name}", label=f"Jaccard (+1), {name}", of=name)
    for name in (*STRUCTURES, "lung", "lungs")
]
SHARES = {"half": 0.5, "tenth": 0.1}
GLOBAL, ORIGINAL = {"stages.triage.model": {"name": "resnet18"}}, {"data.montgomery": {"equalise": None}}
# What they change of `triage` does not matter to `segment`.
FEWER = {
    name: {"stages.segment.label_fraction": share, "stages.triage.masks.from": "baseline.segment"}
    for name, share in SHARES.items()
}
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "global": GLOBAL,
    "original": ORIGINAL,
    "unet": {"stages.segment.model": {"name": "unet"}},
    **FEWER,
    **{f"{name}_original": {**changes, **ORIGINAL} for name, changes in FEWER.items()},
    **{f"patches_{name}": {"stages.triage.label_fraction": share} for name, share in SHARES.items()},
    **{f"global_{name}": {**GLOBAL, "stages.triage.label_fraction": share} for name, share in SHARES.items()},
}


def share_of(arm: str, stage: str) -> float:
    """The share of its labels that a stage of an arm learns from."""
    is_of_triage = arm.startswith(("patches_", "global_"))
    share = next((share for name, share in SHARES.items() if name in arm), 1.0)
    return share if is_of_triage == (stage == "triage") else 1.0


@dataclass
class Staged(StudyBuilder):
    """Stages `segment`, and `triage` that takes its masks; a value falls with the share of the labels."""

    compare_to: str | None = "oh2020"
    repetitions: int = 3

    def measured(self, stage: str) -> tuple[Metric, ...]:
        return (DICE, JACC, *OF_STRUCTURES) if stage == "segment" else metrics_of_classes(CLASSES)

    def history(self, stage: str, repetition: int, epoch: int) -> dict[str, float]:
        more = {"accuracy": 1 - 0.6 / epoch, "mean_f1": 1 - 0.7 / epoch} if stage == "triage" else {}
        values = {
            f"{part}_{name}": value - 0.05 * (part == "validation") + 0.01 * repetition
            for name, value in more.items()
            for part in ("train", "validation")
        }
        return super().history(stage, repetition, epoch) | values

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        seed = np.random.default_rng([image, repetition, *arm.encode()])
        loss = (0.4 if arm.startswith("global") else 0.15) * -np.log10(share_of(arm, stage))
        if stage == "segment":
            lost = 0.03 * metric.endswith("heart") + 0.2 * loss + 0.01 * ("original" in arm)
            return float(0.95 - lost + seed.normal(0, 0.01) + 0.002 * (image % 5))
        truth = np.arange(4) == image % 4
        scores = np.exp(seed.normal(truth * 3 * (1 - loss), 1.0))
        return values_of_classes(CLASSES, truth, scores / scores.sum(), exclusive=True)[metric]

    def _trials(self) -> list[dict[str, Any]]:
        trials = list[dict[str, Any]]()
        for repetition in range(1, self.repetitions + 1):
            producers = [
                self._planned("segment", repetition, arms)
                for arms in alike(lambda arm: (arm == "unet", share_of(arm, "segment")))
            ]
            given = {arm: trial["trial_id"] for trial in producers for arm in trial["arms"]}
            given |= dict.fromkeys([arm for arm in ARMS if share_of(arm, "segment") < 1], given["baseline"])
            consumers = alike(lambda arm: (arm == "unet", arm.startswith("global"), share_of(arm, "triage")))
            trials += producers
            trials += [self._planned("triage", repetition, arms, given[arms[0]]) for arms in consumers]
        return trials

    def _planned(self, stage: str, repetition: int, arms: list[str], given: str = "") -> dict[str, Any]:
        """A trial; on Montgomery, arms that do not equalise have results of their own."""
        trial, learnt = self._trial(arms, "donor", repetition, ""), {"segment": STRUCTURES, "triage": CLASSES}
        groups = {"test": [arms]}
        if stage == "segment":
            kinds = ([arm for arm in arms if ("original" in arm) == is_kind] for is_kind in (False, True))
            groups["hold_out"] = [kind for kind in kinds if kind]
        places = {"test": "triage" if given else "jsrt", "hold_out": "montgomery"}
        trial_id = short_id([stage, repetition, arms])
        evaluations = [
            {
                **trial["evaluations"][0],
                "evaluation_id": short_id([trial_id, part, askers]),
                "section": places[part],
                "part": part,
                "arms": askers,
            }
            for part, of_part in groups.items()
            for askers in of_part
        ]
        changes = {
            "trial_id": trial_id,
            "stage": stage,
            "names": [f"{arm}/{stage}/r{repetition:02d}" for arm in arms],
            "data": places["test"],
            "targets": list(learnt[stage]),
            "inputs": [{"role": "masks", "trials": [given], "donor": None}] if given else [],
            "train_patients": round(48 * share_of(arms[0], stage)),
            "num_train": round(60 * share_of(arms[0], stage)),
            "evaluations": evaluations,
        }
        return {**trial, **changes}

    def _write_evaluation(
        self, store: Store, trial: Mapping[str, Any], evaluation: Mapping[str, Any]
    ) -> None:
        super()._write_evaluation(store, {**trial, "arms": evaluation["arms"]}, evaluation)

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        plan = super()._plan(trials)
        stage = {"starts_from": None, "repetitions": self.repetitions, "pool_patients": 80}
        arms = {
            arm: {
                "description": changes,
                "shareable": dict.fromkeys(PLACES, False),
                "stages": {
                    "segment": {**stage, "data": "jsrt", "label_fraction": share_of(arm, "segment")},
                    "triage": {
                        **stage,
                        "data": "triage",
                        "label_fraction": share_of(arm, "triage"),
                        "masks": {"from": changes.get("stages.triage.masks.from", "segment")},
                    },
                },
            }
            for arm, changes in ARMS.items()
        }
        return plan | {
            "data": dict.fromkeys(PLACES, plan["data"]["mri"]),
            "stages": ["segment", "triage"],
            "tasks": {"segment": "segmentation", "triage": "classification"},
            "metrics": [m.to_json() for stage in ("segment", "triage") for m in self.measured(stage)],
            "arms": arms,
        }


PLACES = ("jsrt", "montgomery", "triage")


def alike(key: Callable[[str], object]) -> list[list[str]]:
    """Arms by an equal key, which share a trial."""
    groups: dict[object, list[str]] = {}
    for arm in ARMS:
        groups.setdefault(key(arm), []).append(arm)
    return list(groups.values())


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    folder = tmp_path_factory.mktemp("staged")
    return Contents(load_study(Staged(folder, pixels=False, missing=set(), images=12).write(), STUDY))


def only(tables: Iterable[Table], number: str, contents: Contents) -> Table:
    """The table that has a number of the paper."""
    (table,) = (t for t in map(contents.numbered, tables) if t.title.startswith(f"Table {number}: "))
    return table


def lines_of_paper(table: Table) -> list[tuple[str, ...]]:
    """Labels and cells of the lines that are the paper's."""
    return [
        (*group.labels, row.label, *row.cells)
        for group in table.groups
        for row in group.rows
        if "oh2020, Table" in " ".join((*group.labels, row.label, *row.cells))
    ]


def test_lines_of_structures_and_classes_stand_below_ours_with_their_deviations(contents: Contents) -> None:
    structures = only(structures_tables(contents), "V", contents)
    assert [(line[0], *line[3:]) for line in lines_of_paper(structures)] == [
        ("heart", "oh2020, Table V, baseline (± SD over images)", "0.8890 (± 0.0540)"),
        ("lung", "oh2020, Tables V, XIII, baseline (± SD over images)", "0.9550 (± 0.0150)"),
        ("lung", "oh2020, Table XIII, unet (± SD over images)", "0.9550 (± 0.0140)"),
    ]
    montgomery = only(structures_tables(contents), "XIII", contents)
    assert [line[0] for line in lines_of_paper(montgomery)] == ["lungs"] * 9
    classes = only(classes_tables(contents), "XI", contents)
    of_bacterial = [line[3:5] for line in lines_of_paper(classes) if line[0] == "bacterial"]
    assert of_bacterial == [
        ("oh2020, Table XI, global", "0.3000"),
        ("oh2020, Table XI, baseline", "0.8000"),
    ]
    metrics = lines_of_paper(only(metrics_tables(contents, hold_out=False), "X", contents))
    assert [line[1] for line in metrics][:2] == [
        "oh2020, Table X, global",
        "oh2020, Tables X, XIV, XVI, XVII, baseline",
    ]


def test_series_are_arms_that_differ_in_nothing_else_that_matters_to_the_stage(contents: Contents) -> None:
    known = {evaluated.name: [dict(s.arms) for s in series] for evaluated, series in series_by_set(contents)}
    whole, fewer = {1.0: "baseline"}, {share: name for name, share in SHARES.items()}
    assert known == {
        "jsrt.test": [whole | fewer],  # those without equalisation have the same results there
        "montgomery.hold_out": [
            whole | fewer,
            {1.0: "original", **{share: f"{name}_original" for share, name in fewer.items()}},
        ],
        "triage.test": [
            whole | {share: f"patches_{name}" for share, name in fewer.items()},
            {1.0: "global", **{share: f"global_{name}" for share, name in fewer.items()}},
        ],
    }


def test_the_table_of_shares_has_ours_and_the_papers_line_by_line(contents: Contents) -> None:
    table = only(fractions_tables(contents), "XV", contents)
    assert [group.labels[0] for group in table.groups] == ["baseline", "original"]
    assert [row.label for row in table.groups[0].rows] == [f"{n} %" for n in (100, 100, 50, 50, 10, 10)]
    assert table.columns[3:5] == ("Jaccard (+1), lungs", "Dice")
    (line,) = (line for line in lines_of_paper(table) if "XV, tenth_original" in line[2])
    assert (line[1], line[5]) == ("10 %", "0.8510 (± 0.0580)")
    data = table.data[table.data["metric"] == "JACC_SMOOTH_lungs"].set_index("arm")
    reached = measured(contents, "segment", "JACC_SMOOTH_lungs").query("part == 'hold_out'")
    means = (
        reached.groupby(["arm", "repetition"], observed=True)["value"].mean().groupby("arm", observed=True)
    )
    for arm in ("half", "tenth_original"):
        first = "original" if "original" in arm else "baseline"
        assert data.loc[arm, "mean"] == pytest.approx(means.mean()[arm])
        assert data.loc[arm, "sd_repetitions"] == pytest.approx(means.std()[arm])
        assert data.loc[arm, "relative"] == pytest.approx(means.mean()[arm] / means.mean()[first])
        assert data.loc[arm, "relative_low"] < data.loc[arm, "relative"] < data.loc[arm, "relative_high"] < 1
    assert data.loc[["baseline", "original"], "relative"].isna().all()


def measured(contents: Contents, stage: str, metric: str) -> pd.DataFrame:
    cases = contents.results.cases
    return cases[(cases["stage"] == stage) & (cases["metric"] == metric)]


def test_the_figure_of_shares_draws_what_the_table_says(contents: Contents) -> None:
    pictures = [contents.numbered(picture) for picture in fractions_pictures(contents)]
    (picture,) = (picture for picture in pictures if picture.title.startswith("Figure 12: Accuracy"))
    left, right = picture.figure.axes
    (table,) = (t for t in fractions_tables(contents) if "stage triage" in t.title)
    for axes, column in ((left, "mean"), (right, "relative")):
        drawn = [line for line in axes.lines if line.get_marker() in "os"]
        for line, name in zip(drawn, ("baseline", "global"), strict=True):
            rows = table.data[(table.data["series"] == name) & (table.data["metric"] == "ACCURACY")]
            assert list(line.get_ydata()) == pytest.approx(rows[column].fillna(1.0).tolist())
            assert list(line.get_xdata()) == pytest.approx(rows["share"].tolist(), rel=0.1)
    assert [text.get_text() for text in left.get_xticklabels()] == ["10", "50", "100"]
    assert left.get_xscale() == "symlog"


def test_the_papers_test_is_that_of_scipy_with_its_marks_beside(contents: Contents) -> None:
    tables = {table.title: table for table in signed_rank_tables(contents)}
    assert list(tables) == [
        f"arms against baseline as oh2020 tests, stage segment on {name}"
        for name in ("jsrt.test", "montgomery.hold_out")
    ]
    table = tables["arms against baseline as oh2020 tests, stage segment on montgomery.hold_out"]
    rows = table.data.set_index("arms")
    assert set(table.data["metric"]) == {"JACC_SMOOTH_lungs"}
    wide = (
        measured(contents, "segment", "JACC_SMOOTH_lungs")
        .query("part == 'hold_out'")
        .pivot_table(index="case", columns="arm", values="value", observed=True)
    )
    p = {arm: stats.wilcoxon(wide[arm], wide["baseline"]).pvalue for arm in ("unet", "half", "original")}
    for arm, value in p.items():
        assert rows.loc[arm, "p"] == pytest.approx(value)
        assert rows.loc[arm, "mark"] == stars(value)
        assert rows.loc[arm, "p_holm"] >= value
    assert rows.loc[["original", "unet", "tenth"], "published"].tolist() == [
        "V: ***; XV: *** (?)",
        "XIII: p > 0.05",
        "XV: ***",
    ]
    assert "no verdict" in table.notes[0]


@pytest.mark.parametrize(("p", "mark"), [(0.05, "p > 0.05"), (0.049, "*"), (0.0099, "**"), (0.0009, "***")])
def test_stars_are_the_papers(p: float, mark: str) -> None:
    assert stars(p) == mark


def test_a_test_needs_pairs_and_differences() -> None:
    side = pd.DataFrame(
        {"repetition": [1, 1], "case": ["a", "b"], "patient": ["p", "q"], "value": [0.5, 0.7]}
    )
    assert signed_rank(side, side.assign(repetition=2)) is None
    equal = signed_rank(side, side)
    assert equal is not None
    assert (equal["num_images"], equal["median"]) == (2, 0.0)
    assert np.isnan(equal["p"])


def test_curves_have_all_that_both_parts_have(contents: Contents) -> None:
    pictures = {picture.name: contents.numbered(picture) for picture in loss_pictures(contents)}
    picture = pictures["loss_triage_global"]
    assert picture.title == (
        "Figure 10: training and validation loss, accuracy and mean F1, stage triage, arm global"
    )
    labels = [axes.get_ylabel() for axes in picture.figure.axes]
    assert labels == ["Loss", "Accuracy", "Mean F1", "Still\ntraining"]
    lines = {line.get_label(): line.get_ydata() for line in picture.figure.axes[1].lines}
    assert lines["Training"][0] == pytest.approx(0.4 + 0.02)  # mean over repetitions 1 to 3
    assert lines["Validation"][0] == pytest.approx(0.35 + 0.02)
    assert {"losses_triage", "accuracy_triage", "mean_f1_triage"} < set(pictures)
    assert "accuracy_segment" not in pictures
