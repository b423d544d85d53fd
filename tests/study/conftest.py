"""A small valid study, and the problems of studies that are not valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from tests.refusals import problems_of
from xferlab.errors import StudyError
from xferlab.study.load import load

Write = Callable[..., Path]
BASE = """\
study: s
data:
  mri: {source: phantom_mri, count: 20}
  cxr: {source: phantom_cxr, count: 30, hold_out: 0.5}
stages:
  donor: {data: mri}
  general: {data: cxr, starts_from: donor, evaluate_on: [cxr.test, cxr.hold_out]}
training: {lr: 1e-3}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, by default a valid study of 8 lines with `more` after it; `edits` are made once each."""

    def write(
        more: str = "", *, name: str = "s.yaml", base: str = BASE, edits: Mapping[str, str] | None = None
    ) -> Path:
        text = base + dedent(more)
        for old, new in (edits or {}).items():
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def problems(path: Path, profile: str | None = None) -> list[str]:
    """The problems of a study that is not valid; none is in pydantic's words."""
    told = problems_of(
        StudyError, load, path, environ={}, profile=profile, match=r"\A(?![\s\S]*Input should)"
    )
    return [str(problem) for problem in told]


def lines_of_problems(path: Path) -> list[int]:
    """The lines of the problems of a study, which are all in its own file."""
    return [int(problem.removeprefix(f"{path}:").partition(":")[0]) for problem in problems(path)]
