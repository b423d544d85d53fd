"""W&B out of order while a trial runs: the real client against a faulty server on loopback."""

import time
from functools import partial

import pytest

from tests.tracking.mirror_cases import LAST, epochs, spec, store_plan, store_trial
from tests.tracking.wandb_processes import SERVICE, WRITER, mirror_processes, until
from tests.tracking.wandb_server import ABSENT, FAULTS
from xferlab.tracking import live, pipe, rebuild
from xferlab.tracking.live import TrialMirror
from xferlab.tracking.notes import BEHIND, unmirrored
from xferlab.tracking.rebuild import mirror_study

SLACK_S = 15.0
"""For a busy machine; without its limit each wait here is longer by far, or for ever."""


def send(mirror, first, last):
    """Sends epochs; returns the seconds that it took."""
    started = time.monotonic()
    for result in epochs(first, last):
        mirror.epoch(result)
    if last == LAST:
        mirror.finish(summary={}, outcome="complete")
    return time.monotonic() - started


def is_over(store, directory, *, kept=()):
    """Whether it is known how the mirror ended, and no process of it is left but one that is kept."""
    left = set(mirror_processes(directory).values())
    return BEHIND not in unmirrored(store, "covid").values() and left <= set(kept)


def is_one_warning(warnings, store):
    (warning,) = warnings()
    (reason,) = unmirrored(store, "covid").values()
    assert warning.endswith(
        f"stopped: {reason}; the trial goes on, `xferlab mirror STUDY` completes it later"
    )
    return True


def is_completed(server, store, directory):
    """Whether the mirror, rebuilt on a healthy server, holds each epoch once."""
    report = mirror_study(store, "covid", directory=directory, mode="online")
    assert (report.failed, len(report.written) + len(report.present)) == ({}, 1)
    again = mirror_study(store, "covid", directory=directory, mode="online")
    assert (again.present, unmirrored(store, "covid")) == ([spec().trial_id], {})
    valid = [run for run in server.runs.values() if "superseded" not in run.tags]
    assert [(run.epochs, run.state) for run in valid] == [(list(range(1, LAST + 1)), "finished")]
    return True


@pytest.fixture
def mirror(server, store, tmp_path):
    """The mirror of a trial whose first epochs have arrived."""
    mirror = TrialMirror.start(spec(mode="online"), directory=tmp_path, store=store)
    send(mirror, 1, 3)
    until(lambda: any(run.epochs for run in server.runs.values()))
    return mirror


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fault", FAULTS)
def test_out_of_order_in_the_middle(server, store, tmp_path, mirror, fault, warnings):
    server.fault = fault
    spent_s = send(mirror, 4, LAST)
    assert spent_s < live.FINISH_AT_LEAST_S + SLACK_S / 3
    until(lambda: is_over(store, tmp_path), timeout_s=pipe.LINGER_S + SLACK_S)
    assert is_one_warning(warnings, store)
    print(f"{fault} in the middle: {spent_s:.2f} s in the trial; {warnings()}")
    server.fault = None
    assert is_completed(server, store, tmp_path)


@pytest.mark.slow
def test_out_of_order_for_a_while(server, store, tmp_path, mirror, warnings):
    asked = len(server.asked)
    server.fault = "500"
    for result in epochs(4, LAST):
        mirror.epoch(result)
    until(lambda: server.refused > 0)
    server.fault = None
    mirror.finish(summary={}, outcome="complete")
    is_free = partial(is_over, store, tmp_path, kept=(WRITER, SERVICE))
    until(is_free, timeout_s=pipe.LINGER_S + SLACK_S)
    assert (warnings(), unmirrored(store, "covid")) == ([], {})
    (run,) = server.runs.values()
    assert (run.epochs, run.state) == (list(range(1, LAST + 1)), "finished")
    assert len(server.asked) > asked


@pytest.mark.component
def test_a_long_trial_waits_longer_but_not_long(store, tmp_path):
    mirror = TrialMirror.start(spec(mode="disabled"), directory=tmp_path, store=store)
    waits = {}
    for trial_s in (0.0, 60.0, 200.0, 7200.0):
        mirror._started = time.monotonic() - trial_s
        waits[trial_s] = round(mirror._patience_s(), 3)
    assert waits == {0.0: 1.0, 60.0: 1.0, 200.0: 2.0, 7200.0: 3.0}


@pytest.mark.component
def test_no_more_processes_than_said(store, tmp_path, monkeypatch, warnings):
    monkeypatch.setattr(live, "_behind", {"a", "b", "c", "d"})
    send(TrialMirror.start(spec(), directory=tmp_path, store=store), 1, LAST)
    assert mirror_processes(tmp_path) == {}
    assert is_one_warning(warnings, store)
    assert "behind by 4 earlier trials" in warnings()[0]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["dns", "refused", *FAULTS])
def test_a_rebuild_out_of_order_is_bounded_and_goes_on(server, store, tmp_path, monkeypatch, fault):
    specs = [spec(), spec(seed=2), spec(seed=3)]
    for one in specs[1:]:
        store_trial(store, one, num_epochs=LAST)
    store_plan(store, specs)
    server.fault = None if fault in ABSENT else fault
    monkeypatch.setenv("WANDB_BASE_URL", ABSENT.get(fault, server.url))
    started = time.monotonic()
    report = mirror_study(store, "covid", directory=tmp_path, mode="online")
    lasted_s = time.monotonic() - started
    assert lasted_s < 2 * rebuild.ANSWER_TIMEOUT_S
    assert (len(report.failed), len(report.not_tried)) == (2, 1)
    print(f"{fault}: {lasted_s:.1f} s; {next(iter(report.failed.values()))}")
    until(lambda: not mirror_processes(tmp_path), timeout_s=SLACK_S)
    server.fault = None
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert mirror_study(store, "covid", directory=tmp_path, mode="online").failed == {}
    assert sorted(run.epochs for run in server.runs.values()) == [list(range(1, LAST + 1))] * 3


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_rebuild_that_breaks_off_goes_on(server, store, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(rebuild, "ANSWER_TIMEOUT_S", 8.0)
    server.break_on = (b"wandb-history", fault)
    report = mirror_study(store, "covid", directory=tmp_path, mode="online")
    assert len(report.failed) == 1
    print(f"{fault}: {next(iter(report.failed.values()))}")
    until(lambda: not mirror_processes(tmp_path), timeout_s=SLACK_S)
    server.break_on = server.fault = None
    assert is_completed(server, store, tmp_path)
