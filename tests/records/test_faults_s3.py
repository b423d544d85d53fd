"""An S3 server that answers with errors, resets or nothing: the same answers as without, or a clean stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.records.faults import Fails, never, nth, onwards
from xferlab.errors import StorageError
from xferlab.records.store import Store

pytestmark = pytest.mark.component

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
ANSWERS = {"500": ("500 Internal Server Error", b""), "503": ("503 Slow Down", SLOW_DOWN)}
BEFORE, AFTER = b"before" * 50, b"after" * 70


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


@pytest.fixture(scope="module")
def shaky() -> Iterator[tuple[Shaky, str]]:
    """The server and its `host:port`."""
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


@pytest.fixture
def remote(shaky: tuple[Shaky, str], request: pytest.FixtureRequest) -> Iterator[tuple[Shaky, Store]]:
    """A server that works until it is told not to, and a storage there with one file."""
    app, address = shaky
    app.tell(never)
    options = f"endpoint_override={address}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    store = Store.open(f"s3://user:key@bucket/{name}?{options}")
    store.filesystem.create_dir("bucket")
    store.write("t/a", BEFORE)
    yield app, store
    app.tell(never)


WORK: dict[str, Callable[[Store], Any]] = {
    "read": lambda store: store.read("t/a"),
    "size": lambda store: store.size("t/a"),
    "write": lambda store: store.write("t/a", AFTER),
    "write large": lambda store: store.write("t/b", b"x" * (11 * 2**20)),
    "create": lambda store: store.create("t/c", AFTER),
    "create again": lambda store: store.create("t/a", AFTER),
    "list": lambda store: store.list("t"),
    "delete": lambda store: store.delete("t/a"),
    "delete dir": lambda store: store.delete_dir("t"),
}


def contents(store: Store) -> dict[str, bytes | None]:
    return {name: store.read(name) for name, _ in store.walk("")}


@pytest.mark.parametrize("answer", ["500", "503", "lost"])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_an_error_that_passes_changes_nothing_at_whichever_request(
    remote: tuple[Shaky, Store], work: Callable[[Store], Any], answer: str
) -> None:
    app, store = remote
    app.tell(never)
    expected = work(store)
    total, after = app.num_requests, contents(store)
    assert total
    for number in range(1, total + 1):
        app.tell(never)
        store.delete_dir("t")
        store.write("t/a", BEFORE)
        app.tell(nth(number), answer)
        assert work(store) == expected
        assert app.num_requests > total
        app.tell(never)
        assert contents(store) == after


@pytest.mark.slow  # pyarrow tries for 6 s
@pytest.mark.parametrize("name", ["read", "write", "list", "delete", "create"])
def test_an_error_that_stays_is_told_and_changes_nothing(remote: tuple[Shaky, Store], name: str) -> None:
    app, store = remote
    app.tell(onwards(1), "503")
    with pytest.raises(StorageError, match=r"/t.*: cannot be .*(SLOW_DOWN|HTTP status 503)") as caught:
        WORK[name](store)
    assert "key@" not in str(caught.value)
    app.tell(never)
    assert contents(store) == {"t/a": BEFORE}
    WORK[name](store)
