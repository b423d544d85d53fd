"""Which cases of different patients show one exposure; known cases are not compared again."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xferlab.cohort import Case
from xferlab.data.memo import read_json, write_json, write_whole
from xferlab.data.sources.source import Source
from xferlab.errors import DataError, FileUnavailableError, attempt
from xferlab.leakage.image_matching import Pair, find_pairs
from xferlab.leakage.thumbnails import Grey, is_black, thumbnail
from xferlab.parallel import Progress, for_each

VERSION = 5
"""Raised when other pairs are found, or thumbnails or their files change; part of the name of the folder.

Thumbnails of version 1 may be of other bytes than their case's digest says; version 2 had many in a file;
those of version 3 are smaller and have borders; version 4 aligned more pairs that look alike. A folder of an
older version is not read and may be deleted: all images are decoded and compared once more.
"""

_TORN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Member(NamedTuple):
    """A case under a patient; two sections may hold one image under two."""

    digest: str
    patient: str

    @property
    def key(self) -> str:
        """What stands for it in the memo, which names no patient."""
        return _short_digest("\x1f".join(self))


Members = Mapping[Member, tuple[Source, Case]]
"""Each member, and where it is decoded."""


class _Comparison(NamedTuple):
    """A remembered comparison of some members, each with each, by their keys."""

    members: Set[str]
    pairs: tuple[Pair[str], ...]

    def among(self, members: Set[str]) -> _Comparison:
        both = tuple(pair for pair in self.pairs if pair.first in members and pair.second in members)
        return _Comparison(self.members & members, both)


def compare(
    members: Members, *, memo_dir: Path, progress: Progress | None = None
) -> tuple[list[Pair[Member]], dict[str, DataError]]:
    """Returns all pairs of cases of different patients that agree in detail once they are aligned.

    Also returns, by case digest, why cases cannot be compared: their image or mask cannot be used.

    Args:
        members: What to compare.
        memo_dir: Where digests of known files are kept.
        progress: Called while new images are decoded.
    """
    folder = memo_dir / f"thumbnails-{VERSION}"
    by_key = {member.key: member for member in sorted(members)}
    comparison = _read(_path(folder, by_key.keys()))
    failures: dict[str, DataError] = {}
    if comparison is None:
        cases = {member.digest: source_and_case for member, source_and_case in members.items()}
        pixels, failures = _thumbnails(folder, cases, progress)
        seen = {key: member for key, member in by_key.items() if member.digest in pixels}
        comparison = _extended(_most_similar(folder, seen.keys()), seen, pixels)
        content = {"members": sorted(comparison.members), "pairs": comparison.pairs}
        with suppress(OSError):  # a folder that cannot be written costs time later, no more
            # Under the name of those that could be decoded: the others are tried again.
            write_json(_path(folder, comparison.members), content)
    return [Pair(by_key[a], by_key[b], *figures) for a, b, *figures in comparison.pairs], failures


def _extended(before: _Comparison, seen: Mapping[str, Member], pixels: Mapping[str, Grey]) -> _Comparison:
    """The pairs among all that were seen, of which some were compared before."""
    shown = {key: member for key, member in seen.items() if not is_black(pixels[member.digest])}
    pairs = list(before.pairs)
    keys = list(shown)
    fresh = np.array([key not in before.members for key in keys])
    if fresh.any():
        _, patients = np.unique([member.patient for member in shown.values()], return_inverse=True)
        rows = find_pairs([pixels[member.digest] for member in shown.values()], patients, fresh)
        pairs += [Pair(keys[first], keys[second], *figures) for first, second, *figures in rows]
    return _Comparison(frozenset(seen), tuple(sorted(pairs)))


def _most_similar(folder: Path, members: Set[str]) -> _Comparison:
    """The remembered comparison that shares most members with these, without its others."""
    known = [_read(path) for path in sorted(folder.glob("*.json"))]
    shared = (comparison.among(members) for comparison in known if comparison is not None)
    return max(shared, key=lambda comparison: len(comparison.members), default=_Comparison(frozenset(), ()))


def _path(folder: Path, members: Set[str]) -> Path:
    return folder / f"{_short_digest(*sorted(members))}.json"


def _read(path: Path) -> _Comparison | None:
    """A file that is torn or altered is as good as none: it is written again."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        content = read_json(path)
        members, pairs = frozenset(content["members"]), tuple(Pair(*pair) for pair in content["pairs"])
        if path == _path(path.parent, members):  # else it lies under the name of other cases
            return _Comparison(members, pairs)
    return None


def _short_digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:24]


def _thumbnails(
    folder: Path, cases: Mapping[str, tuple[Source, Case]], progress: Progress | None = None
) -> tuple[dict[str, Grey], dict[str, DataError]]:
    """Returns the thumbnails of cases, and why others have none: their image or mask cannot be used.

    A thumbnail is of the image's first channel, in a file that is written once, whole. Cases without one are
    decoded again each time, since another version of a package may read them.

    Args:
        folder: Where they are kept.
        cases: Case digest -> where it is decoded.
        progress: Called while new images are decoded.
    """
    digests = list(cases)
    results = dict(zip(digests, for_each(digests, partial(_stored, folder)), strict=True))
    new = [digest for digest, thumbnail in results.items() if thumbnail is None]
    drawn = for_each(new, lambda digest: _drawn(folder, *cases[digest]), progress=progress)
    results |= dict(zip(new, drawn, strict=True))
    failures = {digest: result for digest, result in results.items() if isinstance(result, DataError)}
    return {digest: result for digest, result in results.items() if isinstance(result, np.ndarray)}, failures


def _stored(folder: Path, digest: str) -> Grey | DataError | None:
    with suppress(*_TORN), open(_thumbnail_path(folder, digest), "rb") as opened, np.load(opened) as file:
        pixels: Grey = file["pixels"]
        return pixels
    return None


def _drawn(folder: Path, source: Source, case: Case) -> Grey | DataError:
    decoded = attempt(source.decode, case)
    if isinstance(decoded, FileUnavailableError):
        raise decoded  # another day it can be read: the splits must not depend on the day
    if isinstance(decoded, DataError):
        return decoded
    pixels = thumbnail(np.ascontiguousarray(np.atleast_3d(decoded.image)[..., 0]))
    with suppress(OSError):  # a folder that cannot be written costs time later, no more
        write_whole(_thumbnail_path(folder, case.digest), lambda file: np.savez(file, pixels=pixels))
    return pixels


def _thumbnail_path(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.npz"
