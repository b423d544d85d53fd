"""What a trial may say of images that it cannot read: its failures are records, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, Problem


@contextmanager
def redact_names(section: str, config: DataSection) -> Iterator[None]:
    """Takes names of files and patients out of what reading a section raises, unless it is shareable.

    Raises:
        DataError: Images cannot be used; says of how many, and how to see which.
        OSError: As it was raised, without the file's name.
    """
    if config.shareable:
        yield
        return
    try:
        yield
    except DataError as error:
        raise DataError(_unnamed(error, section, config)) from None
    except OSError as error:
        raise OSError(error.errno, f"data.{section}: {error.strerror or type(error).__name__}") from None


def _unnamed(error: DataError, section: str, config: DataSection) -> list[Problem]:
    """What is said of the section's folder, and the number of all other problems."""
    root = str(Path(config.folder))
    shown = [problem for problem in error.problems if problem.where == root]
    number = len(error.problems) - len(shown)
    if number:
        what = (
            f"{number} problems, which are not shown here, since they may name patients and the section is "
            "not `shareable`; `xferlab check STUDY` shows them where the data is. If it finds none, the data "
            "changed since the study was planned: plan it again."
        )
        shown.append(Problem(f"data.{section}", what))
    return shown
