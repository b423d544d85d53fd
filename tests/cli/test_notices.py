"""A team is told of a study that ends, first fails or stalls, and a study never notices."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Command
from tests.end_to_end.written import holding
from tests.schedule.graphs import trial
from tests.studies import ONE_TRIAL, TINY, write_study
from tests.tracking.chat_server import SECRET, Chat, chat
from xferlab.cli import notices
from xferlab.cli.notices import Notices
from xferlab.schedule.graph import Listener, State, TrialGraph
from xferlab.schedule.retry_policy import Ending
from xferlab.schedule.study import Outcome
from xferlab.study.schema import Notify

VARIABLE = "TEAM_CHAT"
FAILING: dict[str, Any] = {
    **ONE_TRIAL,
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
    "arms": {"a": {}, "wild": {"training": {"lr": 1e30}}, "wilder": {"training": {"lr": 1e31}}},
    "retries": 0,
}


def notified(folder: Path, **options: Any) -> Path:
    return write_study(folder, **FAILING, tracking={"notify": {"webhook": VARIABLE, **options}})


@pytest.mark.component
def test_a_team_is_told_of_the_first_failure_and_of_the_end(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = notified(tmp_path, format="json")
    with chat() as server:
        monkeypatch.setenv(VARIABLE, server.address)
        said = command("run", study, "--executor", "in-process", code=1)
        assert [message["event"] for message in server.messages] == ["failure", "end"]
        first, last = server.messages
        assert (first["title"], last["title"]) == ("tiny: first failure", "tiny: ended, incomplete")
        assert first["text"].startswith("Trial wild/general/r01 failed (")
        assert str(tmp_path) not in str(server.messages)
        assert last["counts"] == {"complete": 1, "failed": 2}
        assert last["text"].startswith("1 of 3 trials complete, 2 failed.")
        assert "notify" not in said.err
        command("run", study, "--executor", "in-process", "--arms", "a", code=0)
        assert len(server.messages) == 2  # nothing was left to do
    assert holding([SECRET], tmp_path) == {}


@pytest.mark.component
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (f"http://127.0.0.1:9/{SECRET}", "the webhook did not take a message: Connection refused"),
        (SECRET, f"the environment variable {VARIABLE} holds no http(s) address"),
    ],
)
def test_a_chat_that_is_not_there_is_one_warning(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    study = notified(tmp_path)
    monkeypatch.setenv(VARIABLE, address)
    said = command("run", study, "--executor", "in-process", "--arms", "a", code=0)
    told = [line for line in said.err.splitlines() if "notify" in line]
    assert told == [f"warning: tracking.notify: {reason}; the study is not affected"]
    assert SECRET not in said.out + said.err
    assert holding([SECRET], tmp_path) == {}


class Events(Listener):
    """Notes what is passed on."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def begin(self, graph: TrialGraph) -> None:
        self.events.append("begin")

    def changed(self, trial: Any, state: State, reason: str = "") -> None:
        self.events.append(state)

    def epoch(self, trial: Any, epoch: int, best_score: float | None) -> None:
        self.events.append(str(epoch))


def of_study(monkeypatch: pytest.MonkeyPatch, server: Chat, listener: Listener, **options: Any) -> Notices:
    monkeypatch.setenv(VARIABLE, server.address)
    notify = Notify(webhook=VARIABLE, format="json", **options)
    loaded = SimpleNamespace(profile="cpu", base=SimpleNamespace(tracking=SimpleNamespace(notify=notify)))
    session: Any = SimpleNamespace(study="tiny", loaded=loaded)
    return Notices(session, listener)


def test_a_stall_is_told_once_until_something_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, events = TrialGraph([trial("one"), trial("two", parents=["one"])]), Events()
    with (
        chat() as server,
        of_study(monkeypatch, server, events, on=["stall"], stall_after_min=0.3 / 60) as told,
    ):
        told.begin(graph)
        running = graph.take()
        assert running
        told.changed(running, State.RUNNING)
        for number in range(5):
            time.sleep(0.1)
            told.epoch(running, number, None)
        assert server.messages == []
        time.sleep(1.0)
        assert [message["title"] for message in server.messages] == ["tiny (cpu): no progress"]
        assert "1 trial running" in server.messages[0]["text"]
        told.epoch(running, 9, None)
        time.sleep(1.0)
        assert len(server.messages) == 2
    assert events.events == ["begin", "running", "0", "1", "2", "3", "4", "9"]


def test_how_a_run_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    for ending, state, title in (
        (Ending(), State.COMPLETE, "tiny (cpu): complete"),
        (Ending(signal=signal.SIGTERM), State.READY, "tiny (cpu): interrupted"),
    ):
        graph = TrialGraph([trial("one")])
        with chat() as server, of_study(monkeypatch, server, Listener()) as told:
            told.begin(graph)
            running = graph.take()
            assert running
            told.changed(running, State.RUNNING)
            if state is State.COMPLETE:
                graph.complete(running.trial_id)
            else:
                graph.put_back(running.trial_id)
            assert told.ended(Outcome(graph, ending, {})) is None  # W&B is not asked to tell it
            assert told.problems() == []
            assert [message["title"] for message in server.messages] == [title]


def test_an_error_that_ends_a_run_is_told_by_its_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = TrialGraph([trial("one")])
    with chat() as server:
        told = of_study(monkeypatch, server, Listener())
        told.begin(graph)
        told.changed(next(iter(graph.trials.values())), State.RUNNING)
        with pytest.raises(OSError, match=SECRET), told:
            raise OSError(SECRET)
        (message,) = server.messages
    assert message["text"] == "The run was ended by OSError; the same command continues."


def test_a_silent_chat_holds_up_the_end_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "DELIVERY_S", 0.5)
    graph = TrialGraph([trial("one")])
    with chat(0) as server, of_study(monkeypatch, server, Listener()) as told:
        told.begin(graph)
        told.changed(next(iter(graph.trials.values())), State.FAILED, "DataError: /secret/path")
        begun = time.monotonic()
        assert told.problems() == ["warning: tracking.notify: no answer in 0.5 s; the study is not affected"]
        assert time.monotonic() - begun < 3
    assert "secret/path" not in str(server.messages)
