"""Table 7: all epochs of all repetitions as one pool."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xferlab.analysis.reference import reference
from xferlab.analysis.tables.times import pooled, times, times_table


def test_epochs_are_pooled_over_repetitions(results) -> None:
    frame = times(results).set_index(["arm", "stage", "quantity"])
    pool = [1e3 * (1 + 0.1 * e) for last in (5, 6, 5) for e in range(1, last + 1)]
    row = frame.loc[("baseline", "portable", "train_epoch")]
    assert (row["mean_ms"], row["sd_ms"], row["n"]) == (
        pytest.approx(np.mean(pool)),
        pytest.approx(np.std(pool, ddof=1)),
        16,
    )
    total = frame.loc[("baseline", "portable", "repetition")]
    assert (total["mean_ms"], total["sd_ms"], total["n"]) == (20_000, 10_000, 3)


def test_pooled_deviation_is_that_of_all_images() -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(4 + g, 1 + g, size=10 + g) for g in range(3)]
    stats = pd.DataFrame([(len(g), g.mean(), g.std(ddof=1)) for g in groups], columns=["n", "mean", "sd"])
    mean, sd, n = pooled(stats["n"], stats["mean"], stats["sd"])
    together = np.concatenate(groups)
    assert (mean, sd, n) == (pytest.approx(together.mean()), pytest.approx(together.std(ddof=1)), 33)


def test_the_table_states_units_counts_machine_and_the_paper(results) -> None:
    table = times_table(results, label="7", reference=reference("vidal2021"))
    assert table is not None
    assert table.columns == (
        *("Training epoch (ms)", "Validation epoch (ms)", "Whole repetition (s)", "Network, per image (ms)"),
    )
    groups = {group.labels: {row.label: row.cells for row in group.rows} for group in table.groups}
    assert groups["portable", "baseline"]["n"] == ("16 epochs", "16 epochs", "3 repetitions", "60 images")
    paper = groups["general", "vidal2021, Table 7 and Section 4.3"]
    assert paper["Mean"] == ("35,413.3", "3,910.1", "2,332.8", "–")
    assert groups["portable", "vidal2021, Table 7 and Section 4.3"]["SD"][-1] == "0.286"
    assert "Measured on: Test CPU <1>." in table.notes
