"""A storage that fails at the N-th operation of a real trial, for every N: equal records, or a clean stop."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import pytest

from tests.records.faults import Faults, faulty, faulty_disk, never, nth, onwards, seeded, without_pauses
from tests.trial.conftest import GENERAL, PORTABLE, STAGES, Bench, Make, quick
from xferlab.errors import StorageError
from xferlab.records.complete import is_complete

SHORT = {
    "data": {
        "general": {"source": "phantom_cxr", "count": 12, "seed": 1, "size_px": 32},
        "portable": {"source": "phantom_cxr", "count": 12, "seed": 2, "size_px": 32, "hold_out": 0.4},
    },
    "model": {"init_features": 1, "image_size": 16},
    "stages": {**STAGES, "general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}},
    "training": quick(batch_size=8, max_epochs=2, patience=2, rotation=None, checkpoint_every_s=0.0001),
    "features": None,
}
KINDS = ["disk", "objects"]
ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)
Child = Callable[[str], Bench]
SOME = {"disk": (11, 31), "objects": (5, 10)}
"""The operations that the default tier tries: from, and every so many. The slow tier tries all, in parts."""
PARTS = 3
SHAKY = {"disk": 0.12, "objects": 0.5}
"""A write to a disk is eight operations, any of which fails it; to an object store it is one."""


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with without_pauses():
        yield


@contextmanager
def failing(bench: Bench, kind: str, faults: Faults) -> Iterator[Bench]:
    """The same bench, its storage failing."""
    if kind == "objects":
        yield replace(bench, session=replace(bench.session, store=faulty(bench.session.store, faults)))
        return
    with faulty_disk(faults):
        yield bench


@pytest.fixture(scope="module")
def parent(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The parent is complete and the child is not begun."""
    return bench_in(tmp_path_factory.mktemp("parent"), **SHORT).ran(GENERAL)


@pytest.fixture
def child(parent: Bench, copy_of: Make) -> Child:
    """Makes copies in a storage of their own."""
    return partial(copy_of, parent, **SHORT)


def run_child(trials: Bench, kind: str, faults: Faults) -> None:
    with failing(trials, kind, faults) as failing_trials:
        failing_trials.run(PORTABLE)


@pytest.fixture
def calm(child: Child, kind: str) -> tuple[int, dict[str, str]]:
    """The number of operations of a run without faults, and its records."""
    faults, trials = Faults(never), child("calm")
    run_child(trials, kind, faults)
    assert len(trials.records) == 12
    return len(faults.log), trials.records


def numbers(kind: str, total: int, part: int | None) -> range:
    if part is None:
        first, step = SOME[kind]
        return range(first, total + 1, step)
    return range(part, total + 1, PARTS)


some_or_every = pytest.mark.parametrize(
    "part",
    [
        pytest.param(None, id="some"),
        *(pytest.param(n, id=f"every-{n}", marks=pytest.mark.slow) for n in range(1, PARTS + 1)),
    ],
)


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("kind", KINDS)
@some_or_every
def test_a_fault_that_passes_changes_no_record(
    child: Child, calm: tuple[int, dict[str, str]], kind: str, late: bool, part: int | None
) -> None:
    total, records = calm
    for number in numbers(kind, total, part):
        faults, trials = Faults(nth(number), late=late), child(str(number))
        run_child(trials, kind, faults)
        assert faults.num_failed == 1
        assert trials.records == records


@some_or_every
@pytest.mark.parametrize(
    ("kind", "error"),
    [("disk", errno.EIO), *(("objects", error) for error in ERRORS)],
    ids=lambda value: errno.errorcode.get(value, value),
)
def test_a_fault_that_stays_stops_the_trial_and_a_rerun_converges(
    child: Child, calm: tuple[int, dict[str, str]], kind: str, error: int, part: int | None
) -> None:
    total, records = calm
    for number in numbers(kind, total, part):
        trials = child(str(number))
        try:
            run_child(trials, kind, Faults(onwards(number), error=error))
        except StorageError as stopped:
            assert trials.store.root in str(stopped)  # noqa: PT017 - the last only tidy up
        assert trials.records.items() <= records.items()
        run_child(trials, kind, Faults(never))
        assert trials.records == records
        assert is_complete(trials.store, trials[PORTABLE])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_storage_that_fails_now_and_then_only_delays_the_trial(
    child: Child, calm: tuple[int, dict[str, str]], kind: str, seed: int
) -> None:
    trials = child("shaky")
    faults = Faults(seeded(seed, share=SHAKY[kind]), late=seed % 2 == 1)
    for _ in range(200):
        with suppress(StorageError):
            run_child(trials, kind, faults)
            break
    assert trials.records == calm[1]


# --- a training that continues a shorter one ---------------------------------------------------------------

LONGER = {
    **SHORT,
    "stages": {**SHORT["stages"], "portable": {**STAGES["portable"], "training": {"max_epochs": 4}}},
    "keep_states": True,
}


@pytest.fixture(scope="module")
def shorter(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Parent and child are complete, and the states at their ends are kept."""
    return bench_in(tmp_path_factory.mktemp("shorter"), **SHORT, keep_states=True).ran(GENERAL, PORTABLE)


@pytest.mark.parametrize("kind", KINDS)
@some_or_every
def test_a_fault_that_stays_stops_a_longer_training_and_a_rerun_converges(
    shorter: Bench, copy_of: Make, kind: str, part: int | None
) -> None:
    longer = partial(copy_of, shorter, **LONGER)
    faults, calm = Faults(never), longer("calm")
    run_child(calm, kind, faults)
    assert calm.attempts(PORTABLE)[0]["first_epoch"] == 3
    for number in numbers(kind, len(faults.log), part):
        trials = longer(str(number))
        with suppress(StorageError):
            run_child(trials, kind, Faults(onwards(number)))
        run_child(trials, kind, Faults(never))
        assert trials.records == calm.records
        assert all(attempt.get("first_epoch", 3) >= 3 for attempt in trials.attempts(PORTABLE))
