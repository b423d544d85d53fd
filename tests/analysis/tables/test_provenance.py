"""What numbers come from and what they cost; what is not recorded is not made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, contents_of
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.provenance import UNKNOWN, hours, provenance_tables
from xferlab.records import codec, layout, reader, writer
from xferlab.records.store import Store

pytestmark = pytest.mark.component
PLANNED = {
    "at": "2026-11-28T10:00:00+00:00", "digest": "d" * 16, "file": {"name": "my.yaml", "sha256": "a" * 64},
    "data": {"mri": "b" * 16},
}  # fmt: skip


def lines(table: Table) -> dict[str, str]:
    return {row.label: row.cells[0] for group in table.groups for row in group.rows}


def facts(contents: Contents) -> dict[str, str]:
    return lines(next(provenance_tables(contents)))


def changed(folder: Path, **changes: Any) -> Contents:
    """The small study, with these values in its plan, and what every trial ran on."""
    contents_of(folder)
    store, name = Store.open(folder), layout.StudyFiles(STUDY).plan
    plan = codec.read_json(store, name)
    assert plan is not None
    codec.write_json(store, name, {**plan, **changes})
    for number, trial in enumerate(plan["trials"]):
        run = reader.read_run(store, trial["trial_id"])
        versions = {"xferlab": "0.1.0", "torch": "2.1" if number else "2.0"}
        ended = [{"outcome": "complete", "ended": f"2026-11-28T10:{number:02d}:00+00:00"}]
        more = {"host": "node1", "versions": versions, "attempts": ended, "evaluation_s": 0.5}
        writer.write_run(store, trial["trial_id"], {**run, **more})
    return Contents(load_study(folder, STUDY))


def test_what_is_recorded_is_told(tmp_path: Path) -> None:
    told = facts(changed(tmp_path / "storage", planned=PLANNED))
    assert told["Study file"] == f"my.yaml, SHA-256 {'a' * 64}"
    assert told["Command"] == "xferlab run my.yaml --profile cpu"
    assert told["Plan"] == f"digest {'d' * 16}, 2026-11-28T10:00:00+00:00"
    assert told["Data: mri"] == f"manifest, 100 images of 80 patients, digest {'b' * 16}"
    assert told["Data: general"].endswith(f"digest {UNKNOWN}")
    assert told["Trials ended"] == "2026-11-28T10:00:00+00:00 to 2026-11-28T10:16:00+00:00"
    assert (told["xferlab"], told["torch"]) == ("0.1.0 (17)", "2.0 (1); 2.1 (16)")
    assert (told["Hosts"], told["Devices"]) == ("node1 (17)", "Test CPU <1> (17)")


def test_what_is_not_recorded_is_said_to_be_so(tmp_path: Path) -> None:
    told = facts(contents_of(tmp_path / "storage"))
    assert {told[name] for name in ("Study file", "Command", "Plan", "Software", "Hosts")} == {UNKNOWN}
    assert told["Energy"].startswith(UNKNOWN)


def test_times_are_summed_and_each_trial_counts_once_in_all(tmp_path: Path) -> None:
    """Repetition r takes 10 r s; its 6 epochs (5 of odd ones) take 1 + 0.1 e s of training, 0.25 s more."""
    contents = changed(tmp_path / "storage")
    frame = hours(contents.results).set_index(["arm", "stage", "repetition"])
    train_s = sum(1.25 + 0.1 * epoch for epoch in range(1, 7))
    assert frame["train_s"]["baseline", "portable", 2] == pytest.approx(train_s)
    assert frame["rest_s"]["baseline", "portable", 2] == pytest.approx(20 - train_s - 0.5)
    _, table = provenance_tables(contents)
    whole = table.groups[-1].rows[0]
    # A donor of 10 s that both arms share, and twice two stages of 10, 20, 30 and 40 s.
    assert (whole.cells[0], whole.cells[-1]) == ("17", "0:06:50")
    portable = next(group for group in table.groups if group.labels == ("portable",))
    assert portable.rows[0].cells == ("4", "0:00:35", "0:00:02", "0:01:03", "0:01:40")


def test_one_unknown_evaluation_makes_their_sum_unknown(tmp_path: Path) -> None:
    contents = changed(tmp_path / "storage")
    contents.results.runs.loc[0, "evaluation_s"] = float("nan")
    _, table = provenance_tables(contents)
    trained, evaluated, rest, whole = table.groups[0].rows[0].cells[1:]
    assert (evaluated, rest) == ("–", "–")
    assert "–" not in (trained, whole)
    for name in ("evaluation_s", "rest_s"):
        assert pd.isna(table.data[name]).sum() == 1


def test_without_a_complete_trial_there_are_no_times(tmp_path: Path) -> None:
    names = {
        f"{arm}/{stage}/r01" for arm in ("baseline", "frozen") for stage in ("donor", "general", "portable")
    }
    contents = contents_of(tmp_path / "storage", repetitions=1, missing=names)
    (table,) = provenance_tables(contents)
    assert lines(table)["Trials ended"] == UNKNOWN
