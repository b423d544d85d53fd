"""Comparison of stages by their deep features: the measure, the chain it follows, its table and figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import StudyResults, load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.features import MOVED, DeepFeatures, linear_cka
from xferlab.analysis.report import write_report
from xferlab.analysis.tables.features import features_tables
from xferlab.plan.identity import short_id
from xferlab.records import codec, layout, reader, writer
from xferlab.records.schema import FEATURES_SCHEMA, FeaturesRecord
from xferlab.records.store import Store

LAYERS = ("encoder1", "bottleneck", "decoder1")
CASES, CHANNELS = 12, 5


def random_features(*name: object) -> np.ndarray:
    seed = int(short_id([str(one) for one in name])[:8], 16)
    return np.random.default_rng(seed).normal(3.0, 1.0, (CASES, CHANNELS)) * [1, 1, 1, 2, 0.1]


def gram(features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=0)
    product: np.ndarray = centred @ centred.T
    return product


def cka_of_features(x: np.ndarray, y: np.ndarray) -> float:
    """The other side of equation 5 of Kornblith et al.: by cross-covariance, without a Gram matrix."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross, own, other = (np.linalg.norm(a.T @ b) for a, b in ((x, y), (x, x), (y, y)))
    return float(cross**2 / (own * other))


# --- the measure -------------------------------------------------------------------------------------------


def test_cka_is_what_its_definition_by_features_gives() -> None:
    x, y = random_features("x"), random_features("y") @ np.arange(20.0).reshape(5, 4)
    assert linear_cka(gram(x), gram(y)) == pytest.approx(cka_of_features(x, y), abs=1e-12)
    assert linear_cka(gram(y), gram(x)) == pytest.approx(cka_of_features(x, y), abs=1e-12)
    assert 0 < cka_of_features(x, y) < 1


def test_cka_knows_no_rotation_scale_or_shift() -> None:
    x, y = random_features("x"), random_features("y")
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(CHANNELS, CHANNELS)))
    assert linear_cka(gram(x), gram(7 * x @ rotation - 2)) == pytest.approx(1, abs=1e-12)
    expected = linear_cka(gram(x), gram(y))
    assert linear_cka(gram(0.1 * x + 5), gram(y @ rotation)) == pytest.approx(expected, abs=1e-12)
    # Another map than a rotation is not unseen: it is linear regression that cannot tell it.
    assert linear_cka(gram(x), gram(x * [100, 1, 1, 1, 1])) < 0.9


def test_features_that_do_not_differ_have_no_cka() -> None:
    x = random_features("x")
    assert np.isnan(linear_cka(gram(x), gram(np.ones((CASES, 2)))))


# --- the chain ---------------------------------------------------------------------------------------------


def asked(trial: dict[str, Any]) -> dict[str, Any]:
    features_id = short_id([trial["trial_id"], "features"])
    return {"features_id": features_id, "section": "portable", "selection": "0" * 64, "source": "portable"}


def raw(trial: dict[str, Any], layer: str, state: str) -> np.ndarray:
    return random_features(trial["trial_id"], layer, state)


def write_features(store: Store, trial: dict[str, Any]) -> None:
    changes = [0.0, MOVED, MOVED * 1.01, 0.5] if trial["stage"] == "general" else [0.0, 0.01, 0.02, 9.0]
    grams = {
        f"gram_{state}": [gram(raw(trial, layer, state)).ravel().astype(np.float32) for layer in LAYERS]
        for state in ("start", "best")
    }
    each = {"distance": 0.1 * trial["repetition"], "cosine": 0.9, "filter_changes": changes}
    columns = {
        "layer": list(LAYERS),
        **grams,
        **{name: [value] * len(LAYERS) for name, value in each.items()},
    }
    data, features = writer.table(FEATURES_SCHEMA, columns), trial["features"]
    record = FeaturesRecord(
        features_id=features["features_id"],
        trial_id=trial["trial_id"],
        selection=features["selection"],
        num_cases=CASES,
        weights_sha256="0" * 64,
    )
    writer.write_measurement(store, record, {"features": data})


