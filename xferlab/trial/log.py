"""What loggers and libraries say while a trial runs goes into the trial's log, too; a failure is stored."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from xferlab.records.logs import MIRROR, WORKER, LogFile
from xferlab.trial.attempt import Attempt

_LOGGER = logging.getLogger("xferlab")
_MIRROR = "xferlab.mirror"


@contextmanager
def recorded(attempt: Attempt, *, sections: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Adds to the log of an attempt what is said meanwhile, as `captured` does, and stores what is raised."""
    with captured(attempt.log, sections=sections):
        try:
            yield
        except BaseException as error:
            attempt.failed(error)
            raise


@contextmanager
def captured(log: LogFile, *, sections: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """Adds to a log what the loggers of xferlab and Python's warnings say meanwhile; closes it at the end.

    They are printed as before.

    Args:
        log: Of the trial that runs in this process.
        sections: The configurations of the data that it reads. Unless all are `shareable`, only the kinds and
            places of warnings are told, since libraries quote what files say of patients.
    """
    handler, show = _Handler(log), warnings.showwarning
    are_shareable = all(section.get("shareable") is True for section in sections)

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        said = f": {message}" if are_shareable else ""
        log.add(f"{category.__name__}{said} ({filename}:{lineno})", level="WARNING")
        show(message, category, filename, lineno, file, line)

    _LOGGER.addHandler(handler)
    warnings.showwarning = showwarning
    try:
        yield
    finally:
        if warnings.showwarning is showwarning:
            warnings.showwarning = show
        _LOGGER.removeHandler(handler)
        log.close()


class _Handler(logging.Handler):
    def __init__(self, log: LogFile):
        super().__init__()
        self._log = log
        # Python prints warnings by itself as long as no logger has a handler; now there is one.
        self._printer = None if _LOGGER.hasHandlers() else logging.lastResort

    def emit(self, record: logging.LogRecord) -> None:
        source = MIRROR if record.name == _MIRROR else WORKER
        self._log.add(self.format(record), level=record.levelname, source=source)
        if self._printer and record.levelno >= self._printer.level:
            self._printer.handle(record)
