"""Building tables of cases: one process decodes and the others wait; one that is killed leaves nothing."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from filelock import FileLock, Timeout

from xferlab.cohort import Case
from xferlab.data.case_table import PARTS, CasePixels, CaseTable, read_table, tables_in
from xferlab.data.memo import write_json
from xferlab.data.sources.source import Decoded, Source
from xferlab.errors import DataError, Problem
from xferlab.parallel import Progress, for_each

log = logging.getLogger("xferlab.data")


class Spool:
    """The files that cases are written to from any thread, in the order in which they are decoded.

    Rows are written, not copied into a map: there, a full disk would kill the process instead of raising.
    """

    def __init__(self, files: tuple[BinaryIO, BinaryIO]):
        """Takes empty files, open to write, for images and targets."""
        self._files, self._hashes = files, (hashlib.sha256(), hashlib.sha256())
        self._lock = Lock()
        self._digests: list[str] = []
        self._sizes: list[tuple[int, ...]] = []
        self._spacings: list[list[float]] = []
        self._channels = 0

    def put(self, digest: str, pixels: CasePixels) -> None:
        """Writes a case behind those that are there."""
        image, target, spacing = pixels
        with self._lock:
            for file, checksum, array in zip(self._files, self._hashes, (image, target), strict=True):
                data = array.tobytes()
                file.write(data)
                checksum.update(data)
            self._channels = len(image)
            self._digests.append(digest)
            self._sizes.append(target.shape)
            self._spacings.append(spacing.tolist())

    def index(self) -> dict[str, object]:
        """Forces the pixels to disk and returns what a table's index says of them."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        checksums = (checksum.hexdigest() for checksum in self._hashes)
        return {
            "digests": self._digests,
            "channels": self._channels,
            "sizes": self._sizes,
            "spacing_mm": self._spacings,
            "sha256": dict(zip(PARTS, checksums, strict=True)),
        }


@dataclass(frozen=True)
class Builder:
    """Builds the table of a section's cases.

    Attributes:
        folder: Where its files lie.
        pixels: What it keeps of a decoded case.
        source: Where the pixels come from.
        cases: All cases of the section, by digest.
    """

    folder: Path
    pixels: Callable[[Decoded], CasePixels]
    source: Source
    cases: tuple[Case, ...]

    @property
    def key(self) -> str:
        """The name of the table's files."""
        return hashlib.sha256("\n".join(case.digest for case in self.cases).encode()).hexdigest()[:24]

    def table(self, progress: Progress | None) -> CaseTable:
        """Returns the table, built here unless another process was faster."""
        index = self.folder / f"{self.key}.json"
        with FileLock(self.folder / f"{self.key}.lock"):
            built = read_table(index)
            if built is None:
                if index.exists():
                    log.warning("%s: does not have the bytes that were written; building it again", index)
                self._remove_leftovers()
                self._build(index, progress)
                built = read_table(index)
        if built is None:
            what = "what was just written there reads back as other bytes; see whether the disk is sound."
            raise DataError(Problem(str(index), what))
        return built

    def _build(self, index: Path, progress: Progress | None) -> None:
        """Writes the pixels and then the index, without which nobody reads them."""
        written = [index.with_suffix(f".{part}.tmp") for part in PARTS]
        try:
            with ExitStack() as stack:
                images, targets = (stack.enter_context(open(path, "wb")) for path in written)
                spool = Spool((images, targets))
                self._fill(spool, progress)
                content = spool.index()
            for path in written:
                os.replace(path, path.with_suffix(""))
            write_json(index, content)
        finally:
            for path in written:
                path.unlink(missing_ok=True)

    def _fill(self, spool: Spool, progress: Progress | None) -> None:
        """Writes the pixels of every case, which older tables may have."""
        wanted = {case.digest for case in self.cases}
        known: dict[str, CaseTable] = {}
        for table in tables_in(self.folder, lambda digests: not wanted.isdisjoint(digests)):
            known.update(dict.fromkeys(wanted.intersection(table.digests), table))

        def put(case: Case) -> tuple[Problem, ...]:
            try:
                table = known.get(case.digest)
                pixels = table.case(case.digest) if table else self.pixels(self.source.decode(case))
            except DataError as error:
                return error.problems
            spool.put(case.digest, pixels)
            return ()

        problems = [problem for found in for_each(self.cases, put, progress=progress) for problem in found]
        if problems:
            raise DataError(problems)

    def _remove_leftovers(self) -> None:
        """Removes what killed builders left: own files, and others' whose lock nobody holds."""
        for leftover in self.folder.glob("*.tmp"):
            key = leftover.name.partition(".")[0]
            if key == self.key:
                leftover.unlink(missing_ok=True)
                continue
            try:
                with FileLock(self.folder / f"{key}.lock", timeout=0):
                    leftover.unlink(missing_ok=True)
            except Timeout:
                continue
