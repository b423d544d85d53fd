"""Figures as files: PNG, SVG and PDF of one layout; SVG and PDF come from one walk over the figure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import FigureCanvasBase, RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfFile, RendererPdf
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from PIL import Image

from xferlab.analysis.figures.style import Picture, drawing
from xferlab.analysis.tables.rendering import visible

DPI = 300
_POINTS = 72
_COMPRESSION = 3
"""Of PNG: a quarter less time than the usual 6 for files that are a sixth larger."""
_UNSAID = ("auto", "antialiased")
"""Interpolations by which an image is no smoother than its resolution needs."""


class _Outlines(TextToPath):
    """Texts as outlines; each is shaped once for all figures, since the same words and numbers return."""

    get_text_path = cache(TextToPath.get_text_path)  # type: ignore[assignment]
    get_text_width_height_descent = cache(TextToPath.get_text_width_height_descent)


_OUTLINES = _Outlines()


class _Drawings:
    """Draws into an SVG and a PDF at once, since most of the time goes into asking what there is to draw."""

    def __init__(self, svg: RendererSVG, pdf: RendererPdf):
        self._svg, self._pdf = svg, pdf
        svg._text2path = pdf._text2path = _OUTLINES

    def __getattr__(self, name: str) -> Any:
        return self._twice(name) if name.startswith("draw_") else getattr(self._svg, name)

    def _twice(self, name: str) -> Callable[..., None]:
        def draw(*what: Any, **more: Any) -> None:
            getattr(self._svg, name)(*what, **more)
            getattr(self._pdf, name)(*what, **more)

        return draw

    def new_gc(self) -> Any:
        """Returns what both know colours and lines from: a PDF needs its own kind."""
        return self._pdf.new_gc()

    def draw_text(self, gc: Any, x: float, y: float, *what: Any, **more: Any) -> None:
        """Draws text, whose y is given from the top, as outlines, so that no font has to be embedded."""
        self._svg.draw_text(gc, x, y, *what, **more)
        RendererBase.draw_text(self._pdf, gc, x, self._svg.height - y, *what, **more)


def save(picture: Picture, folder: Path) -> tuple[Path, Path, Path]:
    """Writes PNG (300 dpi), SVG and PDF, equal byte for byte for equal data; returns the paths.

    Text in SVG and PDF is outlines; images that nothing smooths keep their own pixels there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = picture.figure
    png, svg, pdf = (folder / f"{picture.name}.{ending}" for ending in ("png", "svg", "pdf"))
    with drawing():
        artists = _with_visible_text(figure)
        _write_pixels(figure, png)
        for image in (artist for artist in artists if isinstance(artist, AxesImage)):
            if image.get_interpolation() in _UNSAID:
                image.set_interpolation("none")
        _write_drawings(figure, svg, pdf)
    return png, svg, pdf


def png_of(picture: Picture) -> bytes:
    """Returns the PNG that `save` writes, without the other files."""
    sink = BytesIO()
    with drawing():
        _with_visible_text(picture.figure)
        _write_pixels(picture.figure, sink)
    return sink.getvalue()


def _with_visible_text(figure: Figure) -> list[Artist]:
    """Makes odd characters in the texts of a figure visible; returns its artists."""
    artists = figure.findobj()  # a walk over all ticks, too: a slow one
    for text in (artist for artist in artists if isinstance(artist, Text)):
        text.set_text("\n".join(map(visible, text.get_text().split("\n"))))
    return artists


def drawn_text(figure: Figure) -> str:
    """Returns what is written in a figure: what its axes are, its lines and columns by name, and its legend.

    Numbers along axes are left out; the tables have all values.
    """
    axes = [each for each in figure.axes if each.get_visible()]
    names = [getattr(each, f"get_{name}")() for each in axes for name in ("title", "xlabel", "ylabel")]
    titles = [each.get_title(loc="left") for each in axes]
    ticks = [label.get_text() for each in axes for label in each.get_yticklabels() + each.get_xticklabels()]
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    inside = [text.get_text() for each in axes for text in each.texts]
    texts = dict.fromkeys(" ".join(text.split()) for text in (*titles, *names, *ticks, *inside, *legends))
    return f"Drawing with {'; '.join(text for text in texts if any(map(str.isalpha, text)))}."


def _write_pixels(figure: Figure, sink: Path | BytesIO) -> None:
    """Writes a figure as PNG; its layout is fixed from then on."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    # Drawing would find the layout once more for each file.
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(
        sink, format="PNG", dpi=(DPI, DPI), compress_level=_COMPRESSION
    )


def _write_drawings(figure: Figure, svg: Path, pdf: Path) -> None:
    FigureCanvasBase(figure)  # lets the pixels go
    width, height = figure.get_size_inches()
    figure.set_dpi(_POINTS)  # the unit of both
    with svg.open("w", encoding="utf-8") as text, closing(PdfFile(pdf, {"CreationDate": None})) as file:
        file.newPage(width, height)
        drawings = (
            RendererSVG(width * _POINTS, height * _POINTS, text, image_dpi=DPI, metadata={"Date": None}),
            RendererPdf(file, DPI, height, width),
        )
        both: Any = _Drawings(*drawings)
        figure.draw(both)
        for renderer in drawings:
            renderer.finalize()
        file.finalize()
