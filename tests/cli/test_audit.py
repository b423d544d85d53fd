"""What `check`, `plan` and `run` say of patients who share an exposure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Said
from tests.leakage.test_audit import Pack, altered
from tests.studies import write_study

pytestmark = pytest.mark.component
SPELLED = "data.general, data.portable: warning: 1 person has several patient ids that probably differ in"
JOIN = "patients 'a2', 'p2' count as one person, 'a2', and stay in one part of every split."


def study_of(pack: Pack, folder: Path, **fields: object) -> Path:
    shared = {"source": "manifest", "root": str(pack.root), **fields}
    data = {
        "general": {**shared, "where": {"device": "fixed"}},
        "portable": {**shared, "where": {"device": "portable"}, "hold_out": 0.4},
    }
    return write_study(folder, data=data)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    pack = Pack(tmp_path / "pack")
    for number in range(8, 20):
        pack.show(f"{number}", altered(number), device="fixed" if number % 2 else "portable")
    pack.show("copy", altered(2), patient="a2", device="portable")
    return pack


def planned(said: Said) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(said.out)
    return document


def ids(said: Said) -> list[str]:
    return [trial["trial_id"] for trial in planned(said)["trials"]]


def test_check_and_plan_tell_who_is_joined(command: Command, pack: Pack, tmp_path: Path) -> None:
    study = study_of(pack, tmp_path)
    check = command("check", study, code=0)
    assert check.out.count(JOIN) == 1
    assert SPELLED not in check.out
    plan = command("plan", study, "--json")
    assert plan.err.count(JOIN) == 1
    (summary,) = (warning for warning in planned(plan)["warnings"] if "patient ids" in warning)
    assert "judging by images, 1 person has several patient ids" in summary
    assert "'a2'" not in plan.out  # what is stored with the plan names nobody
    declared = command("plan", study_of(pack, tmp_path, same_patient=[["a2", "p2"]]), "--json")
    assert (JOIN in declared.err, ids(declared)) == (False, ids(plan))
    apart = command("plan", study_of(pack, tmp_path, different_patients=[["a2", "p2"]]), "--json")
    assert ids(apart) != ids(plan)


def test_check_and_plan_tell_spellings_of_one_id(command: Command, pack: Pack, tmp_path: Path) -> None:
    apart = command("plan", study_of(pack, tmp_path), "--json")
    renamed = next(row for row in pack.rows if row["patient_id"] == "p8")
    renamed["patient_id"] = "P 03"  # p3 is in the other section
    pack.write()
    study = study_of(pack, tmp_path)
    assert command("check", study).out.count(SPELLED) == 1
    run = command("run", study, "--arms", "baseline", "--executor", "in-process", "--storage", "st", code=0)
    stored = [path.read_bytes() for path in (tmp_path / "st").rglob("*") if path.is_file()]
    assert not any(b"'a2'" in content or b"different_patients" in content for content in stored)
    plan = command("plan", study, "--json", "--cases", tmp_path / "who.csv")
    for said in (plan, run):
        assert (said.err.count(SPELLED), said.err.count(JOIN)) == (1, 1)
    assert '`same_patient: [["P 03", p3]]`' in plan.err
    assert "p3" not in json.dumps(planned(plan)["warnings"])
    assert ids(plan) != ids(apart)
    who = csv.DictReader((tmp_path / "who.csv").read_text().splitlines())
    rows = [(row["name"], row["part_r01"]) for row in who if row["patient"] == "P 03"]
    assert [name for name, _ in rows] == ["images/3.png", "images/8.png"]
    assert len({part for _, part in rows}) == 1
    same = [["P 03", "p3"], ["a2", "p2"]]
    declared = command("plan", study_of(pack, tmp_path, same_patient=same), "--json")
    assert not [word for word in (SPELLED, JOIN) if word in declared.err]
    assert planned(declared)["trials"] == planned(plan)["trials"]
