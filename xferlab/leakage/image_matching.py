"""Whether two images show one exposure: once aligned, they are equal down to their detail.

All work is done on thumbnails of 64x64 pixels whose grey levels are replaced by their ranks, so that gamma,
window and brightness change nothing. Three tests follow, each finer and slower than the one before:

1. A perceptual hash: the signs of 64 low frequencies of the cosine transform (after Zauner 2010, pHash). At
   `MAX_BITS` it passes about 1 % of all pairs of chest X-rays: it is no evidence by itself.
2. One linear step of alignment on 16x16 pixels: the multiple correlation with one image and its changes
   under small affine motions (tangent distance, Simard et al. 1993).
3. Affine alignment on 32 and 64 pixels that maximises the correlation (Gauss-Newton, as in Evangelidis and
   Psarakis 2008), then the correlation of the aligned images and of their detail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xferlab.parallel import for_each

SIDE_PX = 64
MAX_BITS = 12
DESCRIPTOR_CORRELATION = 0.98
CORRELATION = 0.98
DETAIL = 0.8
"""What the detail of one exposure correlates by, at least.

Images of different people reach a correlation of 0.98 after alignment, but in their detail not even 0.75.
"""

_DESCRIPTOR_PX, _FREQUENCIES = 16, 9
_ODD_BITS = np.packbits(np.arange(1, 65) % _FREQUENCIES % 2 == 1).view(np.uint64)
"""The bits that a mirror image has otherwise: those of odd horizontal frequencies change their sign."""
_REACH_PX, _MIN_OVERLAP, _BLOCK = 5.0, 0.75, 32
_FLAT_SHARE, _FLAT_LEVELS = 0.75, 2

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]


Item = TypeVar("Item")
"""What stands for an image: its row here, its key or its case elsewhere."""


class Pair(NamedTuple, Generic[Item]):
    """Two images that correlate by at least `CORRELATION` once they are aligned.

    Attributes:
        first: One; the lower row.
        second: The other.
        correlation: Of the aligned thumbnails, in [0, 1].
        detail: Of what is left of them without their coarse shades, in [-1, 1].
    """

    first: Item
    second: Item
    correlation: float
    detail: float

    @property
    def one_exposure(self) -> bool:
        """Whether the detail agrees, too."""
        return self.detail >= DETAIL


def is_flat(pixels: Grey) -> bool:
    """Tells an image that shows (nearly) nothing: three quarters of its pixels within two grey levels."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    near = np.convolve(counts, np.ones(2 * _FLAT_LEVELS + 1, np.int64), "same")
    return bool(near.max() >= _FLAT_SHARE * pixels.size)


def equalised(pixels: Grey) -> Floats:
    """Returns the mid-ranks of `(N, H, W)` grey levels within each image, in (0, 1)."""
    flat = pixels.reshape(len(pixels), -1)
    offsets = 256 * np.arange(len(flat))[:, None]
    counts = np.bincount((flat + offsets).ravel(), minlength=256 * len(flat)).reshape(-1, 256)
    ranks = (np.cumsum(counts, axis=1) - counts / 2) / flat.shape[1]
    return np.take_along_axis(ranks, flat.astype(np.intp), axis=1).reshape(pixels.shape).astype(np.float32)


def perceptual_hash(images: Floats) -> NDArray[np.uint64]:
    """Returns the signs of 64 low frequencies of `(N, 64, 64)` images."""
    positions = (np.arange(SIDE_PX) + 0.5) * np.pi / SIDE_PX
    cosines = np.cos(np.arange(_FREQUENCIES)[:, None] * positions).astype(np.float32)
    waves = (cosines @ images @ cosines.T).reshape(len(images), -1)[:, 1:65]
    return np.packbits(waves > 0, axis=1).view(np.uint64)[:, 0]


def find_pairs(pixels: Grey, groups: NDArray[np.integer], fresh: NDArray[np.bool_]) -> list[Pair[int]]:
    """Returns the pairs that correlate, by rows; a pair's figures do not depend on who else is there.

    Args:
        pixels: `(N, 64, 64)`.
        groups: Number of each row's patient; rows of one patient are not compared.
        fresh: Rows to compare with all; two rows that are not fresh were compared before.
    """
    hashes, descriptors = _summaries(pixels)
    best: dict[tuple[int, int], Pair[int]] = {}
    for mirrored in (False, True):
        rows = list(_candidates(hashes, descriptors, groups, fresh, mirrored=mirrored))
        pairs = np.array(rows, np.intp).reshape(-1, 2)
        blocks = [pairs[start : start + _BLOCK] for start in range(0, len(pairs), _BLOCK)]
        for matches in for_each(blocks, partial(_compared, pixels, mirrored=mirrored)):
            for pair in matches:
                known = best.setdefault((pair.first, pair.second), pair)
                if pair.detail > known.detail:
                    best[pair.first, pair.second] = pair
    return [best[rows] for rows in sorted(best)]


