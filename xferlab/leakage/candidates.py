"""Which images may show one exposure: those that share several features at places that agree.

The description of a feature is turned into short codes: on which sides of some planes it lies
(locality-sensitive hashing, Charikar 2002). Equal codes are looked up in sorted lists, so no image is
compared with all others. Each pair of features with a code in common votes for a turn, a size and a shift of
one image against the other (generalised Hough transform, Ballard 1981). Whether a pair of images is a
candidate depends on no third image, unless more than `CROWD` features have a code in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xferlab.leakage.features import MEAN, NUM_WAVES, SPREAD, TURNS, Features, Floats, Turn, Whole, features
from xferlab.leakage.thumbnails import SIDE_PX, Grey
from xferlab.parallel import for_each

MIN_VOTES = 6
"""Features that must agree, of `features.MOST`."""
CROWD = 512
"""A code that more features than these have tells nobody apart: it is left out."""
SHRINKS = tuple(2 ** (step / 6) for step in range(7))
"""An image is searched for in others as it is, and shrunk by these factors, to half its size."""

_BITS, _TABLES, _CHUNK = 28, 5, 32
_CELL_PX, _CELLS, _SAME = 12, 32, 0.03
_MIXES, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(64 - 18)
_WAYS = (len(SHRINKS), len(TURNS), 2, 4, _CELLS, _CELLS)
"""What a vote is for: a size, a turn, a sign, a grid of cells, and the cell of the shift."""


class Candidate(NamedTuple):
    """How an image may lie in another.

    Attributes:
        moving: Row of the image that is brought to a size, turned and shifted.
        still: Row of the other.
        size: Number of the size in `sizes_of` the moving one.
        turn: Number of the turn in `TURNS`.
        sign: -1 for a negative, else 1.
        x: Pixels from the centre of the still image to that of the moving one, to the right.
        y: The same, down.
        votes: Features that agree.
        square: Whether both images are stretched to a square before.
    """

    moving: int
    still: int
    size: int
    turn: int
    sign: int
    x: float
    y: float
    votes: int
    square: bool


def best_ways(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns the candidate of each pair of rows that has most votes; the first one of several."""
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in candidates:
        pair = min(candidate[:2]), max(candidate[:2])
        if pair not in best or candidate.votes > best[pair].votes:
            best[pair] = candidate
    return [best[pair] for pair in sorted(best)]


class _Described(NamedTuple):
    """Features of several images, at one or more sizes."""

    image: Whole
    size: Whole
    x: Floats
    y: Floats
    sign: Floats
    waves: Floats


Codes = NDArray[np.int32]


class _Votes(NamedTuple):
    """Features with a code in common: of which table row, of which feature of the index, after which turn."""

    asked: Whole
    hit: Codes
    turn: Whole


class _Lists(NamedTuple):
    """The features of each code: those of `codes[n]` are `features[starts[n] : starts[n + 1]]`.

    The last code is none.
    """

    codes: Codes
    starts: Whole
    features: Codes

    @classmethod
    def of(cls, codes: Codes) -> _Lists:
        features = np.argsort(codes, kind="stable").astype(np.int32)
        known, starts = np.unique(codes[features], return_index=True)
        return cls(np.append(known, np.int32(-1)), np.append(starts, len(codes)), features)

    def looked_up(self, wanted: Codes) -> tuple[Whole, Codes]:
        """Each pair of a row of the wanted codes and a feature with that code."""
        order = np.argsort(wanted)  # neighbours in the list are near in memory
        place = np.searchsorted(self.codes[:-1], wanted[order])
        known = self.codes[place] == wanted[order]
        order, place = order[known], place[known]
        start, lengths = self.starts[place], self.starts[place + 1] - self.starts[place]
        lengths[lengths > CROWD] = 0
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(order, lengths), self.features[within + np.repeat(start, lengths)]


def sizes_of(shape: Sequence[int], *, square: bool) -> list[tuple[int, int]]:
    """Returns the sizes at which an image is searched for; the first one is that at which it is found.

    Args:
        shape: Of its thumbnail.
        square: Whether images are stretched to a square, to find those that were stretched.
    """
    height, width = shape
    if square:
        return [(SIDE_PX, SIDE_PX)]
    return [(round(height / by), round(width / by)) for by in SHRINKS]


def stretched(images: Sequence[Grey]) -> NDArray[np.intp]:
    """Returns the rows of images to stretch to a square: there are others of other proportions."""
    own = _proportions(images)
    return np.flatnonzero(_differ(own, own.min()) | _differ(own, own.max()))


def _proportions(images: Sequence[Grey]) -> NDArray[np.float64]:
    return np.array([width / height for height, width in (image.shape for image in images)])


