"""The log of a trial: whole lines in order, bounded, and never an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xferlab.errors import StorageError
from xferlab.records import logs
from xferlab.records.layout import TrialFiles
from xferlab.records.logs import DRIVER, LogFile, LogReader, note
from xferlab.records.store import Store


def texts(store: Store) -> list[str]:
    return [line.text for line in LogReader(store, "t").new_lines()]


def test_lines_of_attempts_and_driver_are_read_in_order_and_once(store: Store) -> None:
    first, reader = LogFile(store, "t", attempt=1), LogReader(store, "t")
    first.add("one")
    first.flush(now=True)
    assert [line.text for line in reader.new_lines()] == ["one"]
    note(store, "t", "it is tried again", level="WARNING")
    second = LogFile(store, "t", attempt=2)
    second.add("two\nlines")
    first.add("late")
    first.close()
    second.close()
    lines = reader.new_lines()
    assert [line.text for line in lines] == ["it is tried again", "two\nlines", "late"]
    assert [(line.source, line.attempt) for line in lines][:2] == [(DRIVER, 0), ("worker", 2)]
    assert reader.new_lines() == []
    assert len(texts(store)) == 4


def test_a_torn_line_waits_for_its_end(local: Store) -> None:
    log = LogFile(local, "t")
    log.add("whole")
    log.close()
    (path,) = Path(local.path(TrialFiles("t").logs)).iterdir()
    data = path.read_bytes()
    path.write_bytes(data + data[:20])
    reader = LogReader(local, "t")
    assert len(reader.new_lines()) == 1
    path.write_bytes(data + data)
    assert len(reader.new_lines()) == 1


def test_a_log_is_bounded_and_keeps_its_first_and_last_lines(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 20_000)
    log = LogFile(local, "t")
    for number in range(5_000):
        log.add(f"line {number}")
        log.flush()
    log.add("x" * 100_000)
    log.close()
    said = texts(local)
    assert (said[0], said[-2]) == ("line 0", "line 4999")
    assert len(said[-1]) == logs.MAX_CHARACTERS
    (path,) = Path(local.path(TrialFiles("t").logs)).iterdir()
    assert path.stat().st_size < 60_000
    left_out = [line for line in path.read_text().splitlines() if "left out" in line]
    assert left_out == [f"[{5_001 - len(said)} lines left out]"]
    assert len(said) == sum(
        json.loads(line)["pid"] > 0 for line in path.read_text().splitlines() if line not in left_out
    )


def test_only_the_latest_files_of_a_trial_are_kept(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KEPT_FILES", 3)
    for attempt in range(1, 7):
        log = LogFile(local, "t", attempt=attempt)
        log.add(str(attempt))
        log.close()
    assert len(local.list(TrialFiles("t").logs)) == 3


def test_a_storage_that_cannot_be_written_costs_the_lines_alone(local: Store) -> None:
    folder = Path(local.path(TrialFiles("t").logs))
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in its place")
    log = LogFile(local, "t")
    log.add("lost")
    log.flush(now=True)
    log.close()
    with pytest.raises(StorageError):
        local.append(f"{TrialFiles('t').logs}/x", b"")
