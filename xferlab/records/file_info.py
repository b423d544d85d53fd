"""What a look at a storage finds under a name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileInfo:
    """A file or a folder.

    Attributes:
        name: Its name in its folder.
        is_dir: Whether it is a folder.
        size: Bytes of a file.
        modified: When it was written, seconds since the epoch; 0 where that is not known.
    """

    name: str
    is_dir: bool
    size: int
    modified: float
