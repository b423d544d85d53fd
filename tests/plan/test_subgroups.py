"""Columns of subgroups: which ones a study may name, and what its plan stores of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.labelled import Pack, added, stage, study_of, write
from xferlab.cli.main import main
from xferlab.plan.subgroups import MAX_VALUES

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True, scope="module")
def _task() -> Iterator[None]:
    with added():
        yield


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    return Pack(tmp_path / "a", ["normal", "tb"], each=20)


def study(pack: Pack, subgroups: list[str], **fields: Any) -> Path:
    data = {"a": pack.section(hold_out=0.3)}
    one = stage("a", evaluate_on=["a.hold_out"])
    return write(pack.root.parent, study_of(data, {"one": one}, subgroups=subgroups, **fields))


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["plan", str(path)]) != 0
    said = capsys.readouterr()
    return said.out + said.err


NAMING = "names people or files, and plans and reports would hold these names"
LISTED = "(columns of groups: finding, pathology, site)."


@pytest.mark.parametrize(
    ("subgroups", "message"),
    [
        (["siet"], f"no data section has a column 'siet' {LISTED} Did you mean 'site'?"),
        (["patient_id"], f"column 'patient_id' {NAMING} {LISTED}"),
        (["mask"], f"column 'mask' {NAMING} {LISTED}"),
        (["site", "site"], "site stands twice; name each column once"),
        ([" "], "String should match pattern"),
    ],
)
def test_a_column_that_is_none_of_groups_is_refused_with_its_line(
    pack: Pack, capsys: pytest.CaptureFixture[str], subgroups: list[str], message: str
) -> None:
    said = refusal(study(pack, subgroups), capsys)
    assert message.partition("String")[0] in said
    assert "study.yaml:" in said


def test_a_column_with_a_value_for_almost_each_image_is_refused(
    pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, row in enumerate(pack.rows):
        row["site"] = f"ward {number % 21}"
    pack.write()
    said = refusal(study(pack, ["site"]), capsys)
    assert f"column 'site' has 21 values for 40 images; a column of groups has at most {MAX_VALUES}" in said


def test_an_arm_cannot_change_them(pack: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(study(pack, [], arms={"baseline": {}, "other": {"subgroups": ["site"]}}), capsys)
    assert "it belongs to the study as a whole" in said


def plan_of(path: Path) -> dict[str, Any]:
    assert main(["run", str(path), "--executor", "in-process"]) == 0
    plan: dict[str, Any] = json.loads((path.parent / "results/studies/labels/plan.json").read_text())
    return plan


def test_the_plan_has_the_values_of_evaluated_cases_and_trials_stay(pack: Pack) -> None:
    pack.rows[0]["site"] = ""
    pack.write()
    before = plan_of(study(pack, []))
    assert "subgroups" not in before
    plan = plan_of(study(pack, ["site"]))
    assert plan["trials"] == before["trials"]
    values = plan["subgroups"]["site"]
    assert list(values) == ["north", "south"]
    digests = [digest for group in values.values() for digest in group]
    assert len(set(digests)) == len(digests)
    assert len(digests) in (11, 12)  # 12 of 40 are held out, and one of all has no site
