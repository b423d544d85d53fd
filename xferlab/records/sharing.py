"""What records may say to others: hosts get numbers, and of paths only the last part stays.

Patients and images need nothing here: records name them by pseudonyms, unless their section is `shareable`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

_HOMES = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]Users)[\\/][^\s\\/'\"`,;:()<>|]+")
_PART = r"[^\s\\/'\"`,;:()<>|]+"
_FOLDERS = re.compile(
    rf"(?:(?<![\w/\\.~:)])(?:~[\w.-]*|[A-Za-z]:)?[\\/](?:{_PART}[\\/])+"  # /data/set/, ~/set/, C:\set\
    rf"|(?<![\w/\\.])~[\w.-]*[\\/])"
)
_URIS = re.compile(r"\b(?!https?:)([a-z][a-z0-9+.-]*://)[^\s'\"`,;()<>|}\]]+|(?<=://)[^\s/@]*@")
"""Buckets, with what may be a key; of a web page the user alone."""
_ENTITY = re.compile(r"\bentity\s*:\s*[^\s,}#]+")


class Sharing:
    """What leaves with the records of a study."""

    def __init__(self, hosts: Iterable[str] = (), *, storage: str = ""):
        """Numbers hosts in the order of their names, so that tables keep their order.

        Args:
            hosts: All names of hosts.
            storage: Where the records are, as messages tell it; a bucket has no `/` before it.
        """
        names = sorted({host for host in hosts if host and " " not in host})
        digits = max(2, len(str(len(names))))
        self.hosts = {name: f"host-{number:0{digits}d}" for number, name in enumerate(names, start=1)}
        words = "|".join(map(re.escape, sorted(self.hosts, key=len, reverse=True)))
        self._hosts = re.compile(rf"(?<![\w.-])(?:{words})(?![\w-])") if words else None
        self._storage = f"{storage.rstrip('/')}/" if storage else "\0"

    def of(self, value: Any) -> Any:
        """Returns a JSON value whose texts name no host and no folder."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {name: self.of(part) for name, part in value.items()}
        return [self.of(part) for part in value] if isinstance(value, list | tuple) else value

    def _text(self, text: str) -> str:
        text = without_folders(text.replace(self._storage, ""))
        return self._hosts.sub(lambda found: self.hosts[found[0]], text) if self._hosts else text


def without_folders(text: str) -> str:
    """Returns a text in which paths have lost their folders, and home folders the names of their users."""
    if text.startswith(("/", "~/")) and not re.search(
        r"[\n:]", text
    ):  # nothing but a path, maybe with spaces
        return "~" if _HOMES.fullmatch(text) else PurePosixPath(text).name or text
    return _places(text)


def of_study_file(text: str) -> str:
    """Returns a study file without folders, without buckets, and without the account of its mirror."""
    return _ENTITY.sub("entity: null", _places(text))


def _places(text: str) -> str:
    uris = _URIS.sub(lambda found: f"{found[1]}..." if found[1] else "", text)
    return _FOLDERS.sub("", _HOMES.sub("~", uris))
