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
