"""The process that makes the pages of a dashboard, and sends them where it is asked to.

It reads one order from standard input and writes one answer to standard output, both JSON. It alone imports
`wandb_workspaces`, which draws the pages in the format of W&B's web page, without a connection.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from pydantic import TypeAdapter, ValidationError
from wandb_workspaces import expr
from wandb_workspaces._graphql import execute_graphql, get_app_url

from xferlab.errors import UsageError
from xferlab.tracking.content import STUDIES
from xferlab.tracking.dashboard import Dashboard, Panel, Section

REQUEST_S = 15
"""Longest wait for the answer to a request."""
MAX_RUNS = 1000
"""Runs that a panel reads at most, so that means are of all of a group; W&B's own limit is 10."""
_WIDTH, _HEIGHT, _COLUMNS = 12, 9, 2
_DESCRIPTION = "Made by `xferlab dashboard`, which replaces it when it is called again."

_FIND = """
query XferlabView($entity: String, $project: String, $type: String, $name: String) {
  project(name: $project, entityName: $entity) {
    internalId
    allViews(viewType: $type, viewName: $name) { edges { node { id name } } }
  }
}
"""
_COUNT = """
query XferlabRuns($entity: String, $project: String, $filters: JSONString) {
  project(name: $project, entityName: $entity) { runCount(filters: $filters) }
}
"""
_UPSERT = """
mutation XferlabUpsertView($id: ID, $entity: String, $project: String, $type: String, $name: String,
    $title: String, $description: String, $spec: String!) {
  upsertView(input: {id: $id, entityName: $entity, projectName: $project, type: $type, name: $name,
      displayName: $title, description: $description, spec: $spec, createdUsing: WANDB_SDK}) {
    view { id name }
  }
}
"""


@dataclass(frozen=True)
class Page:
    """A page as W&B stores it.

    Attributes:
        kind: `workspace` or `report`.
        type: What W&B calls it.
        name: Its name inside of W&B, by which it is found again.
        title: Its title.
        spec: What it shows.
    """

    kind: str
    type: str
    name: str
    title: str
    spec: Mapping[str, Any]