def _summaries(pixels: Grey) -> tuple[NDArray[np.uint64], Floats]:
    """The hash and the blurred 16x16 descriptor of every thumbnail."""
    hashes, descriptors = [], []
    for start in range(0, len(pixels), 1024):
        images = equalised(pixels[start : start + 1024])
        hashes.append(perceptual_hash(images))
        descriptors.append(_smooth(_shrunk(images, _DESCRIPTOR_PX), 0.5))
    return np.concatenate(hashes), np.concatenate(descriptors)


def _candidates(
    hashes: NDArray[np.uint64],
    descriptors: Floats,
    groups: NDArray[np.integer],
    fresh: NDArray[np.bool_],
    *,
    mirrored: bool,
) -> Iterator[tuple[int, int]]:
    """Yields the pairs of rows that pass the first two tests."""
    shown = descriptors[:, :, ::-1] if mirrored else descriptors
    flat = shown.reshape(len(shown), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9
    others = hashes ^ _ODD_BITS if mirrored else hashes
    for start in range(0, len(hashes), 64):
        rows = np.arange(start, min(start + 64, len(hashes)))
        bases = _tangents(descriptors[rows])
        later = slice(start + 1, None)
        near = np.bitwise_count(hashes[rows, None] ^ others[None, later]) <= MAX_BITS
        for row, base, hits in zip(rows, bases, near, strict=True):
            columns = np.flatnonzero(hits) + start + 1
            columns = columns[(columns > row) & (groups[columns] != groups[row])]
            if not fresh[row]:
                columns = columns[fresh[columns]]
            like = np.linalg.norm(flat[columns] @ base, axis=1) >= DESCRIPTOR_CORRELATION
            yield from ((int(row), int(column)) for column in columns[like])


def _tangents(descriptors: Floats) -> Floats:
    """Orthonormal `(N, 256, 8)`: a constant, each descriptor, its changes under the six affine motions."""
    across, down = np.meshgrid(*[np.linspace(-1, 1, _DESCRIPTOR_PX, dtype=np.float32)] * 2)
    rise_y, rise_x = np.gradient(descriptors, axis=(1, 2))
    motions = [rise * weight for rise in (rise_x, rise_y) for weight in (np.float32(1), across, down)]
    spanned = np.stack([np.ones_like(descriptors), descriptors, *motions], axis=-1)
    return np.linalg.qr(spanned.reshape(len(descriptors), -1, 8))[0]


def _compared(pixels: Grey, pairs: NDArray[np.intp], *, mirrored: bool) -> list[Pair[int]]:
    """The pairs among these that correlate once they are aligned."""
    still, moving = equalised(pixels[pairs[:, 0]]), equalised(pixels[pairs[:, 1]])
    if mirrored:
        moving = np.ascontiguousarray(moving[:, :, ::-1])
    motion = np.zeros((len(pairs), 6), np.float32)
    for side, rounds in ((32, 6), (SIDE_PX, 4)):
        motion, correlation = _aligned(_shrunk(still, side), _shrunk(moving, side), motion, rounds=rounds)
    kept = correlation >= CORRELATION
    (fine,), seen = _moved([_detail(moving[kept])], motion[kept])
    details = _correlation(_detail(still[kept]).reshape(fine.shape), fine, seen)
    return [
        Pair(int(first), int(second), float(whole), float(detail))
        for (first, second), whole, detail in zip(pairs[kept], correlation[kept], details, strict=True)
    ]


def _aligned(still: Floats, moving: Floats, motion: Floats, *, rounds: int) -> tuple[Floats, Floats]:
    """Returns the affine motions that make the images most alike, from those given, and the correlations.

    A motion is `(a, b, c, d, e, f)`: dx = a + b u + c v, dy = d + e u + f v, in pixels of 64; u and v run
    from -1 to 1.
    """
    still, moving = _smooth(still, still.shape[1] / SIDE_PX), _smooth(moving, moving.shape[1] / SIDE_PX)
    scale = np.float32(still.shape[1] / SIDE_PX)
    rises = [scale * np.asarray(np.gradient(moving, axis=axis), np.float32) for axis in (2, 1)]
    weights = _weights(still.shape[1])
    wanted = still.reshape(len(still), -1)
    best, highest = motion, np.full(len(still), -1.0, np.float32)
    for turn in range(rounds + 1):
        (here, *slopes), seen = _moved([moving, *rises], motion)
        correlation = _correlation(wanted, here, seen)
        better = correlation > highest
        best = np.where(better[:, None], motion, best)
        highest = np.where(better, correlation, highest)
        if turn == rounds:
            break
        columns = np.concatenate([slope[:, None] * weights for slope in slopes], axis=1)
        step = _step(*(_centred(values, seen) for values in (columns, wanted, here)))
        motion = np.clip(motion + step, -_REACH_PX, _REACH_PX)
    return best, highest


def _step(slopes: Floats, wanted: Floats, here: Floats) -> Floats:
    """The motion that brings `here` nearest to a multiple of `wanted`, to first order; `(N, 6)`."""
    unknowns = np.concatenate([slopes, -wanted[:, None]], axis=1)
    normal = unknowns @ unknowns.transpose(0, 2, 1)
    # A little damping: an image without slopes in some direction leaves that motion open.
    normal += (1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9) * np.eye(7)
    solved = np.linalg.solve(normal, -(unknowns @ here[:, :, None]))
    return np.asarray(np.clip(solved[:, :6, 0], -3.0, 3.0), np.float32)


def _moved(stacks: Sequence[Floats], motion: Floats) -> tuple[list[Floats], Floats]:
    """Bilinear values of `(N, S, S)` images at moved places, `(N, S * S)`, and 1 where they lie inside."""
    number, side, _ = stacks[0].shape
    row, column = np.divmod(np.arange(side * side), side)
    weights, scale = _weights(side), np.float32(side / SIDE_PX)
    x = column.astype(np.float32) + scale * (motion[:, :3] @ weights)
    y = row.astype(np.float32) + scale * (motion[:, 3:] @ weights)
    inside = (x >= 0) & (x <= side - 1) & (y >= 0) & (y <= side - 1)
    left, top = (np.clip(np.floor(place), 0, side - 2).astype(np.intp) for place in (x, y))
    right, low = (np.clip(place - corner.astype(np.float32), 0, 1) for place, corner in ((x, left), (y, top)))
    at = (np.arange(number) * side * side)[:, None] + top * side + left
    corners = [
        (0, (1 - low) * (1 - right)),
        (1, (1 - low) * right),
        (side, low * (1 - right)),
        (side + 1, low * right),
    ]
    values = [sum(stack.ravel()[at + step] * share for step, share in corners) for stack in stacks]
    return values, inside.astype(np.float32)


def _weights(side: int) -> Floats:
    places = np.linspace(-1, 1, side, dtype=np.float32)
    across, down = np.meshgrid(places, places)
    return np.stack([np.ones(side * side, np.float32), across.ravel(), down.ravel()])


def _correlation(first: Floats, second: Floats, seen: Floats) -> Floats:
    """Correlation of `(N, K)` rows where they are seen; -1 where too little is, 0 where one is constant."""
    first, second = _centred(first, seen), _centred(second, seen)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    value = (first * second).sum(axis=1) / np.maximum(norms, 1e-9)
    return np.where(seen.mean(axis=1) >= _MIN_OVERLAP, value, -1.0).astype(np.float32)


def _centred(values: Floats, seen: Floats) -> Floats:
    """`(N, K)` or `(N, M, K)` values without their means where `(N, K)` are seen; 0 elsewhere."""
    seen = seen if values.ndim == seen.ndim else seen[:, None]
    values = values * seen
    means = values.sum(axis=-1, keepdims=True) / np.maximum(seen.sum(axis=-1, keepdims=True), np.float32(1))
    return np.asarray(values - means * seen, np.float32)


def _detail(images: Floats) -> Floats:
    """Detail that is finer than the anatomy that all people share, equally strong all over the image."""
    fine = _smooth(images, 0.5) - _smooth(images, 2.0)
    # The rim of a skull or a collimator would outweigh all that tells two people apart.
    return np.asarray(fine / np.sqrt(_smooth(fine * fine, 3.0) + 0.02**2), np.float32)


def _shrunk(images: Floats, side: int) -> Floats:
    step = images.shape[1] // side
    blocks = images.reshape(len(images), side, step, side, step)
    return np.asarray(blocks.mean(axis=(2, 4)), np.float32)


def _smooth(images: Floats, sigma_px: float) -> Floats:
    from scipy.ndimage import gaussian_filter  # planning known images needs none of it, and answers sooner

    return np.asarray(gaussian_filter(images, (0, sigma_px, sigma_px)), np.float32)
