"""Markers by class: against SciPy and hand arithmetic, on images and on patients; tables of a report."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.marked import CLASSES, KINDS, marked_contents
from xferlab.analysis.contents import Contents
from xferlab.analysis.markers import Marked, _rank_sum_p, marked_of, processed
from xferlab.analysis.published.paper import read_paper
from xferlab.analysis.sections import _TABLES
from xferlab.analysis.tables.markers import markers_notes, markers_tables
from xferlab.metrics.markers import CTR, LUNG_MEAN, MARKERS

SIZES = {"ill": 24, "well": 30, "rare": 4}


def marked() -> Marked:
    """Two images of each ill patient, two patients who are ill and well, and a class of four patients."""
    random = np.random.default_rng(5)
    names = [(of, number) for of, size in SIZES.items() for number in range(size)]
    patients = [f"{of}{number // 2 if of == 'ill' else number}" for of, number in names]
    patients[24:26] = ["ill0", "ill1"]
    values = random.normal([0.1 * (of == "ill") for of, _ in names], 0.1)
    cases = pd.DataFrame(
        {"case": range(len(names)), "patient": patients, "of": [of for of, _ in names], "LUNG_MEAN": values}
    ).assign(
        name=lambda frame: frame["case"].astype(str),
        parts=[("test",)] * len(names),
        CTR=lambda frame: frame["LUNG_MEAN"].where(frame["case"] % 5 > 0),
    )
    return Marked("a", "s", "d", (LUNG_MEAN, CTR), tuple(SIZES), cases)


def row(frame: pd.DataFrame, **keys: str) -> pd.Series:
    (found,) = frame[np.logical_and.reduce([frame[k] == v for k, v in keys.items()])].to_dict("records")
    return pd.Series(found)


@pytest.mark.parametrize(("size", "method"), [(8, "exact"), (9, "asymptotic")])
def test_the_rank_sum_test_is_exact_for_as_few_values_as_the_caption_says(size: int, method: str) -> None:
    first, second = np.random.default_rng(3).normal([[0.0], [0.5]], 1.0, (2, 20))
    expected = stats.mannwhitneyu(first[:size], second, method=method, use_continuity=True).pvalue
    assert _rank_sum_p(first[:size], second) == pytest.approx(expected, rel=1e-12)


def test_tests_are_scipy_s_on_images_and_on_means_of_patients() -> None:
    shown = marked()
    cases = shown.cases
    found = row(shown.compared, metric="LUNG_MEAN", first="ill", second="well")
    ill, well = (cases.loc[cases["of"] == of, "LUNG_MEAN"] for of in ("ill", "well"))
    assert found["p"] == pytest.approx(stats.mannwhitneyu(ill, well).pvalue)
    assert found["difference"] == pytest.approx(well.mean() - ill.mean())
    assert (found["first_images"], found["second_images"]) == (24, 30)
    # The patients who are in both classes are in no test of patients.
    alone = cases[~cases["patient"].isin(["ill0", "ill1"])]
    means = [alone[alone["of"] == of].groupby("patient")["LUNG_MEAN"].mean() for of in ("ill", "well")]
    assert found["patients_p"] == pytest.approx(stats.mannwhitneyu(*means).pvalue)
    assert (found["first_patients"], found["second_patients"], found["num_in_both"]) == (10, 28, 2)
    assert shown.repeated == (26, 12)


def test_holm_adjusts_over_all_lines_and_few_patients_have_no_p() -> None:
    rows = marked().compared
    few = (rows["first"] == "rare") | (rows["second"] == "rare")
    assert rows.loc[few, ["p", "p_holm", "patients_p", "patients_p_holm"]].isna().all(axis=None)
    first, second = sorted(rows.loc[~few, "p"])
    # Of six lines, four of which have no p.
    assert sorted(rows.loc[~few, "p_holm"]) == pytest.approx([6 * first, max(6 * first, 5 * second)])


def test_means_deviations_and_normality() -> None:
    shown = marked()
    found = row(shown.described, metric="CTR", of="ill")
    values = shown.cases.query("of == 'ill'")["CTR"].dropna()
    assert (found["num_images"], found["num_patients"]) == (len(values), 12)
    assert (found["mean"], found["sd"]) == pytest.approx((values.mean(), values.std()))
    by_patient = shown.cases.query("of == 'ill'").groupby("patient")["CTR"].mean()
    assert found["patients_sd"] == pytest.approx(by_patient.std())
    normal = stats.norm(values.mean(), values.std())
    assert found["normal_p"] == pytest.approx(stats.kstest(values, normal.cdf).pvalue)
    few = row(shown.described, metric="CTR", of="rare")
    assert not np.isnan(few["mean"])
    assert np.isnan(few[["sd", "patients_sd", "normal_p"]].astype(float)).all()


def test_two_sections_have_the_same_images_of_each_marker() -> None:
    first = marked()
    values = first.cases["CTR"].where(first.cases["case"] % 7 > 0)
    others = first.cases.assign(CTR=values, case=-first.cases["case"], parts=[("hold_out",)] * 58)
    second = replace(first, section="e", cases=others[5:].sample(frac=1, random_state=2))
    one, other = first.common(second), second.common(first)
    assert (len(one.cases), one.parts, other.parts) == (53, ("test",), ("hold_out",))
    for name, lacking in (
        ("LUNG_MEAN", set()),
        ("CTR", {n for n in range(5, 58) if n % 5 == 0 or n % 7 == 0}),
    ):
        for side in (one, other):
            defined = side.cases.loc[side.cases[name].notna(), "name"]
            assert set(map(int, defined)) == set(range(5, 58)) - lacking


@pytest.mark.parametrize("curve", [lambda values: 3 * values, np.exp])
def test_ranks_alone_make_the_tests_and_no_order_of_images(curve: object) -> None:
    shown, names = marked(), ["p", "p_holm", "first_images"]
    changed = shown.cases.sample(frac=1, random_state=1)
    changed = changed.assign(**{name: curve(changed[name]) for name in ("LUNG_MEAN", "CTR")})  # type: ignore[operator]
    pd.testing.assert_frame_equal(shown.compared[names], replace(shown, cases=changed).compared[names])


def test_values_that_do_not_vary_have_no_p() -> None:
    shown = marked()
    constant = replace(shown, cases=shown.cases.assign(LUNG_MEAN=0.5))
    assert constant.compared.query("metric == 'LUNG_MEAN'")[["p", "patients_p"]].isna().all(axis=None)
    assert constant.described.query("metric == 'LUNG_MEAN'")["normal_p"].isna().all()


# --- from records ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return marked_contents(tmp_path_factory.mktemp("marked"), repetitions=2)


def test_an_image_counts_once_with_its_mean_over_repetitions_and_parts(contents: Contents) -> None:
    first, second = contents.marked
    assert (first.stage, first.section, second.section) == ("portable", "portable", "portable_original")
    assert first.parts == ("hold_out", "test")
    # 60 images of the hold-out; the test part moves on by 5 from one repetition to the other.
    assert len(first.cases) == 60 + 65
    assert not first.cases["case"].duplicated().any()
    rows = contents.results.cases.query("metric == 'LUNG_MEAN' and stage == 'portable'")
    for number, repetitions in ((12, 2), (66, 1)):
        values = rows.loc[rows["case"] == f"portable-test-{number}", "value"]
        (value,) = first.cases.loc[first.cases["case"] == f"portable-test-{number}", "LUNG_MEAN"]
        assert (value, len(values)) == (pytest.approx(values.mean()), repetitions)


def test_no_order_of_rows_changes_a_number(contents: Contents) -> None:
    shuffled = contents.markers.sample(frac=1, random_state=3)
    others = contents.cases.sample(frac=1, random_state=4)
    for one, other in zip(contents.marked, marked_of(contents.results, shuffled, others), strict=True):
        assert one.classes == other.classes
        pd.testing.assert_frame_equal(one.cases, other.cases, check_exact=True)


def test_classes_are_the_pathologies_where_these_are_finer(contents: Contents) -> None:
    assert contents.marked[0].classes == KINDS
    coarse = contents.markers.assign(pathology="all")
    (labels, _) = marked_of(contents.results, coarse, contents.cases)
    assert labels.classes == CLASSES
    assert (labels.cases["of"] == "viral").sum() == 50


def test_tables_of_markers_alone_have_markers(contents: Contents) -> None:
    names = {marker.name for marker in MARKERS}
    for title, tables in _TABLES.items():
        for table in tables(contents):
            shown = set(table.data["metric"]) if "metric" in table.data else set()
            assert shown <= names if title == "Markers" else not shown & names, table.title
            assert title == "Markers" or not any(
                marker.label in " ".join((*table.notes, *table.columns)) for marker in MARKERS
            )
    assert any(line.startswith("CTR (Cardiothoracic ratio)") for line in contents.definitions())


def test_the_tables_say_what_a_reader_must_know(contents: Contents) -> None:
    described, compared, *_ = markers_tables(contents)
    assert described.title == "markers by class, stage portable on portable"
    group = next(group for group in described.groups if group.labels[0] == "covid19")
    assert group.labels[1:] == ("25", "7")
    assert [line.label for line in group.rows] == ["over images", "over patients", "normal (p)"]
    column = described.columns.index("Cardiothoracic ratio")
    of = contents.marked[0].of_class("covid19")["CTR"].dropna()
    expected = f"{of.mean():.4f} ± {of.std():.4f} (n = {len(of)})"
    assert (group.rows[0].cells[column], len(of) < 25) == (expected, True)
    assert compared.num_lines == len(MARKERS) * 10
    assert any("images are of" in note and "several images" in note for note in compared.notes)
    assert any("lenient" in sentence for sentence in described.caption)


def test_classes_whose_masks_are_of_networks_that_knew_more_of_them_are_named(contents: Contents) -> None:
    plan, (first, second) = copy(contents.results.plan), contents.marked
    known = {
        "viral": {"trained": 1, "selected": 0, "unseen": 9},
        "normal": {"trained": 3, "selected": 2, "unseen": 5},
    }
    trained = replace(first, cases=first.cases.assign(parts=[("train",)] * len(first.cases)))

    def said(sources: dict[str, dict[str, int]], marked: Marked) -> list[str]:
        trials = [
            trial | ({"mask_sources": {"train": sources}} if trial["stage"] == "portable" else {})
            for trial in plan["trials"]
        ]
        changed = copy(contents)
        changed.results = replace(contents.results, plan={**plan, "trials": trials})
        return [note for note in markers_notes(changed, marked) if note.startswith("Masks are better")]

    (note,) = said(known, trained)
    assert note.endswith("trains on or selects on: normal 50 %, viral 10 %.")
    assert said({"viral": known["normal"], "normal": known["normal"]}, trained) == []
    assert said(known, first) == []  # which has none of these parts
    assert said(known, replace(trained, section=second.section)) == []


@pytest.fixture(scope="module")
def with_paper(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """The same beside oh2020, whose stage and section get the names of this study's."""
    contents = marked_contents(tmp_path_factory.mktemp("marked"), repetitions=1, images=25)
    paper, here = read_paper("oh2020"), {"stage": "portable", "section": "portable"}
    values, marks = (
        rows[rows["section"] == "triage"].assign(**here) for rows in (paper.values, paper.significance)
    )
    shown = replace(paper.tables["VI"], shows={"kind": "markers", **here})
    tables = {**paper.tables, "VI": shown}
    contents.paper = replace(paper, tables=tables, values=values, significance=marks)
    return contents


