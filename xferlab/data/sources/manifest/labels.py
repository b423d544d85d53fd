"""What mask values mean (background, structure or ignored), and what to do about values without a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import Labels
from xferlab.data.sources.manifest.config import MAX_LABEL, LabelValues, threshold_of
from xferlab.data.sources.source import IGNORED, STRUCTURE
from xferlab.errors import DataError

_UNKNOWN = 1
"""Marks, while a target is made, mask values that are in no label."""
_RINGING = 16
"""JPEG turns 0 and 255 into values that are at most this far away."""
_EDGE_PX = 4
"""Half the width of the widest smooth edge that is recognised: masks are seldom enlarged by more."""
_SHOWN_VALUES = 8


class LabelMap:
    """The `labels:` of a section.

    Attributes:
        named: The mask values that it lists.
        recipe: What of it determines targets; part of every case digest.
    """

    def __init__(self, labels: LabelValues):
        self._above = threshold_of(labels)
        self._structure = next((name for name in labels if name != "ignore"), "lung")
        lists = {name: group for name, group in labels.items() if isinstance(group, list)}
        ignored = sorted(lists.get("ignore", []))
        values = sorted(value for name, group in lists.items() if name != "ignore" for value in group)
        self.named = tuple(sorted(ignored + values))
        self.recipe: dict[str, object] = {
            "ignore": ignored,
            "structure": values if self._above is None else {"above": self._above},
        }
        # The last entry is for all values above MAX_LABEL and, unless there is a threshold, below 0.
        self._meaning = np.full(MAX_LABEL + 2, _UNKNOWN, np.uint8)
        if self._above is not None:
            self._meaning[: self._above + 1], self._meaning[self._above + 1 :] = 0, STRUCTURE
        self._meaning[0] = 0
        self._meaning[values] = STRUCTURE
        self._meaning[ignored] = IGNORED

    def target(self, labels: Labels, *, where: str) -> NDArray[np.uint8]:
        """Returns the target `(H, W)` of a mask: 0 background, 255 structure, 127 ignored.

        Args:
            labels: The mask's values.
            where: The mask file, for the message.

        Raises:
            DataError: The mask has values without a label.
        """
        stored = labels.values
        if stored.dtype != np.uint8:
            stored = np.clip(stored, -1 if self._above is None else 0, MAX_LABEL + 1)
        target = np.take(self._meaning, stored)
        unknown = target == _UNKNOWN
        if unknown.any():
            what = self._refusal(labels, unknown, target)
            raise DataError.at(where, what, kind="masks with values that no label names")
        return target

    def occurring(self, labels: Labels) -> frozenset[int]:
        """Returns the listed values that a mask has."""
        few = labels.values.dtype in (np.uint8, np.uint16)  # counting is several times faster than sorting
        values = np.flatnonzero(np.bincount(labels.values.ravel())) if few else np.unique(labels.values)
        return frozenset(values.tolist()).intersection(self.named)

    def _refusal(self, labels: Labels, unknown: NDArray[np.bool_], target: NDArray[np.uint8]) -> str:
        values, counts = (array.tolist() for array in np.unique(labels.values[unknown], return_counts=True))
        pairs = list(zip(values, counts, strict=True))
        shown = ", ".join(f"{value} ({count} px)" for value, count in pairs[:_SHOWN_VALUES])
        more = f" and {len(pairs) - _SHOWN_VALUES} more" if len(pairs) > _SHOWN_VALUES else ""
        accepted = ", ".join(map(str, (0, *self.named)))
        what = f"mask values {shown}{more} are in no label (accepted: {accepted})."
        threshold = f"`labels: {{{self._structure}: {{above: {int(labels.values.max()) // 2}}}}}`"
        if labels.lossy or _is_smooth(values, unknown, target):
            cause = (
                "The mask is a JPEG, which alters values: export it again as PNG."
                if labels.lossy
                else "They look like JPEG compression or smooth resizing: export the mask again as PNG."
            )
            return f"{what} {cause} Or take all values above a threshold: {threshold}."
        if not all(0 < value <= MAX_LABEL for value in values):
            return (
                f"{what} Labels are values from 1 to {MAX_LABEL}: save the mask with 8 or 16 bits, unsigned."
            )
        if labels.indexed:
            what += (
                " The mask has a palette: its values are the palette's indices, not the colours they show."
            )
        what += " Name them under `labels:`, as a structure's or as `ignore`."
        if len(values) == 1 and not (target == STRUCTURE).any():
            what += f" For example: `labels: {{{self._structure}: [{values[0]}]}}`."
        return what


def _is_smooth(values: list[int], unknown: NDArray[np.bool_], target: NDArray[np.uint8]) -> bool:
    """Whether unknown values are many, lie near both 0 and 255, or form the edge of the structure."""
    if len(values) > _SHOWN_VALUES:
        return True
    near = [value > _RINGING for value in values if value <= _RINGING or 255 - _RINGING <= value <= 255]
    if len(near) == len(values) and len(set(near)) == 2:
        return True
    from scipy.ndimage import maximum_filter  # only a refused mask needs it

    # Several times faster than binary_dilation, which does not filter rows and columns one after the other.
    background, structure = (
        maximum_filter(target == value, size=2 * _EDGE_PX + 1, mode="constant") for value in (0, STRUCTURE)
    )
    return bool((background & structure)[unknown].mean() > 0.9)
