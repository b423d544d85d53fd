"""What float32 means: IEEE single precision, and products of fewer bits only where that is asked for.

Libraries shorten float32 on their own: cuDNN multiplies in TF32 (10 bits of mantissa) unless told otherwise,
and oneDNN in bfloat16 if a variable of the environment says so. The switches belong to the process, and a
worker's process is used by trials with other options, so they are set wherever something is computed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from xferlab.errors import MachineError

_ONEDNN_VARIABLES = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")


@contextmanager
def float32(*, tf32: bool = False) -> Iterator[None]:
    """Computes in IEEE single precision, or on CUDA in TF32, while the context is open.

    Sums of bfloat16 products are never shortened. On exit the process is as it was before.

    Args:
        tf32: Whether convolutions and matrix products of float32 may be rounded to TF32.

    Raises:
        MachineError: A variable of the environment makes oneDNN compute float32 in fewer bits, which nothing
            can undo in a running process.
    """
    _refuse_shortened_onednn()
    before = _State.read()
    _State.of(tf32=tf32).write()
    try:
        yield
    finally:
        before.write()


class _State:
    """The switches of this process; PyTorch 2.9 has a second set of them, which must agree with the first."""

    def __init__(self, cudnn: bool, matmul: str, *, sums: bool, operations: tuple[str, ...]):
        self._cudnn, self._matmul, self._sums, self._operations = cudnn, matmul, sums, operations

    @staticmethod
    def of(*, tf32: bool) -> _State:
        matmul, operation = ("high", "tf32") if tf32 else ("highest", "ieee")
        return _State(tf32, matmul, sums=False, operations=(operation,) * len(_operations()))

    @staticmethod
    def read() -> _State:
        try:
            cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        except RuntimeError:  # the two sets differ
            cudnn, matmul = False, "highest"
        sums = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        operations = tuple(operation.fp32_precision for operation in _operations())
        return _State(cudnn, matmul, sums=sums, operations=operations)

    def write(self) -> None:
        torch.backends.cudnn.allow_tf32 = self._cudnn
        torch.set_float32_matmul_precision(self._matmul)
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = self._sums
        # Last: writing the first set resets these.
        for operation, precision in zip(_operations(), self._operations, strict=True):
            operation.fp32_precision = precision


def _operations() -> tuple[Any, ...]:
    """Returns what has a precision of its own from PyTorch 2.9 on."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    if not hasattr(cudnn, "conv"):
        return ()
    return cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul, mkldnn.conv, mkldnn.matmul


def _refuse_shortened_onednn() -> None:
    for name in _ONEDNN_VARIABLES:
        value = os.environ.get(name, "")
        if value.upper() not in ("", "STRICT"):
            raise MachineError(
                f"the environment variable {name} is {value!r}, and oneDNN computes float32 in fewer bits "
                "then; unset it, or set it to STRICT, and run again"
            )