def main() -> None:
    """Answers one order; what is wrong with it, or at W&B, is the last line of standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        answer = _answer(json.load(sys.stdin))
    except ValidationError as error:
        sys.exit("; ".join(each["msg"] for each in error.errors()))
    except UsageError as error:
        sys.exit(str(error))
    with answers:
        json.dump(answer, answers)


def _answer(order: Mapping[str, Any]) -> dict[str, Any]:
    dashboard = TypeAdapter(Dashboard).validate_python(order["dashboard"])
    pages = [workspace(dashboard), report(dashboard)]
    made = {"pages": [asdict(page) for page in pages]}
    if not order["send"]:
        return made
    api = wandb.Api(timeout=REQUEST_S)
    where = {"entity": order["entity"] or api.default_entity, "project": order["project"]}
    sent = [send(api, page, where) for page in pages]
    return {**made, "sent": sent, "runs": num_runs(api, where, dashboard)}


def workspace(dashboard: Dashboard) -> Page:
    """Returns the workspace: a view of the project, in which a reader can go on."""
    sections = [
        ws.Section(
            name=section.title,
            panels=[_panel(panel) for panel in section.panels],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=_COLUMNS, rows=3),
        )
        for section in dashboard.workspace
        if section.panels
    ]
    view = ws.Workspace(
        entity="",
        project="",
        name=dashboard.title,
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=MAX_RUNS),
        runset_settings=ws.RunsetSettings(filters=_filters(dashboard)),
    )
    spec = view._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Page("workspace", "project-view", f"nw-{_short(dashboard.title)}-v", dashboard.title, spec)


def report(dashboard: Dashboard) -> Page:
    """Returns the report: a page of text and panels, to be passed on."""
    blocks = [block for section in dashboard.sections for block in _blocks(section, dashboard)]
    page = wr.Report(entity="", project="", title=dashboard.title, blocks=blocks, width="fluid")
    spec = page._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Page("report", "runs", f"xferlab-{_short(dashboard.title)}", dashboard.title, spec)


def _short(title: str) -> str:
    return hashlib.sha256(title.encode()).hexdigest()[:11]


def _filters(dashboard: Dashboard) -> list[Any]:
    has = [expr.Tags().isin([tag]) for tag in dashboard.tags]
    return [*has, expr.Tags().notin(list(dashboard.without))]


def _blocks(section: Section, dashboard: Dashboard) -> Iterator[Any]:
    yield wr.H2(section.title)
    if len(section.text) > 1:
        yield wr.UnorderedList(list(section.text))
    elif section.text:
        yield wr.P(section.text[0])
    if section.panels:
        runs = wr.Runset(name=section.stage or section.runs, filters=[*_filters(dashboard), *_shown(section)])
        yield wr.PanelGrid(runsets=[runs], panels=[*_laid_out(section.panels)])


def _shown(section: Section) -> Iterator[Any]:
    """Yields what tells the runs of a section from the others of the study."""
    group = expr.Metric("Group")  # that of a trial has its arm: no stage can have the name of this one
    yield group == STUDIES if section.runs == "study" else group != STUDIES
    if section.stage:
        yield expr.Metric("JobType") == section.stage


def _laid_out(panels: Sequence[Panel]) -> Iterator[Any]:
    """Yields panels two a row; tables and pictures take a row each."""
    x = y = 0
    for panel in panels:
        is_wide = panel.kind in ("table", "pictures")
        if is_wide and x:
            x, y = 0, y + _HEIGHT
        drawn = _panel(panel)
        width = _COLUMNS * _WIDTH if is_wide else _WIDTH
        drawn.layout = wr.Layout(x=x, y=y, w=width, h=_HEIGHT)
        yield drawn
        x += width
        if x >= _COLUMNS * _WIDTH:
            x, y = 0, y + _HEIGHT


def _panel(panel: Panel) -> Any:
    keys, groups = list(panel.keys), {"groupby": wr.Metric("Group"), "max_runs_to_show": MAX_RUNS}
    curves = {"x": "Step", "title_x": "epoch", "smoothing_type": "none"}
    if panel.kind == "bands":
        band = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return wr.LinePlot(title=panel.title, y=keys, **curves, **groups, **band)
    if panel.kind == "curves":
        return wr.LinePlot(title=panel.title, y=keys, **curves, max_runs_to_show=MAX_RUNS)
    if panel.kind == "table":
        return wr.WeavePanelSummaryTable(table_name=keys[0])
    if panel.kind == "pictures":
        return wr.MediaBrowser(title=panel.title, media_keys=keys, num_columns=1)
    sums = {"groupby_aggfunc": "sum", "groupby_rangefunc": "none"}
    means = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    shown = sums if panel.kind == "sums" else means
    return wr.BarPlot(title=panel.title, metrics=keys, max_bars_to_show=MAX_RUNS, **groups, **shown)


def send(api: wandb.Api, page: Page, where: Mapping[str, str]) -> dict[str, Any]:
    """Sends a page; returns its address, and whether it replaced one that was there.

    Raises:
        UsageError: The project does not exist.
        Exception: Whatever W&B's library raises: no connection, no permission.
    """
    found = execute_graphql(api, _FIND, {**where, "type": page.type, "name": page.name})["project"]
    if found is None:
        raise UsageError(
            f"W&B has no project {where['entity']}/{where['project']} that this account may see; "
            "`xferlab mirror STUDY --mode online` makes it and sends the runs"
        )
    nodes = [edge["node"] for edge in found["allViews"]["edges"]]
    known = next((node["id"] for node in nodes if node["name"] == page.name), None)
    spec = _placed(page.spec, where, found["internalId"])
    view = {"id": known, "type": page.type, "name": page.name, "title": page.title}
    body = {**where, **view, "description": _DESCRIPTION, "spec": json.dumps(spec)}
    made = execute_graphql(api, _UPSERT, body)["upsertView"]["view"]
    base = f"{get_app_url(api).rstrip('/')}/{where['entity']}/{where['project']}"
    return {"kind": page.kind, "url": _url(base, page, made["id"]), "replaced": known is not None}


def num_runs(api: wandb.Api, where: Mapping[str, str], dashboard: Dashboard) -> int:
    """Returns how many runs the project holds of what the pages show."""
    filters = json.dumps({"$and": [{"tags": tag} for tag in dashboard.tags]})
    return int(execute_graphql(api, _COUNT, {**where, "filters": filters})["project"]["runCount"])


def _placed(spec: Mapping[str, Any], where: Mapping[str, Any], project_id: str) -> dict[str, Any]:
    """Returns what a page shows with the project that its runs are in, where it is a report."""
    project = {"entityName": where["entity"], "name": where["project"], "id": project_id}
    placed: dict[str, Any] = json.loads(json.dumps(spec))
    for block in placed.get("blocks", ()):
        for runs in block.get("metadata", {}).get("runSets", ()):
            runs["project"] = project
    return placed


def _url(base: str, page: Page, view_id: str) -> str:
    if page.kind == "workspace":
        return f"{base}?nw={page.name.removeprefix('nw-').removesuffix('-v')}"
    return f"{base}/reports/{quote(page.title.replace(' ', '-'), safe='')}--{view_id}"


if __name__ == "__main__":
    main()
