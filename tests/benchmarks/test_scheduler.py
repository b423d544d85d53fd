"""The benchmark of the scheduler measures each way."""

from __future__ import annotations

import pytest
import scheduler

pytestmark = pytest.mark.slow


def test_it_measures_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler.main(["--trials", "6"])
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line[:20].strip() for line in lines] == [
        "xferlab, Ray", "xferlab, in-process", "plain Tune", "joblib",
    ]  # fmt: skip
    assert all(float(line[20:].split()[0]) > 0 for line in lines)
