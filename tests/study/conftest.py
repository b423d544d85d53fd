from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

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
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file, by default a valid study of 8 lines with `more` after it."""

    def write(more: str = "", *, name: str = "s.yaml", base: str = BASE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(base + dedent(more))
        return path

    return write
