"""If the environment lacks something, a command works, or ends with 2 and a sentence, and no traceback.

Three verbs use all libraries that look at the environment. With XFERLAB_ALL_VERBS=1 the tests try all verbs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.limits import LIMITS, VERBS, complete_study, problem_of, run_under

lacks = [tool for tool in ("unshare", "setpriv", "prlimit") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0 or bool(lacks), reason=f"needs root's rights {lacks or ''}"),
]
REFUSED = {
    "no home and no cache", "home read-only and no cache", "no loopback", "no port", "40 processes",
    "working folder read-only", "working folder deleted", "cache read-only", "cache full", "cache a file",
    "cache in no folder", "cache of an unknown user",
}  # fmt: skip
"""Limits under which some verbs cannot work."""
TRIED = VERBS if os.environ.get("XFERLAB_ALL_VERBS") else ("run on Ray", "report", "predict")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    complete_study(folder)
    return folder


@pytest.mark.parametrize("verb", TRIED)
@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_ends_in_a_traceback(tmp_path: Path, complete: Path, name: str, verb: str) -> None:
    run = run_under(LIMITS[name], verb, complete=complete, folder=tmp_path / "work")
    assert not problem_of(run), run.stdout + run.stderr
    assert run.returncode == 0 or name in REFUSED, run.stderr
