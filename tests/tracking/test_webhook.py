"""Messages to a chat on this machine: what is sent, and what is said where it is not taken."""

from __future__ import annotations

import json
import time

import pytest

from tests.tracking.chat_server import SECRET, chat
from xferlab.tracking.webhook import Notice, is_address, post

NOTICE = Notice(
    "failure", "covid", "cpu", "covid (cpu): first failure", "a <b> & c", {"complete": 3, "failed": 1}, 1.5
)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("slack", "*covid (cpu): first failure*\na &lt;b&gt; &amp; c"),
        ("mattermost", "**covid (cpu): first failure**\na <b> & c"),
    ],
)
def test_chats_take_a_text(style: str, text: str) -> None:
    with chat() as server:
        assert post(server.address, NOTICE.body(style)) == ""
        assert server.told == [(f"/services/{SECRET}", {"text": text})]


def test_plain_json_holds_all_by_name() -> None:
    assert json.loads(NOTICE.body("json")) == {
        "event": "failure", "study": "covid", "profile": "cpu", "title": "covid (cpu): first failure",
        "text": "a <b> & c", "counts": {"complete": 3, "failed": 1}, "hours": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_a_refusal_is_told_without_the_address_and_no_redirect_is_followed(status: int) -> None:
    with chat(status) as server:
        assert post(server.address, b"{}") == f"the server answered with status {status}"
        assert len(server.told) == 1


def test_a_server_that_is_silent_costs_its_time_and_no_more() -> None:
    with chat(0) as server:
        begun = time.monotonic()
        assert post(server.address, b"{}", timeout_s=0.3) == "the server did not answer in time"
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "address",
    [
        f"http://127.0.0.1:9/{SECRET}",
        f"http://nowhere.invalid/{SECRET}",
        f"http://127.0.0.1:9/{SECRET} and more",
    ],
)
def test_what_is_not_there_is_told_without_the_address(address: str) -> None:
    said = post(address, b"{}", timeout_s=2.0)
    assert said
    assert SECRET not in said
    assert "http" not in said


def test_only_http_addresses_are_addresses() -> None:
    assert is_address("https://hooks.slack.com/services/T/B/x")
    for text in ("", "hooks.slack.com/x", "file:///etc/passwd", "http://", "ftp://a/b", "http://[a/b"):
        assert not is_address(text)
