"""Figures of images: lines of them, an image a case, with what was segmented in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from xferlab.analysis.figures.style import PAGE_IN, TARGET

Pixels = npt.NDArray[Any]
MAX_CASES = 4
"""Images in a line."""
_STRUCTURE, _IGNORED = 255, 127
Frame = tuple[int, int]
"""Height and width of the place that each image of a figure has."""


@dataclass(frozen=True, eq=False)
class Line:
    """Images of some cases side by side.

    Attributes:
        name: What stands to the left.
        images: Of each case, grey, uint8 (H, W).
        below: A text below each image; empty for none.
        masks: Of each case where each structure is, (H, W).
        colours: Of the masks of each structure.
        targets: Of each case its references, (H, W): 255 structure, 127 ignored.
    """

    name: str
    images: Sequence[Pixels]
    below: Sequence[str] = ()
    masks: Sequence[Sequence[Pixels]] = ()
    colours: Sequence[str] = ()
    targets: Sequence[Sequence[Pixels]] = ()


def lines_of_images(
    lines: Sequence[Line],
    titles: Sequence[str],
    *,
    named: Mapping[str, str],
    interpolation: str = "antialiased",
) -> Figure:
    """Draws lines of images, each as one picture, since many small panels take long.

    Images of several sizes are enlarged, at their proportions, to places of one size, with white around them.

    Args:
        lines: From the top, all with as many images.
        titles: Of each case, above the first line.
        named: Colours of the masks by what they are; with any, a legend names them and the targets.
        interpolation: Matplotlib's, of images.
    """
    num = max(len(titles), 2)
    width = PAGE_IN * num / MAX_CASES
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    words_in = 0.62 if named else 0.36
    figure = Figure(figsize=(width, len(lines) * width / num + words_in), layout=engine)
    panels = figure.subplots(len(lines), 1)
    above = [f"({letter}) {title}" for letter, title in zip("abcd", titles, strict=False)]
    heights, widths = zip(*(image.shape for line in lines for image in line.images), strict=True)
    frame = max(heights), max(widths)
    for axes, line in zip(panels, lines, strict=True):
        _draw_images(axes, line.images, frame, interpolation)
        _write(axes, frame, above if line is lines[0] else (), y=1.02)
        _write(axes, frame, line.below, y=-0.02)
        _draw_masks(axes, line.masks, frame, line.colours)
        _draw_targets(axes, line.targets, frame)
        axes.text(-0.005, 0.5, line.name, transform=axes.transAxes, ha="right", va="center", rotation=90)
    if named:
        handles = _handles(named, has_targets=any(any(map(len, line.targets)) for line in lines))
        figure.legend(handles=handles, loc="outside lower center", ncols=max(3, len(titles) + 1))
    return figure


def _handles(named: Mapping[str, str], *, has_targets: bool) -> list[Any]:
    casing = [patheffects.Stroke(linewidth=2.2, foreground="black"), patheffects.Normal()]
    handles: list[Any] = [Patch(facecolor=colour, alpha=0.55, label=name) for name, colour in named.items()]
    if has_targets:
        handles.append(Line2D([], [], color=TARGET, linewidth=1.2, label="target", path_effects=casing))
    return handles


def _beside(planes: Sequence[Pixels], frame: Frame, between: int, *, smooth: bool = False) -> Pixels:
    """Returns planes (H, W) side by side, each in a frame, with `between` between and around them."""
    gap = np.full((frame[0], _gap(frame)), between, np.uint8)
    joined = [part for plane in planes for part in (_framed(plane, frame, between, smooth=smooth), gap)]
    return np.concatenate(joined[:-1], axis=1)


def _framed(plane: Pixels, frame: Frame, around: int, *, smooth: bool) -> Pixels:
    """Returns a plane (H, W), as large as it can be in the middle of a frame, with `around` around it."""
    scale = min(side / own for side, own in zip(frame, plane.shape, strict=True))
    height, width = (round(scale * own) for own in plane.shape)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    framed = np.full(frame, around, np.uint8)
    top, left = (frame[0] - height) // 2, (frame[1] - width) // 2
    picture = Image.fromarray(plane.astype(np.uint8)).resize((width, height), how)  # a copy at its own size
    framed[top : top + height, left : left + width] = np.asarray(picture)
    return framed


def _gap(frame: Frame) -> int:
    return max(2, round(0.03 * frame[1]))


def _draw_images(axes: Any, images: Sequence[Pixels], frame: Frame, interpolation: str) -> None:
    picture = _beside(images, frame, 255, smooth=interpolation != "none")
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()


def _write(axes: Any, frame: Frame, texts: Sequence[str], *, y: float) -> None:
    """Writes a text below (`y` < 0) or above each image of a line."""
    width = frame[1]
    place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top" if y < 0 else "bottom"}
    for column, text in enumerate(texts):
        axes.text(column * (width + _gap(frame)) + (width - 1) / 2, y, text, **place)


def _draw_masks(axes: Any, cases: Sequence[Sequence[Pixels]], frame: Frame, colours: Sequence[str]) -> None:
    """Draws where structures are predicted in images side by side."""
    structures = list(zip(*cases, strict=True))
    for masks, colour in zip(structures, colours, strict=True):
        predicted = _beside(masks, frame, 0).astype(float)
        if predicted.any():
            opacity = 0.42 if len(structures) == 1 else 0.25  # fills may lie on each other
            axes.contourf(predicted, levels=[0.5, 1.5], colors=[colour], alpha=opacity)
            if not predicted.all():
                axes.contour(predicted, levels=[0.5], colors=[colour], linewidths=0.9)


def _draw_targets(axes: Any, cases: Sequence[Sequence[Pixels]], frame: Frame) -> None:
    """Draws the outline of everything that is marked in images side by side."""
    for planes in zip(*cases, strict=True):
        marked = _beside(planes, frame, 0)
        target, ignored = (marked == _STRUCTURE).astype(float), (marked == _IGNORED).astype(float)
        if np.ptp(ignored):
            axes.contour(ignored, levels=[0.5], colors=["white"], linewidths=0.8, linestyles=":")
        if np.ptp(target):
            outline = axes.contour(target, levels=[0.5], colors=[TARGET], linewidths=0.8)
            outline.set_path_effects(
                [patheffects.Stroke(linewidth=1.5, foreground="black"), patheffects.Normal()]
            )
