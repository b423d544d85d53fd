"""Verbs, exit codes and what a terminal sees, in this process."""

from __future__ import annotations

import errno
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.conftest import Command
from tests.records.faults import Faults, faulty_disk, onwards, without_pauses
from tests.studies import ONE_TRIAL, TINY, attempts, recorded, write_study
from xferlab.cli.failures import ADVICE, advice
from xferlab.schedule.machine import REMEDIES
from xferlab.trial.failure import Kind

OFTEN = {**TINY["training"], "max_epochs": 3, "patience": 3, "checkpoint_every_s": 0.01}
ONE = {**ONE_TRIAL, "arms": {"a": {}, "b": {"training.rotation": None}}}
HELP_LIMIT_S = 0.5


@pytest.mark.slow
def test_help_answers_at_once() -> None:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "xferlab", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    print(f"xferlab --help: median of 5 {statistics.median(times):.3f} s")
    assert statistics.median(times) < HELP_LIMIT_S


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: VERB"),
        (["rnu", "x.yaml"], "invalid choice: 'rnu'"),
        (["rnu", "x.yaml"], "Did you mean 'run'?"),
        (["run"], "the following arguments are required: STUDY"),
        (["run", "x.yaml", "--executor", "slurm"], "invalid choice: 'slurm'"),
        (["run", "x.yaml", "--workers", "two"], "argument --workers: invalid int value: 'two'"),
        (["plan", "x.yaml", "--jsn"], "unrecognized arguments: --jsn"),
        (
            ["plan", "x.yaml", "--js"],
            "unrecognized arguments: --js",
        ),  # no short form: only --json is looked for
    ],
)
def test_usage(command: Command, words: list[str], message: str) -> None:
    said = command(*words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert ("Did you mean" in said.err) == (words[:1] == ["rnu"])
    assert said.err.rstrip().endswith("--help`.")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["report", "x.yaml", "--out"], "--out"),
        (["archive", "x.yaml", "--out"], "--out"),
        (["tune", "x.yaml", "--samples", "1", "--space", "y.yaml", "--report"], "--report"),
        (["tune", "x.yaml", "--samples", "1", "--space", "y.yaml", "--out"], "--out"),
        (["init", "--from", "images"], "--from"),
        (["import"], "IMAGES"),
        (["predict", "a/s/r01", "--out", "out", "a.png"], "IMAGE"),
        (["status"], "STUDY"),
    ],
)
def test_a_uri_is_no_path_and_its_keys_are_not_printed(command: Command, words: list[str], name: str) -> None:
    said = command(*words, "s3://key:word@bucket/x?secret_key=word", "--json")
    assert said.code == 2
    assert f"{name} s3://bucket/x: accepted: a file or folder on this machine" in said.err
    assert "word" not in said.out + said.err
    assert not Path("s3:").exists()


def test_the_schema_is_a_json_schema_that_knows_the_example(command: Command, tmp_path: Path) -> None:
    said = command("schema")
    schema = json.loads(said.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(yaml.safe_load(write_study(tmp_path).read_text())))
    assert list(validator.iter_errors({**TINY, "repetitons": 3}))


@pytest.mark.component
def test_before_anything_ran(command: Command, tmp_path: Path) -> None:
    study, storage = write_study(tmp_path), ("--storage", tmp_path / "st")
    said = command("plan", study, *storage, code=0)
    assert "6 trials (0 complete, 2 shared between arms)" in said.out
    assert "left: 6 trials, at most 24 epochs" in said.out
    assert sum(line.rstrip().endswith(" waiting") for line in said.out.splitlines()) == 6
    plan = json.loads(command("plan", study, "--json", *storage).out)
    assert [trial["complete"] for trial in plan["trials"]] == [False] * 6
    assert plan["totals"]["all"] == plan["totals"]["left"]
    only = json.loads(command("plan", study, "--json", "--arms", "still").out)
    assert len(only["trials"]) == 4
    assert {name for trial in only["trials"] for name in trial["names"]} >= {"still/portable/r02"}
    said = command("status", study, *storage, code=1)
    assert said.out.startswith(f"{tmp_path / 'st'} holds no plan of study tiny: it has not run here. ")
    assert said.out.endswith("6 waiting\n")
    said = command("failures", study, *storage)
    assert (said.code, said.out.splitlines()[-1]) == (0, "no trial failed")
    for verb in ("report", "mirror"):
        said = command(verb, study, *storage, code=2)
        assert said.err.endswith(
            f"it has not run here. Run it first: xferlab run {study} --storage {tmp_path}/st\n"
        )
    said = command("check", study)
    num_warnings = said.out.count("warning: ")
    assert said.code == 0
    assert said.out.endswith(f"{study}: 0 errors, {num_warnings} warning{'s' * (num_warnings != 1)}\n")
    assert not (tmp_path / "st").exists()


