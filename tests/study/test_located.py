"""Messages of other rooms about what a study names begin with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from xferlab.errors import Problem
from xferlab.study.load import LoadedStudy, load

STUDY = """study: s
data:
  d:
    source: manifest
    root: ./d
    table: t.csv
    where: {device: fixed}
  e: {source: lgg, root: "${ROOT}/e"}
stages:
  donor: {weights: {path: w.pt}}
  one: {data: d, starts_from: donor}
  two: {data: e}
arms:
  a: {}
  b:
    data.d.root: ./other
  c: {data.x: {source: manifest, root: ./x}, stages.one.data: x}
profiles:
  local:
    data.e.root: /mine
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedStudy:
    (tmp_path / "s.yaml").write_text(STUDY)
    return load(tmp_path / "s.yaml", environ={"ROOT": "/base"})


@pytest.mark.parametrize(
    ("where", "line", "what"),
    [
        ("{folder}/d", 5, "data.d.root: {folder}/d: is odd."),
        ("{folder}/d/t.csv", 6, "data.d.table: {folder}/d/t.csv: is odd."),
        ("/base/e", 8, "data.e.root: /base/e: is odd."),
        ("{folder}/w.pt", 10, "stages.donor.weights.path: {folder}/w.pt: is odd."),
        ("{folder}/other", 16, "arm 'b': data.d.root: {folder}/other: is odd."),
        ("{folder}/x", 17, "arm 'c': data.x.root: {folder}/x: is odd."),
        ("data.d.where", 7, "data.d.where: is odd."),
        ("data.d.where.device", 7, "data.d.where.device: is odd."),
        ("data.d.labels", 3, "data.d.labels: is odd."),
    ],
)
def test_fields_have_their_line(
    loaded: LoadedStudy, tmp_path: Path, where: str, line: int, what: str
) -> None:
    located = loaded.located.locate(Problem(where.format(folder=tmp_path), "is odd.", "warning", "odd"))
    assert located == Problem(f"{tmp_path}/s.yaml:{line}", what.format(folder=tmp_path), "warning")
    assert located.kind == "odd"


def test_a_profile_has_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    loaded = load(tmp_path / "s.yaml", profile="local", environ={})
    assert loaded.located.locate(Problem("/mine", "is odd.")) == Problem(
        f"{tmp_path}/s.yaml:20", "data.e.root: /mine: is odd."
    )


@pytest.mark.parametrize("where", ["data.d", "{folder}/d/images/1.png", "elsewhere"])
def test_others_stay_as_they_are(loaded: LoadedStudy, tmp_path: Path, where: str) -> None:
    problem = Problem(where.format(folder=tmp_path), "is odd.")
    assert loaded.located.locate(problem) == problem
