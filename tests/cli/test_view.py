"""What a run shows: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from tests.schedule.graphs import trial
from xferlab.cli import view
from xferlab.cli.view import View
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import State, TrialGraph


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(view, "time", found)
    return found


def trained(name: str, *parents: str) -> TrialSpec:
    spec = trial(name, parents=parents)
    return TrialSpec(**{**vars(spec), "identity": {"training": {"max_epochs": 20}}})


def graph() -> TrialGraph:
    return TrialGraph([trained("g"), trained("h"), trained("p", "g"), trained("q", "h")])


def start(shown: View, its: TrialGraph) -> TrialSpec:
    one = its.take()
    assert one is not None
    shown.changed(one, State.RUNNING)
    return one


def drawn(shown: View) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(shown._draw())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_shows_states_progress_and_the_time_left(clock: Clock) -> None:
    shown, its = View("/st"), graph()
    assert "planning" in drawn(shown)
    shown.begin(its)
    shown.preparing("images of general", 3, 24)
    assert "reading images of general: 3 of 24" in drawn(shown)
    shown.preparing("images of general", 24, 24)
    first, queued = start(shown, its), its.take()
    shown.epoch(first, 7, 0.4321)
    assert queued is not None
    clock.now += 65
    text = drawn(shown)
    assert "reading" not in text
    assert "3 waiting, 1 running   1m 05s elapsed" in text
    assert "left" not in text
    assert text.splitlines()[2].split() == ["a/g/r01", "7/20", "0.4321"]
    its.complete(first.trial_id)
    shown.changed(first, State.COMPLETE)
    # One of four took 65 s; with one slot the other three take as long each.
    assert "(about 3m 15s left)" in drawn(shown)
    shown.changed(queued, State.RUNNING)
    its.fail(queued.trial_id)
    shown.changed(queued, State.FAILED, "DataError: torn")
    shown.changed(its.trials["q"], State.BLOCKED, "a/h/r01 failed")
    text = drawn(shown)
    assert "1 waiting, 1 complete, 1 failed, 1 blocked" in text
    assert "a/h/r01 failed: DataError: torn" in text
    assert "(about 1m 05s left)" in text


def test_many_running_trials_and_failures_do_not_fill_the_screen(clock: Clock) -> None:
    its = TrialGraph([trained(f"t{number:02}") for number in range(60)])
    shown = View("/st")
    shown.begin(its)
    for number in range(40):
        one = start(shown, its)
        if number % 2:
            its.fail(one.trial_id)
            shown.changed(one, State.FAILED, "why")
    assert len(drawn(shown).splitlines()) == 1 + 1 + view.SHOWN_RUNNING + view.SHOWN_FAILED


def test_elsewhere_lines_are_plain(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    its = graph()
    with View("/st") as shown:
        shown.begin(its)
        shown.preparing("images of general", 1, 2)
        shown.preparing("images of general", 2, 2)
        one = start(shown, its)
        clock.now += 10
        shown.epoch(one, 1, 0.5)
        clock.now += 1
        shown.epoch(one, 2, 0.4)
        clock.now += view.PLAIN_EPOCHS_EVERY_S
        shown.epoch(one, 3, 0.3)
        its.complete("g")
        shown.changed(one, State.COMPLETE)
    assert capsys.readouterr().out.splitlines() == [
        "4 trials, 0 complete already; records go to /st",
        "reading images of general",
        "[0/4] a/g/r01 running",
        "a/g/r01 epoch 1, best score 0.5000",
        "a/g/r01 epoch 3, best score 0.3000 (about 19m 07s left)",
        "[1/4] a/g/r01 complete (about 2m 03s left)",
    ]


def test_the_time_left_follows_from_epochs_while_no_trial_ends(clock: Clock) -> None:
    its = TrialGraph([trained("g")])
    shown = View("/st")
    shown.begin(its)
    one = start(shown, its)
    clock.now += 30
    shown.epoch(one, 1, 0.5)
    assert "left" not in drawn(shown)  # the first epoch loads and compiles
    clock.now += 10
    shown.epoch(one, 2, 0.5)
    assert "(about 3m 00s left)" in drawn(shown)  # 18 epochs of 10 s
    clock.now += 4
    assert "(about 2m 56s left)" in drawn(shown)
    clock.now += 6
    shown.epoch(one, 3, 0.5)
    assert "(about 2m 50s left)" in drawn(shown)


def test_a_resumed_trial_shows_the_epochs_that_it_kept_and_they_cost_nothing(clock: Clock) -> None:
    its = TrialGraph([trained("g")])
    shown = View("/st")
    shown.begin(its)
    one = start(shown, its)
    clock.now += 1
    shown.epoch(one, 15, 0.25)
    assert drawn(shown).splitlines()[2].split() == ["a/g/r01", "15/20", "0.2500"]
    clock.now += 10
    shown.epoch(one, 16, 0.25)
    assert "(about 40s left)" in drawn(shown)


def test_stages_of_which_nothing_is_known_take_as_long_as_others(clock: Clock) -> None:
    its = graph()
    shown = View("/st")
    shown.begin(its)
    one = start(shown, its)
    for epoch in (1, 2, 3, 4, 5):
        clock.now += 10
        shown.epoch(one, epoch, 0.5)
    its.complete("g")
    shown.changed(one, State.COMPLETE)  # it stopped early
    assert "(about 2m 30s left)" in drawn(shown)


def test_what_comes_before_the_first_trial_is_shown(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    its = graph()
    with View("/st") as shown:
        shown.begin(its)
        shown.preparing("images of general", 1, 200)
        clock.now += view.PLAIN_EPOCHS_EVERY_S
        shown.preparing("images of general", 90, 200)
        shown.preparing("images of general", 200, 200)
        shown.preparing("images of portable", 1, 2)
        shown.doing("starting Ray")
        assert "starting Ray" in drawn(shown)
        start(shown, its)
        assert "starting Ray" not in drawn(shown)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "reading images of general",
        "reading images of general: 90 of 200",
        "reading images of portable",
        "starting Ray",
        "[0/4] a/g/r01 running",
    ]


def test_what_takes_longer_than_a_moment_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told, say = threading.Event(), view._say
    monkeypatch.setattr(view, "TELL_AFTER_S", 0.0)
    monkeypatch.setattr(view, "_say", lambda what: (say(what), told.set()))
    with view.say_if_slow("fetching weights"):
        assert told.wait(5.0)
    assert capsys.readouterr().err == "fetching weights\n"
    monkeypatch.setattr(view, "TELL_AFTER_S", 60.0)
    with view.say_if_slow("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_live_panel_and_no_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = io.StringIO()
    monkeypatch.setattr(
        view, "Console", lambda **options: Console(file=sink, force_terminal=True, width=100, **options)
    )
    its = graph()
    with View("/st") as shown:
        shown.begin(its)
        start(shown, its)
    assert "3 waiting, 1 running" in sink.getvalue()
    assert capsys.readouterr().out == ""