@pytest.mark.component
def test_run_status_and_plan_agree(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **ONE)
    storage = ("--storage", tmp_path / "st")
    run = command("run", study, "--executor", "in-process", *storage, "--arms", "a", code=0)
    assert run.out.splitlines()[0] == f"1 trials, 0 complete already; records go to {tmp_path / 'st'}"
    assert "[0/1] a/general/r01 running" in run.out
    assert "[1/1] a/general/r01 complete" in run.out
    assert "all 1 trials complete; `xferlab report " in run.out
    status = command("status", study, "--json", *storage)
    found = json.loads(status.out)
    assert status.code == 1
    assert found["counts"] == {"complete": 1, "waiting": 1}
    assert [(row["state"], row["epochs"]) for row in found["trials"]] == [("complete", 4), ("waiting", 0)]
    assert found["trials"][0]["best_score"] > 0
    plan = json.loads(command("plan", study, "--json", *storage).out)
    assert (plan["totals"]["all"]["trials"], plan["totals"]["left"]["trials"]) == (2, 1)
    history = next((tmp_path / "st").glob("trials/*/history.jsonl"))
    history.write_text("torn\n" + history.read_text())  # which hides nothing else
    again = command("run", study, "--executor", "in-process", *storage, code=0)
    assert again.out.startswith("2 trials, 1 complete already")
    last = command("status", study, *storage)
    assert (last.code, last.out.splitlines()[-1]) == (0, "2 complete")
    assert {len(tries) for tries in attempts(tmp_path / "st").values()} == {1}


@pytest.mark.component
def test_failed_trials_give_one_and_every_verb_says_why(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, arms={"calm": {}, "wild": {"training.lr": 1e30}})
    storage = ("--storage", tmp_path / "st")
    run = command("run", study, "--executor", "in-process", *storage, code=1)
    assert "Traceback" not in run.err + run.out
    assert "wild/general/r01 failed: NonFiniteLossError: the training loss became " in run.out
    assert "wild/portable/r01 blocked: wild/general/r01 failed" in run.out
    assert "4 of 8 trials complete, 2 failed, 2 blocked; `xferlab failures " in run.out
    status = command("status", study, *storage, code=1)
    assert "wild/general/r01: NonFiniteLossError: the training loss became " in status.out
    assert "2 blocked, 4 complete, 2 failed" in status.out
    failures = command("failures", study, *storage, code=1)
    assert failures.out.count("Traceback (most recent call last)") == 1  # one error of two trials
    assert failures.out.startswith("NonFiniteLossError: the training loss became ")
    for text in ("  wild/general/r01 (", "  wild/general/r02 (", ADVICE[Kind.HOPELESS]):
        assert text in failures.out
    assert "calm" not in failures.out
    assert failures.out.splitlines()[-1] == "2 trials failed, with 1 distinct error"
    rows = json.loads(command("failures", study, "--json", *storage).out)["failures"]
    assert [(row["attempts"], row["failure"]["kind"]) for row in rows] == [(1, "hopeless")] * 2


def test_every_kind_of_failure_comes_with_advice() -> None:
    assert set(ADVICE) == set(Kind)
    assert advice({"kind": "hopeless", "message": "no"}) == ADVICE[Kind.HOPELESS]
    for number in (errno.ENOSPC, errno.EDQUOT):
        message = f"trials/x: cannot be written: {OSError(number, os.strerror(number))}"
        assert advice({"kind": "other", "message": message}).startswith("Free space there, ")


@pytest.mark.component
@pytest.mark.parametrize("error", [errno.EIO, pytest.param(errno.ENOSPC, marks=pytest.mark.slow)])
def test_a_storage_that_fails_in_mid_run_is_worth_a_requeue(
    command: Command, tmp_path: Path, error: int
) -> None:
    study = write_study(tmp_path, arms={"a": {}}, training=OFTEN)
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    faults = Faults(onwards(150), error=error, on=lambda operation, path: "/trials/" in path)
    with without_pauses(), faulty_disk(faults):
        said = command("run", study, "--executor", "in-process", "--storage", lost)
    assert faults.num_failed
    assert said.code == 75
    assert said.err.splitlines()[-1].endswith("when it is back, the same command continues")
    for storage in (lost, whole):
        assert command("run", study, "--executor", "in-process", "--storage", storage).code == 0
    assert recorded(lost) == recorded(whole)


@pytest.mark.slow
def test_a_run_that_is_refused_leaves_the_last_plan(command: Command, tmp_path: Path) -> None:
    storage = ("--storage", tmp_path / "st")
    assert command("run", write_study(tmp_path, **ONE), "--executor", "in-process", *storage).code == 0
    before = (tmp_path / "st/studies/tiny/plan.json").read_bytes()
    refused = command(
        "run", write_study(tmp_path, **{**ONE, "resources": {"cpu": 999}, "seed": 6}), *storage, code=2
    )
    assert "and no node has that" in refused.err
    assert (tmp_path / "st/studies/tiny/plan.json").read_bytes() == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EAGAIN])
def test_a_limit_of_the_system_that_nothing_nearer_explains_is_no_traceback(
    command: Command, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(options: object) -> int:
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr("xferlab.cli.schema.run", fail)
    said = command("schema", code=2)
    remedy = REMEDIES[number]
    assert said.err == f"xferlab: [Errno {number}] {os.strerror(number)}: '/somewhere/file'. {remedy}\n"


UNEXPECTED = """
import sys
from xferlab.cli import main, run
def fail(options):
    raise ValueError("a fault of ours")
run.run = fail
sys.argv = ["xferlab", "run", "study.yaml"]
sys.exit(main())
"""


@pytest.mark.component
def test_an_unexpected_error_shows_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", UNEXPECTED], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "ValueError: a fault of ours" in done.stderr
