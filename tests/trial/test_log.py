"""What a trial's log takes from loggers and libraries, and what it does not."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

from xferlab.records.logs import LogFile, LogReader
from xferlab.records.store import Store
from xferlab.trial.log import captured

SHAREABLE, PRIVATE = {"shareable": True}, {"shareable": False}


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("sections", "told"), [([SHAREABLE], True), ([SHAREABLE, PRIVATE], False), ([{}], False)]
)
def test_loggers_are_told_and_of_private_data_only_the_kinds_of_warnings(
    local: Store,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sections: list[dict[str, Any]],
    told: bool,
) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # pytest has some, a worker has none
    shown: list[Any] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *given: shown.append(given))
    try:
        with captured(LogFile(local, "t", attempt=2), sections=sections):
            logging.getLogger("xferlab.trial").warning("no state is %s", "whole")
            logging.getLogger("xferlab.mirror").warning("stopped")
            logging.getLogger("xferlab.trial").info("a detail")
            warnings.warn("patient Jane Doe", stacklevel=1)
    finally:
        root.handlers = handlers
    lines = LogReader(local, "t").new_lines()
    assert [(line.level, line.source) for line in lines] == [
        ("WARNING", "worker"), ("WARNING", "W&B"), ("WARNING", "worker"),
    ]  # fmt: skip
    assert lines[0].text == "no state is whole"
    assert ("Jane Doe" in lines[2].text) == told
    assert lines[2].text.startswith("UserWarning")
    assert capfd.readouterr().err == "no state is whole\nstopped\n"
    assert [str(given[0]) for given in shown] == ["patient Jane Doe"]
    assert not logging.getLogger("xferlab").handlers
