"""A longer training starts at the end of a shorter one, and equals one from scratch, byte for byte."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies import recorded
from tests.trial.conftest import (
    GENERAL,
    PORTABLE,
    STAGES,
    Bench,
    Make,
    flip_bit,
    quick,
    replace_weights,
    stop_at,
)
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout, reader
from xferlab.records.schema import EpochResult
from xferlab.records.states import starts_for

SHORT, LONG = {"max_epochs": 4, "patience": 4}, {"max_epochs": 9, "patience": 9}
FREEZE = {"part": "encoder", "unfreeze_after": {"bottleneck": 2, "encoder4": 6}}


def chain(**general: Any) -> dict[str, Any]:
    """The stages, with a stage `general` that trains otherwise."""
    return {**STAGES, "general": {**STAGES["general"], **general}}


def files_of(trials: Bench, *names: str) -> dict[str, str]:
    """What is recorded of some trials, by the file's name in the storage."""
    folders = tuple(f"{layout.TrialFiles(trials[name].trial_id).folder}/" for name in names)
    return {file: digest for file, digest in trials.records.items() if file.startswith(folders)}


def outcomes_of(trials: Bench, name: str) -> list[Any]:
    """The epochs of a trial, without their times."""
    return [epoch.outcome() for epoch in reader.read_history(trials.store, trials[name].trial_id)]


def state_of(trials: Bench, name: str) -> Path:
    spec = trials[name]
    return Path(trials.store.path(layout.state_path(spec.course_id, spec.trial_id)))


def continued(trials: Bench, name: str) -> dict[str, Any]:
    """Of the last attempt at a trial: the epoch at which it began, and the trial that it continues."""
    attempt = trials.attempts(name)[-1]
    return {key: attempt[key] for key in ("first_epoch", "continues") if key in attempt}


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"plateau": {"factor": 0.5, "patience": 1}},
        {"plateau": None, "milestones": {"epochs": [3, 4, 7]}, "weight_decay": 0.01, "score": "jaccard"},
        {"precision": "bfloat16", "augmentation": {"noise": 0.1, "flip": 0.5}},
    ],
    ids=["plain", "plateau", "milestones", "augmented"],
)
def test_a_longer_training_equals_one_from_scratch(bench: Make, training: dict[str, Any]) -> None:
    scratch = bench(storage="scratch", training=quick(**training, **LONG)).ran(GENERAL)
    short = bench(training=quick(**training, **SHORT), keep_states=True)
    assert short.epochs(GENERAL) == [1, 2, 3, 4]
    before = files_of(short, GENERAL)
    long = bench(training=quick(**training, **LONG))
    assert long[GENERAL].trial_id == scratch[GENERAL].trial_id != short[GENERAL].trial_id
    assert long.epochs(GENERAL) == [5, 6, 7, 8, 9]
    assert continued(long, GENERAL) == {"first_epoch": 5, "continues": short[GENERAL].trial_id}
    assert files_of(long, GENERAL) == files_of(scratch, GENERAL) != {}
    assert files_of(short, GENERAL) == before
    assert outcomes_of(long, GENERAL) == outcomes_of(scratch, GENERAL)


@pytest.mark.slow
def test_a_child_that_freezes_continues_and_its_own_child_follows(bench: Make) -> None:
    """The parent stays, and the stage that starts from it is longer; then the parent is longer, too."""

    def bench_with(storage: str, general: dict[str, Any], portable: dict[str, Any], **more: Any) -> Bench:
        stages = chain(training=general)
        stages["portable"] = {**STAGES["portable"], "training": portable, "adapt": {"freeze": FREEZE}}
        return bench(storage=storage, stages=stages, **more).ran(GENERAL, PORTABLE)

    bench_with("results", SHORT, SHORT, keep_states=True)
    long_child = bench_with("results", SHORT, LONG, keep_states=True)
    assert continued(long_child, PORTABLE)["first_epoch"] == 5
    scratch = bench_with("scratch", SHORT, LONG)
    assert files_of(long_child, PORTABLE) == files_of(scratch, PORTABLE)

    both = bench_with("results", LONG, LONG)
    scratch = bench_with("scratch", LONG, LONG)
    assert continued(both, GENERAL)["first_epoch"] == 5
    assert continued(both, PORTABLE) == {"first_epoch": 1}  # it starts from other weights now
    assert files_of(both, GENERAL, PORTABLE) == files_of(scratch, GENERAL, PORTABLE)


