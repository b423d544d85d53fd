"""What `run` and `tune` refuse of their options for Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import write_study
from xferlab.cli.main import BAD_INPUT, main

pytestmark = pytest.mark.component  # reads a study file


@pytest.mark.parametrize("verb", [["run"], ["tune", "--space", "space.yaml", "--samples", "2"]])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], "xferlab: --workers 0: at least one CPU core is needed\n"),
        (
            ["--workers", "2", "--address", "auto"],
            "xferlab: --workers is for this machine; the cluster at --address has its own number\n",
        ),
    ],
)
def test_workers_that_cannot_be_are_refused_by_both_verbs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str], options: list[str], words: str
) -> None:
    study = write_study(tmp_path)
    assert main([*verb[:1], str(study), *verb[1:], *options]) == BAD_INPUT
    assert capsys.readouterr().err == words
