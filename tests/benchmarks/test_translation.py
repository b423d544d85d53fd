"""The benchmark of translation prints a line for each network and precision."""

from __future__ import annotations

import pytest
import translation

pytestmark = pytest.mark.slow


def test_it_measures_each_network_in_each_precision(capsys: pytest.CaptureFixture[str]) -> None:
    translation.main(["--side", "32", "--width", "2", "--batch", "1", "--steps", "2", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [tuple(line.split()[:2]) for line in lines] == [
        (network, precision) for network in translation.NETWORKS for precision in translation.PRECISIONS
    ]
    assert all("supervised" in line and "nan" not in line for line in lines)
