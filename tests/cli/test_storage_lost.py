"""A storage that fails while trials run: 75, and the same command continues."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.records.faults import Faults, faulty_disk, onwards, without_pauses
from tests.studies import recorded, write_study

pytestmark = pytest.mark.component


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_storage_that_fails_in_mid_run_is_worth_a_requeue(
    command: Command, tmp_path: Path, error: int
) -> None:
    study = write_study(tmp_path)
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
