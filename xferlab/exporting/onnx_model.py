"""A trained network as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xferlab.exporting.graph import INPUT, INPUT_AXES, Graph, need, quiet

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

    names = [output.name for output in graph.exported.outputs]
    with quiet():
        program = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_axes(model, graph)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs = session.run(names, {INPUT: graph.case.numpy()})
    return data, graph.difference(outputs, made=MODEL)


def _name_axes(model: onnx.ModelProto, graph: Graph) -> None:
    """Gives free axes the names that `preprocessing.json` has, in place of numbers of the exporter's."""
    axes = [INPUT_AXES, *(output.axes for output in graph.exported.outputs)]
    for value, names in zip([model.graph.input[0], *model.graph.output], axes, strict=True):
        for size, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if not size.HasField("dim_value"):
                size.dim_param = name
    del model.graph.value_info[:]
