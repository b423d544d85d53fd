"""Files that a user names on the command line: written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from xferlab.cli.output import has_document
from xferlab.errors import UsageError, utf8
from xferlab.records.local import write_whole


def write_file(path: str | Path, text: str, *, shown: str = "", private: bool = False) -> None:
    """Writes a file (UTF-8) with the folders that lead to it; where that fails, an earlier one stays.

    What is there and no regular file, such as a pipe or `/dev/stdout`, is written to as it is.

    Args:
        path: The file; a link stays, and what it leads to is replaced.
        text: What it is to hold.
        shown: How messages name it; default: its path.
        private: Whether only its user may read it.

    Raises:
        UsageError: It cannot be written, its text is no UTF-8, or it is standard output and that has a JSON
            document.
    """
    if has_document() and _is_standard_output(path):
        raise UsageError(
            f"{shown or path}: standard output has the document of --json alone; name another file"
        )
    data = utf8(text, shown=shown or str(path))
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            Path(path).write_bytes(data)
            return
        write_whole(os.path.realpath(path), data, mode=0o600 if private else 0o666)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{shown or path}: cannot be written: a part of its path is a file; name another file"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{shown or path}: cannot be written: {error.strerror}; free space or give access there, or name "
            "another file"
        ) from error


def _is_standard_output(path: str | Path) -> bool:
    try:
        there = os.stat(path)
        return os.path.samestat(there, os.fstat(1)) and not os.path.samestat(there, os.stat(os.devnull))
    except OSError:
        return False