def test_killed_and_continued_again(bench: Make) -> None:
    """The longer training is stopped after every third batch; a state longer than its checkpoints wins."""
    scratch = bench(storage="scratch", training=quick(**LONG)).ran(GENERAL)
    bench(training=quick(**SHORT), keep_states=True).run(GENERAL)
    long = bench(training=quick(**LONG), keep_states=True)
    long.run_in_pieces(GENERAL, 3)
    first, *later = long.attempts(GENERAL)
    assert first["first_epoch"] == 5
    assert later
    assert all("continues" not in attempt and attempt["first_epoch"] >= 5 for attempt in later)
    assert files_of(long, GENERAL) == files_of(scratch, GENERAL)

    # A third training was killed in its second epoch before any state was kept.
    longest = bench(training=quick(max_epochs=11, patience=9))
    shutil.move(state_of(long, GENERAL).parent, state_of(long, GENERAL).parent.with_name("elsewhere"))
    longest.interrupt(GENERAL, stop_at(6))
    shutil.move(state_of(long, GENERAL).parent.with_name("elsewhere"), state_of(long, GENERAL).parent)
    assert longest.epochs(GENERAL) == [10, 11]
    scratch = bench(storage="scratch", training=quick(max_epochs=11, patience=9)).ran(GENERAL)
    assert files_of(longest, GENERAL) == files_of(scratch, GENERAL)


