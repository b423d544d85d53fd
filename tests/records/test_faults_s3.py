"""An S3 server that answers with errors, resets or nothing: the same answers as without, or a clean stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.records.conftest import SECRET, Shaky
from tests.records.faults import never, nth, onwards
from tests.records.test_faults import BEFORE, WORK
from xferlab.errors import StorageError
from xferlab.records.store import Store

pytestmark = pytest.mark.component


@pytest.fixture
def remote(shaky: tuple[Shaky, str], s3_uri: str) -> Iterator[tuple[Shaky, Store]]:
    """A server that works until it is told not to, and a storage there with one file."""
    app, _ = shaky
    store = Store.open(s3_uri)
    store.write("t/a", BEFORE)
    yield app, store
    app.tell(never)


MORE = {**WORK, "write large": lambda store: store.write("t/b", b"x" * (11 * 2**20))}
del MORE["set aside"]  # a move is a copy and a deletion: see `test_faults`


def contents(store: Store) -> dict[str, bytes | None]:
    return {name: store.read(name) for name, _ in store.walk("")}


@pytest.mark.parametrize("answer", ["500", "503", "lost"])
@pytest.mark.parametrize("work", MORE.values(), ids=MORE.keys())
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
    assert SECRET not in str(caught.value)
    app.tell(never)
    assert contents(store) == {"t/a": BEFORE}
    WORK[name](store)
