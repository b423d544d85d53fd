"""A trained network as a bundle of MONAI: its graph, and configurations that MONAI's parser runs."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from xferlab import __version__
from xferlab.errors import UsageError
from xferlab.exporting.facts import Facts
from xferlab.exporting.graph import INPUT, Graph
from xferlab.exporting.preprocessing import steps
from xferlab.exporting.torch_program import program_bytes

MODEL = "models/model.pt2"
METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
_BILINEAR = 2
"""Pillow's number of `Image.Resampling.BILINEAR`."""
_READ = ("grey", "resize")
"""Steps that reading an image does."""
_DEFAULT_MONAI = "1.4.0"
_TOO_DEEP = "this bundle reads images of 8 bits a channel. Convert the file as preprocessing.json says."
_GREY = (
    "(ops.exif_transpose(image).convert('RGB').convert('L') if image.mode[0] not in 'IF' "
    f"else (_ for _ in ()).throw(ValueError('{_TOO_DEEP}')))"
)
"""What xferlab reads of an 8-bit image of any colours. Pillow's modes `I` and `F` are deeper; an expression
can raise in this way only."""


def bundle(graph: Graph, facts: Facts) -> tuple[dict[str, bytes], float]:
    """Returns the files of a bundle, and the largest difference of its graph from the network.

    Raises:
        UsageError: MONAI's transforms cannot do what is done to an image before the graph.
        ExportError: The graph differs too much.
    """
    inference = _inference(graph)
    data, difference = program_bytes(graph, file=MODEL)
    files = {
        MODEL: data,
        METADATA: _json(_metadata(graph, facts)),
        INFERENCE: _json(inference),
        "docs/README.md": f"{facts.title}\n\n{facts.limits}\n".encode(),
    }
    return files, difference


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _inference(graph: Graph) -> dict[str, Any]:
    """Returns a configuration that predicts the file `image`."""
    return {
        "imports": ["$import torch"],
        "image_ops": "$import PIL.ImageOps",
        "bundle_root": ".",
        "image": "",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": f"$torch.export.unflatten(torch.export.load(@bundle_root + '/{MODEL}')).to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": _transforms(graph)},
        "inferer": {"_target_": "SimpleInferer"},
        "input": "$@preprocessing(@image)[None].to(@device)",
        "prediction": "$@inferer(@input, @network_def)",
        "run": ["$@prediction"],
    }


def _transforms(graph: Graph) -> list[dict[str, Any]]:
    size = graph.predictor.identity.image_size
    resize = "" if size == "native" else f".resize(({size}, {size}), {_BILINEAR})"
    expressions = []
    for step in steps(graph):
        if step.name not in _READ:
            if not step.expression:
                raise UsageError(
                    f"--format monai: MONAI's transforms cannot do the step {step.name!r} ({step.rule}). "
                    "Use --format onnx or torch, whose preprocessing.json tells it."
                )
            expressions.append(step.expression)
    read = {
        "_target_": "LoadImage",
        "reader": "PILReader",
        "converter": f"$lambda image, ops=@image_ops: {_GREY}{resize}",
        "reverse_indexing": False,  # rows first
        "ensure_channel_first": True,
        "image_only": True,
    }
    plain = {"_target_": "EnsureType", "dtype": "$torch.float32", "track_meta": False}
    lambdas = [
        {"_target_": "Lambda", "func": f"$lambda image: {each}", "track_meta": False} for each in expressions
    ]
    return [read, plain, *lambdas]


def _metadata(graph: Graph, facts: Facts) -> dict[str, Any]:
    exported = graph.exported
    size: int | str = exported.side if exported.multiple is None else f"{exported.multiple} * n"
    taken = {
        "type": "image",
        "format": "magnitude",
        "modality": facts.modality,
        "num_channels": exported.channels,
        "spatial_shape": [size, size],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(number): "image" for number in range(exported.channels)},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by xferlab {__version__}"},
        "monai_version": _version("monai", _DEFAULT_MONAI),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": _version("numpy", ""),
        "required_packages_version": {"pillow": _version("pillow", "")},
        "name": facts.name,
        "task": facts.task,
        "description": facts.title,
        "authors": "",
        "copyright": facts.licence_words,
        "intended_use": facts.limits,
        "network_data_format": {
            "inputs": {INPUT: taken},
            "outputs": {
                "pred" if number == 0 else output.name: _given(graph, number, size)
                for number, output in enumerate(exported.outputs)
            },
        },
    }


def _given(graph: Graph, number: int, size: int | str) -> dict[str, Any]:
    output, channels = graph.exported.outputs[number], graph.expected[number].shape[1]
    of_targets = {"structure", "class"} & set(output.axes)
    names = graph.predictor.targets if of_targets else [output.name] * channels
    return {
        "type": "probabilities" if of_targets else "image",
        "format": "probabilities" if of_targets else "magnitude",
        "num_channels": channels,
        "spatial_shape": [size, size] if "height" in output.axes else [],
        "dtype": "float32",
        "value_range": list(output.range),
        "is_patch_data": False,
        "channel_def": {str(channel): name for channel, name in enumerate(names)},
    }


def _version(package: str, default: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return default
