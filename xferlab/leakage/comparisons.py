"""Which cases of different patients show one exposure, remembered, so that a known set compares nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xferlab.cohort import Case
from xferlab.data.memo import read_json, write_json
from xferlab.data.sources.source import Source
from xferlab.errors import DataError
from xferlab.leakage.image_matching import DETAIL, find_pairs, is_flat
from xferlab.leakage.thumbnails import Thumbnail, Thumbnails, digest_of
from xferlab.parallel import Progress

VERSION = 2
"""Raised when other pairs are found or thumbnails change; part of the name of the folder.

Thumbnails of version 1 may be of other bytes than their case's digest says.
"""


class Member(NamedTuple):
    """A case under a patient; two sections may hold one image under two."""

    digest: str
    patient: str

    @property
    def key(self) -> str:
        """What stands for it in the memo, which names no patient."""
        return hashlib.sha256("\x1f".join(self).encode()).hexdigest()[:24]


Places = Mapping[Member, tuple[Source, Case]]


@dataclass(frozen=True)
class Likeness:
    """Two cases of different patients that correlate once they are aligned.

    Attributes:
        first: One.
        second: The other.
        correlation: Of the aligned thumbnails.
        detail: Of their detail.
    """

    first: Member
    second: Member
    correlation: float
    detail: float

    @property
    def one_exposure(self) -> bool:
        """Whether the detail agrees, too."""
        return self.detail >= DETAIL


class _Found(NamedTuple):
    """A remembered comparison of some members, each with each: (first, second, correlation, detail)."""

    members: Set[str]
    pairs: tuple[tuple[str, str, float, float], ...]

    def among(self, members: Set[str]) -> _Found:
        both = tuple(pair for pair in self.pairs if pair[0] in members and pair[1] in members)
        return _Found(self.members & members, both)


def compare(
    places: Places, *, memo_dir: Path, progress: Progress | None = None
) -> tuple[list[Likeness], dict[str, DataError]]:
    """Returns all pairs of cases of different patients that correlate once they are aligned.

    Also returns, by case digest, why cases cannot be compared: their image or mask cannot be used.

    Args:
        places: Where each member is decoded.
        memo_dir: Where digests of known files are kept.
        progress: Told (done, all) while new images are decoded.
    """
    folder = memo_dir / f"thumbnails-{VERSION}"
    members = {member.key: member for member in sorted(places)}
    found = _read(_path(folder, members.keys()))
    failures: dict[str, DataError] = {}
    if found is None:
        cases = {member.digest: place for member, place in places.items()}
        thumbnails, failures = Thumbnails(folder).of(cases, progress)
        seen = {key: member for key, member in members.items() if member.digest in thumbnails}
        found = _extended(_most_like(folder, seen.keys()), seen, thumbnails)
        # Under the name of those that could be decoded: the others are tried again.
        content = {"members": sorted(found.members), "pairs": found.pairs}
        with suppress(OSError):  # a folder that cannot be written costs time later, no more
            write_json(_path(folder, found.members), content)
    pairs = [Likeness(members[one], members[other], *figures) for one, other, *figures in found.pairs]
    return pairs, failures


def _extended(before: _Found, seen: Mapping[str, Member], thumbnails: Mapping[str, Thumbnail]) -> _Found:
    """What is found among all that were seen, of which some were compared before."""
    shown = [(key, one) for key, one in seen.items() if not is_flat(thumbnails[one.digest])]
    pairs = list(before.pairs)
    if len(shown) > 1:
        _, patients = np.unique([member.patient for _, member in shown], return_inverse=True)
        fresh = np.array([key not in before.members for key, _ in shown])
        pixels = np.stack([thumbnails[member.digest] for _, member in shown])
        pairs += [
            (shown[pair.first][0], shown[pair.second][0], pair.correlation, pair.detail)
            for pair in find_pairs(pixels, patients, fresh)
        ]
    return _Found(frozenset(seen), tuple(sorted(pairs)))


def _most_like(folder: Path, members: Set[str]) -> _Found:
    """The remembered comparison that shares most members with these, without its others."""
    shared = [found.among(members) for found in _all(folder)]
    return max(shared, key=lambda found: len(found.members), default=_Found(frozenset(), ()))


def _all(folder: Path) -> Iterator[_Found]:
    for path in sorted(folder.glob("*.json")):
        found = _read(path)
        if found is not None:
            yield found


def _path(folder: Path, members: Set[str]) -> Path:
    return folder / f"{digest_of(sorted(members))}.json"


def _read(path: Path) -> _Found | None:
    """A file that is torn or altered is as good as none: it is written again."""
    try:
        content = read_json(path)
        pairs = tuple((str(a), str(b), float(whole), float(fine)) for a, b, whole, fine in content["pairs"])
        found = _Found(frozenset(content["members"]), pairs)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if path == _path(path.parent, found.members) else None
