"""One look for all figures: a journal's column widths, one font, colours safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from xferlab.analysis.tables.rendering import visible

COLUMN_IN = 3.5
PAGE_IN = 7.2
DPI = 300

# Okabe and Ito's palette: distinct for all common kinds of colour blindness.
BEFORE, AFTER, TRAIN, VALIDATION = "#D55E00", "#0072B2", "#0072B2", "#D55E00"
TARGET, GREY = "#F0E442", "#6B6B6B"
# The shape tells lines apart without colour.
LOOKS = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"), ("#6B6B6B", "X"),
)  # fmt: skip

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: equal on every machine
    "font.size": 7.5,
    "text.parse_math": False,  # names from data may hold dollar signs
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#333333",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "xferlab",  # ids that do not change from run to run
    "figure.facecolor": "white",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn figure with its words.

    Attributes:
        name: File stem.
        title: `Figure 7: ...`.
        caption: Sentences that say what is shown.
        figure: The drawing.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    figure: Figure


@contextmanager
def drawing() -> Iterator[None]:
    """Applies the style within a block; nothing outside changes."""
    with mpl.rc_context(_STYLE):
        yield


def save(picture: Picture, folder: Path) -> tuple[Path, Path]:
    """Writes PNG (300 dpi) and SVG, equal byte for byte for equal data; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = (folder / f"{picture.name}.{ending}" for ending in ("png", "svg"))
    with drawing():
        for text in picture.figure.findobj(Text):
            text.set_text("\n".join(map(visible, text.get_text().split("\n"))))
        picture.figure.savefig(png, dpi=DPI, metadata={"Software": None})
        # The layout is found once: both files show the same, and the second is cheap.
        picture.figure.set_layout_engine("none")
        picture.figure.savefig(svg, dpi=DPI, metadata={"Date": None})
    return png, svg
