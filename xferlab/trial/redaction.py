"""What a trial may say of images that it cannot read: its failures are records, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, Problem


@contextmanager
def redact_names(sections: Mapping[str, DataSection]) -> Iterator[None]:
    """Takes names of files and patients out of what reading sections raises, unless all are shareable.

    Raises:
        DataError: Images cannot be used; says of how many, and how to see which.
        OSError: As it was raised, without the file's name.
    """
    if all(config.shareable for config in sections.values()):
        yield
        return
    try:
        yield
    except DataError as error:
        raise DataError(_unnamed(error, sections)) from None
    except OSError as error:
        raise OSError(error.errno, f"{_where(sections)}: {error.strerror or type(error).__name__}") from None


def _where(sections: Mapping[str, DataSection]) -> str:
    return f"data.{'+'.join(sections)}"


def _unnamed(error: DataError, sections: Mapping[str, DataSection]) -> list[Problem]:
    """What is said of the folders of sections, and the number of all other problems."""
    roots = {str(Path(config.folder)) for config in sections.values()}
    shown = [problem for problem in error.problems if problem.where in roots]
    number = len(error.problems) - len(shown)
    if number:
        what = (
            f"{number} problems, which are not shown here, since they may name patients and the section is "
            "not `shareable`; `xferlab check STUDY` shows them where the data is. If it finds none, the data "
            "changed since the study was planned: plan it again."
        )
        shown.append(Problem(_where(sections), what))
    return shown
