"""Keys stand in no file that a study writes, and in nothing that it says, also where it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.written import copied, holding
from tests.studies import TINY, environment, write_study
from xferlab.records.store import Store

IN_URI, IN_ENVIRONMENT, TOKEN = "uri5ecretkeyword", "env5ecretkeyword", "session5ecretword"
WANDB = "5ec4e7c0ffee" * 3 + "5ec4"
CHAT = "chat5ecretpath"
WORDS = [IN_URI, IN_ENVIRONMENT, TOKEN, WANDB, CHAT]
KEEP = """\
import sys, tempfile
tempfile.TemporaryDirectory._rmtree = classmethod(lambda *arguments, **options: None)
from xferlab.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The command line, which leaves its scratch files to be looked at."""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short path: Ray keeps sockets there."""
    folder = Path(tempfile.mkdtemp(prefix="xr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def uri_of(server: str, bucket: str) -> str:
    """A storage as users write it, with its keys."""
    return f"s3://user:{IN_URI}@{bucket}/results?endpoint_override={server}&scheme=http&region=us-east-1"


def run(folder: Path, ray_folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line with every key planted; keeps what it says, and its scratch files."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    planted = {
        "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": IN_ENVIRONMENT, "AWS_SESSION_TOKEN": TOKEN,
        "WANDB_API_KEY": WANDB, "HOME": str(home), "RAY_TMPDIR": str(ray_folder), "TMPDIR": str(home),
        "RAY_AUTH_MODE": "disabled", "TEAM_CHAT": f"http://127.0.0.1:9/services/{CHAT}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", KEEP, *map(str, words)], env={**environment(folder), **planted}, cwd=folder,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    with (home / "said.txt").open("a") as file:
        file.write(done.stdout + done.stderr)
    return done


def study_with_a_failing_arm(folder: Path) -> Path:
    return write_study(
        folder,
        repetitions=1,
        stages={**TINY["stages"], "general": {**TINY["stages"]["general"], "repetitions": 1}},
        arms={"baseline": {}, "broken": {"stages.portable.training": {"lr": 1.0e30}}},
        tracking={"wandb": {"project": "p", "mode": "offline"}, "notify": {"webhook": "TEAM_CHAT"}},
    )


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["in-process", "ray"])
def test_no_key_is_written_or_said(
    tmp_path: Path,
    ray_folder: Path,
    s3_server: str,
    executor: str,
) -> None:
    uri = uri_of(s3_server, f"bucket-{executor}")
    Store.open(f"{uri}&allow_bucket_creation=true").filesystem.create_dir(f"bucket-{executor}")
    study = study_with_a_failing_arm(tmp_path)
    workers = ["--workers", "2"] if executor == "ray" else []
    done = run(tmp_path, ray_folder, "run", study, "--storage", uri, "--executor", executor, *workers)
    assert done.returncode == 1, done.stderr
    assert "1 failed" in done.stdout
    assert "the webhook did not take a message: Connection refused" in done.stderr
    for verb in ("status", "report", "plan"):
        assert run(tmp_path, ray_folder, verb, study, "--storage", uri).returncode in (0, 1)
    store = Store.open(uri)
    storage = copied(store.filesystem, store.root.partition("/")[0], tmp_path / "read back")
    assert {path.name for path in storage.rglob("*.json")} >= {"plan.json", "failure.json", "run.json"}
    if executor == "ray":
        assert any(ray_folder.rglob("*.out")), "the test would prove nothing"
        assert any((tmp_path / "home").glob("xferlab-tune-*/**/*")), "the test would prove nothing"
    assert holding(WORDS, tmp_path, ray_folder) == {}


@pytest.mark.slow
def test_a_storage_that_fails_tells_no_key(tmp_path: Path, ray_folder: Path, s3_server: str) -> None:
    study = write_study(tmp_path)
    for uri in (uri_of(s3_server, "no-such-bucket"), uri_of(s3_server, "b").replace("region", "regoin")):
        done = run(tmp_path, ray_folder, "run", study, "--storage", uri, "--executor", "in-process")
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert holding(WORDS, tmp_path, ray_folder) == {}


@pytest.mark.slow
def test_a_search_writes_and_says_no_key(tmp_path: Path, ray_folder: Path, s3_server: str) -> None:
    uri = uri_of(s3_server, "searched")
    Store.open(f"{uri}&allow_bucket_creation=true").filesystem.create_dir("searched")
    study, space = write_study(tmp_path, arms={"baseline": {}}), tmp_path / "space.yaml"
    space.write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")
    options = ["--stage", "general", "--samples", "1", "--repeats", "1", "--workers", "1"]
    done = run(tmp_path, ray_folder, "tune", study, "--space", space, "--storage", uri, *options)
    assert done.returncode == 0, done.stderr
    store = Store.open(uri)
    storage = copied(store.filesystem, "searched", tmp_path / "read back")
    assert list(storage.glob("results/tuning/*/trials/*/record.json"))
    assert holding(WORDS, tmp_path, ray_folder) == {}
