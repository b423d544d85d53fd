"""What records may say to others: hosts get numbers, and of paths only the last part stays.

Only fields that hold places, hosts or messages change; notes, names and patterns stay as they are. Patients
and images need nothing here: records name them by pseudonyms, unless their section is `shareable`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any

PLACES = ("root", "storage", "path", "file", "table", "include")
"""Fields that name files and folders, wherever they stand."""
_MESSAGES = ("message", "warnings")
_ABSENT = {"entity": None, "traceback": ""}
"""Fields that say nothing to others: the account of a mirror, and where code lies."""
_URI = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://"
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[^\\/]+|~[^\\/]*")
_START = r"(?:~[\w.-]*[\\/]|\.\.?[\\/]|[A-Za-z]:[\\/]|\\\\(?=\w)|/(?=[^\s/]))"
"""How a path begins: ~/, ../, C:\\, \\\\server, /."""
_PART = r"[^\s\\/'\"`,;:()<>|]+"
_REST = rf"(?:(?!\s{_START})[^'\"`\n:;,()<>|])*"
"""What follows a folder, blanks included, up to the next path or mark."""
_QUOTED = re.compile(rf"(['\"`])({_START}(?:(?!\1)[^\n])*)(?=\1)")
_WHERE = re.compile(rf"(?:^|(?<=: ))()({_START}(?:(?!\s{_START})[^\n:])*)", re.MULTILINE)
_PATH = re.compile(
    rf"(?<![\w/\\.~-])()((?:(?:~[\w.-]*|\.\.?|[A-Za-z]:)[\\/]+|(?:\\\\|/){_PART}[\\/]+)(?:{_PART}[\\/]+)*"
    rf"(?:{_PART})?)"
)
_URIS = re.compile(rf"\b(?!(?i:https?):)({_URI})[^\s'\"`,;()<>|}}\]]+|(?<=://)[^\s/@]*@")
"""Buckets, with what may be a key; of a web page the user alone."""
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_MAYBE_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{2,45}(?![\w:])")


class Sharing:
    """What leaves with the records of a study."""

    def __init__(self, hosts: Iterable[str] = (), *, storage: str = "", folders: Iterable[str] = ()):
        """Numbers hosts in the order of their names, so that tables keep their order.

        Args:
            hosts: All names of hosts.
            storage: Where the records are, as messages tell it; a bucket has no `/` before it.
            folders: Folders and files that messages may name, such as the roots of the data.
        """
        names = sorted({host for host in hosts if host and " " not in host})
        digits = max(2, len(str(len(names))))
        self._numbers = {name: f"host-{number:0{digits}d}" for number, name in enumerate(names, start=1)}
        for name in names:
            if not name.replace(".", "").isdigit():  # the first part of an address is no name
                self._numbers.setdefault(name.partition(".")[0], self._numbers[name])
        self._hosts = _any_of(self._numbers, r"(?<![\w.-])({})(?:\.[A-Za-z][\w-]*)*(?![\w-])")
        self._storage = f"{storage.rstrip('/')}/" if storage else "\0"
        places = {place.rstrip("\\/") for place in (storage, *folders)}
        places = {place for place in places if last_part(place) != place}
        self._folders = _any_of(places, rf"(?<![\w.-])()((?:{{}})(?![\w-])(?:[\\/]{_REST})?)")

    def of(self, value: Any, field: str = "") -> Any:
        """Returns a JSON value whose places, hosts and messages may be told.

        Args:
            value: The value.
            field: Its name; of a dotted path, the last part decides.
        """
        if isinstance(value, Mapping):
            return {name: self.of(part, str(name).rpartition(".")[2]) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(part, field) for part in value]
        if not isinstance(value, str):
            return value
        if field in PLACES:
            return last_part(value)
        if field == "host":
            return self._numbers.get(value, value)
        return self.message(value) if field in _MESSAGES else _ABSENT.get(field, value)

    def message(self, text: str) -> str:
        """Returns a message without the names and addresses of hosts, and with the last parts of paths.

        An unknown path in the middle of a sentence, without quotes, is taken to end at a blank.
        """
        text = _URIS.sub(lambda found: f"{found[1]}..." if found[1] else "", text.replace(self._storage, ""))
        for paths in (_QUOTED, _WHERE, self._folders, _PATH):
            text = paths.sub(lambda found: found[1] + last_part(found[2]), text)
        text = self._hosts.sub(lambda found: self._numbers[found[1]], text)
        return _MAYBE_IPV6.sub(_without_address, _IPV4.sub("address", text))


def last_part(place: str) -> str:
    """Returns the last part of a path; of a home folder `~`, of a URI its scheme with `...`."""
    if scheme := re.match(_URI, place):
        return f"{scheme[0]}..."
    path = place.rstrip("\\/")
    return "~" if _HOME.fullmatch(path) else re.split(r"[\\/]", path)[-1] or place


def _any_of(words: Iterable[str], pattern: str) -> re.Pattern[str]:
    """Returns a pattern with the longest of some words at `{}`; without any, it never matches."""
    return re.compile(
        pattern.format("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)")
    )


def _without_address(found: re.Match[str]) -> str:
    text = found[0].rstrip(".")
    try:
        return f"address{found[0][len(text) :]}" if IPv6Address(text) and text.strip(":") else found[0]
    except ValueError:
        return found[0]
