from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.cohort import Case, Cohort
from xferlab.cohort.dividing import largest_remainder, rank
from xferlab.cohort.rules import SPLIT_PARTS, HoldOuts
from xferlab.cohort.splits import most_frequent

FRACTIONS = (0.6, 0.2, 0.2)
few = settings(max_examples=25, deadline=None)  # each example is a whole cohort


def make_case(image: int, patient: str, pathology: str) -> Case:
    return Case(sha256(f"{image}".encode()).hexdigest(), f"{image}.png", patient, pathology)


def patients(**counts: int) -> list[Case]:
    """One image of each of so many patients of a pathology."""
    names = [(name, number) for name, count in counts.items() for number in range(count)]
    return [make_case(i, f"{name}-{number}", name) for i, (name, number) in enumerate(names)]


@st.composite
def cohorts(draw: st.DrawFn) -> Cohort:
    """Two sections that share patients; patients with several images and mixed pathologies."""
    count = draw(st.integers(1, 60))
    column = st.lists(st.integers(0, 99), min_size=count, max_size=count)
    who, what, where = draw(column), draw(column), draw(column)
    num_patients = draw(st.integers(1, 40))
    names = ("covid19", "normal", "pathological", "other")
    sections: dict[str, list[Case]] = {"fixed": [], "portable": []}
    for image in range(count):
        case = make_case(image, f"p{who[image] % num_patients}", names[what[image] % 4])
        sections["fixed" if where[image] < 60 else "portable"].append(case)
    return Cohort(
        seed=draw(st.integers(0, 2**32)),
        sections=sections,
        hold_out={"portable": draw(st.sampled_from([0.2, 0.5]))} if draw(st.booleans()) else {},
        rule=HoldOuts(
            draw(st.sampled_from([FRACTIONS, (0.7, 0.1, 0.2), (0.34, 0.33, 0.33), (0.8, 0.2, 0.0)]))
        ),
        by_patient=draw(st.booleans()),
    )


def fractions_of(cohort: Cohort) -> tuple[float, float, float]:
    assert isinstance(cohort.rule, HoldOuts)
    return cohort.rule.fractions


def units_of(cohort: Cohort) -> set[str]:
    return {cohort.unit(case) for cases in cohort.sections.values() for case in cases}


def shuffled(cohort: Cohort, seed: int) -> Cohort:
    order = random.Random(seed)
    sections = list(cohort.sections.items())
    order.shuffle(sections)
    return replace(cohort, sections={name: order.sample(list(cases), len(cases)) for name, cases in sections})


@few
@given(cohorts(), st.integers(1, 30))
def test_every_unit_has_one_part_and_the_hold_out_is_always_the_same(cohort: Cohort, repetition: int) -> None:
    parts, held_out = cohort.parts(repetition), cohort.held_out()
    assert parts.keys() == units_of(cohort)
    assert set(parts.values()) <= {*SPLIT_PARTS, "hold_out"}
    assert {unit for unit, part in parts.items() if part == "hold_out"} == held_out
    for section, share in cohort.hold_out.items():
        units = {cohort.unit(case) for case in cohort.sections[section]}
        assert abs(len(held_out) - share * len(units)) < 1 + 1e-9
        assert held_out <= units


@few
@given(cohorts(), st.integers(1, 30))
def test_sizes_are_within_one_unit_of_the_fractions(cohort: Cohort, repetition: int) -> None:
    sizes = Counter(cohort.parts(repetition).values())
    total = sum(sizes[part] for part in SPLIT_PARTS)
    for part, fraction in zip(SPLIT_PARTS, fractions_of(cohort), strict=True):
        assert abs(sizes[part] - fraction * total) < (1 + 1e-9 if fraction else 1), (part, sizes)


@few
@given(cohorts(), st.integers(1, 30), st.integers())
def test_nothing_depends_on_the_order_of_cases_and_sections(
    cohort: Cohort, repetition: int, seed: int
) -> None:
    other = shuffled(cohort, seed)
    assert other.held_out() == cohort.held_out()
    assert other.parts(repetition) == cohort.parts(repetition)


@few
@given(cohorts(), st.integers(1, 5))
def test_each_stratum_is_within_two_units_of_the_fractions(cohort: Cohort, repetition: int) -> None:
    """Two and not one: a stratum also evens out what rounding left over before it."""
    parts = {unit: part for unit, part in cohort.parts(repetition).items() if part != "hold_out"}
    for units in strata_of(cohort, parts):
        for part, fraction in zip(SPLIT_PARTS, fractions_of(cohort), strict=True):
            assert abs([parts[unit] for unit in units].count(part) - fraction * len(units)) < 2 + 1e-9


