"""A million rows: loaded, aggregated and compared in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab import analysis

pytestmark = pytest.mark.slow

Result = TypeVar("Result")


def timed(what: str, work: Callable[[], Result]) -> Result:
    started = time.monotonic()
    result = work()
    seconds = time.monotonic() - started
    print(f"{what}: {seconds:.1f} s")
    assert seconds < 60
    return result


def test_a_million_rows(builder: StudyBuilder) -> None:
    builder.arms, builder.repetitions, builder.missing = ("baseline", "a", "b", "c"), 25, set()
    builder.images, builder.pixels, builder.epochs = 140, False, 2
    builder.write()
    results = timed("load", lambda: analysis.load_study(str(builder.folder), STUDY))
    assert len(results.cases) > 1_000_000
    print(f"{len(results.cases):,} rows")
    table = timed("aggregate", lambda: analysis.aggregate(results.cases))
    row = table.query(
        "arm == 'a' and stage == 'general' and part == 'hold_out' and metric == 'DICE' and pathology == 'all'"
    ).iloc[0]
    assert row["mean"] == pytest.approx(0.8 + 0.01 * 13 + 0.001 * 69.5)
    assert (row["num_repetitions"], row["num_images"]) == (25, 140)
