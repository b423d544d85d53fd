"""`--json`: one document on standard output, of the documented shape, whatever becomes of a verb."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Said
from tests.studies import ONE_TRIAL, write_study
from xferlab import __version__
from xferlab.cli import status
from xferlab.cli.options import VERBS

ROOT = Path(__file__).parents[2]
TRIAL = "baseline/portable/r01"


def documented() -> dict[str, set[str]]:
    """The fields of each verb's document; only those outside parentheses."""
    text = (ROOT / "docs/commands.md").read_text()
    section = text.partition("\n### JSON\n")[2].partition("\n### ")[0]
    fields = {}
    for verbs, told in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE):
        for verb in re.findall(r"`(\w+)`", verbs):
            fields[verb] = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", told)))
    return fields


def document(said: Said) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(said.out)
    assert body["exit_code"] == said.code
    return {name: value for name, value in body.items() if name != "exit_code"}


def test_every_verb_has_documented_fields_but_for_schema_which_is_json_anyway(command: Command) -> None:
    assert all("json" in options.__dataclass_fields__ for options, _ in VERBS.values())
    assert documented().keys() == VERBS.keys() - {"schema"}
    assert command("schema", "--json", code=0) == command("schema", code=0)


def test_a_wrong_word_after_schema_and_the_option_version_have_documents(command: Command) -> None:
    assert "unrecognized arguments: FOO" in document(command("schema", "FOO", "--json", code=2))["error"]
    assert document(command("--version", "--json", code=0)) == {"version": __version__}


@pytest.mark.component
def test_standard_output_is_no_file_of_a_command_that_prints_a_document_there(
    command: Command, tmp_path: Path
) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    said = command("plan", study, "--cases", "/dev/stdout", "--json", code=2)
    assert document(said)["error"] == (
        "--cases /dev/stdout: standard output has the document of --json alone; name another file"
    )


@pytest.mark.component
def test_documents_have_the_documented_fields(command: Command, tmp_path: Path) -> None:
    study = str(write_study(tmp_path, overlay_cases=0))
    fields = documented()
    image = ROOT / "docs/structures.png"
    for words, code in (
        (("check", study), 0),
        (("run", study, "--executor", "in-process", "--arms", "baseline"), 0),
        (("plan", study), 0),
        (("status", study), 1),
        (("failures", study), 0),
        (("logs", TRIAL), 0),
        (("report", study), 1),
        (("archive", study, "--out", "study.zip"), 1),
        (("predict", TRIAL, image, "--out", "predicted"), 0),
        (("prune", study), 0),
        (("version",), 0),
    ):
        said = command(*words, "--json", code=code)
        told = document(said)
        verb = words[0]
        assert told.keys() >= fields[verb], verb
        assert verb == "plan" or told.keys() <= fields[verb], verb
        assert said.err
        if verb == "run":
            assert told["counts"] == {"complete": 4}
            assert len(told["results"]["means"]["baseline"]) == 2
        if verb == "logs":
            assert told["lines"][-1]["text"] == "complete"
        if verb == "report":
            assert Path(told["report"]).is_file()


PROBLEM = {"where", "what", "severity", "kind", "arm"}


@pytest.mark.component
def test_an_import_tells_what_is_documented_and_init_the_same_with_a_study(
    command: Command, folder: Path
) -> None:
    fields = documented()
    (folder / "left" / "P0_0_mask.png").rename(folder / "left" / "nobody_mask.png")
    told = document(command("import", folder / "images", folder / "left", "--json", code=0))
    assert told.keys() == fields["import"]
    assert (told["images"], told["new"], told["changed"]) == (12, 12, 0)
    assert Path(told["table"]).is_file()
    (problem,) = told["left_out"]
    assert problem.keys() == PROBLEM
    assert problem["where"].endswith("nobody_mask.png")
    ((name, section),) = told["section"].items()
    assert (name, section["source"], section["root"]) == ("mine", "manifest", str(folder))

    first = document(command("init", "--from", folder / "images", folder / "left", "--json", code=0))
    assert first.keys() == fields["init"] | fields["import"]
    assert (first["study"], first["next"], first["new"]) == ("study.yaml", "xferlab check study.yaml", 0)
    template = document(command("init", "--template", "smoke", "--json", code=0))
    assert template.keys() == fields["init"] | {"files"}
    assert (template["files"], template["next"]) == ([template["study"]], "xferlab run jobs/smoke.yaml")


@pytest.mark.slow  # starts W&B
def test_a_mirror_and_a_dashboard_tell_what_is_documented(command: Command, tmp_path: Path) -> None:
    fields = documented()
    study = write_study(tmp_path, **ONE_TRIAL, tracking={"wandb": {"project": "p", "mode": "offline"}})
    command("run", study, "--executor", "in-process", code=0)
    told = document(command("mirror", study, "--json", code=0))
    assert told.keys() == fields["mirror"]
    assert len(told["present"]) == 2  # of the trial and of the study
    assert told["written"] == told["unfinished"] == told["not_tried"] == told["remarks"] == []
    assert told["failed"] == {}
    pages = document(command("dashboard", study, "--output", "pages.json", "--json", code=0))
    assert pages.keys() == fields["dashboard"]
    assert (pages["study"], pages["title"], pages["pages"], pages["runs"]) == ("tiny", "tiny", [], None)


@pytest.mark.slow  # starts Ray
def test_a_search_tells_what_is_documented(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, **ONE_TRIAL)
    Path("space.yaml").write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")
    words = ("--space", "space.yaml", "--arm", "a", "--samples", "2", "--workers", "1", "--no-asha")
    told = document(command("tune", study, *words, "--json", code=0))
    assert told.keys() == documented()["tune"]
    assert told["epochs_trained"] == 8
    best, other = told["samples"]
    assert best.keys() == other.keys() == {"sample", "score", "outcome", "parameters"}
    assert best["score"] <= other["score"]
    assert best["parameters"].keys() == {"stages.general.training.lr"}
    assert told["winner"].keys() == {"sample", "out"}
    assert told["winner"]["sample"] == best["sample"]
    assert Path(told["winner"]["out"]).is_file()
    assert Path(told["report"]).is_file()


def test_an_error_is_told_in_the_document_with_its_problems(command: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path, repetitons=3)
    told = document(command("check", study, "--json", code=2))
    (problem,) = told["problems"]
    assert problem["where"].startswith(f"{study}:")
    assert "Did you mean 'repetitions'?" in problem["what"]
    assert told["error"] == f"{problem['where']}: {problem['what']}"
    nothing = document(command("logs", "x", "--storage", tmp_path / "st", "--json", code=2))
    assert "'x' names nothing" in nothing["error"]
    told = document(command("stauts", study, "--json", code=2))
    assert told["error"].endswith("Did you mean 'status'?")
    assert "required: STUDY" in document(command("status", "--json", code=2))["error"]


def test_what_was_told_before_an_error_stays_and_the_next_command_starts_afresh(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> str:
        raise KeyboardInterrupt

    study = write_study(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(status, "counts_of", stopped)
        told = document(command("status", study, "--json", code=130))
    assert told["error"] == "interrupted"
    assert told["counts"] == {"waiting": 6}
    assert "error" not in document(command("failures", study, "--json", code=0))
    assert command("failures", study, code=0).out.endswith("no trial failed\n")


def test_numbers_that_are_not_finite_are_null(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "states", lambda *_: [])
    monkeypatch.setattr(status, "counts_of", lambda rows: status.tell(trials=[{"x": float("nan")}]))
    assert document(command("status", write_study(tmp_path), "--json"))["trials"] == [{"x": None}]
