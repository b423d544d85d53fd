"""How much a finished study asks of an object store."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

import pytest

from tests.records.stored import store_trial
from tests.studies import TINY, write_study
from xferlab.cli.session import Session
from xferlab.schedule.study import publish

pytestmark = pytest.mark.slow

NUM_TRIALS, AT_MOST = 200, 0.1
MANY = {
    "stages": {
        "general": {**TINY["stages"]["general"], "repetitions": NUM_TRIALS // 2},
        "portable": {**TINY["stages"]["portable"], "repetitions": NUM_TRIALS // 2},
    },
    "arms": {"baseline": {}},
}
VERBS = (("plan",), ("status",), ("run", "--executor", "in-process"))


def test_a_finished_study_asks_for_a_tenth_of_a_request_a_trial(
    s3_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from xferlab.cli import main

    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    study = str(write_study(tmp_path, **MANY))
    session = Session.open(Namespace(study=study, profile=None, storage=s3_uri))
    plan = session.plan()
    assert len(plan.trials) == NUM_TRIALS
    for spec in plan.trials:
        store_trial(session.store, spec)
    publish(plan, session.store)
    main(["plan", study, "--storage", s3_uri])  # writes the index
    asked: dict[str, int] = {}
    for verb, *options in VERBS:
        caplog.clear()
        with caplog.at_level(logging.INFO, "werkzeug"):
            assert main([verb, study, "--storage", s3_uri, *options]) == 0
        asked[verb] = sum(record.name == "werkzeug" for record in caplog.records)
    said = capfd.readouterr().out
    with capfd.disabled():
        print("".join(f"\n  {verb}: {number / NUM_TRIALS:.3f} a trial" for verb, number in asked.items()))
    assert f"{NUM_TRIALS} trials ({NUM_TRIALS} complete" in said
    assert "DICE on portable.hold_out after stage portable, mean over repetitions:\n  baseline  0.750" in said
    assert all(0 < number <= AT_MOST * NUM_TRIALS for number in asked.values()), asked