def test_a_papers_values_stand_below_those_of_their_class(with_paper: Contents) -> None:
    table, _, original, _ = map(with_paper.numbered, markers_tables(with_paper))
    assert table.title.startswith("Table VI: markers by class")
    (lines,) = (group.rows[3:] for group in table.groups if group.labels[0] == "covid19")
    assert {line.label: [cell for cell in line.cells if cell != "–"] for line in lines} == {
        "oh2020, Tables VI, VII, IX, baseline (± SD over images)": [
            "0.5060 (± 0.0510)",
            "0.1630 (± 0.0220)",
            "0.4990 (± 0.0860)",
        ],
        "oh2020, Table VIII, without_ap_supine (± SD over images)": ["0.1610 (± 0.0220)"],
    }
    assert "The markers of oh2020, Tables VI, VII, VIII, IX, are all in this table." in table.caption
    assert (original.title[:8], "oh2020" in str(original)) == ("Table S2", False)


def test_a_papers_values_of_what_is_no_class_here_stand_last(with_paper: Contents) -> None:
    without = with_paper.cases.assign(pathology="all"), with_paper.markers.assign(pathology="all")
    changed = copy(with_paper)
    changed.__dict__["marked"] = tuple(marked_of(changed.results, without[1], without[0]))
    table, *_ = markers_tables(changed)
    assert [group.labels for group in table.groups][3:] == [("viral", "20", "9"), ("covid19", "–", "–")]
    assert {row.label[:6] for row in table.groups[-1].rows} == {"oh2020"}
    assert any("0.5060 (± 0.0510)" in row.cells for row in table.groups[-1].rows)


