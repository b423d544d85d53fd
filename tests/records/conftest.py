"""Both kinds of storage, so that every test of the contract holds for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.records.faults import Fails, never
from xferlab.records.store import Store

SECRET = "t0p-s3cret"


SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
ANSWERS = {"500": ("500 Internal Server Error", b""), "503": ("503 Slow Down", SLOW_DOWN)}


@dataclass
class Shaky:
    """A WSGI application in front of the S3 server.

    Attributes:
        app: The server.
        fails: Whether the request of a number (from 1) fails.
        answer: What a failed one is answered with; `lost`: it is done, and its answer is a 500.
        num_requests: Requests so far.
    """

    app: Callable[..., Iterable[bytes]]
    fails: Fails = never
    answer: str = "500"
    num_requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, fails: Fails, answer: str = "500") -> None:
        self.fails, self.answer, self.num_requests = fails, answer, 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.num_requests += 1
            failed = self.fails(self.num_requests)
        if not failed:
            return self.app(environ, start)
        if self.answer == "lost":
            list(self.app(environ, lambda *arguments: None))
        status, body = ANSWERS.get(self.answer, ANSWERS["500"])
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture(scope="session")
def shaky() -> Iterator[tuple[Shaky, str]]:
    """An S3 server on loopback, which fails when it is told to; and its `host:port`."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Shaky(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield app, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def s3_server(shaky: tuple[Shaky, str]) -> str:
    """The `host:port` of an S3 server."""
    return shaky[1]


@pytest.fixture
def s3_uri(s3_server: str, request: pytest.FixtureRequest) -> str:
    """A prefix of its own for each test, with a key in the URI as users write it."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.nodeid)
    options = f"endpoint_override={s3_server}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    store = Store.open(f"s3://user:{SECRET}@bucket/{name}?{options}")
    store.filesystem.create_dir("bucket")
    return store.location


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.component)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return Store.open(tmp_path / "store" if request.param == "local" else request.getfixturevalue("s3_uri"))
