"""Pages of a dashboard, made and sent by a process of their own, within a time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xferlab.errors import StorageError, UsageError
from xferlab.tracking.dashboard import Dashboard
from xferlab.tracking.pipe import environment, last_words

TIMEOUT_S = 90.0
"""Longest wait for W&B to take both pages."""
LIBRARY = "wandb_workspaces"
_NO_KEY = "no api key"


def publish(
    dashboard: Dashboard, where: Mapping[str, str | None], *, directory: Path, send: bool = True
) -> dict[str, Any]:
    """Makes the pages of a dashboard, and sends them.

    Args:
        dashboard: What they show.
        where: `entity` and `project`; without an entity, that of the account.
        directory: Local folder of the W&B files.
        send: Whether they are sent; else they are only made, which takes neither a key nor a connection.

    Returns:
        `pages`: what W&B would get, each with `kind`, `title` and `spec`; and if they are sent, `sent`: each
        with `kind`, `url`, and whether one that was there was `replaced`.

    Raises:
        UsageError: `wandb-workspaces` is not installed, or there is no key.
        StorageError: W&B did not take them.
    """
    if importlib.util.find_spec(LIBRARY) is None:
        raise UsageError(
            "`xferlab dashboard` draws its pages with wandb-workspaces, which is not installed. Install it: "
            "pip install 'xferlab[dashboard]', or pip install wandb-workspaces"
        )
    order = {"dashboard": asdict(dashboard), **where, "send": send}
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "xferlab.tracking.dashboard_pages"],
                input=json.dumps(order).encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**environment(directory), "WANDB_SILENT": "true"},
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _not_taken(f"no answer in {TIMEOUT_S:g} s") from None
        if done.returncode:
            raise _not_taken(last_words(errors) or f"its process ended with code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _not_taken(reason: str) -> UsageError | StorageError:
    if _NO_KEY in reason.lower():
        return UsageError(
            "W&B knows no key here: `wandb login`, or set WANDB_API_KEY. Without a connection, "
            "`--output FILE` writes what would be sent"
        )
    return StorageError(
        f"W&B did not take the pages: {reason}. Nothing of the study is lost: fix that (network, key, "
        "project) and call it again, or write what would be sent with `--output FILE`"
    )
