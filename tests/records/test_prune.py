"""What nothing needs is found whatever else is there, and deleting it in any order of kills loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.identities import trial_spec
from tests.records.faults import Faults, faulty, onwards, without_pauses
from tests.records.stored import TRIAL, WEIGHTS
from tests.records.test_reader import SPEC
from xferlab.cohort import Selection
from xferlab.errors import RecordError, StorageError
from xferlab.plan.spec import PLAN_VERSION, Donor, EvaluationSpec, Input
from xferlab.records import codec, layout, predictions, reader, writer
from xferlab.records.predictions import wanted
from xferlab.records.prune import DAY_S, LOST_AFTER, delete, find_surplus
from xferlab.records.store import Store

KEPT, OTHER, DONOR, OLD_DONOR = "a" * 16, "b" * 16, "d" * 64, "f" * 64
EVALUATION, OLD = "e" * 16, "0" * 16


def selection(name: str) -> Selection:
    return Selection("cxr", ((name, "train"),))


TRAINED, MEASURED, UNUSED = (selection(name).identity() for name in ("t", "m", "u"))


def write_plan(store: Store, study: str, trial_id: str, *inputs: Input) -> None:
    evaluation = EvaluationSpec(EVALUATION, "cxr", "test", MEASURED, overlay_cases=0)
    trial = trial_spec(trial_id, evaluations=(evaluation,), inputs=(*given(DONOR), *inputs))
    entry = {**trial.to_json(), "names": [trial.name]}
    body = {"version": PLAN_VERSION, "study": study, "trials": [entry]}
    codec.write_json(store, layout.StudyFiles(study).plan, body)


def given(sha256: str) -> tuple[Input, ...]:
    return (Input("starts_from", donor=Donor("donor", name="published", sha256=sha256)),)


def write_trial(store: Store, trial_id: str) -> None:
    spec = replace(SPEC, trial_id=trial_id, selection=TRAINED, inputs=given(DONOR), evaluations=())
    codec.write_json(store, layout.TrialFiles(trial_id).spec, spec.to_json())
    for name in (EVALUATION, OLD):
        files = layout.TrialFiles(trial_id).evaluation(name)
        for file in (files.table("cases"), files.table("outputs"), files.record):
            store.write(file, b"x" * 10)
    store.write(layout.TrialFiles(trial_id).weights, WEIGHTS)
    store.write(f"{layout.TrialFiles(trial_id).checkpoint}/state-000001-000000.pt", b"x" * 7)
    store.write(layout.TrialFiles(trial_id).progress, b"late")
    writer.write_trial(store, replace(TRIAL, trial_id=trial_id))


def fill(store: Store) -> None:
    for name in ("t", "m", "u"):
        one = selection(name)
        codec.write_json(store, layout.selection_path(one.identity()), one.to_json())
    for digest in (DONOR, OLD_DONOR):
        store.write(layout.donor_path(digest), b"weights")
    for trial_id in (KEPT, OTHER):
        write_trial(store, trial_id)
    write_plan(store, "s", KEPT)
    store.write("tuning/x/tuning.json", b"{}")
    store.write("README", b"mine")


def contents(store: Store) -> set[str]:
    return {name for name, _ in store.walk("")}


def found(store: Store, **options: Any) -> dict[str, tuple[str, ...]]:
    return {one.kind: one.names for one in find_surplus(store, **options)}


SURPLUS = {
    "given weights that nothing refers to": (layout.donor_path(OLD_DONOR),),
    "measurements that no plan names": (layout.TrialFiles(KEPT).evaluation(OLD).folder,),
    "selections that nothing refers to": (layout.selection_path(UNUSED),),
    "states of complete trials": (
        f"{layout.TrialFiles(KEPT).checkpoint}/state-000001-000000.pt",
        layout.TrialFiles(KEPT).progress,
    ),
    "trials that no plan names": (layout.TrialFiles(OTHER).folder,),
}


def test_what_no_plan_names_is_found_and_deleted_and_nothing_else(store: Store) -> None:
    fill(store)
    before = contents(store)
    assert found(store) == SURPLUS
    sizes = {one.kind: one.size for one in find_surplus(store)}
    assert sizes["measurements that no plan names"] == 30
    assert sizes["states of complete trials"] == len(b"x" * 7) + len(b"late")
    assert contents(store) == before
    for one in find_surplus(store):
        delete(store, one)
    assert found(store) == {}
    gone = tuple(name for names in SURPLUS.values() for name in names)
    assert contents(store) == {name for name in before if not name.startswith(gone)}
    assert reader.read_trial(store, KEPT) is not None


def refused(store: Store, number: int, *, deleting: str) -> list[str]:
    """Prunes so many more trials while deletions of a path fail; returns the lines of the error."""
    fill(store)
    for trial in range(number):
        store.write(f"trials/{trial:016x}/spec.json", b"{}")
    fails = Faults(lambda number: True, on=lambda operation, path: deleting in path and "dele" in operation)
    stubborn = faulty(store, fails)
    trials = next(
        surplus for surplus in find_surplus(stubborn) if surplus.kind == "trials that no plan names"
    )
    with pytest.raises(StorageError) as caught:
        delete(stubborn, trials)
    return str(caught.value).splitlines()


def test_what_cannot_be_deleted_is_told_and_all_else_is_gone(store: Store) -> None:
    (line,) = refused(store, 4, deleting=f"{1:016x}")
    assert f"trials/{1:016x}" in line
    left = {name.split("/")[1] for name in contents(store) if name.startswith("trials/")}
    assert left == {f"{1:016x}", KEPT}


@pytest.mark.usefixtures("_at_once")
def test_what_is_not_tried_is_told(store: Store) -> None:
    *failures, last = refused(store, LOST_AFTER + 3, deleting="")
    assert len(failures) == LOST_AFTER
    assert last == "trials that no plan names: 4 more were not tried, after 8 failures in a row"


def test_the_plans_of_all_studies_count(store: Store) -> None:
    fill(store)
    write_plan(store, "other", OTHER)
    assert "trials that no plan names" not in found(store)


def test_states_of_a_trial_that_is_not_complete_stay(store: Store) -> None:
    fill(store)
    store.delete(layout.TrialFiles(KEPT).weights)
    assert "states of complete trials" not in found(store)


def test_predictions_stay_while_a_planned_trial_asks_their_trial_and_its_weights_are_the_same(
    store: Store,
) -> None:
    fill(store)
    write_plan(store, "other", OTHER)
    sha256 = TRIAL.weights_sha256
    used, old, others = (
        wanted(trial_id, weights, ["c"], threshold=0.5)
        for trial_id, weights in ((OTHER, sha256), (OTHER, "9" * 64), (KEPT, sha256))
    )
    for asked in (used, old, others):
        predictions.write(store, asked, predictions.table_of([]))
    store.write(used.files.table("of-a-slower-writer"), b"x")
    store.write("predictions/killed/1.parquet", b"x")
    kind = "predictions that no plan needs"
    of_no_plan = {"predictions/killed", *(asked.files.folder for asked in (old, others))}
    assert set(found(store)[kind]) == {*of_no_plan, used.files.folder}
    for role in ("masks", "gate"):
        write_plan(store, "s", KEPT, Input(role, (OTHER,)))
        assert set(found(store)[kind]) == {*of_no_plan, used.files.table("of-a-slower-writer")}
    prune(store)
    assert predictions.read(store, used) is not None
    assert kind not in found(store)


def test_kept_states_go_with_their_trials_when_all_that_is_planned_is_complete(store: Store) -> None:
    fill(store)
    kept, other, aside = (
        layout.state_path("c" * 16, KEPT),
        layout.state_path("c" * 16, OTHER),
        layout.state_path("c" * 16, f"{OTHER}.pt.damaged-0123abcd").removesuffix(".pt"),
    )
    for name in (kept, other, aside):
        store.write(name, b"state")
    damaged = {"damaged files that were set aside": (aside,)}
    assert found(store) == {**SURPLUS, **damaged, "kept states of trials that no plan names": (other,)}
    weights = layout.TrialFiles(KEPT).weights
    store.delete(weights)  # it may train again, from the state of the other
    assert "trials that no plan names" not in found(store)
    assert "kept states of trials that no plan names" not in found(store)


def test_searches_are_taken_only_when_asked(store: Store) -> None:
    fill(store)
    assert found(store, searches=True) == {**SURPLUS, "searches": ("tuning/x",)}


def test_what_a_begun_sample_starts_from_stays(store: Store) -> None:
    from xferlab.plan.sample_spec import SampleSpec
    from xferlab.records.samples import search_store, write_begun

    fill(store)
    trial = replace(
        SPEC, selection=UNUSED, inputs=(Input("starts_from", (OTHER,)), *given(OLD_DONOR)), evaluations=()
    )
    write_begun(search_store(store, "x"), SampleSpec("n", "x", 1, {}, (trial,)))
    assert set(SURPLUS) - set(found(store)) == {
        "trials that no plan names",
        "selections that nothing refers to",
        "given weights that nothing refers to",
    }


def test_without_a_plan_or_with_a_damaged_one_nothing_is_pruned(store: Store) -> None:
    store.write(layout.TrialFiles(OTHER).record, b"x")
    with pytest.raises(RecordError, match="no plan of any study, so nothing tells what is needed"):
        find_surplus(store)
    fill(store)
    store.write(layout.StudyFiles("broken").plan, b"{")
    with pytest.raises(RecordError, match=r"studies/broken/plan\.json: is no JSON"):
        find_surplus(store)
    codec.write_json(
        store, layout.StudyFiles("broken").plan, {"version": 99, "study": "broken", "trials": []}
    )
    with pytest.raises(RecordError, match="has version 99"):
        find_surplus(store)


def test_a_damaged_spec_of_a_kept_trial_is_no_obstacle(store: Store) -> None:
    fill(store)
    store.write(layout.TrialFiles(KEPT).spec, b"{")
    kinds = found(store)
    assert (
        layout.selection_path(TRAINED) in kinds["selections that nothing refers to"]
    )  # `run` writes it again
    assert kinds["trials that no plan names"] == SURPLUS["trials that no plan names"]


def test_leftovers_of_dead_or_old_writers_are_found(local: Store, tmp_path: Path) -> None:
    fill(local)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of = "trials/{}/.record.json.{}.0123abcd.tmp".format
    young, gone, old = of(KEPT, os.getpid()), of(KEPT, dead.pid), of(KEPT, f"0{os.getpid()}")
    for name in (young, gone, old):
        local.write(name, b"half")
    os.utime(local.path(old), (0, os.stat(local.path(old)).st_mtime - DAY_S - 60))
    aside = local.set_aside(layout.TrialFiles(KEPT).spec)
    kinds = found(local)
    assert kinds["leftovers of killed writers"] == tuple(sorted((gone, old)))
    assert kinds["damaged files that were set aside"] == (os.path.relpath(aside, tmp_path),)


@pytest.fixture
def _at_once() -> Iterator[None]:
    with without_pauses():
        yield


@pytest.mark.usefixtures("_at_once")
def test_a_pruning_that_ends_anywhere_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    """The records of what goes are gone first; another pruning ends it."""
    calm = Store.open(tmp_path / "calm")
    fill(calm)
    counted = Faults(on=lambda operation, path: operation.startswith("delete"))
    prune(faulty(calm, counted))
    assert len(counted.log) > 8
    for number in range(1, len(counted.log) + 1):
        store = Store.open(tmp_path / str(number))
        fill(store)
        before = contents(store)
        with pytest.raises(StorageError):
            prune(faulty(store, Faults(onwards(number), on=counted.on)))
        left = contents(store)
        for record in (name for name in before & left if name.endswith("record.json")):
            assert described_by(record, before) <= left
        prune(store)
        assert contents(store) == contents(calm)


def described_by(record: str, names: set[str]) -> set[str]:
    folder = record.removesuffix("record.json")
    its = folder if "/evaluations/" in folder else f"{folder}checkpoint/best"
    return {name for name in names if name.startswith(its)}


def prune(store: Store) -> None:
    for one in find_surplus(store):
        delete(store, one)
