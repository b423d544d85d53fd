"""A trained network as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from xferlab.exporting.graph import INPUT, Graph, need, quiet

if TYPE_CHECKING:
    import onnx

MODEL = "model.onnx"
OPSET = 18
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def onnx_bytes(graph: Graph) -> tuple[bytes, float]:
    """Returns the file, and its largest difference from the network, computed by ONNX Runtime.

    Raises:
        UsageError: ONNX or its runtime is not installed.
        ExportError: It differs too much.
    """
    need(_PACKAGES, format="onnx")
    import onnxruntime

    outputs = [output.name for output in graph.exported.outputs]
    with quiet():
        program = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_axes(model, graph)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(outputs, {INPUT: graph.case.numpy()})
    return data, graph.difference(found, made=MODEL)


def _name_axes(model: onnx.ModelProto, graph: Graph) -> None:
    """Gives free axes the names that `preprocessing.json` has, in place of numbers of the exporter's."""
    _name((model.graph.input[0],), ("batch", "channel", "height", "width"))
    for value, output in zip(model.graph.output, graph.exported.outputs, strict=True):
        _name((value,), output.axes)
    del model.graph.value_info[:]


def _name(values: Any, axes: tuple[str, ...]) -> None:
    for value in values:
        for size, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if not size.HasField("dim_value"):
                size.dim_param = axis
