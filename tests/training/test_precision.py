"""float32 is IEEE single precision wherever a network is evaluated, whatever ran in the process before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tasks.segmentation.test_resized import make_examples, make_task, network
from tests.training.test_loop import recipe
from xferlab.errors import TrainingError
from xferlab.training.loop import Trainer
from xferlab.training.precision import float32

pytestmark = pytest.mark.component
ALL = np.arange(2)


def switches() -> dict[str, Any]:
    """All that shortens float32 products or sums in this process."""
    backends = torch.backends
    found = {
        "cudnn": backends.cudnn.allow_tf32,
        "matmul": torch.get_float32_matmul_precision(),
        "cuda matmul": backends.cuda.matmul.allow_tf32,
        "bfloat16 sums": backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    }
    if hasattr(backends.cudnn, "conv"):
        operations = {"conv": backends.cudnn.conv, "rnn": backends.cudnn.rnn, "mm": backends.cuda.matmul}
        operations |= {"cpu conv": backends.mkldnn.conv, "cpu mm": backends.mkldnn.matmul}
        found |= {name: operation.fp32_precision for name, operation in operations.items()}
    return found


def shortened() -> list[str]:
    """Names of the switches that are not IEEE."""
    return [name for name, value in switches().items() if value not in (False, "highest", "ieee")]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = switches()
    yield
    assert switches() == before


class Spy(nn.Module):
    """A network that notes what is shortened whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = network(), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, shortened()))
        return self.inner(images)


def trained(spy: Spy, **changed: Any) -> None:
    trainer = Trainer(spy, make_task(), recipe(batch_size=5, max_epochs=1, **changed))
    trainer.fit(make_examples(), make_examples(rows=[0, 1, 2, 3]))


def test_a_training_in_float32_and_its_validation_are_ieee() -> None:
    spy = Spy()
    trained(spy)
    assert spy.seen == [(True, []), (True, []), (False, [])]


def test_tf32_is_for_the_steps_of_a_training_that_asks_for_it_alone() -> None:
    spy = Spy()
    trained(spy, tf32=True)
    (_, first), (_, second), (training, validation) = spy.seen
    assert {"cudnn", "cuda matmul"} <= set(first) == set(second)
    assert "bfloat16 sums" not in first
    assert not training
    assert not validation


def test_a_prediction_is_ieee_whatever_the_process_allows() -> None:
    spy, task, examples = Spy().eval(), make_task(), make_examples()
    with float32(tf32=True):
        task.predict(spy, task.batch(examples, ALL, None))
        assert "cudnn" in shortened()
    assert spy.seen == [(False, [])]


def test_ieee_holds_where_somebody_has_used_the_switches_of_pytorch_2_9() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        return
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        with float32():
            assert shortened() == []
    finally:
        torch.backends.fp32_precision = before
        torch.backends.cudnn.allow_tf32 = True  # the defaults, which a restored mixture is not
        for operation in (
            torch.backends.cuda.matmul,
            torch.backends.mkldnn.conv,
            torch.backends.mkldnn.matmul,
        ):
            operation.fp32_precision = "none"


CONVOLUTION = """
import torch
from xferlab.errors import TrainingError
from xferlab.training.precision import float32
try:
    with float32():
        torch.manual_seed(0)
        images, kernels = torch.randn(1, 32, 32, 32), torch.randn(32, 32, 3, 3)
        exact = torch.conv2d(images.double(), kernels.double())
        print(float((torch.conv2d(images, kernels) - exact).abs().max() / exact.abs().max()))
except TrainingError as error:
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
            TrainingError, match=rf"variable {variable} is '{value}', .* unset it, or set it to STRICT"
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
