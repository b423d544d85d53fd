"""What mask values mean (background, structure or ignored), and what to do about values without a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import Labels
from xferlab.data.sources.manifest.config import MAX_LABEL, MaskColumn
from xferlab.data.sources.source import IGNORED, STRUCTURE
from xferlab.errors import DataError, listed

_BACKGROUND, _UNKNOWN, _IGNORED, _FIRST = 0, 1, 2, 3
"""What a mask value means while targets are made; structures are counted from `_FIRST` on."""
_RINGING = 16
"""JPEG turns 0 and 255 into values that are at most this far away."""
_EDGE_PX = 4
"""Half the width of the widest smooth edge that is recognised: masks are seldom enlarged by more."""
_SHOWN_VALUES = 8


class LabelMap:
    """What the values of one column of masks mean.

    Attributes:
        named: The mask values that are listed.
    """

    def __init__(self, column: MaskColumn):
        """Takes the column, whose values are valid."""
        self._column, self._names = column, list(column.values)
        self.named = tuple(sorted(value for values in column.listed.values() for value in values))
        above = column.above
        # The last entry is for all values above MAX_LABEL and, unless there is a threshold, below 0.
        self._meaning = np.full(MAX_LABEL + 2, _UNKNOWN, np.uint8)
        if above is not None:
            self._meaning[: above + 1], self._meaning[above + 1 :] = _BACKGROUND, _FIRST
        self._meaning[0] = _BACKGROUND
        for number, group in enumerate(column.values.values(), _FIRST):
            if isinstance(group, list):
                self._meaning[group] = number
        self._meaning[list(column.ignored)] = _IGNORED

    def recipe(self, structure: str) -> dict[str, object]:
        """Returns what determines a structure's target, beside the mask; part of every case digest."""
        group = self._column.values[structure]
        values = sorted(group) if isinstance(group, list) else group
        return {"ignore": sorted(self._column.ignored), "structure": values}

    def targets(self, labels: Labels, *, where: str) -> dict[str, NDArray[np.uint8]]:
        """Returns the target `(H, W)` of each structure: 0 background, 255 structure, 127 ignored.

        Args:
            labels: The mask's values.
            where: The mask file, for the message.

        Raises:
            DataError: The mask has values without a label.
        """
        stored = labels.values
        if stored.dtype != np.uint8:
            stored = np.clip(stored, -1 if self._column.above is None else 0, MAX_LABEL + 1)
        meaning = np.take(self._meaning, stored)
        unknown = meaning == _UNKNOWN
        if unknown.any():
            what = self._refusal(labels, unknown, meaning)
            raise DataError.at(where, what, kind="masks with values that no label names")
        return {name: np.take(_values(number), meaning) for number, name in enumerate(self._names, _FIRST)}

    def occurring(self, labels: Labels) -> frozenset[tuple[str, int]]:
        """Returns the listed values that a mask has, with what they mark."""
        few = labels.values.dtype in (np.uint8, np.uint16)  # counting is several times faster than sorting
        values = np.flatnonzero(np.bincount(labels.values.ravel())) if few else np.unique(labels.values)
        there = frozenset(values.tolist())
        listed = self._column.listed.items()
        return frozenset((name, value) for name, group in listed for value in there.intersection(group))

    def _refusal(self, labels: Labels, unknown: NDArray[np.bool_], meaning: NDArray[np.uint8]) -> str:
        values, counts = (array.tolist() for array in np.unique(labels.values[unknown], return_counts=True))
        shown = [f"{value} ({count} px)" for value, count in zip(values, counts, strict=True)]
        accepted = ", ".join(map(str, (0, *self.named)))
        what = f"mask values {listed(shown, _SHOWN_VALUES)} are in no label (accepted: {accepted})."
        first = self._names[0]
        threshold = f"`labels: {{{first}: {{above: {int(labels.values.max()) // 2}}}}}`"
        if labels.lossy or _is_smooth(values, unknown, meaning):
            cause = (
                "The mask is a JPEG, which alters values: export it again as PNG."
                if labels.lossy
                else "They look like JPEG compression or smooth resizing: export the mask again as PNG."
            )
            other = f" Or take all values above a threshold: {threshold}." if len(self._names) == 1 else ""
            return f"{what} {cause}{other}"
        if not all(0 < value <= MAX_LABEL for value in values):
            return (
                f"{what} Labels are values from 1 to {MAX_LABEL}: save the mask with 8 or 16 bits, unsigned."
            )
        if labels.indexed:
            what += (
                " The mask has a palette: its values are the palette's indices, not the colours they show."
            )
        what += " Name them under `labels:`, as a structure's or as `ignore`."
        if len(values) == 1 and not (meaning >= _FIRST).any():
            what += f" For example: `labels: {{{first}: [{values[0]}]}}`."
        return what


def _values(number: int) -> NDArray[np.uint8]:
    """What a target has in place of each meaning, for the structure with this number."""
    values = np.zeros(256, np.uint8)
    values[[_IGNORED, number]] = IGNORED, STRUCTURE
    return values


def union(targets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Returns the target of several structures as one: what one of them has is structure, then ignored."""
    return np.asarray(np.maximum.reduce(targets))


def _is_smooth(values: list[int], unknown: NDArray[np.bool_], meaning: NDArray[np.uint8]) -> bool:
    """Whether unknown values are many, lie near both 0 and 255, or form the edge of the structure."""
    if len(values) > _SHOWN_VALUES:
        return True
    near = [value > _RINGING for value in values if value <= _RINGING or 255 - _RINGING <= value <= 255]
    if len(near) == len(values) and len(set(near)) == 2:
        return True
    from scipy.ndimage import maximum_filter  # only a refused mask needs it

    # Several times faster than binary_dilation, which does not filter rows and columns one after the other.
    background, structure = (
        maximum_filter(inside, size=2 * _EDGE_PX + 1, mode="constant")
        for inside in (meaning == _BACKGROUND, meaning >= _FIRST)
    )
    return bool((background & structure)[unknown].mean() > 0.9)
