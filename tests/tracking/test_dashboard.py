"""The pages of a study in W&B: what they would show is held by the mirrored runs, and a server takes them."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.studies import TINY, write_study
from tests.tracking.wandb_files import OfflineRun, offline_runs
from tests.tracking.wandb_server import KEY, Server
from xferlab.cli.main import main
from xferlab.tracking import publish as publishing
from xferlab.tracking.content import RunOrder
from xferlab.tracking.dashboard import dashboard_of
from xferlab.tracking.recorded import RecordedRun

pytestmark = pytest.mark.component

TABLE_KEY = r'"key": {"nodeType": "const", "type": "string", "val": "(\w+)"}'
Page = dict[str, Any]
Dashboard = Callable[..., tuple[int, str]]
STUDY: dict[str, Any] = {
    "data": {name: {**section, "shareable": True} for name, section in TINY["data"].items()},
    "training": {**TINY["training"], "max_epochs": 2},
    "primary": {"metric": "DICE", "on": "portable.hold_out", "stage": "portable"},
    "contrasts": [["still", "baseline"]],
    "profiles": {"short": {"training.max_epochs": 1}},
    "tracking": {"wandb": {"project": "mine", "entity": "team", "mode": "offline", "images": 2}},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has run, with its mirrored runs in offline files."""
    folder = tmp_path_factory.mktemp("shown")
    path = write_study(folder, **STUDY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XFERLAB_CACHE", str(folder / "cache"))
        assert main(["run", str(path), "--executor", "in-process"]) == 0
    return path


@pytest.fixture
def dashboard(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Dashboard:
    monkeypatch.setenv("XFERLAB_CACHE", str(study.parent / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def dashboard(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = main(["dashboard", str(study), *words])
        return code, "".join(capfd.readouterr())

    return dashboard


@pytest.fixture
def without_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def pages(dashboard: Dashboard, folder: Path) -> dict[str, Page]:
    code, _ = dashboard("--output", str(folder / "pages.json"))
    assert code == 0
    body = json.loads((folder / "pages.json").read_text())
    assert (body["entity"], body["project"]) == ("team", "mine")
    return {page["kind"]: page for page in body["pages"]}


def shown(filters: dict[str, Any], runs: list[OfflineRun]) -> list[OfflineRun]:
    """The runs that a page's own filters leave, as W&B applies them."""
    assert filters["filterFormat"] == "filterV2"
    assert all(each.get("connector", "AND") == "AND" for each in filters["filters"])
    return [run for run in runs if all(passes(each, run) for each in filters["filters"])]


def passes(condition: dict[str, Any], run: OfflineRun) -> bool:
    assert condition["key"]["section"] == "run"
    attributes = {
        "tags": set(run.run.tags), "group": {run.run.run_group}, "jobType": {run.run.job_type},
    }  # fmt: skip
    held, value = attributes[condition["key"]["name"]], condition["value"]
    wanted = set(value) if isinstance(value, list) else {value}
    return bool(held & wanted) is (condition["op"] in ("IN", "="))


def panels(page: Page, runs: list[OfflineRun]) -> Iterator[tuple[dict[str, Any], list[OfflineRun]]]:
    """The panels of a page, each with the runs that it is drawn from."""
    if page["kind"] == "workspace":
        section = page["spec"]["section"]
        (run_set,) = section["runSets"]
        for part in section["panelBankConfig"]["sections"]:
            yield from ((panel, shown(run_set["filters"], runs)) for panel in part["panels"])
        return
    for grid in (block["metadata"] for block in page["spec"]["blocks"] if block["type"] == "panel-grid"):
        (run_set,) = grid["runSets"]
        for panel in grid["panelBankSectionConfig"]["panels"]:
            yield panel, shown(run_set["filters"], runs)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def is_filled(panel: dict[str, Any], runs: list[OfflineRun]) -> bool:
    """Whether every key of a panel is one under which one of its runs holds something to draw."""
    config, kind = panel["config"], panel["viewType"]
    if kind == "Run History Line Plot":
        assert config["xAxis"] == "_step"
        rows = [row for run in runs for row in run.rows]
        return all(any(is_number(row.get(key)) for row in rows) for key in config["metrics"])
    if kind == "Bar Chart":
        return all(any(is_number(run.summary.get(key)) for run in runs) for key in config["metrics"])
    if kind == "Media Browser":
        return all(any(f"{key}.path" in run.summary for run in runs) for key in config["mediaKeys"])
    assert kind == "Weave"
    (key,) = set(
        re.findall(r'"key": {"nodeType": "const", "type": "string", "val": "(\w+)"}', json.dumps(config))
    )
    return any(f"{key}.path" in run.summary for run in runs)


def is_grouped(panel: dict[str, Any], runs: list[OfflineRun]) -> bool:
    """Whether a panel draws one run, or groups several by arm and stage."""
    config = panel["config"]
    if panel["viewType"] not in ("Run History Line Plot", "Bar Chart") or config.get("groupBy") == "group":
        return True
    holding = [run for run in runs if any(key in row for row in run.rows for key in config["metrics"])]
    return len(holding) == 1


@pytest.mark.slow
def test_every_panel_shows_what_the_runs_that_it_is_drawn_from_hold(
    dashboard: Dashboard, study: Path, tmp_path: Path
) -> None:
    runs = offline_runs(study.parent / "cache" / "wandb")
    assert len(runs) == 2 + 4 + 1
    made = pages(dashboard, tmp_path)
    titles: dict[str, set[str]] = {}
    for kind, page in made.items():
        for panel, drawn_from in panels(page, runs):
            assert is_filled(panel, drawn_from), (kind, panel["config"])
            assert is_grouped(panel, drawn_from), (kind, panel["config"])
            titles.setdefault(kind, set()).add(panel["config"].get("chartTitle", "table"))
    for wanted in (
        "validation_loss, mean and SD", "DICE on portable.hold_out, portable", "Figures of the report",
        "table", "DICE on portable.hold_out, portable: general, then portable",
        "Hours of training, all trials",
    ):  # fmt: skip
        assert wanted in titles["workspace"] & titles["report"], wanted
    assert "validation_loss of stage general, mean by arm" in titles["workspace"]
    figures = {key for run in runs for key in run.summary if key.startswith("figures/")}
    assert "figures/covid19_general_to_portable_baseline.path" in figures
    text = json.dumps(made["report"]["spec"], ensure_ascii=False)
    (verdict,) = {value for run in runs for key, value in run.summary.items() if key.startswith("verdict/")}
    assert verdict in text
    assert "6 of 6 trials are complete." in text
    assert "baseline/general stands for still, too." in text


def test_a_panel_by_pathology_has_a_key_of_each(dashboard: Dashboard, tmp_path: Path) -> None:
    bars = [
        panel["config"]["metrics"]
        for panel, _ in panels(pages(dashboard, tmp_path)["workspace"], [])
        if panel["config"].get("chartTitle") == "DICE on general.test"
    ]
    names = ("", "/covid19", "/normal", "/pathological")
    assert bars == [[f"general.test/DICE{name}" for name in names]]


def test_runs_that_the_study_uses_with_this_profile_are_shown_but_for_superseded_ones(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    filters = pages(dashboard, tmp_path)["workspace"]["spec"]["section"]["runSets"][0]["filters"]["filters"]
    told = [(each["op"], each["value"]) for each in filters]
    assert told == [("IN", ["use:tiny"]), ("NIN", ["superseded"])]


@pytest.mark.slow
def test_a_server_gets_what_the_file_holds_and_a_second_call_replaces_it(
    server: Server, dashboard: Dashboard, study: Path, tmp_path: Path
) -> None:
    expected = pages(dashboard, tmp_path)
    assert server.asked == []  # a file takes no connection
    code, said = dashboard()
    assert code == 0
    assert re.search(
        r"^tiny: a workspace of \d+ panels and a report of \d+ sections, for team/mine$", said, re.M
    )
    view, page = (
        server.views[("project-view", expected["workspace"]["name"])],
        next(value for (kind, _), value in server.views.items() if kind == "runs"),
    )
    for made, kind in ((view, "workspace"), (page, "report")):
        assert (made["entity"], made["project"], made["title"]) == ("team", "mine", "tiny")
        assert shape(json.loads(made["spec"])) == shape(expected[kind]["spec"])
    grids = [block for block in json.loads(page["spec"])["blocks"] if block["type"] == "panel-grid"]
    for grid in grids:
        (runs,) = grid["metadata"]["runSets"]
        assert runs["project"] == {"entityName": "team", "name": "mine", "id": "p-7"}
    short = view["name"].removeprefix("nw-").removesuffix("-v")
    assert f"workspace made: {server.url}/team/mine?nw={short}" in said
    assert f"report made: {server.url}/team/mine/reports/tiny--{page['id']}" in said
    assert "W&B has none of the 7 runs of this study, and the pages show no others; `xferlab mirror" in said
    again = dashboard()[1]
    assert again.count("replaced: ") == 2
    assert len(server.views) == 2
    assert "report made" in dashboard("--name", "For the meeting", "--project", "other")[1]
    assert len(server.views) == 4
    assert KEY not in said + json.dumps(list(server.views.values()))


def shape(value: Any) -> Any:
    """A page without what differs at each call: made-up ids, and the project that only a server knows."""
    if isinstance(value, dict):
        left_out = ("id", "__id__", "project", "i")
        return {key: shape(each) for key, each in value.items() if key not in left_out}
    return [shape(each) for each in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_runs_that_were_sent_are_found(
    server: Server, dashboard: Dashboard, study: Path, tmp_path: Path
) -> None:
    words = ["mirror", str(study), "--mode", "online"]
    assert main(words) == 0
    code, said = dashboard()
    assert (code, "W&B has" in said) == (0, False)
    assert len(server.runs) == 7
    server.runs.popitem()
    assert "W&B has 6 of the 7 runs" in dashboard()[1]


@pytest.mark.slow
@pytest.mark.usefixtures("without_key")
def test_without_a_key_it_says_what_to_do_and_a_file_takes_none(dashboard: Dashboard, tmp_path: Path) -> None:
    code, said = dashboard()
    assert code == 2
    assert "W&B knows no key here: `wandb login`, or set WANDB_API_KEY" in said
    assert pages(dashboard, tmp_path).keys() == {"workspace", "report"}


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("project", "W&B has no project team/mine that this account may see"),
        ("401", "Failed to verify credentials"),
        pytest.param("hang", "no answer in 6 s", marks=pytest.mark.slow),
    ],
)
def test_trouble_with_the_service_is_told_in_time(
    server: Server, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, trouble: str, reason: str
) -> None:
    monkeypatch.setattr(publishing, "TIMEOUT_S", 6.0 if trouble == "hang" else 60.0)
    server.project, server.fault = trouble != "project", None if trouble == "project" else trouble
    began = time.monotonic()
    code, said = dashboard()
    assert (code, time.monotonic() - began < 40) == (2, True)
    assert reason in said
    assert "Nothing of the study is lost" in said


@pytest.mark.slow
def test_a_title_or_a_file_that_cannot_be_says_so(dashboard: Dashboard, tmp_path: Path) -> None:
    code, said = dashboard("--name", "x" * 129, "--output", str(tmp_path / "a.json"))
    assert (code, "at most 128 characters" in said, "Traceback" in said) == (2, True, False)
    (tmp_path / "file").touch()
    code, said = dashboard("--output", str(tmp_path / "file" / "a.json"))
    assert code == 2
    assert "a.json: cannot be written: a part of its path is a file; name another file" in said


def test_without_the_library_it_says_what_to_install(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "LIBRARY", "wandb_workspaces_that_is_absent")
    code, said = dashboard()
    assert (code, "pip install 'xferlab[dashboard]'" in said) == (2, True)


def test_a_study_that_has_not_run_or_has_no_project_says_so(
    dashboard: Dashboard, study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    untracked = write_study(tmp_path, **{**STUDY, "tracking": {}})
    assert main(["dashboard", str(untracked)]) == 2
    assert "it has not run here" in capfd.readouterr().err
    words = ["dashboard", str(untracked), "--storage", str(study.parent / "xferlab-results")]
    assert main(words) == 2
    assert "has no `tracking.wandb`; add it to the study file, or give --project" in capfd.readouterr().err


def recorded(
    stage: str, summary: dict[str, float], *, sets: tuple[str, ...] = ("x.test",), losses: int = 1
) -> RecordedRun:
    rows = [{"epoch": number + 1, "train_loss": 0.5, "lr": 0.1} for number in range(losses)]
    order = RunOrder(
        "id", f"a/{stage}/r01", f"a/{stage}", stage, {"evaluated_on": sets, "arms": ["a"]}, epochs=rows
    )
    return RecordedRun(order, summary, tuple, ("M", "N"))


OF_STUDY = RecordedRun(
    RunOrder(
        "id", "tiny", "studies", "study", {}, epochs=[{"epoch": 1, "study/train_loss/a/mean": 0.5}]
    ),
    {"trials_complete": 1, "trials_planned": 2},
    tuple,
)  # fmt: skip


def keys_of(trials: list[RecordedRun]) -> dict[str, list[tuple[str, ...]]]:
    plan = {"study": "tiny", "profile": None, "stages": ["study", "last"]}
    made = dashboard_of(plan, OF_STUDY, trials, title="tiny")
    return {section.title: [panel.keys for panel in section.panels] for section in made.sections}


def test_what_no_run_holds_has_no_panel() -> None:
    values = {"x.test/M": math.nan, "x.test/N": 0.5, "x.test/N/flu": math.nan, "x.test/P": 1.0}
    shown = keys_of([recorded("study", values), recorded("last", {}, sets=(), losses=0)])
    assert shown == {
        "Result": [],
        "Loss by arm, stage study": [("train_loss",)],
        "x.test by arm and pathology, after stage study": [("x.test/N",)],
        "Lineage": [],
    }


def test_stages_that_measure_other_things_on_a_set_are_no_transfer() -> None:
    shown = keys_of([recorded("study", {"x.test/M": 0.5}), recorded("last", {"x.test/N": 0.5})])
    assert "Before and after transfer" not in shown
    assert shown["x.test by arm and pathology, after stage study"] == [("x.test/M",)]
    assert shown["x.test by arm and pathology, after stage last"] == [("x.test/N",)]


def test_a_set_that_two_stages_are_measured_on_is_shown_before_and_after() -> None:
    values = {"x.test/M": 0.5, "x.test/M/flu": 0.25, "x.test/dev/M": 0.75}
    shown = keys_of([recorded("study", values), recorded("last", values)])
    assert shown["Before and after transfer"] == [("x.test/M",), ("x.test/dev/M",)]
    assert shown["x.test by arm and pathology, after stage last"] == [
        ("x.test/M", "x.test/M/flu"),
        ("x.test/dev/M",),
    ]
