"""Files that a table names: which of them lie outside of its folder, and what an absent one may be called."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from xferlab.data.sources.patients import alike


def outside(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns name -> where it lies, for files that links lead out of the folder.

    Args:
        root: The folder; may itself be reached by a link.
        names: Paths below it that exist.
    """
    home = os.path.realpath(root)
    folders: dict[str, bool] = {}
    found = {}
    for name in dict.fromkeys(names):
        folder = posixpath.dirname(name)
        if folder not in folders:
            folders[folder] = _within(os.path.realpath(os.path.join(root, folder)), home)
        path = os.path.join(root, name)
        if not folders[folder] or os.path.islink(path):
            target = os.path.realpath(path)
            if not _within(target, home):
                found[name] = target
    return found


class Nearest:
    """Finds names that differ from an absent one in case, blanks or composed characters only."""

    def __init__(self, root: Path):
        self._root = root
        self._names = lru_cache(self._list)

    def hint(self, name: str) -> str:
        """Returns ` Did you mean 'x'?` for the file that the name may mean, or an empty string."""
        folder, _, last = name.rpartition("/")
        near = self._names(folder).get(alike(last))
        return f" Did you mean {posixpath.join(folder, near)!r}?" if near and near != last else ""

    def _list(self, folder: str) -> dict[str, str]:
        try:
            return {alike(name): name for name in sorted(os.listdir(self._root / folder))}
        except (OSError, ValueError):
            return {}


def _within(path: str, home: str) -> bool:
    return path == home or path.startswith(home.rstrip(os.sep) + os.sep)
