"""What a run shows: a panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.schedule.graphs import trial
from xferlab.cli import view
from xferlab.cli.view import View
from xferlab.metrics.score import Score
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import State, TrialGraph


@dataclass
class Run:
    """A run that is watched, and the clock that a test moves."""

    clock: SimpleNamespace
    graph: TrialGraph
    view: View

    def start(self) -> TrialSpec:
        started = self.graph.take()
        assert started is not None
        self.view.changed(started, State.RUNNING)
        return started

    def epochs(self, running: TrialSpec, *epochs: int, each_s: float, score: float = 0.5) -> None:
        for epoch in epochs:
            self.clock.now += each_s
            self.view.epoch(running, epoch, score)

    def complete(self, running: TrialSpec) -> None:
        self.graph.complete(running.trial_id)
        self.view.changed(running, State.COMPLETE)

    def fail(self, running: TrialSpec, reason: str) -> None:
        self.graph.fail(running.trial_id)
        self.view.changed(running, State.FAILED, reason)

    def panel(self) -> str:
        console = Console(file=io.StringIO(), width=120, force_terminal=False)
        with console.capture() as captured:
            console.print(self.view._draw())
        return captured.get()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(view, "time", clock)
    return clock


@pytest.fixture
def four(clock: SimpleNamespace) -> Run:
    """Two stages of two trials."""
    run = Run(
        clock,
        TrialGraph([trial("g"), trial("h"), trial("p", parents=["g"]), trial("q", parents=["h"])]),
        View("/st"),
    )
    assert "planning" in run.panel()
    run.view.begin(run.graph)
    return run


@pytest.fixture
def single(clock: SimpleNamespace) -> Run:
    run = Run(clock, TrialGraph([trial("g")]), View("/st"))
    run.view.begin(run.graph)
    return run


def test_the_panel_shows_states_progress_and_the_time_left(four: Run) -> None:
    four.view.preparing("images of general", 3, 24)
    assert "reading images of general: 3 of 24" in four.panel()
    first, queued = four.start(), four.graph.take()
    assert queued is not None
    four.epochs(first, 7, each_s=0, score=0.4321)
    four.clock.now += 65
    panel = four.panel()
    assert "3 waiting, 1 running   1m 05s elapsed" in panel
    assert not {"reading", "left"} & set(panel.split())
    heading, row = panel.splitlines()[1:3]
    assert heading.split(maxsplit=2) == ["running", "epoch", "best validation loss (lower is better)"]
    assert row.split() == ["a/g/r01", "7/20", "0.4321"]
    four.complete(first)
    # One of four took 65 s; with one slot the other three take as long each.
    assert "(about 3m 15s left)" in four.panel()
    four.view.changed(queued, State.RUNNING)
    four.fail(queued, "DataError: torn")
    four.view.changed(four.graph.trials["q"], State.BLOCKED, "a/h/r01 failed")
    panel = four.panel()
    for text in (
        "1 waiting, 1 complete, 1 failed, 1 blocked",
        "a/h/r01 failed: DataError: torn",
        "(about 1m 05s left)",
    ):
        assert text in panel


def test_many_running_trials_and_failures_do_not_fill_the_screen(clock: SimpleNamespace) -> None:
    run = Run(clock, TrialGraph([trial(f"t{number:02}") for number in range(60)]), View("/st"))
    run.view.begin(run.graph)
    for number in range(40):
        started = run.start()
        if number % 2:
            run.fail(started, "why")
    assert len(run.panel().splitlines()) == 1 + 1 + view.SHOWN_RUNNING + view.SHOWN_FAILED


def test_elsewhere_lines_are_plain(four: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for done in (1, 90):
        four.view.preparing("images of general", done, 200)
        four.clock.now += view.PLAIN_EPOCHS_EVERY_S
    four.view.preparing("images of portable", 1, 2)
    four.view.preparing("images of portable", 2, 2)
    four.view.doing("starting Ray")
    assert "starting Ray" in four.panel()
    started = four.start()
    assert "starting Ray" not in four.panel()
    four.epochs(started, 1, each_s=10)
    four.epochs(started, 2, each_s=1, score=0.4)
    four.epochs(started, 3, each_s=view.PLAIN_EPOCHS_EVERY_S, score=0.3)
    four.complete(started)
    assert capsys.readouterr().out.splitlines() == [
        "reading images of general",
        "reading images of general: 90 of 200",
        "reading images of portable",
        "starting Ray",
        "[0/4] a/g/r01 running",
        "a/g/r01 epoch 1, best validation loss 0.5000",
        "a/g/r01 epoch 3, best validation loss 0.3000 (about 19m 07s left)",
        "[1/4] a/g/r01 complete (about 2m 03s left)",
    ]


def test_best_scores_of_several_kinds_say_which_they_are() -> None:
    judged = replace(trial("q"), identity=SimpleNamespace(score=Score("f1", "higher")))  # type: ignore[arg-type]
    heading, cells = view.best_scores([trial("g"), judged, trial("h")], [0.25, 0.5, None])
    assert (heading, cells) == ("best score", ["0.2500 validation loss", "0.5000 validation f1", ""])
    assert view.best_scores([judged], [0.5]) == ("best validation f1 (higher is better)", ["0.5000"])


def test_the_time_left_follows_from_epochs_while_no_trial_ends(single: Run) -> None:
    started = single.start()
    single.epochs(started, 1, each_s=30)
    assert "left" not in single.panel()  # the first epoch loads and compiles
    single.epochs(started, 2, each_s=10)
    assert "(about 3m 00s left)" in single.panel()  # 18 epochs of 10 s
    single.clock.now += 4
    assert "(about 2m 56s left)" in single.panel()
    single.epochs(started, 3, each_s=6)
    assert "(about 2m 50s left)" in single.panel()


def test_a_resumed_trial_shows_the_epochs_that_it_kept_and_they_cost_nothing(single: Run) -> None:
    started = single.start()
    single.epochs(started, 15, each_s=1, score=0.25)
    assert single.panel().splitlines()[2].split() == ["a/g/r01", "15/20", "0.2500"]
    single.epochs(started, 16, each_s=10)
    assert "(about 40s left)" in single.panel()


def test_stages_of_which_nothing_is_known_take_as_long_as_others(four: Run) -> None:
    started = four.start()
    four.epochs(started, 1, 2, 3, 4, 5, each_s=10)
    four.complete(started)  # it stopped early
    assert "(about 2m 30s left)" in four.panel()


def test_what_takes_longer_than_a_moment_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told, say = threading.Event(), view.say
    monkeypatch.setattr(view, "say", lambda what: (say(what), told.set()))
    for after_s, text in ((0.0, "fetching weights\n"), (60.0, "")):
        monkeypatch.setattr(view, "TELL_AFTER_S", after_s)
        with view.say_if_slow("fetching weights"):
            assert told.wait(5.0)
        assert capsys.readouterr().err == text


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_a_terminal_gets_a_live_panel_and_no_lines_but_a_dumb_one_lines(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setenv("TERM", kind)
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=100)
    monkeypatch.setattr(view, "Console", lambda **options: console)
    run = Run(clock, TrialGraph([trial("g"), trial("h")]), View("/st"))
    with run.view:
        run.view.begin(run.graph)
        run.start()
    is_live = kind == "xterm"
    assert ("1 waiting, 1 running" in sink.getvalue()) == is_live
    lines = "2 trials, 0 complete already; records go to /st\n[0/2] a/g/r01 running\n"
    assert capsys.readouterr().out == ("" if is_live else lines)