def stratum_of(cohort: Cohort) -> Mapping[str, object]:
    """By the words of the decision: sections, and the most frequent pathology."""
    sections: dict[str, set[str]] = defaultdict(set)
    pathologies: dict[str, list[str]] = defaultdict(list)
    for name, cases in cohort.sections.items():
        for case in cases:
            sections[cohort.unit(case)].add(name)
            pathologies[cohort.unit(case)].append(case.pathology)
    ties = ["covid19", "pathological", "normal", "other"]
    return {
        unit: (frozenset(sections[unit]), max(ties, key=lambda t: (found.count(t), -ties.index(t))))
        for unit, found in pathologies.items()
    }


def test_large_strata_are_divided_exactly() -> None:
    cohort = Cohort(1, {"cxr": patients(covid19=50, normal=100, pathological=250)}, {})
    parts = cohort.parts(1)
    for name, count in (("covid19", 50), ("normal", 100), ("pathological", 250)):
        found = Counter(part for unit, part in parts.items() if unit.startswith(f"{name}-"))
        assert found == {"train": 0.6 * count, "validation": 0.2 * count, "test": 0.2 * count}


def test_a_patient_of_two_sections_has_one_part_and_its_hold_out_counts_in_both() -> None:
    shared = [make_case(i, f"both-{i}", "covid19") for i in range(20)]
    again = [make_case(100 + i, f"both-{i}", "covid19") for i in range(20)]
    fixed = shared + [make_case(200 + i, f"fixed-{i}", "covid19") for i in range(40)]
    cohort = Cohort(3, {"fixed": fixed, "portable": again}, {"portable": 0.5})
    parts = cohort.parts(1)
    assert len(cohort.held_out()) == 10
    trained_on_fixed = {case.patient for case in fixed if parts[case.patient] != "hold_out"}
    assert trained_on_fixed.isdisjoint(cohort.held_out())
    assert len(trained_on_fixed) == 50


@few
@given(cohorts(), st.integers(1, 5), st.lists(st.integers(0, 50), max_size=20))
def test_patients_that_only_an_arm_adds_are_never_held_out(
    cohort: Cohort, repetition: int, added: list[int]
) -> None:
    cases = [make_case(1000 + number, f"new{number}", "normal") for number in added]
    parts = {cohort.part_of_added(cohort.unit(case), repetition) for case in cases}
    assert parts <= {"train", "validation", "test"}


def test_added_patients_fall_into_parts_by_the_fractions() -> None:
    cohort = Cohort(5, {"cxr": patients(normal=10)}, {}, HoldOuts((0.7, 0.1, 0.2)))
    found = Counter(cohort.part_of_added(f"new{i}", 1) for i in range(4000))
    assert found["train"] / 4000 == pytest.approx(0.7, abs=0.03)
    assert found["validation"] / 4000 == pytest.approx(0.1, abs=0.02)


def test_repetitions_and_seeds_give_other_parts_and_the_same_ones_the_same() -> None:
    sections = {"cxr": patients(covid19=40, normal=60)}
    cohort = Cohort(1, sections, {"cxr": 0.2})
    assert cohort.parts(1) == Cohort(1, sections, {"cxr": 0.2}).parts(1)
    assert cohort.parts(1) != cohort.parts(2)
    other = Cohort(2, sections, {"cxr": 0.2})
    assert other.parts(1) != cohort.parts(1)
    assert other.held_out() != cohort.held_out()


def test_every_patient_is_tested_on_about_a_fifth_of_the_time() -> None:
    cohort = Cohort(11, {"cxr": patients(covid19=12, normal=23)}, {})
    tested = Counter(
        unit
        for repetition in range(1, 201)
        for unit, part in cohort.parts(repetition).items()
        if part == "test"
    )
    shares = np.array([tested[unit] for unit in units_of(cohort)]) / 200
    assert shares.min() > 0.1
    assert shares.max() < 0.32


def test_patients_of_a_small_stratum_change_their_part_over_repetitions() -> None:
    cohort = Cohort(11, {"cxr": patients(covid19=13, normal=3, pathological=2)}, {})
    seen: dict[str, set[str]] = defaultdict(set)
    for repetition in range(1, 26):
        for unit, part in cohort.parts(repetition).items():
            seen[unit].add(part)
    assert all(len(parts) > 1 for parts in seen.values())


