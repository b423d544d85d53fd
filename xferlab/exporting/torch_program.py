"""A trained network as a file of `torch.export`."""

from __future__ import annotations

import io

import torch

from xferlab.exporting.graph import Graph, quiet, run

MODEL = "model.pt2"


def program_bytes(graph: Graph, *, file: str = MODEL) -> tuple[bytes, float]:
    """Returns the file, and its largest difference from the network, read again.

    Raises:
        ExportError: It differs too much.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(graph.program, buffer)
        again = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), graph.difference(run(again, graph.case), made=file)
