"""A chat on loopback that takes messages by POST, or misbehaves."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.tracking.serving import Closable, served

SECRET = "T0KEN/5ecretPath"


class Chat(Closable):
    """The server.

    Attributes:
        told: The messages that it took, with their paths.
        status: What it answers; 0 for nothing at all.
    """

    def __init__(self, status: int) -> None:
        super().__init__(_Handler)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.status = status

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [body for _, body in self.told]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path, body))
        if self.server.status == 0:
            self.server.closing.wait()
            return
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"{self.server.address}/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def chat(status: int = 200) -> Iterator[Chat]:
    """Runs a chat for the time of a block."""
    with served(Chat(status)) as server:
        yield server