def test_the_split_of_a_small_study_stays_as_it_is() -> None:
    """Another split would renew the ids of all trials: these are the parts that studies have run with."""
    cohort = Cohort(2021, {"cxr": patients(covid19=4, normal=6)}, {"cxr": 0.3})
    parts = cohort.parts(1)
    found = {part: sorted(u for u in parts if parts[u] == part) for part in (*SPLIT_PARTS, "hold_out")}
    assert found == {
        "train": ["covid19-0", "covid19-1", "normal-1", "normal-2"],
        "validation": ["normal-4"],
        "test": ["covid19-3", "normal-3"],
        "hold_out": ["covid19-2", "normal-0", "normal-5"],
    }


def test_images_are_divided_where_a_study_asks_for_it() -> None:
    cases = [make_case(i, "one patient", "normal") for i in range(10)]
    cohort = Cohort(1, {"cxr": cases}, {}, by_patient=False)
    assert Counter(cohort.parts(1).values()) == {"train": 6, "validation": 2, "test": 2}
    assert cohort.parts(1).keys() == {cohort.unit(case) for case in cases}
    # An arm that simulates a device has other digests, and the same images in every part.
    simulated = [replace(case, digest=f"{i:064x}", simulated="portable") for i, case in enumerate(cases)]
    assert {cohort.unit(case) for case in simulated} == cohort.parts(1).keys()


def test_renaming_sections_moves_nobody() -> None:
    fixed, portable = patients(covid19=9, normal=14), patients(covid19=12, pathological=8)
    named = Cohort(7, {"fixed": fixed, "portable": portable}, {"portable": 0.4})
    renamed = Cohort(7, {"z": fixed, "a": portable}, {"a": 0.4})
    for repetition in (1, 2, 3):
        assert named.parts(repetition) == renamed.parts(repetition)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"normal": 2, "covid19": 1}, "normal"),
        ({"normal": 1, "covid19": 1, "pathological": 1}, "covid19"),
        ({"normal": 2, "pathological": 2, "covid19": 1}, "pathological"),
        ({"normal": 1, "asthma": 1}, "normal"),
        ({"zebra": 1, "asthma": 1}, "asthma"),
    ],
)
def test_a_patient_belongs_to_its_most_frequent_pathology(counts: dict[str, int], expected: str) -> None:
    assert most_frequent(counts) == expected
    assert most_frequent(dict(reversed(counts.items()))) == expected


