"""Verdicts: declared contrasts under Holm's method, with intervals that say the same; sentences and looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.conftest import StudyBuilder
from tests.analysis.test_sets import AUC
from xferlab.analysis import load_study
from xferlab.analysis.claims import (
    EQUIVALENT,
    EXPLORATORY,
    NO,
    NOT_SUPPORTED,
    SUPPORTED,
    Verdicts,
    declared_when,
    earlier_plans,
    foreseen,
    verdicts_of,
)
from xferlab.analysis.comparison import NO_P
from xferlab.analysis.contents import Contents
from xferlab.analysis.estimates import at_level, corrected_t, holm, holm_levels
from xferlab.analysis.tables.answers import OPEN
from xferlab.analysis.tables.checklists import checklists_tables
from xferlab.analysis.tables.claims import best_sentence, claims_table, reached_by, reached_table
from xferlab.metrics.claims import Claims, Place
from xferlab.metrics.measuring import METRICS, metrics_of
from xferlab.metrics.metric import Metric
from xferlab.records import codec, layout
from xferlab.records.store import Store

ARMS = ("baseline", "better", "alike", "late")
SHIFT = {"baseline": 0.0, "better": 0.03, "alike": 0.0, "late": 0.001}


def pair(one: str, other: str = "baseline") -> tuple[Place, Place]:
    return Place(one, "portable"), Place(other, "portable")


DICE = tuple(metric for metric in METRICS if metric.name == "DICE")
PAIRS = tuple(pair(arm) for arm in ARMS[1:])
CLAIMS = Claims("DICE", "portable.hold_out", 0.02, PAIRS, declared=True)


class Arms(StudyBuilder):
    """A study whose arms differ as `SHIFT` says, with noise of patients, repetitions and images."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        arm_of = [ARMS.index(arm), repetition]
        noise = np.random.default_rng([*arm_of, image]).normal(0, 0.01)
        return 0.8 + SHIFT[arm] + np.random.default_rng(arm_of).normal(0, 0.002) + noise


def verdicts(folder: Path, study: type[Arms] = Arms, **changes: Any) -> tuple[Contents, Verdicts]:
    fields: dict[str, Any] = {
        "arms": ARMS, "repetitions": 6, "images": 30, "pixels": False, "missing": set(), "compare_to": None,
        "claims": CLAIMS, "epochs": 2, "patient": ("general", "portable"), "metrics": DICE,
    }  # fmt: skip
    study(folder, **{**fields, **changes}).write()
    contents = Contents(load_study(folder, "covid_lung"))
    found = verdicts_of(contents)
    assert found is not None
    return contents, found


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contents, Verdicts]:
    return verdicts(tmp_path_factory.mktemp("claims"))


def test_verdicts_say_what_the_study_holds(known: tuple[Contents, Verdicts]) -> None:
    _, found = known
    assert [verdict.kind for verdict in found.verdicts] == [SUPPORTED, EQUIVALENT, EQUIVALENT]
    better, alike, _ = map(found.sentence, found.verdicts)
    first = found.verdicts[0]
    assert better.startswith(f"better − baseline: +{first.difference:.4f} [+0.0")
    assert "(98.33 %), 6 of 6 repetitions, 30 images of 30 patients. Supported: it would recur" in better
    assert "Equivalent: the interval lies within ±0.02" in alike
    assert "(97.5 %)" in alike
    # The donor, from which all start, was cut off.
    assert better.endswith("budget, not of method.")
    assert "1 of 25 trainings ended by max_epochs and not by patience" in better


def test_the_table_of_declared_contrasts_is_not_called_exploratory(known: tuple[Contents, Verdicts]) -> None:
    table = claims_table(*known)
    assert "Exploratory" not in " ".join(table.caption)
    assert "over the 3 declared contrasts" in table.caption[0]
    assert table.caption[1].startswith("Intervals and p: ")  # which are of 98.33 and 97.5 %
    contents, found = known
    alone = claims_table(contents, replace(found, verdicts=found.verdicts[:1]))
    assert "over the one declared contrast, " in alone.caption[0]


def test_without_a_margin_nothing_is_equivalent(tmp_path: Path) -> None:
    claims = Claims("DICE", "portable.hold_out", None, PAIRS[1:], declared=True)
    _, found = verdicts(tmp_path, claims=claims)
    assert {verdict.kind for verdict in found.verdicts} == {NOT_SUPPORTED}
    assert "the interval holds 0; this does not show equality" in found.sentence(found.verdicts[0])