@pytest.mark.parametrize("kind", ["cut", "bit", "other weights", "foreign"])
def test_a_state_that_is_not_what_it_was_is_set_aside(
    bench: Make, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    short = bench(training=quick(**SHORT), keep_states=True).ran(GENERAL)
    path = state_of(short, GENERAL)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "bit":
        flip_bit(path)
    elif kind == "foreign":
        other = bench(training=quick(**SHORT), keep_states=True, seed=77).ran(GENERAL)
        shutil.copy(state_of(other, GENERAL), path)
    else:
        replace_weights(short, GENERAL)
    long = bench(training=quick(**LONG))
    assert long.epochs(GENERAL) == list(range(1, 10))
    assert not path.exists()
    assert [name.name.partition(".pt")[0] for name in path.parent.iterdir()] == [short[GENERAL].trial_id]
    reason = "holds other weights than those" if kind == "other weights" else "is damaged"
    assert (
        f"a/general/r01: does not continue trial {short[GENERAL].trial_id}: {path}: {reason}" in caplog.text
    )
    scratch = bench(storage="scratch", training=quick(**LONG)).ran(GENERAL)
    assert files_of(long, GENERAL) == files_of(scratch, GENERAL)


def test_a_state_of_another_course_or_of_other_weights_is_no_start(bench: Make) -> None:
    short = bench(training=quick(**SHORT), keep_states=True).ran(GENERAL, PORTABLE)
    other = bench(training=quick(lr=0.01, **SHORT), keep_states=True).ran(GENERAL)
    copied = state_of(short, GENERAL).with_name(state_of(other, GENERAL).name)
    shutil.copy(state_of(other, GENERAL), copied)
    long = bench(training=quick(**LONG))
    assert [kept.record.trial_id for kept in starts_for(long.store, long[GENERAL])] == [
        short[GENERAL].trial_id
    ]

    # The parent was lost, and came back with other weights: the child's state goes on from the former ones.
    replace_weights(short, GENERAL)
    stages = chain()
    stages["portable"] = {**STAGES["portable"], "training": LONG}
    child = bench(training=quick(**SHORT), stages=stages)
    assert child[PORTABLE].course_id == short[PORTABLE].course_id
    assert child.epochs(PORTABLE)[0] == 1
    assert state_of(short, PORTABLE).exists()


# --- which states a training passes through -----------------------------------------------------------------


@pytest.fixture
def improved_at(monkeypatch: pytest.MonkeyPatch, bench: Make) -> Any:
    """A complete trial of six epochs, of which some improved; its history is given, and not trained."""
    short = bench(training=quick(max_epochs=6, patience=6), keep_states=True).ran(GENERAL)

    def improved_at(*best: int) -> Bench:
        def given(store: Any, trial_id: str, **options: Any) -> list[EpochResult]:
            return [EpochResult(n, {}, None, n in best, 0.0, 0.0) for n in range(1, 7)]

        monkeypatch.setattr(reader, "read_history", given)
        return short

    return improved_at


@pytest.mark.parametrize(
    ("best", "max_epochs", "patience", "is_start"),
    [
        ((1, 2, 3, 4, 5, 6), 7, 1, True),
        ((1, 2, 3, 4, 5, 6), 6, 1, True),  # the same end by other bounds
        ((1, 2, 3, 4, 5, 6), 5, 1, False),
        ((1, 2, 3, 4, 5), 9, 1, True),  # the patience ends it there
        ((1, 2, 3, 4), 9, 1, False),  # after epoch 5
        ((1, 2, 3, 4), 9, 2, True),
        ((1, 6), 9, 4, False),  # after epoch 5, although epoch 6 was better
        ((1, 6), 9, 5, True),
        ((1,), 9, 5, True),
        ((1,), 9, 4, False),
        ((), 9, 5, False),  # no epoch had a score: after epoch 5
        ((), 9, 6, True),
    ],
)
def test_only_states_on_the_way_are_starts(
    improved_at: Any, best: tuple[int, ...], max_epochs: int, patience: int, is_start: bool
) -> None:
    short = improved_at(*best)
    assert bool(starts_for(short.store, bounded(short[GENERAL], max_epochs, patience))) is is_start


def bounded(spec: TrialSpec, max_epochs: int, patience: int) -> TrialSpec:
    bounds = {"max_epochs": max_epochs, "patience": patience}
    training = spec.identity.training.model_copy(update=bounds)
    identity = spec.identity.model_copy(update={"training": training})
    return replace(spec, trial_id="f" * 16, max_epochs=max_epochs, identity=identity)


def test_other_bounds_with_the_same_end_need_no_epoch(bench: Make) -> None:
    short = bench(training=quick(**SHORT), keep_states=True).ran(GENERAL)
    long = bench(training=quick(max_epochs=4, patience=3))
    assert long[GENERAL].trial_id != short[GENERAL].trial_id
    scratch = bench(storage="scratch", training=quick(max_epochs=4, patience=3)).ran(GENERAL)
    assert long.epochs(GENERAL) == []
    assert files_of(long, GENERAL) == files_of(scratch, GENERAL)


def test_nothing_is_kept_unless_asked(bench: Make) -> None:
    trials = bench(training=quick(**SHORT)).ran(GENERAL)
    assert not Path(trials.store.path(layout.STATES)).exists()
    assert "keep_states" not in trials[GENERAL].to_json()["settings"]
    assert TrialSpec.from_json(trials[GENERAL].to_json()) == trials[GENERAL]
    kept = bench(training=quick(**SHORT), keep_states=True, storage="kept")
    assert kept[GENERAL].trial_id == trials[GENERAL].trial_id
    kept.run(GENERAL)
    assert recorded(Path(kept.store.root)) == recorded(Path(trials.store.root))
    assert TrialSpec.from_json(kept[GENERAL].to_json()) == kept[GENERAL]
