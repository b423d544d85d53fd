"""An S3 server: errors and resets are passed over or stop cleanly; what is stored has the bytes of a disk."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import Command
from tests.records.conftest import SECRET, Shaky
from tests.records.faults import never, nth, onwards
from tests.records.stored import store_trial
from tests.records.test_faults import BEFORE, WORK
from tests.studies import ONE_TRIAL, RECORDED, TINY, recorded, write_study
from tests.takes import takes
from tests.tasks.labelled import added
from xferlab.cli.session import Session
from xferlab.errors import StorageError
from xferlab.records.layout import STATES, TRIALS
from xferlab.records.store import Store
from xferlab.schedule.study import publish

# --- errors, resets and silence --------------------------------------------------------------------------


pytestmark = pytest.mark.component


@pytest.fixture
def remote(shaky: tuple[Shaky, str], s3_uri: str) -> Iterator[tuple[Shaky, Store]]:
    """A server that works until it is told not to, and a storage there with one file."""
    app, _ = shaky
    store = Store.open(s3_uri)
    store.write("t/a", BEFORE)
    yield app, store
    app.tell(never)


MORE = {**WORK, "write large": lambda store: store.write("t/b", b"x" * (11 * 2**20))}
del MORE["set aside"]  # a move is a copy and a deletion: see `test_faults`


def contents(store: Store) -> dict[str, bytes | None]:
    return {name: store.read(name) for name, _ in store.walk("")}


@pytest.mark.parametrize("answer", ["500", "503", "lost"])
@pytest.mark.parametrize("work", MORE.values(), ids=MORE.keys())
def test_an_error_that_passes_changes_nothing_at_whichever_request(
    remote: tuple[Shaky, Store], work: Callable[[Store], Any], answer: str
) -> None:
    app, store = remote
    app.tell(never)
    expected = work(store)
    total, after = app.num_requests, contents(store)
    assert total
    for number in range(1, total + 1):
        app.tell(never)
        store.delete_dir("t")
        store.write("t/a", BEFORE)
        app.tell(nth(number), answer)
        assert work(store) == expected
        assert app.num_requests > total
        app.tell(never)
        assert contents(store) == after


def test_a_file_that_is_replaced_all_the_time_is_read_whole(s3_uri: str) -> None:
    """Without the comparison, a third of such reads end where the file before it ended."""
    reading, writing, stop = Store.open(s3_uri), Store.open(s3_uri), threading.Event()
    versions = [number % 10 * f"{number % 10}".encode() * 100 + b"." for number in range(10)]
    reading.write("t/a", versions[0])

    def replace() -> None:
        for version in itertools.cycle(versions):
            if stop.is_set():
                return
            writing.write("t/a", version)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = [reading.read("t/a") for _ in range(150)]
    finally:
        stop.set()
        thread.join()
    assert len(set(seen)) > 3
    assert set(seen) <= set(versions)


def test_a_file_whose_tag_is_no_digest_is_read_twice(remote: tuple[Shaky, Store]) -> None:
    """As one that was uploaded in parts, or is encrypted with a key of its own."""
    app, store = remote
    bucket, _, key = store.path("t/part").partition("/")
    server = dict(part.split("=") for part in store.location.partition("?")[2].split("&"))
    client = boto3.client(
        "s3", endpoint_url=f"http://{server['endpoint_override']}", region_name="us-east-1",
        aws_access_key_id="user", aws_secret_access_key=SECRET,
    )  # fmt: skip
    upload = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    part = client.upload_part(**upload, PartNumber=1, Body=b"in parts")
    client.complete_multipart_upload(
        **upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    app.tell(never)
    assert store.read("t/part") == b"in parts"
    assert app.num_requests == 4
    app.tell(never)
    assert store.read("t/a") == BEFORE
    assert app.num_requests == 2


@pytest.mark.slow  # pyarrow tries for 6 s
@pytest.mark.parametrize("name", ["read", "write", "list", "delete", "create"])
def test_an_error_that_stays_is_told_and_changes_nothing(remote: tuple[Shaky, Store], name: str) -> None:
    app, store = remote
    app.tell(onwards(1), "503")
    with pytest.raises(StorageError, match=r"/t.*: cannot be .*(SLOW_DOWN|HTTP status 503)") as caught:
        WORK[name](store)
    assert SECRET not in str(caught.value)
    app.tell(never)
    assert contents(store) == {"t/a": BEFORE}
    WORK[name](store)


# --- the bytes of a disk ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_predictions_on_an_object_store_have_the_bytes_of_a_disk(
    s3_uri: str, tmp_path: Path, command: Command
) -> None:
    with added():
        study = write_study(tmp_path, **takes(out_of_fold=2, repetitions=1))
        for storage in (s3_uri, "disk"):
            command("run", study, "--executor", "in-process", "--storage", storage, code=0)
    whole, store = recorded(tmp_path / "disk"), Store.open(s3_uri)
    assert sum(name.startswith("predictions/") for name in whole) == 20
    assert {name: hashlib.sha256(store.read(name) or b"").hexdigest() for name in whole} == whole


@pytest.mark.slow
def test_a_longer_training_equals_one_from_scratch(s3_uri: str, tmp_path: Path, command: Command) -> None:
    def run(max_epochs: int, storage: str) -> str:
        training = {**TINY["training"], "max_epochs": max_epochs, "patience": max_epochs}
        study = write_study(tmp_path, **ONE_TRIAL, training=training, keep_states=True)
        return command("run", study, "--storage", storage, "--executor", "in-process", code=0).out

    run(2, s3_uri)
    assert "a/general: 1 trial will continue shorter trainings after epoch 2" in run(4, s3_uri)
    run(4, "scratch")
    whole = recorded(tmp_path / "scratch")
    store = Store.open(s3_uri)
    found = {name: store.read(name) or b"" for name, _ in store.walk(TRIALS) if name.endswith(RECORDED)}
    assert {name: hashlib.sha256(found[name]).hexdigest() for name in whole} == whole != {}
    assert len(store.walk(STATES)) == 2


NUM_TRIALS, AT_MOST = 200, 0.1
MANY = {
    "stages": {
        "general": {**TINY["stages"]["general"], "repetitions": NUM_TRIALS // 2},
        "portable": {**TINY["stages"]["portable"], "repetitions": NUM_TRIALS // 2},
    },
    "arms": {"baseline": {}},
}
VERBS = (("plan",), ("status",), ("run", "--executor", "in-process"))


@pytest.mark.slow
def test_a_finished_study_asks_for_a_tenth_of_a_request_a_trial(
    s3_uri: str,
    tmp_path: Path,
    command: Command,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    study = write_study(tmp_path, **MANY)
    session = Session.open(Namespace(study=str(study), profile=None, storage=s3_uri))
    plan = session.plan()
    assert len(plan.trials) == NUM_TRIALS
    for spec in plan.trials:
        store_trial(session.store, spec)
    publish(plan, session.store)
    command("plan", study, "--storage", s3_uri)  # writes the index
    asked: dict[str, int] = {}
    said = ""
    for verb, *options in VERBS:
        caplog.clear()
        with caplog.at_level(logging.INFO, "werkzeug"):
            said += command(verb, study, "--storage", s3_uri, *options, code=0).out
        asked[verb] = sum(record.name == "werkzeug" for record in caplog.records)
    with capfd.disabled():
        print("".join(f"\n  {verb}: {number / NUM_TRIALS:.3f} a trial" for verb, number in asked.items()))
    assert f"{NUM_TRIALS} trials ({NUM_TRIALS} complete" in said
    assert "DICE on portable.hold_out after stage portable, mean over repetitions:\n  baseline  0.750" in said
    assert all(0 < number <= AT_MOST * NUM_TRIALS for number in asked.values()), asked
