"""The part of W&B's protocol that a run needs, on loopback, for the real client: runs live in a dict.

The server can be put out of order at any moment: `server.fault = "hang"`.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.tracking.serving import Closable, served

KEY = "0123456789abcdef" * 2 + "01234567"
ABSENT = {"dns": "http://nowhere.invalid", "refused": "http://127.0.0.1:9"}
FAULTS = ("hang", "429", "500", "401", "garbage", "lost answer")
"""What a server can do in place of its work; with `lost answer` it does its work, and then says 500."""


@dataclass
class OnlineRun:
    """What the server holds of one run."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> list[int]:
        return [row["epoch"] for row in self.history if "epoch" in row]

    def bucket(self) -> dict[str, Any]:
        lines = [json.dumps(row) for row in self.history]
        last = self.history[-1]["_step"] if self.history else -1
        absent = (
            "description",
            "notes",
            "commit",
            "sweepName",
            "readOnly",
            "createdAt",
            "heartbeatAt",
            "user",
        )
        return {
            **dict.fromkeys(absent),
            "id": f"storage-{self.name}",
            "name": self.name,
            "projectId": "1",
            "displayName": self.fields.get("displayName"),
            "state": self.state,
            "tags": self.tags,
            "config": json.dumps(self.config),
            "wandbConfig": json.dumps({"t": 1}),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "group": self.fields.get("groupName"),
            "jobType": self.fields.get("jobType"),
            "historyKeys": {"lastStep": last, "keys": {}},
            "historyLineCount": len(lines),
            "historyTail": json.dumps(lines[-1:]),
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "logLineCount": 0,
            "history": lines,
            "user": {"name": "someone", "username": "someone"},
            "project": {"id": "p", "name": "mirror-test", "entity": {"id": "e", "name": "someone"}},
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"])) or b"{}"
        body = json.loads(data)
        fault = self.server.fault_at(data)
        if fault and fault != "lost answer":
            self._fail(fault)
            return
        with self.server.guard:
            if self.path == "/graphql":
                value = {"data": self.server.answer(body["query"], body.get("variables") or {})}
            else:
                value = self.server.stream(self.path.split("/")[-2], body)
        self._reply(500 if fault else 200, json.dumps(value).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.fault:
            self._fail(self.server.fault)
        else:
            self._reply(200, b"{}")

    def _fail(self, fault: str) -> None:
        self.server.refused += 1
        if fault == "hang":
            self.server.closing.wait()
            self.close_connection = True
        elif fault == "garbage":
            self._reply(200, b"<html>Sign in to the hospital's proxy\xff</html>")
        else:
            self._reply(500 if fault == "lost answer" else int(fault), b'{"errors": [{"message": "no"}]}')

    def do_GET(self) -> None:
        self._reply(404, b"{}")

    def _reply(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


class Server(Closable):
    """The server.

    Attributes:
        runs: What it was told.
        models: What was said of artifacts that are models: `logged` or `taken`, run, name.
        alerts: Run, title and text of each message for people.
        views: Workspaces and reports by their type and name, as they were sent.
        project: Whether the project exists.
        fault: One of `FAULTS`, or None.
        break_on: (bytes, fault): it gets that fault with the first request that holds these bytes.
        refused: Number of requests that met a fault.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.runs: dict[str, OnlineRun] = {}
        self.guard = threading.Lock()
        self.asked: list[str] = []
        self.models: list[tuple[str, str, str]] = []
        self.alerts: list[tuple[str, str, str]] = []
        self.views: dict[tuple[str, str], dict[str, Any]] = {}
        self.project = True
        self.fault: str | None = None
        self.break_on: tuple[bytes, str] | None = None
        self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a client that goes without closing its connection is no error of the server

    def fault_at(self, data: bytes) -> str | None:
        if self.break_on and self.break_on[0] in data:
            self.fault = self.break_on[1]
        return self.fault

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(query)
        if "upsertBucket" in query:
            return {"upsertBucket": self._upsert(given)}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        if "notifyScriptableRunAlert" in query:
            self.alerts.append((given["runName"], given["title"], given["text"]))
            return {"notifyScriptableRunAlert": {"success": True}}
        if "upsertView" in query:
            return {"upsertView": {"view": self._view(given), "inserted": not given["id"]}}
        if "allViews" in query or "runCount" in query:
            return {"project": self._project(given) if self.project else None}
        if "rtifact" in query:
            return self._artifact(query, given.get("input") or given)
        run = self.runs.get(given.get("name") or given.get("run") or "")
        bucket = run.bucket() if run else None
        if "viewer" in query:
            return {"viewer": {"id": "u", "entity": "someone", "username": "someone", "flags": "{}"}}
        project = {"id": "p", "name": "mirror-test", "entity": {"id": "e", "name": "someone"}}
        return {"model": {**project, "bucket": bucket}, "project": {**project, "run": bucket}}

    def _artifact(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Takes the files of a table or a model and keeps none of them."""
        name = given.get("artifactCollectionName") or given.get("artifactID") or "a"
        if given.get("artifactTypeName") == "model":
            self.models.append(("logged", given["runName"] or "", name))
        if "useArtifact(" in query:
            self.models.append(("taken", given["runName"], name))
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"id": "s", "latestArtifact": None}}
        upload = {"uploadUrl": f"{self.url}/upload/x", "uploadHeaders": []}
        names = [spec["name"] for spec in given.get("artifactFiles") or ()]
        nodes = [{"name": name, "storagePath": "x", "artifact": artifact, **upload} for name in names]
        return {
            "project": {"artifact": None},
            "createArtifact": {"artifact": artifact},
            "createArtifactManifest": {"artifactManifest": {"id": "m", "file": {"id": "f", **upload}}},
            "updateArtifactManifest": {"artifactManifest": {"id": "m", "file": {"id": "f", **upload}}},
            "createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}},
            "commitArtifact": {"artifact": {"id": name, "digest": "d"}},
            "useArtifact": {"artifact": artifact},
        }

    def _view(self, given: dict[str, Any]) -> dict[str, Any]:
        """Stores a page. As at W&B, only an id finds one that is there: without one there is another."""
        key = (given["type"], given["name"])
        number = len(self.views) if not given["id"] else int(given["id"].removeprefix("view-"))
        if not given["id"] and key in self.views:
            key = (given["type"], f"{given['name']}-{number}")
        self.views[key] = {**given, "id": f"view-{number}", "name": key[1]}
        return self.views[key]

    def _project(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {"id": view["id"], "name": view["name"]}
            for (kind, name), view in self.views.items()
            if (kind, name) == (given.get("type"), given.get("name"))
        ]
        tags = [each["tags"] for each in json.loads(given.get("filters") or "{}").get("$and", ())]
        shown = [run for run in self.runs.values() if set(tags) <= set(run.tags)]
        edges = [{"node": node} for node in nodes]
        return {"internalId": "p-7", "allViews": {"edges": edges}, "runCount": len(shown)}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("name") or given["id"].removeprefix("storage-")
        inserted = name not in self.runs
        run = self.runs.setdefault(name, OnlineRun(name))
        run.config.update(json.loads(given.get("config") or "{}"))
        run.tags = given.get("tags") or run.tags
        run.fields.update({key: value for key, value in given.items() if value is not None})
        return {"bucket": run.bucket(), "inserted": inserted}

    def stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[name]
        for file, part in (body.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"] if line]
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = lines
            elif file == "wandb-summary.json":
                run.summary.update(lines[-1])
        if body.get("complete"):
            run.state = "finished" if body.get("exitcode") == 0 else "failed"
        return {}


@contextmanager
def serving() -> Iterator[Server]:
    """Runs a server for the time of a block."""
    with served(Server()) as server:
        yield server
