from __future__ import annotations

import errno
from typing import Any

import pytest
from pydantic import TypeAdapter

from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, Problem, StorageError
from xferlab.trial.redaction import redact_names

ROOT = "/data/hospital"
PROBLEMS = [
    Problem(f"{ROOT}/jane_doe.png", "is no image."),
    Problem(f"{ROOT}/metadata.csv:3", "image and mask equal those of jane_doe.png, patient jane_doe."),
    Problem("data.cxr", "patient 'jane_doe' has most images."),
]


def section(**fields: Any) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(DataSection)
    return adapter.validate_python({"source": "manifest", "root": ROOT} | fields)


def test_a_private_section_tells_how_many_and_nobody() -> None:
    with pytest.raises(DataError) as caught, redact_names("cxr", section()):
        raise DataError(PROBLEMS)
    assert "jane" not in str(caught.value)
    assert str(caught.value).startswith("data.cxr: 3 problems, which are not shown here")
    assert caught.value.__suppress_context__  # a traceback would quote the other


def test_what_is_said_of_the_folder_stays() -> None:
    whole = Problem(ROOT, "there is no such folder.")
    with pytest.raises(DataError) as caught, redact_names("cxr", section()):
        raise DataError(whole)
    assert caught.value.problems == (whole,)


def test_a_shareable_section_says_it_all() -> None:
    with pytest.raises(DataError, match=r"jane_doe\.png"), redact_names("cxr", section(shareable=True)):
        raise DataError(PROBLEMS)


def test_an_error_of_the_system_loses_its_file_alone() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", f"{ROOT}/jane_doe")
    with pytest.raises(PermissionError) as caught, redact_names("cxr", section()):
        raise error
    assert caught.value.strerror == "data.cxr: Permission denied"
    assert "jane" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(StorageError, match="cache"), redact_names("cxr", section()):
        raise StorageError("cache is full")
