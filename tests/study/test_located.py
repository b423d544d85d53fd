"""Messages of other rooms about fields of a study begin with the file and the line of the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from xferlab.errors import Problem
from xferlab.study.load import LoadedStudy, load
from xferlab.tasks.task import Finding

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
    data.d.where: {site: north}
  c: {data.x: {source: manifest, root: ./x}, stages.one.data: x}
  d: {include: more.yaml#far}
profiles:
  local:
    data.e.root: /mine
    training.lr: 0.1
"""
INCLUDED = "far:\n  data.d.where.device: portable\n"


@pytest.fixture
def loaded(tmp_path: Path, request: pytest.FixtureRequest) -> LoadedStudy:
    (tmp_path / "s.yaml").write_text(STUDY)
    (tmp_path / "more.yaml").write_text(INCLUDED)
    return load(tmp_path / "s.yaml", environ={"ROOT": "/base"}, profile=getattr(request, "param", None))


@pytest.mark.parametrize(
    ("arm", "where", "line", "what"),
    [
        ("", "{folder}/d", "s.yaml:5", "data.d.root: {folder}/d: is odd."),
        ("", "{folder}/d/t.csv", "s.yaml:6", "data.d.table: {folder}/d/t.csv: is odd."),
        ("", "/base/e", "s.yaml:8", "data.e.root: /base/e: is odd."),
        ("", "{folder}/w.pt", "s.yaml:10", "stages.donor.weights.path: {folder}/w.pt: is odd."),
        ("", "{folder}/other", "s.yaml:16", "arm 'b': data.d.root: {folder}/other: is odd."),
        ("", "{folder}/x", "s.yaml:18", "arm 'c': data.x.root: {folder}/x: is odd."),
        ("", "data.d.where", "s.yaml:7", "data.d.where: is odd."),
        ("", "data.d.where.device", "s.yaml:7", "data.d.where.device: is odd."),
        ("", "data.d.labels", "s.yaml:3", "data.d.labels: is odd."),
        ("a", "data.d.where", "s.yaml:7", "data.d.where: is odd."),
        ("b", "data.d.where", "s.yaml:17", "arm 'b': data.d.where: is odd."),
        ("b", "data.d.where.site", "s.yaml:17", "arm 'b': data.d.where.site: is odd."),
        ("b", "data.d.labels", "s.yaml:3", "data.d.labels: is odd."),
        ("c", "data.x.same_patient", "s.yaml:18", "arm 'c': data.x.same_patient: is odd."),
        ("d", "data.d.where.device", "more.yaml:2", "arm 'd': data.d.where.device: is odd."),
        ("d", "data.d.where", "more.yaml:2", "arm 'd': data.d.where: is odd."),
        ("d", "{folder}/d", "s.yaml:5", "data.d.root: {folder}/d: is odd."),
    ],
)
def test_a_field_has_the_line_where_its_value_is_written(
    loaded: LoadedStudy, tmp_path: Path, arm: str, where: str, line: str, what: str
) -> None:
    problem = Problem(where.format(folder=tmp_path), "is odd.", "warning", "odd", arm)
    located = loaded.locate(problem)
    assert located == Problem(f"{tmp_path}/{line}", what.format(folder=tmp_path), "warning")
    assert located.kind == "odd"


def test_of_sections_in_one_folder_the_first_is_named(tmp_path: Path) -> None:
    sections = "\n".join(f"  {name}: {{source: manifest, root: ./both}}" for name in "xyz")
    (tmp_path / "s.yaml").write_text(STUDY.replace("  e: {", f"{sections}\n  e: {{"))
    (tmp_path / "more.yaml").write_text(INCLUDED)
    loaded = load(tmp_path / "s.yaml", environ={"ROOT": "/base"})
    assert loaded.locate(Problem(f"{tmp_path}/both", "is odd.")).where == f"{tmp_path}/s.yaml:8"


@pytest.mark.parametrize("loaded", ["local"], indirect=True)
def test_a_field_that_the_profile_sets_has_the_line_of_the_profile(
    loaded: LoadedStudy, tmp_path: Path
) -> None:
    expected = Problem(f"{tmp_path}/s.yaml:22", "profile 'local': data.e.root: /mine: is odd.")
    for arm in ("", "a"):
        assert loaded.locate(Problem("/mine", "is odd.", arm=arm)) == expected
    finding = Finding(("stages", "two", "training", "lr"), "it is odd", related=(("training", "lr"),))
    for arm in ("", "b"):
        problem = loaded.problem(arm, finding)
        assert problem == Problem(f"{tmp_path}/s.yaml:23", "profile 'local': it is odd")


@pytest.mark.parametrize("where", ["data.d", "{folder}/d/images/1.png", "elsewhere"])
def test_a_problem_of_no_field_stays_as_it_is_or_names_its_arm(
    loaded: LoadedStudy, tmp_path: Path, where: str
) -> None:
    where = where.format(folder=tmp_path)
    assert loaded.locate(Problem(where, "is odd.")) == Problem(where, "is odd.")
    assert loaded.locate(Problem(where, "is odd.", arm="b")) == Problem(where, "arm 'b': is odd.")
