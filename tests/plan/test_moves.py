"""What is said of patients who are in another part than in the last plan of the study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.plan.studies import PlanOf, phantom_cases, with_case
from xferlab.cohort import Case
from xferlab.plan.plan import Plan
from xferlab.records import codec, layout
from xferlab.records.store import Store
from xferlab.schedule.moves import last_document, moved
from xferlab.schedule.study import publish

ADDED = "  added: {source: phantom_cxr, count: 18, seed: 9}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def said_of(plan: Plan, store: Store) -> str:
    """Who has moved since the last plan."""
    return moved(plan, store, last_document(store, plan.loaded.base.study))


def published(plan: Plan, store: Store) -> Plan:
    """A plan that is the last one from then on."""
    publish(plan, store, moved=said_of(plan, store))
    return plan


def changed(before: Plan, now: Plan) -> dict[str, set[tuple[str, str]]]:
    """Old and new parts of the patients that moved, of all that trained or was measured."""
    cases = {case.digest: case for _, case, _ in now.selector.listed()}
    found: dict[str, set[tuple[str, str]]] = {}
    for section, old, _ in before.selector.listed():
        for repetition in (1, 2, 3):
            pair = (
                before.selector.part_of(repetition, old),
                now.selector.part_of(repetition, cases[old.digest]),
            )
            if pair[0] != pair[1] and (section, pair[0]) != ("mri", "test"):
                found.setdefault(cases[old.digest].patient, set()).add(pair)
    return found


def numbers(sentence: str) -> list[int]:
    return [int(number) for number in re.findall(r"(?:^|; )(\d+) ", sentence)]


def test_nobody_moved_where_nothing_or_only_an_arm_changed(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of()
    assert said_of(plan, store) == ""  # it was never planned
    published(plan, store)
    assert said_of(plan, store) == ""
    arms = "arms: {baseline: {}, deep: {model.init_features: 4}}"
    assert said_of(plan_of(arms), store) == ""
    assert said_of(plan_of(edits={"repetitions: 3": "repetitions: 2"}), store) == ""


def test_a_section_that_is_added_moves_patients_of_others(plan_of: PlanOf, store: Store) -> None:
    before = published(plan_of(), store)
    now = plan_of(edits={"stages:\n": ADDED + "stages:\n"})
    found = changed(before, now)
    assert found
    said = said_of(now, store)
    assert numbers(said) == [len(found)]
    patients = {case.patient for _, case, _ in now.selector.listed()}
    assert said.startswith(
        f"{len(found)} of {len(patients)} patients are in another part than in the last plan"
    )
    assert said.endswith("in one repetition or more (data.added added)")
    published(now, store)
    plan = codec.read_json(store, layout.StudyFiles("s").plan)
    assert plan
    assert plan["planned"]["moved"] == said
    assert said_of(now, store) == ""


def test_a_patient_who_is_held_out_elsewhere_now_trains_no_more(plan_of: PlanOf, store: Store) -> None:
    before = published(plan_of(), store)
    selector = before.selector
    held_out = next(c for c in selector.cohort.sections["portable"] if selector.part_of(1, c) == "hold_out")
    trained = next(c for c in selector.cohort.sections["fixed"] if selector.part_of(1, c) == "train")

    def joined(name: str, config: Any) -> Sequence[Case]:
        return with_case(phantom_cases, f"fixed/{trained.name}", patient=held_out.patient)(name, config)

    now = plan_of(index=joined)
    found = changed(before, now)
    said = said_of(now, store)
    left = sum(("train", "hold_out") in pairs for pairs in found.values())
    seen = sum(any(old == "hold_out" for old, _ in pairs) for pairs in found.values())
    assert left
    assert numbers(said) == [number for number in (len(found), left, seen) if number]
    assert f"{left} of them were in a training part and are held out now" in said
    assert "patients of data.fixed 30 -> 31, by joining or telling apart" in said
    (warning,) = (w for w in now.warnings if w.kind == "patients whom another section holds out")
    assert warning.where == "data.fixed"
    assert warning.what == "1 of 31 patients train no stage, since portable holds them out"


def test_another_hold_out_frees_patients_who_may_have_been_looked_at(plan_of: PlanOf, store: Store) -> None:
    before = published(plan_of(), store)
    now = plan_of(edits={"hold_out: 0.5": "hold_out: 0.3"})
    free = sum(any(old == "hold_out" for old, _ in pairs) for pairs in changed(before, now).values())
    said = said_of(now, store)
    assert f"; {free} were held out and are not now: they may have been looked at" in said
    assert "data.portable.hold_out 0.5 -> 0.3" in said
    assert "another seed" in said_of(plan_of(edits={"seed: 7": "seed: 8"}), store)
    assert "another split" in said_of(plan_of("split: {train: 0.5, validation: 0.3, test: 0.2}"), store)


def test_a_plan_of_another_version_is_not_compared(plan_of: PlanOf, store: Store) -> None:
    published(plan_of(), store)
    name = layout.StudyFiles("s").plan
    last = codec.read_json(store, name) or {}
    store.delete(name)
    codec.write_json(store, name, {**last, "version": 0})
    assert said_of(plan_of(edits={"seed: 7": "seed: 8"}), store) == ""


def test_images_and_data_of_arms_are_counted_too(plan_of: PlanOf, store: Store) -> None:
    arms = "arms: {baseline: {}, other: {data.fixed.count: 90, data.fixed.seed: 4}}"
    by_image = "split: {group_by: null}"
    for number, more in enumerate((arms, f"{arms}\n{by_image}")):
        where = Store.open(f"{store.location}/{number}")
        before = published(plan_of(more), where)
        now = plan_of(more, edits={"seed: 7": "seed: 8"})
        unit = now.selector.cohort.unit
        said = said_of(now, where)
        moves, total = map(int, re.findall(r"\d+", said)[:2])
        assert 0 < moves <= total
        assert total == len({unit(case) for _, case, _ in now.selector.listed()})
        assert ("images" in said) == (by_image in more)
        assert said_of(before, where) == ""


def test_a_damaged_selection_of_the_last_plan_stops_nothing(plan_of: PlanOf, store: Store) -> None:
    before = published(plan_of(), store)
    now = plan_of(edits={"seed: 7": "seed: 8"})
    digest = next(iter(set(before.selections) - set(now.selections)))
    store.write(layout.selection_path(digest), b"{")
    assert "another seed" in said_of(now, store)
    assert store.read(layout.selection_path(digest)) == b"{"


def test_who_moved_is_kept_where_another_plan_follows_before_any_result(
    plan_of: PlanOf, store: Store
) -> None:
    published(plan_of(), store)
    published(plan_of(edits={"seed: 7": "seed: 8"}), store)
    published(plan_of("training: {max_epochs: 3}", edits={"seed: 7": "seed: 8"}), store)
    plan = codec.read_json(store, layout.StudyFiles("s").plan)
    assert plan
    assert "moved" not in plan["planned"]
    assert [("another seed" in look["moved"], look["complete"]) for look in plan["earlier"]] == [(True, 0)]