@given(st.integers(0, 200), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_largest_remainder_rounds_each_share_up_or_down_and_sums_up(total: int, weights: list[float]) -> None:
    wanted = [total * weight / sum(weights) for weight in weights]
    sizes = largest_remainder(wanted, total)
    assert sum(sizes) == total
    assert all(
        int(want - 1e-9) <= size <= int(want + 1e-9) + 1 for want, size in zip(wanted, sizes, strict=True)
    )


@given(st.integers(0, 100), st.lists(st.floats(0.01, 1), min_size=2, max_size=4))
def test_largest_remainder_is_nearest_to_what_is_wanted(total: int, weights: list[float]) -> None:
    """No unit could move from one part to another and bring the sizes nearer to the shares."""
    wanted = [total * weight / sum(weights) for weight in weights]
    sizes = largest_remainder(wanted, total)

    def distance(sizes: Sequence[int]) -> float:
        return sum((size - want) ** 2 for size, want in zip(sizes, wanted, strict=True))

    for giver in range(len(sizes)):
        for taker in range(len(sizes)):
            moved = list(sizes)
            moved[giver] -= 1
            moved[taker] += 1
            if moved[giver] >= 0:
                assert distance(sizes) <= distance(moved) + 1e-6


def test_largest_remainder_copes_with_what_was_given_too_much_before() -> None:
    assert largest_remainder([-0.4, 0.9, 0.5], 1) == [0, 1, 0]
    assert largest_remainder([-0.9, -0.1, 2.0], 1) == [0, 0, 1]
    assert largest_remainder([0.5, 0.5], 1) == [0, 1]


def test_ranks_are_uniform_independent_and_pure() -> None:
    draws = np.array([[rank(seed, "split", unit) for unit in range(2000)] for seed in (1, 2)])
    assert rank(1, "split", 7) == draws[0, 7]
    assert ((draws >= 0) & (draws < 1)).all()
    counts = np.histogram(draws[0], bins=20, range=(0, 1))[0]
    assert ((counts - 100.0) ** 2 / 100.0).sum() < 43.8  # chi square, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(draws)[0, 1]) < 0.07
    assert rank("a", "bc") != rank("ab", "c")


# --- label fractions -------------------------------------------------------------------------------

FRACTIONS_OF_LABELS = (0.05, 0.1, 0.2, 0.5, 1.0)


def training_units(cohort: Cohort, repetition: int) -> set[str]:
    return {unit for unit, part in cohort.parts(repetition).items() if part == "train"}


def strata_of(cohort: Cohort, units: Iterable[str]) -> Iterable[set[str]]:
    """Units of one stratum each."""
    strata, groups = stratum_of(cohort), defaultdict[object, set[str]](set)
    for unit in units:
        groups[strata[unit]].add(unit)
    return groups.values()


@few
@given(cohorts(), st.integers(1, 30))
def test_labels_are_nested_and_leave_no_stratum_out(cohort: Cohort, repetition: int) -> None:
    trained = training_units(cohort, repetition)
    chosen = [cohort.labelled(trained, fraction, repetition) for fraction in FRACTIONS_OF_LABELS]
    assert chosen[-1] == trained
    for smaller, larger in pairwise(chosen):
        assert smaller <= larger
    for fraction, kept in zip(FRACTIONS_OF_LABELS, chosen, strict=True):
        for group in strata_of(cohort, trained):
            assert 1 <= len(group & kept) <= len(group)
            assert len(group & kept) == 1 or abs(len(group & kept) - fraction * len(group)) <= 0.5


@few
@given(cohorts(), st.integers(1, 30), st.integers(), st.booleans())
def test_labels_do_not_depend_on_any_order(
    cohort: Cohort, repetition: int, seed: int, stratified: bool
) -> None:
    trained = sorted(training_units(cohort, repetition))
    other = random.Random(seed).sample(trained, len(trained))
    theirs = shuffled(cohort, seed).labelled(other, 0.3, repetition, stratified=stratified)
    assert theirs == cohort.labelled(trained, 0.3, repetition, stratified=stratified)


@few
@given(cohorts(), st.integers(1, 30))
def test_labels_without_strata_are_a_share_of_all_and_nested(cohort: Cohort, repetition: int) -> None:
    trained = training_units(cohort, repetition)
    shares = (0.0, *FRACTIONS_OF_LABELS)
    chosen = [cohort.labelled(trained, share, repetition, stratified=False) for share in shares]
    for share, kept in zip(shares, chosen, strict=True):
        assert len(kept) == (max(1, round(share * len(trained))) if share and trained else 0)
    assert all(smaller <= larger <= trained for smaller, larger in pairwise(chosen))


def test_labels_are_of_patients_by_seed_and_repetition() -> None:
    cohort = Cohort(seed=3, sections={"a": patients(covid19=50, normal=30)}, hold_out={})
    everybody = units_of(cohort)
    first = cohort.labelled(everybody, 0.2, 1)
    assert cohort.labelled(everybody, 0.2, 1) == first
    assert Counter(unit.split("-")[0] for unit in first) == {"covid19": 10, "normal": 6}
    assert replace(cohort, seed=4).labelled(everybody, 0.2, 1) != first
    assert cohort.labelled(everybody, 0.2, 2) != first
    assert cohort.labelled([], 0.5, 1) == frozenset()
    assert cohort.labelled(everybody, 0, 1) == frozenset()


def test_everybody_is_among_the_few_labels_of_some_repetition() -> None:
    """One order for all repetitions would train every one of them on the same few patients."""
    cohort = Cohort(seed=3, sections={"a": patients(covid19=10, normal=10)}, hold_out={})
    chosen = Counter(
        unit
        for repetition in range(1, 101)
        for unit in cohort.labelled(training_units(cohort, repetition), 0.1, repetition)
    )
    # 100 repetitions x 2 labels over 20 patients: 10 each are expected, with a standard deviation of 3.
    assert chosen.keys() == units_of(cohort)
    assert max(chosen.values()) <= 22


def test_patients_that_only_an_arm_has_have_a_share_of_labels_too() -> None:
    cohort = Cohort(seed=3, sections={"a": patients(covid19=10)}, hold_out={})
    strangers = [f"stranger-{number}" for number in range(10)]
    kept = cohort.labelled([*units_of(cohort), *strangers], 0.2, 1)
    assert Counter(unit.split("-")[0] for unit in kept) == {"covid19": 2, "stranger": 2}
