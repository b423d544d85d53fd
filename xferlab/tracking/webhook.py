"""Messages to a team's chat: one POST each, within a time, without following redirects.

The address is a secret: whoever has it can post. It stands in an environment variable alone, and no message
of ours repeats it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT_S = 5.0
"""Longest wait for each answer of the server."""
_IN_SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class Notice:
    """Something that happened to a study, in words and numbers; without names of patients, files or hosts.

    Attributes:
        event: `end`, `failure` or `stall`.
        study: Name of the study.
        profile: Its profile; None without one.
        title: One line.
        text: What happened, and what to do.
        counts: Trials by state, such as `complete`.
        hours: Time since the run began.
    """

    event: str
    study: str
    profile: str | None
    title: str
    text: str
    counts: Mapping[str, int]
    hours: float

    def body(self, style: str) -> bytes:
        """Returns the message as JSON.

        Args:
            style: `slack` or `mattermost`: an object with `text`; `json`: all that is known, by name.
        """
        if style == "json":
            return json.dumps(asdict(self)).encode()
        bold = "**" if style == "mattermost" else "*"
        text = f"{bold}{self.title}{bold}\n{self.text}"
        if style == "slack":
            text = "".join(_IN_SLACK.get(letter, letter) for letter in text)
        return json.dumps({"text": text}).encode()


class _NoRedirect(HTTPRedirectHandler):
    """Refuses to be sent elsewhere: the answer of a wrong address is no place for a message."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follows nothing."""
        return


def is_address(text: str) -> bool:
    """Returns whether a text is an HTTP address."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
    except ValueError:
        return False


def post(address: str, body: bytes, *, timeout_s: float = TIMEOUT_S) -> str:
    """Sends a message; returns why it was not taken, without the address, or nothing.

    Args:
        address: An HTTP address, for which `is_address` holds.
        body: JSON.
        timeout_s: Longest wait for the connection, and for each part of the answer.
    """
    request = Request(address, data=body, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with build_opener(_NoRedirect).open(request, timeout=timeout_s):
            return ""
    except HTTPError as error:
        with error:
            return f"the server answered with status {error.code}"
    except (OSError, ValueError, HTTPException) as error:  # their texts may repeat the address
        return _reason(error)


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server did not answer in time"
    return (cause.strerror if isinstance(cause, OSError) else None) or type(cause).__name__