def with_features(
    builder: StudyBuilder, *, without: tuple[str, ...] = (), change: Any = lambda plan: None
) -> StudyResults:
    builder.images, builder.pixels = 3, False
    store = Store.open(builder.write())
    plan = reader.read_plan(store, STUDY)
    change(plan)
    for trial in plan["trials"]:
        trial["features"] = asked(trial)
        if not {*without, *builder.missing} & set(trial["names"]):
            write_features(store, trial)
    codec.write_json(store, layout.StudyFiles(STUDY).plan, plan)
    return load_study(builder.folder, STUDY)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Two arms, three stages, four repetitions, one of them failed; all that is complete has features."""
    return with_features(StudyBuilder(tmp_path_factory.mktemp("compared")))


def trial_named(results: StudyResults, name: str) -> dict[str, Any]:
    (found,) = [trial for trial in results.plan["trials"] if name in trial["names"]]
    return dict(found)


def value(features: DeepFeatures, quantity: str, before: str, after: str, repetition: int = 1) -> float:
    frame = features.values.set_index(["arm", "quantity", "before", "after", "repetition", "layer"])
    return float(frame["value"].loc["frozen", quantity, before, after, repetition, "bottleneck"])


def test_stages_are_compared_along_their_chain_in_each_repetition(compared: StudyResults) -> None:
    features = DeepFeatures(compared)
    assert features.pairs("cka") == [("donor", "general"), ("general", "portable"), ("donor", "portable")]
    assert features.pairs("distance") == [("donor", "general"), ("general", "portable")]
    for repetition in (1, 3):
        names = ("baseline/donor/r01", f"frozen/general/r0{repetition}", f"frozen/portable/r0{repetition}")
        donor, general, portable = (raw(trial_named(compared, name), "bottleneck", "best") for name in names)
        for before, after, x, y in (
            ("donor", "general", donor, general),
            ("general", "portable", general, portable),
            ("donor", "portable", donor, portable),
        ):
            found = value(features, "cka", before, after, repetition)
            assert found == pytest.approx(cka_of_features(x, y), abs=1e-6)
    assert features.num_cases == CASES
    assert features.groups == (("baseline",), ("frozen",))
    assert features.layers == LAYERS


def test_how_far_weights_moved_is_measured_from_where_the_stage_started(compared: StudyResults) -> None:
    features = DeepFeatures(compared)
    assert value(features, "share_moved", "donor", "general") == 0.5
    assert value(features, "share_moved", "general", "portable") == 0.25
    assert value(features, "distance", "general", "portable", 3) == pytest.approx(0.3)
    assert value(features, "cosine", "donor", "general") == 0.9


def test_given_weights_are_what_the_first_stage_started_from(builder: StudyBuilder) -> None:
    def give(plan: dict[str, Any]) -> None:
        plan["trials"] = [trial for trial in plan["trials"] if trial["stage"] != "donor"]
        for trial in plan["trials"]:
            if trial["stage"] == "general":
                trial["inputs"] = [
                    {
                        "role": "starts_from",
                        "trials": [],
                        "donor": {"stage": "donor", "name": "buda2019", "path": None},
                    }
                ]

    results = with_features(builder, change=give)
    features = DeepFeatures(results)
    general, portable = (trial_named(results, f"frozen/{stage}/r02") for stage in ("general", "portable"))
    donor = raw(general, "bottleneck", "start")
    for after, trial in (("general", general), ("portable", portable)):
        found = value(features, "cka", "donor", after, 2)
        assert found == pytest.approx(cka_of_features(donor, raw(trial, "bottleneck", "best")), abs=1e-6)
    assert "A donor of given weights" in " ".join(next(features_tables(Contents(results))).caption)


def test_of_several_parents_the_one_that_the_record_names_counts(builder: StudyBuilder) -> None:
    def best(plan: dict[str, Any]) -> None:
        store = Store.open(builder.folder)
        parents = [t["trial_id"] for t in plan["trials"] if "frozen/general" in t["names"][0]]
        for trial in plan["trials"]:
            if "frozen/portable" in trial["names"][0]:
                trial["inputs"][0]["trials"] = sorted(parents)
                record = reader.read_trial(store, trial["trial_id"])
                assert record is not None
                writer.write_trial(store, replace(record, started_from=parents[2]))

    results = with_features(builder, change=best)
    general, portable = (trial_named(results, f"frozen/{name}") for name in ("general/r03", "portable/r01"))
    expected = cka_of_features(raw(general, "bottleneck", "best"), raw(portable, "bottleneck", "best"))
    assert value(DeepFeatures(results), "cka", "general", "portable") == pytest.approx(expected, abs=1e-6)


def test_a_trial_without_its_features_is_not_complete(builder: StudyBuilder) -> None:
    results = with_features(builder, without=("frozen/portable/r02",))
    row = results.trials[(results.trials["arm"] == "frozen") & (results.trials["stage"] == "portable")].iloc[
        1
    ]
    assert (row["state"], row["reason"]) == ("not complete", "trained, not yet evaluated")
    frame = DeepFeatures(results).summary
    own = frame[(frame["arm"] == "frozen") & (frame["after"] == "portable")]
    assert set(zip(own["num_repetitions"], own["num_planned"], strict=True)) == {(3, 4)}


# --- table, figure, report ---------------------------------------------------------------------------------


def test_the_summary_is_over_repetitions(compared: StudyResults) -> None:
    features = DeepFeatures(compared)
    values = [value(features, "cka", "donor", "portable", repetition) for repetition in (1, 2, 3, 4)]
    frame = features.summary.set_index(["arm", "quantity", "before", "after", "layer"])
    found = frame.loc[("frozen", "cka", "donor", "portable", "bottleneck"), :]
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["sd_repetitions"] == pytest.approx(np.std(values, ddof=1))


def test_the_table_has_every_arm_and_layer(compared: StudyResults) -> None:
    (table,) = features_tables(Contents(compared))
    assert table.columns == (
        "CKA donor–general", "CKA general–portable", "CKA donor–portable",
        "Distance donor–general", "Distance general–portable",
        "Moved donor–general", "Moved general–portable",
    )  # fmt: skip
    assert [group.labels for group in table.groups] == [("baseline", "3 of 4, 4 of 4"), ("frozen", "4 of 4")]
    assert [row.label for row in table.groups[0].rows] == list(LAYERS)
    assert table.groups[1].rows[0].cells[3:5] == ("0.250 ± 0.129", "0.250 ± 0.129")
    assert table.groups[1].rows[0].cells[5:] == ("0.500 ± 0.000", "0.250 ± 0.000")
    assert len(table.data) == 2 * len(LAYERS) * (3 + 3 * 2)
    assert f"the same {CASES} images of portable.hold_out" in " ".join(table.caption)
    assert "baseline/portable/r04" in " ".join(table.notes)


def test_one_repetition_has_no_deviation(builder: StudyBuilder) -> None:
    builder.repetitions, builder.missing = 1, set()
    (table,) = features_tables(Contents(with_features(builder)))
    assert table.groups[0].rows[0].cells[3] == "0.100"
    assert table.data["sd_repetitions"].isna().all()


def test_without_stored_features_there_is_no_table(results: StudyResults) -> None:
    assert not DeepFeatures(results)
    assert list(features_tables(Contents(results))) == []


@pytest.mark.slow
@pytest.mark.component  # draws
def test_the_report_shows_features_in_both_forms(builder: StudyBuilder, tmp_path: Path) -> None:
    builder.missing, builder.pixels = set(), False
    with_features(builder)
    path = write_report(builder.folder, STUDY, tmp_path / "out")
    text = path.read_text()
    assert "## Deep features" in text
    assert "deep features of stages compared, arm frozen" in text
    (csv,) = (tmp_path / "out" / "tables").glob("*_features.csv")
    assert set(pd.read_csv(csv)["quantity"]) == {"cka", "distance", "cosine", "share_moved"}
    pictures = sorted(one.name for one in (tmp_path / "out" / "figures").glob("*_features_*"))
    assert [name.partition("_")[2] for name in pictures] == [
        *(f"features_{arm}.{ending}" for arm in ("baseline", "frozen") for ending in ("pdf", "png", "svg")),
    ]  # fmt: skip
