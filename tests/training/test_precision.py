"""float32 is IEEE single precision wherever a network is evaluated, whatever ran in the process before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.learners import Cases, Small, trainer
from xferlab.errors import MachineError
from xferlab.training.precision import float32


def switches() -> dict[str, Any]:
    """All that shortens float32 products or sums in this process."""
    backends = torch.backends
    values = {
        "cudnn": backends.cudnn.allow_tf32,
        "matmul": torch.get_float32_matmul_precision(),
        "cuda matmul": backends.cuda.matmul.allow_tf32,
        "bfloat16 sums": backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    }
    if hasattr(backends.cudnn, "conv"):
        operations = {"conv": backends.cudnn.conv, "rnn": backends.cudnn.rnn, "mm": backends.cuda.matmul}
        operations |= {"cpu conv": backends.mkldnn.conv, "cpu mm": backends.mkldnn.matmul}
        values |= {name: operation.fp32_precision for name, operation in operations.items()}
    return values


def shortened() -> list[str]:
    """Names of the switches that are not IEEE."""
    return [name for name, value in switches().items() if value not in (False, "highest", "ieee")]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = switches()
    yield
    assert switches() == before


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_only_steps_of_a_training_that_asks_for_it_are_shortened(precision: str) -> None:
    learner, seen = Small(precision=precision), []
    learner.network.register_forward_pre_hook(
        lambda network, inputs: seen.append((network.training, shortened()))
    )
    trainer(learner, max_epochs=1).fit(Cases(8), Cases(4))
    (training, first), (_, second), (validating, validation) = seen
    assert (training, validating, validation) == (True, False, [])
    assert first == second
    assert {"cudnn", "cuda matmul"} <= set(first) if precision == "tf32" else first == []
    assert "bfloat16 sums" not in first


@pytest.mark.parametrize(
    ("validation", "expected"),
    [(None, torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_validation_computes_in_float32_or_as_it_is_told(
    validation: str | None, expected: torch.dtype
) -> None:
    learner, seen = Small(precision="bfloat16", validation=validation), []
    learner.network[-1].register_forward_hook(
        lambda layer, inputs, output: seen.append((output.dtype, shortened()))
    )
    outputs = list[torch.Tensor]()
    assert np.isfinite(learner.validation_loss(Cases(4), outputs.append))
    ((dtype, switched),) = seen
    assert dtype == expected
    assert outputs[0].dtype == torch.float32
    assert ("cudnn" in switched) == (validation == "tf32")


SWITCHED = """
import torch
from tests.training.test_precision import shortened
from xferlab.training.precision import float32
if hasattr(torch.backends, "fp32_precision"):
    torch.backends.fp32_precision = "tf32"
with float32():
    assert shortened() == []
"""


def test_ieee_holds_where_somebody_has_used_the_switches_of_pytorch_2_9() -> None:
    """In a process of its own: no switch restores the mixture that PyTorch begins with."""
    subprocess.run([sys.executable, "-c", SWITCHED], check=True, cwd=Path(__file__).parents[2])


CONVOLUTION = """
import torch
from xferlab.errors import MachineError
from xferlab.training.precision import float32
try:
    with float32():
        torch.manual_seed(0)
        images, kernels = torch.randn(1, 32, 32, 32), torch.randn(32, 32, 3, 3)
        exact = torch.conv2d(images.double(), kernels.double())
        print(float((torch.conv2d(images, kernels) - exact).abs().max() / exact.abs().max()))
except MachineError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"), ("DNNL_DEFAULT_FPMATH_MODE", "any")],
)
def test_a_variable_that_shortens_float32_on_the_cpu_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with (
        pytest.raises(
            MachineError, match=rf"variable {variable} is '{value}', .* unset it, or set it to STRICT"
        ),
        float32(),
    ):
        raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}])
def test_a_convolution_on_the_cpu_agrees_with_float64(variables: dict[str, str]) -> None:
    said = subprocess.run(
        [sys.executable, "-c", CONVOLUTION], env={**os.environ, **variables}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert float(said.stdout) < 1e-6
