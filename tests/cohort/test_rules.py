"""Folds, sites that are left out, and given parts: patients stay whole, and nothing depends on an order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cohort.test_splits import cohorts, few, make_case, patients, shuffled, strata_of, units_of
from xferlab.cohort import Case, Cohort
from xferlab.cohort.rules import SPLIT_PARTS, Folds, Given, HoldOuts, Part, Sites

SITES = ("north", "south", "west")


def by_part(parts: dict[str, Part]) -> dict[str, set[str]]:
    groups = defaultdict[str, set[str]](set)
    for unit, part in parts.items():
        groups[part].add(unit)
    return groups


def with_sites(cohort: Cohort, known: Iterable[str] = ("fixed", "portable")) -> Cohort:
    """The cohort with a site for every image of some sections, by the number in the image's name."""
    sites = defaultdict[str, set[str]](set)
    for name in known:
        for case in cohort.sections[name]:
            sites[cohort.unit(case)].add(SITES[int(case.name.partition(".")[0]) % 3])
    held_out = cohort.held_out()
    found = {unit: frozenset(names) for unit, names in sites.items() if unit not in held_out}
    return replace(cohort, rule=Sites(found))


# --- folds -----------------------------------------------------------------------------------------


@few
@given(cohorts(), st.integers(3, 7), st.integers(1, 3))
def test_every_unit_tests_once_in_each_repeat_and_selects_once(
    cohort: Cohort, number: int, repeat: int
) -> None:
    cohort = replace(cohort, rule=Folds(number, 3))
    free, held_out = units_of(cohort) - cohort.held_out(), cohort.held_out()
    roles = {"test": Counter[str](), "validation": Counter[str]()}
    for fold in range(1, number + 1):
        parts = cohort.parts((repeat - 1) * number + fold)
        assert parts.keys() == free | held_out
        assert by_part(parts)["hold_out"] == held_out
        for role, counts in roles.items():
            counts.update(by_part(parts)[role])
    for counts in roles.values():
        assert counts == Counter(dict.fromkeys(free, 1))


@few
@given(cohorts(), st.integers(3, 7), st.integers(1, 21))
def test_the_next_fold_selects(cohort: Cohort, number: int, repetition: int) -> None:
    cohort = replace(cohort, rule=Folds(number, 21))
    last_of_repeat = repetition % number == 0
    following = repetition + 1 - (number if last_of_repeat else 0)
    selects = by_part(cohort.parts(repetition))["validation"]
    assert selects == by_part(cohort.parts(following))["test"]


@few
@given(cohorts(), st.integers(3, 7), st.integers(1, 21))
def test_folds_are_balanced_within_one_unit_in_each_stratum_and_in_all(
    cohort: Cohort, number: int, repetition: int
) -> None:
    cohort = replace(cohort, rule=Folds(number, 21))
    first = (repetition - 1) // number * number
    folds = [by_part(cohort.parts(first + fold))["test"] for fold in range(1, number + 1)]
    free = units_of(cohort) - cohort.held_out()
    for units in (free, *strata_of(cohort, free)):
        sizes = [len(fold & units) for fold in folds]
        assert max(sizes) - min(sizes) <= 1, sizes


@few
@given(cohorts(), st.integers(3, 7), st.integers(1, 9), st.integers())
def test_folds_depend_on_no_order(cohort: Cohort, number: int, repetition: int, seed: int) -> None:
    cohort = replace(cohort, rule=Folds(number, 3))
    assert shuffled(cohort, seed).parts(repetition) == cohort.parts(repetition)


@few
@given(cohorts(), st.integers(3, 7), st.lists(st.integers(0, 50), max_size=20))
def test_those_that_only_an_arm_has_test_once_too(cohort: Cohort, number: int, added: list[int]) -> None:
    cohort = replace(cohort, rule=Folds(number, 2))
    for unit in {cohort.unit(make_case(1000 + new, f"new{new}", "normal")) for new in added}:
        parts = [cohort.part_of_added(unit, repetition) for repetition in range(number + 1, 2 * number + 1)]
        assert parts.count("test") == 1


def test_repetitions_count_folds_and_then_repeats() -> None:
    rule = Folds(5, 2)
    assert rule.num_repetitions == 10
    assert [rule.coordinates(n) for n in (1, 5, 6, 10)] == [
        {"repeat": 1, "fold": 1},
        {"repeat": 1, "fold": 5},
        {"repeat": 2, "fold": 1},
        {"repeat": 2, "fold": 5},
    ]


def test_repeats_and_seeds_give_other_folds() -> None:
    cohort = Cohort(1, {"cxr": patients(covid19=40, normal=60)}, {}, Folds(5, 2))
    assert cohort.parts(1) != cohort.parts(6)
    assert replace(cohort, seed=2).parts(1) != cohort.parts(1)


