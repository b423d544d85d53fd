"""Who is in each data section, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xferlab.cohort import Case
from xferlab.data.check import check_sections
from xferlab.data.sources import open_source
from xferlab.errors import DataError, Problem
from xferlab.study.schema import DataSection

__all__ = ["check_sections", "index_sections"]


def index_sections(sections: Mapping[str, DataSection], *, memo_dir: Path) -> dict[str, tuple[Case, ...]]:
    """Returns the cases of every section, by patient and name; no image is decoded, known files are not read.

    Args:
        sections: Data sections by name, roots absolute.
        memo_dir: Where digests of known files are kept between runs.

    Raises:
        DataError: With all errors of all sections.
    """
    surveys = {name: open_source(name, config, memo_dir=memo_dir).survey for name, config in sections.items()}
    found = [problem for survey in surveys.values() for problem in survey.problems]
    errors: list[Problem] = [problem for problem in found if problem.severity == "error"]
    if errors:
        raise DataError(errors)
    return {name: survey.cases for name, survey in surveys.items()}