def test_distances_in_px_and_in_mm_are_told_apart(tmp_path: Path) -> None:
    metrics = tuple(metric for metric in METRICS if metric.label == "HD95")
    assert {metric.unit for metric in metrics} == {"px", "mm"}
    contents, found = verdicts(
        tmp_path, metrics=metrics, claims=replace(CLAIMS, metric="HD95_px", margin=None)
    )
    table = claims_table(contents, found)
    assert table.title == "HD95 (px) on portable.hold_out"
    reached = reached_by(contents, found.claims)
    of_arms = reached_table(contents, found, reached)
    assert of_arms is not None
    assert of_arms.title == "what each arm reaches in HD95 (px) on portable.hold_out"
    assert " px [" in found.sentence(found.verdicts[0])
    (best,) = best_sentence(contents, found, reached)
    assert re.match(r"Best mean: \w+ [\d.]+ px, before \w+ [\d.]+ px", best)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repetitions": 4}, "n < 5 repetitions"),
        ({"images": 8}, "n < 10 patients"),
        ({"missing": {f"better/portable/r{number:02d}" for number in (1, 2)}}, "pairs missing"),
        ({"missing": {f"better/portable/r{number:02d}" for number in range(1, 7)}}, "nothing complete"),
    ],
)
def test_no_claim_is_made_without_its_grounds(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    _, found = verdicts(tmp_path, **changes)
    assert (found.verdicts[0].kind, found.verdicts[0].reason) == (NO, reason)
    assert "No claim possible: " in found.sentence(found.verdicts[0])
    # It counts as a contrast all the same, which makes no other claim easier.
    assert min(verdict.confidence for verdict in found.verdicts) >= 0.95
    if found.verdicts[1].kind != NO:
        assert found.verdicts[1].confidence == pytest.approx(1 - 0.05 / 3)


class Apart(Arms):
    """Arm `better` is measured on images of its own."""

    def _case(self, evaluation: Mapping[str, Any], repetition: int, image: int) -> tuple[str, str, str, str]:
        case, name, *rest = super()._case(evaluation, repetition, image)
        own = "-own" if "better" in evaluation["arms"] else ""
        return (f"{case}{own}", f"{name}{own}", *rest)


class Otherwise(Arms):
    """Arm `better` reads the same images otherwise."""

    def _case(self, evaluation: Mapping[str, Any], repetition: int, image: int) -> tuple[str, str, str, str]:
        case, *rest = super()._case(evaluation, repetition, image)
        return (f"{case}{'-own' * ('better' in evaluation['arms'])}", *rest)


class OneClass(Arms):
    """All images are of one class."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        known = super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=metric)
        return 1.0 if metric == "SICK" else known


class Undefined(Arms):
    """The metric is undefined in all images of arm `better`."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        known = super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=metric)
        return float("nan") if arm == "better" else known


@pytest.mark.parametrize(
    ("study", "metric", "reason", "words"),
    [
        (Undefined, DICE[0], "images lost", "more than 5 % of the images have an undefined value"),
        (Apart, DICE[0], "no common images", "no image has this metric on both sides"),
        (OneClass, AUC, "undefined", "the metric is undefined in repetitions"),
    ],
)
def test_complete_sides_without_a_difference_are_not_called_incomplete(
    tmp_path: Path, study: type[Arms], metric: Metric, reason: str, words: str
) -> None:
    claims = replace(CLAIMS, metric=metric.name, contrasts=PAIRS[:1])
    contents, found = verdicts(tmp_path, study=study, claims=claims, metrics=(metric,))
    (verdict,) = found.verdicts
    assert (verdict.kind, verdict.reason) == (NO, reason)
    assert words in found.sentence(verdict)
    assert np.isnan([verdict.difference, verdict.low, verdict.high, verdict.p, verdict.supportable]).all()
    (group,) = claims_table(contents, found).groups
    assert group.rows[0].cells[:4] == ("–", "–", "–", f"no claim ({reason})")
    planned = dict.fromkeys(PAIRS[0], 6)
    (line,) = foreseen(contents, claims, planned)
    assert line.startswith(f"better − baseline: unknown, since {words}")


class Hearts(Arms):
    """Only hearts differ between arms; lungs are the same in all."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        shown = "baseline" if metric.endswith("_lung") else arm
        return super().value(arm=shown, stage=stage, repetition=repetition, image=image, metric=metric)


def test_a_claim_may_be_on_one_structure(tmp_path: Path) -> None:
    structures = ("heart", "lung")
    declared = tuple(metric for metric in metrics_of(structures) if metric.name.startswith("DICE"))
    claims = replace(CLAIMS, metric="DICE_heart", contrasts=PAIRS[:1])
    changes = {"metrics": declared, "structures": structures}
    contents, found = verdicts(tmp_path, study=Hearts, claims=claims, **changes)
    (verdict,) = found.verdicts
    assert (verdict.kind, verdict.reason) == (SUPPORTED, "")
    assert verdict.difference == pytest.approx(0.03, abs=0.005)
    (line,) = foreseen(contents, claims, dict.fromkeys(PAIRS[0], 6))
    assert "with 6 repetitions (by 6 complete ones)" in line


def ranking(contents: Contents, found: Verdicts) -> list[str]:
    return [*best_sentence(contents, found, reached_by(contents, found.claims))]


def test_arms_are_ranked_where_means_are_of_the_same(
    tmp_path: Path, known: tuple[Contents, Verdicts]
) -> None:
    (sentence,) = ranking(*known)
    assert "Not ranked" not in sentence
    (sentence,) = ranking(*verdicts(tmp_path / "apart", study=Apart))
    assert sentence.endswith("of the repetitions: better. Means alone say nothing of chance.")
    assert "better 0.8" not in sentence
    assert ranking(*verdicts(tmp_path / "otherwise", study=Otherwise)) == ranking(*known)
    missing = {f"{arm}/portable/r{number:02d}" for arm in ("better", "late") for number in range(1, 6)}
    (sentence,) = ranking(*verdicts(tmp_path / "few", missing=missing))
    assert "; the baseline" not in sentence  # which is the second
    assert sentence.endswith("of the repetitions: better, late. Means alone say nothing of chance.")
    two = replace(CLAIMS, contrasts=PAIRS[:1])
    changes = {"claims": two, "arms": ("baseline", "better"), "missing": {"better/portable/r02"}}
    assert ranking(*verdicts(tmp_path / "one", **changes)) == []


def test_what_is_known_by_hindsight_leaves_the_sample_size_open(known: tuple[Contents, Verdicts]) -> None:
    (claim, _) = checklists_tables(known[0])
    cells = {row.label: row.cells[1] for group in claim.groups for row in group.rows}
    assert cells["21"].startswith(f"{OPEN}; not stated in advance. By hindsight, supported in about 80 % of")
    filled = sum(not cell.startswith(OPEN) for cell in cells.values())
    assert f", {filled} of 44 items" in claim.title


def test_undeclared_is_exploratory(tmp_path: Path) -> None:
    claims = Claims("DICE", "portable.hold_out", 0.02, PAIRS, declared=False)
    contents, found = verdicts(tmp_path, claims=claims)
    assert {verdict.kind for verdict in found.verdicts} == {EXPLORATORY}
    assert {verdict.confidence for verdict in found.verdicts} == {0.95}
    assert "Supported" not in " ".join(map(found.sentence, found.verdicts))
    caption = claims_table(contents, found).caption
    assert "neither p nor intervals are adjusted" in caption[0]
    assert caption[-1].startswith("Exploratory: ")


def test_strict_intervals_are_wider(tmp_path: Path, known: tuple[Contents, Verdicts]) -> None:
    contents, found = verdicts(tmp_path, claims=replace(CLAIMS, strict=True))
    for strict, usual in zip(found.verdicts, known[1].verdicts, strict=True):
        assert strict.difference == usual.difference
        assert strict.row["overlap"] == pytest.approx(usual.row["overlap"] * 9 / 4)
        assert strict.high - strict.low > usual.high - usual.low
    assert claims_table(contents, found).caption[1].startswith("Strict: ")


def test_drawn_images_allow_no_claim(tmp_path: Path) -> None:
    verdicts(tmp_path)
    plan = codec.read_json(store := Store.open(tmp_path), name := layout.StudyFiles("covid_lung").plan)
    assert plan is not None
    plan["data"]["portable"]["simulate"] = "portable"
    codec.write_json(store, name, plan)
    contents = Contents(load_study(tmp_path, "covid_lung"))
    found = verdicts_of(contents)
    assert found is not None
    assert {verdict.reason for verdict in found.verdicts} == {"simulated only"}
    for line in foreseen(contents, CLAIMS, {place: 6 for pair in PAIRS for place in pair}):
        assert line.endswith("no claim is possible, since all images are simulated or drawn")


@pytest.mark.parametrize("missing", [(), (2, 3)])
def test_no_smallest_difference_is_foreseen_where_no_claim_will_be_possible(
    tmp_path: Path, missing: tuple[int, ...]
) -> None:
    lacking = {f"better/portable/r{number:02d}" for number in missing}
    contents, _ = verdicts(
        tmp_path, missing=lacking, arms=ARMS[:2], claims=replace(CLAIMS, contrasts=PAIRS[:1])
    )
    claims = replace(CLAIMS, contrasts=PAIRS[:1])
    few = f"no claim is possible, since {NO_P['n < 5 repetitions']}"
    (line,) = foreseen(contents, claims, dict.fromkeys(PAIRS[0], 4))
    assert line == f"better − baseline: {few}"
    for trial in contents.results.plan["trials"]:
        if trial["stage"] == "general" and "better" in trial["arms"]:
            trial["inputs"] = []
    (line,) = foreseen(Contents(contents.results), claims, dict.fromkeys(PAIRS[0], 6))
    assert line.startswith("better − baseline: no claim is possible, since the sides descend from different")


def test_nothing_is_foreseen_where_images_are_divided_and_patients_also_train(tmp_path: Path) -> None:
    known, _ = verdicts(tmp_path, arms=ARMS[:2], claims=replace(CLAIMS, contrasts=PAIRS[:1]))
    known.results.plan["split"] = {"group_by": None}
    known.results.plan["data"]["portable"] |= {"cases": 30, "patients": 20}
    contents = Contents(known.results)
    (line,) = foreseen(contents, replace(CLAIMS, contrasts=PAIRS[:1]), dict.fromkeys(PAIRS[0], 6))
    assert line == f"better − baseline: no claim is possible, since {NO_P['patients also train']}"
    found = verdicts_of(contents)
    assert found is not None
    assert (found.verdicts[0].kind, found.verdicts[0].reason) == (NO, "patients also train")


def test_a_table_shows_what_each_arm_reaches_by_pathology(known: tuple[Contents, Verdicts]) -> None:
    contents, found = known
    table = reached_table(contents, found, reached_by(contents, found.claims))
    assert table is not None
    assert table.columns == ("all", "covid19", "normal", "pathological", "Repetitions", "Training patients")
    (group,) = table.groups
    assert [row.label for row in group.rows] == list(ARMS)
    assert group.rows[0].cells[0].endswith("(30)")
    assert {row.cells[-2:] for row in group.rows} == {("6 of 6", "48")}
    backwards = replace(found.claims, contrasts=found.claims.contrasts[::-1])
    assert [place.arm for place in reached_by(contents, backwards)] == list(ARMS)


def test_arms_that_share_all_trials_stand_once_in_it_unless_they_are_compared(
    known: tuple[Contents, Verdicts],
) -> None:
    contents, _ = known
    assert contents.results.arms_by_trials("donor") == (ARMS,)
    places = (Place("baseline", "donor"), Place("late", "donor"))
    claims = replace(CLAIMS, on="mri.test", contrasts=(places[::-1],))
    assert (*reached_by(contents, claims),) == places


def test_claims_that_came_after_results_are_told(tmp_path: Path) -> None:
    verdicts(tmp_path)
    plan = codec.read_json(store := Store.open(tmp_path), name := layout.StudyFiles("covid_lung").plan)
    assert plan is not None
    plan["planned"] = {"at": "2026-11-28T10:00:00+00:00", "digest": "d" * 16}
    look = {"at": "2026-11-27T10:00:00+00:00", "digest": "e" * 16, "complete": 9, "trials": 25}
    plan["earlier"] = [{**look, "claims": None}, {**look, "claims": CLAIMS.to_json(), "complete": 12}]
    codec.write_json(store, name, plan)
    results = load_study(tmp_path, "covid_lung")
    assert declared_when(results, CLAIMS).endswith(
        " UTC, after 9 trials of a plan that claimed something else were complete"
    )
    # The later of both plans claimed the same: that is when it was declared.
    assert declared_when(results, CLAIMS).startswith("declared on 2026-11-27 10:00:00 UTC, after 9 trials")
    first, second = earlier_plans(results)
    assert (
        first == f"2026-11-27T10:00:00+00:00, digest {'e' * 16}: 9 of 25 trials were complete; other claims"
    )
    assert second.endswith("the same claims")


@pytest.mark.parametrize("num", [1, 2, 5])
def test_interval_and_verdict_never_disagree(num: int) -> None:
    random = np.random.default_rng(num)
    for _ in range(200):
        samples = random.normal(random.choice([0, 0.5, 1.0], (num, 1)), 1, (num, 8))
        estimates = [corrected_t(sample, overlap=0.2) for sample in samples]
        p_values = [estimate.p if random.random() > 0.2 else float("nan") for estimate in estimates]
        adjusted, levels = holm(p_values), holm_levels(p_values)
        assert all(0.95 <= level <= 1 - 0.05 / num for level in levels)
        for sample, estimate, p, level in zip(samples, estimates, adjusted, levels, strict=True):
            low, high = at_level(float(sample.mean()), estimate, level)
            if not np.isnan(p):
                assert (p < 0.05) == (low > 0 or high < 0)
            assert high - low >= (estimate.high - estimate.low) * (1 - 1e-9)