def test_a_small_study_has_these_folds() -> None:
    """Other folds would renew the ids of all trials."""
    cohort = Cohort(2021, {"cxr": patients(covid19=4, normal=6)}, {"cxr": 0.3}, Folds(3))
    tested = [by_part(cohort.parts(fold))["test"] for fold in (1, 2, 3)]
    assert tested == [
        {"covid19-1", "normal-1", "normal-4"},
        {"covid19-3", "normal-2"},
        {"covid19-0", "normal-3"},
    ]
    assert by_part(cohort.parts(1))["hold_out"] == {"covid19-2", "normal-0", "normal-5"}


# --- sites -----------------------------------------------------------------------------------------


@few
@given(cohorts())
def test_no_unit_trains_or_selects_where_one_of_its_sites_tests(cohort: Cohort) -> None:
    cohort = with_sites(cohort)
    assert isinstance(cohort.rule, Sites)
    tested = Counter[str]()
    for repetition, site in enumerate(cohort.rule.names, start=1):
        parts = cohort.parts(repetition)
        assert parts.keys() == units_of(cohort)
        assert by_part(parts)["hold_out"] == cohort.held_out()
        members = {unit for unit, sites in cohort.rule.sites.items() if site in sites}
        assert by_part(parts)["test"] == members
        tested.update(members)
    assert tested == Counter({unit: len(sites) for unit, sites in cohort.rule.sites.items()})


@few
@given(cohorts(), st.integers())
def test_sites_depend_on_no_order(cohort: Cohort, seed: int) -> None:
    named, other = with_sites(cohort), with_sites(shuffled(cohort, seed))
    assert isinstance(named.rule, Sites)
    for repetition in range(1, named.rule.num_repetitions + 1):
        assert other.parts(repetition) == named.parts(repetition)


@few
@given(cohorts())
def test_a_section_without_sites_is_divided_by_the_usual_shares(cohort: Cohort) -> None:
    cohort = with_sites(replace(cohort, hold_out={}), known=["portable"])
    assert isinstance(cohort.rule, Sites)
    without = units_of(cohort) - cohort.rule.sites.keys()
    for repetition in range(1, cohort.rule.num_repetitions + 1):
        sizes = Counter(cohort.parts(repetition)[unit] for unit in without)
        for part, share in zip(SPLIT_PARTS, (0.6, 0.2, 0.2), strict=True):
            assert abs(sizes[part] - share * len(without)) < 1 + 1e-9


def test_a_fifth_of_the_patients_of_the_other_sites_selects() -> None:
    cases = patients(covid19=25, normal=50)
    sites = {case.patient: frozenset([SITES[number % 3]]) for number, case in enumerate(cases)}
    cohort = Cohort(4, {"cxr": cases}, {}, Sites(sites))
    assert cohort.rule.coordinates(2) == {"site": "south"}
    sizes = Counter(cohort.parts(2).values())
    assert sizes == {"test": 25, "validation": 10, "train": 40}
    other = Cohort(4, {"cxr": cases}, {}, Sites(sites, (0.5, 0.3, 0.2)))
    assert Counter(other.parts(2).values())["validation"] == 15


def test_a_patient_of_two_sites_tests_with_both() -> None:
    sites = {f"normal-{number}": frozenset([SITES[number % 2]]) for number in range(1, 6)}
    both = {"normal-0": frozenset(["north", "south"])}
    cohort = Cohort(4, {"cxr": patients(normal=6)}, {}, Sites({**sites, **both}))
    assert isinstance(cohort.rule, Sites)
    assert cohort.rule.num_of_several == 1
    assert [cohort.parts(n)["normal-0"] for n in (1, 2)] == ["test", "test"]


# --- given parts -----------------------------------------------------------------------------------


@few
@given(cohorts(), st.integers(1, 3))
def test_given_parts_are_taken_as_they_are_and_the_hold_out_stays(cohort: Cohort, repetition: int) -> None:
    usual = [dict(replace(cohort, hold_out={}).parts(n)) for n in (1, 2, 3)]
    rule = Given(tuple(usual), 3)
    parts = replace(cohort, rule=rule).parts(repetition)
    held_out = cohort.held_out()
    assert parts == {**usual[repetition - 1], **dict.fromkeys(held_out, "hold_out")}
    once = replace(cohort, rule=Given((usual[0],)))
    assert once.parts(repetition) == {**usual[0], **dict.fromkeys(held_out, "hold_out")}


@pytest.mark.parametrize("rule", [Sites({"a": frozenset("x")}), Given(({"a": "train"},))])
def test_these_rules_know_the_studys_own_only(rule: Sites | Given) -> None:
    cohort = Cohort(1, {"cxr": [make_case(0, "a", "normal")]}, {}, rule)
    assert cohort.part_of_added("b", 1) is None


def test_hold_outs_have_any_number_of_repetitions() -> None:
    assert HoldOuts().num_repetitions is None
    assert HoldOuts().coordinates(3) == {}


def test_what_a_source_says_of_a_case_is_no_part_of_what_it_is() -> None:
    case = make_case(0, "a", "normal")
    other = replace(case, columns={"site": "north"})
    assert case == other
    assert hash(case) == hash(other)
    assert Case(*other.row) == case
    assert "north" not in repr(other)
