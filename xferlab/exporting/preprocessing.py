"""What has to be done to an image before an exported graph, and to its outputs after it, in plain fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from xferlab.cohort import STEPS
from xferlab.exporting.graph import INPUT, INPUT_AXES, Graph
from xferlab.training.exported import Step
from xferlab.trial.predictor import Predictor

VERSION = 1

_RULES = {
    "crop_black_band": "the black band at the bottom of the image is cut off",
    "degrade_to": "the image is shrunk to this longer side (px) and enlarged again, bilinear, antialiased",
    "equalise": "the histogram of the image is equalised at the depth of the file",
    "gamma": "grey levels as shares of white are raised to this exponent",
}


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
            yield Step(name, _RULES[name], {"value": value})
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
        "outside_the_graph": [*exported.outside, *_others(graph.predictor)],
    }


def _others(predictor: Predictor) -> Iterator[str]:
    for role in predictor.givers:
        yield f"What the stage takes of another network ({role}) is not in the graph."
