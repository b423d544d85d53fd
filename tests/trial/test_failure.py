"""What is told of a failure: its kind, by type and message as libraries write them, and no private name."""

from __future__ import annotations

import errno
import importlib
from typing import Any

import pytest
from pydantic import TypeAdapter

from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, NonFiniteLossError, Problem, StorageError
from xferlab.trial.failure import Kind, described, kind_of, lost, on_device, signature
from xferlab.trial.redaction import redact_names

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB"
CUBLAS_MEMORY = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously"


@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("MemoryError", "", Kind.MEMORY),
        ("_ArrayMemoryError", "Unable to allocate 7.28 TiB for an array", Kind.MEMORY),
        ("RuntimeError", ALLOCATOR, Kind.MEMORY),
        ("OutOfMemoryError", CUDA_MEMORY, Kind.MEMORY),
        ("AcceleratorError", "CUDA error: out of memory", Kind.MEMORY),
        ("OSError", "[Errno 12] Cannot allocate memory", Kind.MEMORY),
        ("WorkerLost", "Ray killed its worker: out of memory, the node was running low", Kind.MEMORY),
        ("AcceleratorError", ILLEGAL, Kind.DEVICE),
        ("RuntimeError", ILLEGAL, Kind.DEVICE),
        ("RuntimeError", "CUDA error: device-side assert triggered", Kind.DEVICE),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", Kind.DEVICE),
        ("RuntimeError", CUBLAS_MEMORY, Kind.MEMORY),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", Kind.MEMORY),
        ("RuntimeError", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Kind.MEMORY),
        ("RuntimeError", "Triton Error [CUDA]: an illegal memory access was encountered", Kind.DEVICE),
        ("RuntimeError", "CUDA driver error: unknown error", Kind.DEVICE),
        ("RuntimeError", "CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", Kind.DEVICE),
        ("NonFiniteLossError", "the training loss became nan in epoch 3", Kind.HOPELESS),
        ("DataError", "", Kind.MACHINE),
        ("TaskError", "", Kind.HOPELESS),
        ("PluginError", "", Kind.MACHINE),
        ("DonorError", "", Kind.MACHINE),
        ("FileUnavailableError", "", Kind.MACHINE),
        ("MachineError", "", Kind.MACHINE),
        ("WorkerLost", "its worker ended without giving a reason", Kind.LOST),
        ("StorageError", "trials/x: cannot be written: [Errno 28] No space left on device", Kind.OTHER),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", Kind.OTHER),
        ("KeyError", "'cuda'", Kind.OTHER),
    ],
)  # fmt: skip
def test_the_kind_follows_from_type_and_message(name: str, message: str, kind: Kind) -> None:
    assert kind_of(name, message) is kind


def test_memory_of_the_device_differs_from_that_of_the_host() -> None:
    for message in (CUDA_MEMORY, CUBLAS_MEMORY, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"):
        assert on_device({"type": "RuntimeError", "message": message})
    assert not on_device({"type": "RuntimeError", "message": ALLOCATOR})


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_what_libraries_really_raise_is_a_lack_of_memory(library: str) -> None:
    module = importlib.import_module(library)
    with pytest.raises(Exception, match="allocate") as raised:
        module.empty(2**46, dtype=module.float32)
    assert described(raised.value, epoch=0)["kind"] == "memory"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NonFiniteLossError("nan"), "hopeless"),
        (DataError(Problem("x", "y")), "machine"),
        (StorageError("full"), "other"),
        (MemoryError(), "memory"),
    ],
)
def test_an_error_describes_itself(error: Exception, kind: str) -> None:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - any
        failure = described(caught, epoch=4)
    assert (failure["type"], failure["kind"], failure["epoch"]) == (type(error).__name__, kind, 4)
    assert "test_failure.py" in failure["traceback"]
    assert set(failure) == set(lost(""))
    assert 0.01 < failure["memory_peak_gib"] < 64


def test_the_same_error_of_two_trials_has_one_signature() -> None:
    first = {
        "type": "ValueError",
        "message": "a/general/r01 (0123456789abcdef): 3 of 24 at 0x7f12ab, 1.5e-3",
    }
    second = {
        "type": "ValueError",
        "message": "b/general/r12 (fedcba9876543210): 7 of 96 at 0x55d0cc, 2.5e-9",
    }
    same = signature(first, "a/general/r01"), signature(second, "b/general/r12")
    assert len(set(same)) == 1
    assert signature({**first, "type": "KeyError"}) != same[0]


ROOT = "/data/hospital"
PROBLEMS = [
    Problem(f"{ROOT}/jane_doe.png", "is no image."),
    Problem(f"{ROOT}/metadata.csv:3", "image and mask equal those of jane_doe.png, patient jane_doe."),
    Problem("data.cxr", "patient 'jane_doe' has most images."),
]


def section(**fields: Any) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(DataSection)
    return adapter.validate_python({"source": "manifest", "root": ROOT} | fields)


def test_a_private_section_reports_a_number_no_name_and_problems_of_the_folder() -> None:
    of_folder = Problem(ROOT, "there is no such folder.")
    with pytest.raises(DataError) as caught, redact_names({"cxr": section()}):
        raise DataError([of_folder, *PROBLEMS])
    assert "jane" not in str(caught.value)
    first, second = caught.value.problems
    assert first == of_folder
    assert str(second).startswith("data.cxr: 3 problems, which are not shown here")
    assert caught.value.__suppress_context__  # a traceback would quote the other
    with pytest.raises(DataError) as caught, redact_names({"cxr": section()}):
        raise DataError(of_folder)
    assert caught.value.problems == (of_folder,)


def test_a_shareable_section_and_other_errors_are_not_redacted() -> None:
    with pytest.raises(DataError, match=r"jane_doe\.png"), redact_names({"cxr": section(shareable=True)}):
        raise DataError(PROBLEMS)
    with pytest.raises(StorageError, match="cache"), redact_names({"cxr": section()}):
        raise StorageError("cache is full")


def test_an_error_of_the_system_loses_only_its_file() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", f"{ROOT}/jane_doe")
    with pytest.raises(PermissionError) as caught, redact_names({"cxr": section()}):
        raise error
    assert caught.value.strerror == "data.cxr: Permission denied"
    assert "jane" not in str(caught.value)