def test_a_papers_marks_stand_beside_the_test_on_images(with_paper: Contents, contents: Contents) -> None:
    _, table, *_ = markers_tables(with_paper)
    at = table.columns.index("oh2020 (images)")
    marks = {(group.labels[0], row.label): row.cells[at] for group in table.groups for row in group.rows}
    assert marks["LUNG_SD", "viral − normal"] == "VII: ***; VIII: ***"
    assert marks["LUNG_SD", "tuberculosis − bacterial"] == "VII: **"  # in the paper the other way round
    assert marks["LUNG_MEAN", "bacterial − normal"] == "VI: * or ** or none (?)"
    given = with_paper.paper.significance if with_paper.paper else pd.DataFrame()
    pairs = {(m, frozenset(sides)) for m, *sides in given[["metric", "first", "second"]].to_numpy()}
    assert sum(mark != "–" for mark in marks.values()) == len(pairs)
    assert any(note.startswith("(?): ") for note in table.notes)
    _, without, *_ = markers_tables(contents)
    assert "published" not in without.data


def test_sections_that_differ_in_steps_alone_are_a_pair(contents: Contents) -> None:
    (pair,) = contents.processed
    assert (pair.before.section, pair.after.section) == ("portable_original", "portable")
    assert pair.steps == {"equalise": True, "gamma": 0.5}
    names = [list(side.cases.sort_values("name")["name"]) for side in (pair.before, pair.after)]
    assert names[0] == names[1]
    assert len(names[0]) == 60
    assert [each.section for each in contents.marked_figures] == ["portable"]
    other = {**contents.results.plan["data"]["portable"], "cases": 99}
    plan = {**contents.results.plan, "data": {**contents.results.plan["data"], "portable": other}}
    assert list(processed(replace(contents.results, plan=plan), contents.marked)) == []


def test_a_study_without_markers_has_none(results: object) -> None:
    without = Contents(results)  # type: ignore[arg-type]
    assert (without.marked, len(without.markers), list(markers_tables(without))) == ((), 0, [])