def _differ(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether proportions differ so much that the images are stretched to be compared."""
    differ: NDArray[np.bool_] = np.abs(np.log(first / second)) > _SAME
    return differ


class Index:
    """The features of images by their codes."""

    def __init__(
        self,
        images: Sequence[Grey],
        groups: NDArray[np.integer],
        fresh: NDArray[np.bool_],
        *,
        square: bool = False,
    ):
        """Describes images.

        Args:
            images: Thumbnails.
            groups: Number of each row's patient; rows of one patient are not compared.
            fresh: Rows to compare with all; two rows that are not fresh were compared before.
            square: Compares images of different proportions, all stretched to a square.
        """
        self._images, self._groups, self._fresh, self._square = images, groups, fresh, square
        self._proportions = _proportions(images)
        parts, codes = zip(*for_each(_chunks(len(images)), self._coded), strict=True)
        self._all = _joined(parts)
        self._lists = [_Lists.of(np.concatenate(column)) for column in zip(*codes, strict=True)]

    def candidates(self) -> list[Candidate]:
        """Returns the best candidate of each pair of rows."""
        chunks = for_each(_chunks(len(self._images)), lambda rows: list(self._of(rows)))
        return best_ways([candidate for chunk in chunks for candidate in chunk])

    def _coded(self, rows: NDArray[np.intp]) -> tuple[_Described, list[Codes]]:
        """The features of images as they are, without their waves, and the codes of these."""
        described = self._described(rows, whole=True)
        return described._replace(waves=described.waves[:, :0]), _codes(described.waves, TURNS[0])

    def _described(self, rows: NDArray[np.intp], *, whole: bool = False) -> _Described:
        parts = []
        for row in rows:
            image = self._images[row]
            sizes = sizes_of(image.shape, square=self._square)[: 1 if whole else None]
            parts += [_one(row, number, features(image, size)) for number, size in enumerate(sizes)]
        return _joined(parts)

    def _of(self, rows: NDArray[np.intp]) -> Iterator[Candidate]:
        """Yields the candidates of which a row is the moving image."""
        table = self._described(rows)
        turns = [self._votes(table, number) for number in range(len(TURNS))]
        return self._elected(table, _Votes(*(np.concatenate(values) for values in zip(*turns, strict=True))))

    def _votes(self, table: _Described, turn: int) -> _Votes:
        """The votes for a turn, of pairs of images that have enough of them."""
        codes = _codes(table.waves, TURNS[turn])
        looked_up = [lists.looked_up(wanted) for lists, wanted in zip(self._lists, codes, strict=True)]
        asked, hit = (np.concatenate(values) for values in zip(*looked_up, strict=True))
        pairs = table.image[asked] % _CHUNK * len(self._images) + self._all.image[hit]
        kept = _perhaps_frequent(pairs)
        kept = kept[self._compared(table.image[asked[kept]], self._all.image[hit[kept]])]
        kept = kept[_frequent(pairs[kept])]
        return _Votes(asked[kept], hit[kept], np.full(len(kept), turn))

    def _compared(self, moving: Whole, still: Whole) -> NDArray[np.bool_]:
        compared: NDArray[np.bool_] = self._groups[moving] != self._groups[still]
        if not self._fresh.all():
            compared &= self._fresh[moving] | self._fresh[still]
        if self._square:
            compared &= _differ(self._proportions[moving], self._proportions[still])
        return compared

    def _elected(self, table: _Described, votes: _Votes) -> Iterator[Candidate]:
        """Yields the way with most votes of each pair of images that has enough."""
        across, down = np.zeros((2, len(votes.asked)), np.float32)
        for number, turn in enumerate(TURNS):
            here = votes.turn == number
            asked = votes.asked[here]
            across[here], down[here] = turn.places(table.x[asked], table.y[asked])
        shifts = np.stack([self._all.x[votes.hit] - across, self._all.y[votes.hit] - down])
        cells, numbers, sums = _tally(self._ways(table, votes, shifts), votes, shifts)
        pairs = cells // np.prod(_WAYS)
        order = np.lexsort((-cells, numbers, pairs))
        best = order[np.append(pairs[order][1:] != pairs[order][:-1], True)] if len(order) else order
        for cell in best:
            pair, size, turn, sign = np.unravel_index(cells[cell], (1 << 40, *_WAYS))[:4]
            moving, still = divmod(int(pair), len(self._images))
            x, y = (float(total / numbers[cell]) for total in sums[:, cell])
            way = int(size), int(turn), 2 * int(sign) - 1
            yield Candidate(moving, still, *way, x=x, y=y, votes=int(numbers[cell]), square=self._square)

    def _ways(self, table: _Described, votes: _Votes, shifts: Floats) -> Whole:
        """The cells that votes are for, one in each of four overlapping grids, `(4, N)`."""
        pair = table.image[votes.asked] * len(self._images) + self._all.image[votes.hit]
        positive = table.sign[votes.asked] == self._all.sign[votes.hit]
        grids = np.arange(4)[:, None]
        column, row = (
            np.floor(shift / _CELL_PX + half / 2).astype(np.int64) + _CELLS // 2
            for shift, half in zip(shifts, (grids % 2, grids // 2), strict=True)
        )
        way = np.ravel_multi_index((table.size[votes.asked], votes.turn, positive.astype(int)), _WAYS[:3])
        cells: Whole = (((pair * np.prod(_WAYS[:3]) + way) * 4 + grids) * _CELLS + column) * _CELLS + row
        return cells


def _frequent(numbers: Whole) -> NDArray[np.intp]:
    """The places of numbers that stand there `MIN_VOTES` times or more."""
    _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[which] >= MIN_VOTES)


def _perhaps_frequent(numbers: Whole) -> NDArray[np.intp]:
    """The places of those numbers, and of some others: sooner told, and most stand there once or twice."""
    slots = (numbers.view(np.uint64) * _MIXES >> _SHIFT).view(np.int64)  # by their product with a constant
    return np.flatnonzero(np.bincount(slots)[slots] >= MIN_VOTES)


def _tally(cells: Whole, votes: _Votes, shifts: Floats) -> tuple[Whole, Whole, Floats]:
    """The cells with enough votes, their votes, and the sums of their shifts.

    A feature of either image has one vote in each cell, whatever its codes have in common with the others.
    """
    ballots, voters = cells.ravel(), np.arange(cells.size) % len(votes.asked)
    rows = _perhaps_frequent(ballots)
    rows = rows[_first_of_each(ballots[rows], votes.hit[voters[rows]])]
    rows = rows[_first_of_each(ballots[rows], votes.asked[voters[rows]])]
    found, start, numbers = np.unique(ballots[rows], return_index=True, return_counts=True)
    if not len(found):
        return found, numbers, np.zeros((2, 0), np.float32)
    sums = np.add.reduceat(shifts[:, voters[rows]], start, axis=1)
    enough = numbers >= MIN_VOTES
    return found[enough], numbers[enough], sums[:, enough]


def _first_of_each(cells: Whole, voters: NDArray[np.integer]) -> NDArray[np.intp]:
    """The first place of each voter in each cell, in the order of the cells."""
    order = np.lexsort((voters, cells))
    new: NDArray[np.bool_] = (np.diff(cells[order]) != 0) | (np.diff(voters[order]) != 0)
    first: NDArray[np.intp] = order[np.append(True, new)[: len(order)]]
    return first


def _one(row: int, size: int, described: Features) -> _Described:
    number = len(described.x)
    return _Described(np.full(number, row), np.full(number, size), *described)


def _joined(parts: Sequence[_Described]) -> _Described:
    return _Described(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _chunks(number: int) -> list[NDArray[np.intp]]:
    return [np.arange(start, min(start + _CHUNK, number)) for start in range(0, number, _CHUNK)]


@cache
def _planes(turn: Turn) -> tuple[Floats, Floats]:
    """`_BITS` planes for each table, mostly at right angles, and how far they are from the origin.

    They are for the waves of images before the turn, `(NUM_WAVES, _TABLES * 32)` and `(_TABLES * 32,)`: a
    table has places for 32 bits, and no planes for the first ones.
    """
    random = np.random.RandomState(7)  # draws the same numbers in all versions of NumPy
    bases = [np.linalg.qr(random.normal(size=(NUM_WAVES, NUM_WAVES)))[0] for _ in range(2 * _TABLES)]
    tables = [np.hstack(bases[first : first + 2])[:, :_BITS] for first in range(0, 2 * _TABLES, 2)]
    normals = np.hstack([np.pad(table, ((0, 0), (32 - _BITS, 0))) for table in tables])
    normals /= SPREAD[:, None]
    return np.asarray(turn.matrix() @ normals, np.float32), np.asarray(MEAN @ normals, np.float32)


def _codes(waves: Floats, turn: Turn) -> list[Codes]:
    """The code of each description in each table, after a turn: its bits are the sides of planes."""
    normals, distances = _planes(turn)
    sides = waves @ normals > distances
    return list(np.ascontiguousarray(np.packbits(sides).view(">u4").reshape(-1, _TABLES).T).astype(np.int32))
