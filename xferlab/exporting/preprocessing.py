"""What has to be done to an image before an exported graph, and to its outputs after it, in plain fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from xferlab.cohort import STEPS
from xferlab.exporting.graph import INPUT, INPUT_AXES, Graph
from xferlab.training.exported import Output, Step

VERSION = 1

_RULES = {
    "crop_black_band": "the black band at the bottom of the image is cut off: of H rows, with c the column "
    "W // 2 counted from 0, take the larger of ceil(H / 2) and the row below the last pixel of c above 8 (0 "
    "without one); the band begins at the first row from there on in which c is 0; without such a row "
    "nothing is cut off",
    "degrade_to": "an image whose longer side has more px than this is shrunk to it, both sides rounded to "
    "whole px and at least 1, and enlarged to its own size again, both bilinear, antialiased (Pillow: "
    "Image.Resampling.BILINEAR); files of more than 8 bits at their own depth, in float32, where `equalise` "
    "follows",
    "equalise": "the histogram of the image is equalised: with C(v) of N pixels at most v, and D of the "
    "darkest value, v becomes 255 ((C(v) - D) / (N - D))^g, rounded, halves to even, and 0 where all are "
    "equal; g is `gamma` where it follows, else 1; of files of more than 8 bits, v is the value in the file, "
    "and pixels of padding count in none of C, N and D",
    "gamma": "a grey level v becomes 255 (v / 255)^gamma, rounded, halves to even",
}
_GAMMA_INSIDE = "nothing more is done: it is the exponent g of `equalise`, which rounds once"


def steps(graph: Graph) -> Iterator[Step]:
    """Yields all that is done to the pixels of a file before the graph, in order."""
    section, size = graph.predictor.section, graph.predictor.identity.image_size
    if section is not None and section.channels != 1:
        yield Step("channels of the file", "the channels stay apart", {"channels": section.channels})
    else:
        yield Step(
            "grey",
            "turned as its EXIF orientation says; 8-bit grey levels; colours by ITU-R 601 luma; deeper files "
            "by their window or range",
        )
    for name in STEPS:
        if value := getattr(section, name, None):
            inside = name == "gamma" and section is not None and section.equalise
            yield Step(name, _GAMMA_INSIDE if inside else _RULES[name], {"value": value})
    if size != "native":
        rule = "stretched to the square, bilinear, antialiased (Pillow: Image.Resampling.BILINEAR), 8 bits"
        yield Step("resize", rule, {"height_px": size, "width_px": size})
    yield from graph.exported.steps


def document(graph: Graph) -> dict[str, Any]:
    """Returns the content of `preprocessing.json`."""
    exported, targets = graph.exported, list(graph.predictor.targets)
    size: int | str = exported.side if exported.multiple is None else f"any multiple of {exported.multiple}"
    return {
        "version": VERSION,
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "axes": list(INPUT_AXES),
            "channels": exported.channels,
            "height_px": size,
            "width_px": size,
            "trained_at_px": graph.predictor.identity.image_size,
        },
        "steps": [{name: value for name, value in asdict(step).items() if value} for step in steps(graph)],
        "expressions": "PyTorch, of `image`, float32 (C, H, W)",
        "outputs": [{**asdict(output), "dtype": "float32"} for output in exported.outputs],
        "targets": targets,
        "decision": exported.decision,
        "thresholds": dict(exported.thresholds),
        "outside_the_graph": outside(graph),
    }


def outside(graph: Graph) -> list[str]:
    """Returns what of a prediction, and of the preparation of images, the export does not hold."""
    exported, predictor = graph.exported, graph.predictor
    lines = list(exported.outside)
    section = predictor.section
    if section is not None and section.crop_black_band and any(map(_of_pixels, exported.outputs)):
        lines.append(
            "The rows that `crop_black_band` cuts off are put below the masks again, as background (0)."
        )
    lines += [
        f"What the stage takes of another network ({role}) is not in the graph." for role in predictor.givers
    ]
    if not predictor.reads_alike:
        lines.append(f"The steps are those of one data section of several: {predictor.readings}.")
    return lines


def _of_pixels(output: Output) -> bool:
    return {"structure", "height"} <= {*output.axes}
