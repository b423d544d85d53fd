"""Online mirrors: the real client against a stand-in server on loopback."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.tracking.mirror_cases import (
    LAST,
    epochs,
    mirrored,
    spec,
    store_plan,
    store_trial,
    wandb_settings,
)
from xferlab.plan.spec import Input
from xferlab.records.reader import read_trial
from xferlab.records.writer import write_trial
from xferlab.tracking import rebuild
from xferlab.tracking.rebuild import alert_study, mirror_study
from xferlab.tracking.study_run import StudyContent
from xferlab.tracking.webhook import Notice

pytestmark = pytest.mark.slow

ONLINE = spec(mode="online")
ALL = list(range(1, LAST + 1))
LIVE = ["use:covid", "study:covid", "task:segmentation", "arm:baseline"]
PLANNED = ["use:covid/cpu", "profile:cpu", "arm:frozen"]
"""What the plan adds to these."""


def test_a_resumed_run_has_every_epoch_once(server, tmp_path, caplog):
    mirrored(ONLINE, tmp_path, epochs(1, 3), outcome="interrupted")
    assert server.runs[spec().trial_id].state == "failed"
    mirrored(ONLINE, tmp_path, epochs(2, LAST))
    (run,) = server.runs.values()
    assert (run.epochs, run.state) == (ALL, "finished")
    assert caplog.records == []


def test_a_rebuild_goes_on_where_a_run_broke_off(server, store, tmp_path):
    mirrored(ONLINE, tmp_path, epochs(1, 3), outcome="interrupted")
    report = mirror_study(store, "covid", directory=tmp_path, mode="online")
    assert (report.written, report.failed) == ([spec().trial_id], {})
    (run,) = server.runs.values()
    assert (run.epochs, run.state, run.tags) == (ALL, "finished", [*LIVE, *PLANNED])
    assert run.summary["lungs.test/DICE"] == 0.75
    assert run.config["arms"]["value"] == ["baseline", "frozen"]
    assert mirror_study(store, "covid", directory=tmp_path, mode="online").present == [spec().trial_id]


def test_what_cannot_be_rewritten_is_superseded(server, store, tmp_path):
    mirrored(ONLINE, tmp_path, epochs(2, LAST))  # the first epoch is missing, and steps only grow
    for _ in range(2):
        report = mirror_study(store, "covid", directory=tmp_path, mode="online")
        assert report.failed == {}
    old, new = (server.runs[name] for name in (spec().trial_id, f"{spec().trial_id}-2"))
    assert len(server.runs) == 2
    assert (old.epochs, old.tags) == (ALL[1:], [*LIVE, "superseded"])
    assert (new.epochs, {*new.tags}, new.state) == (ALL, {*LIVE, *PLANNED}, "finished")


def sync(folder):
    command = [sys.executable, "-m", "wandb", "sync", "--yes"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_synced_before_its_rebuild_has_every_epoch_once(server, store, tmp_path):
    folder = tmp_path / "mirror"
    mirrored(spec(), folder, epochs(1, 4), outcome="interrupted")
    sync(folder)
    assert server.runs[spec().trial_id].epochs == [1, 2, 3, 4]
    mirror_study(store, "covid", directory=folder)
    sync(folder)
    (run,) = server.runs.values()
    assert (run.epochs, run.state) == (ALL, "finished")


def test_a_run_keeps_its_tags_when_another_profile_resumes_it_or_uses_it(server, store, tmp_path):
    mirrored(ONLINE, tmp_path, epochs(1, 3), outcome="interrupted")
    full = replace(ONLINE, settings=replace(ONLINE.settings, profile="full"))
    mirrored(full, tmp_path, epochs(1, 4), outcome="interrupted")
    (run,) = server.runs.values()
    assert run.tags == [*LIVE, "use:covid/full", "profile:full"]
    for profile in ("cpu", None, "last"):
        store_plan(store, [spec()], profile=profile)
        report = mirror_study(store, "covid", directory=tmp_path, mode="online")
        assert (report.written, report.failed) == ([spec().trial_id] if profile else [], {})
        history = list(run.history)
    assert (run.epochs, history) == (ALL, run.history)
    assert run.tags == [*LIVE, "use:covid/full", "profile:full", *PLANNED, "use:covid/last", "profile:last"]


def test_nothing_of_the_machine_is_sent(server, tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "somebody-known")
    mirrored(ONLINE, tmp_path, epochs(1, 2))
    (run,) = server.runs.values()
    sent = json.dumps([run.fields, run.config, run.summary, run.history])
    assert "somebody-known" not in sent
    assert str(tmp_path) not in sent
    told = {key: run.fields.get(key) for key in ("host", "program", "repo", "commit", "description")}
    assert set(told.values()) <= {None, "", "undisclosed", "xferlab"}


def test_an_alert_of_a_study_that_runs_leaves_its_run_to_be_written_whole(server, store, tmp_path):
    store_plan(store, [spec()], tracking=wandb_settings("online"))
    notice = Notice("failure", "covid", None, "covid: first failure", "Trial x failed.", {}, 0.1)
    assert alert_study(store, notice, directory=tmp_path) == ""
    (run_id,) = server.runs
    assert server.alerts == [(run_id, "covid: first failure", "Trial x failed.")]
    rows = [{"epoch": 1, "general/train_loss/baseline/mean": 0.5}]
    results = StudyContent(epochs=rows, alert=("covid: complete", "1 of 1 trials complete."))
    report = mirror_study(store, "covid", directory=tmp_path, results=results)
    assert (report.failed, report.written[-1]) == ({}, run_id)
    assert (server.runs[run_id].epochs, server.runs[run_id].state) == ([1], "finished")
    assert server.alerts[1:] == [(run_id, "covid: complete", "1 of 1 trials complete.")]


def test_an_alert_that_cannot_be_sent_says_why(server, store, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "ALERT_TIMEOUT_S", 2.0)
    notice = Notice("failure", "covid", None, "t", "x", {}, 0.1)
    store_plan(store, [spec()], tracking=wandb_settings("online"))
    server.fault = "hang"
    assert alert_study(store, notice, directory=tmp_path) == "no answer in 2 s"
    assert "no plan of study" in alert_study(store, replace(notice, study="other"), directory=tmp_path)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandb_is_told_which_run_made_and_which_took_weights(server, store, tmp_path, mode):
    producer = replace(spec(seed=7), inputs=())
    taking = replace(spec(), inputs=(*spec().inputs, Input("masks", (producer.trial_id,), threshold=0.5)))
    for trial, started_from, made in ((producer, None, "a" * 64), (taking, "d" * 64, "b" * 64)):
        store_trial(store, trial)
        record = read_trial(store, trial.trial_id)
        write_trial(store, replace(record, started_from=started_from, weights_sha256=made))
    store_plan(store, [producer, taking])
    assert mirror_study(store, "covid", directory=tmp_path, mode=mode).failed == {}
    if mode == "offline":
        assert server.models == []
        sync(tmp_path)
    donor, made, masks = (f"weights-{letter * 16}" for letter in "dba")
    run = spec().trial_id
    assert sorted(server.models) == sorted(
        [
            ("logged", "", masks),  # no run claims to have made what it took
            ("logged", "", donor),
            ("logged", run, made),
            ("logged", producer.trial_id, masks),
            ("taken", run, masks),
            ("taken", run, donor),
        ]
    )
