"""Both kinds of storage, so that every test of the contract holds for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xferlab.records.store import Store

SECRET = "t0p-s3cret"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server on loopback; gives `host:port`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3_server: str, request: pytest.FixtureRequest) -> str:
    """A prefix of its own for each test, with a key in the URI as users write it."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    options = f"endpoint_override={s3_server}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    store = Store.open(f"s3://user:{SECRET}@bucket/{name}?{options}")
    store.filesystem.create_dir("bucket")
    return store.location


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.component)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return Store.open(tmp_path / "store" if request.param == "local" else request.getfixturevalue("s3_uri"))
