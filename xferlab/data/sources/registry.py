"""The one list of kinds of sources; each is a folder with its configuration and its reader."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from xferlab.data.sources.config import NAMING_COLUMNS
from xferlab.data.sources.lgg.config import LggData
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.phantom.config import PhantomCxrData, PhantomMriData

if TYPE_CHECKING:  # a study is checked without the readers and what they import
    from xferlab.data.sources.source import Source

__all__ = ["NAMING_COLUMNS", "DataSection", "open_source", "read_section", "section_if_known"]

DataSection = Annotated[
    ManifestData | LggData | PhantomMriData | PhantomCxrData, Field(discriminator="source")
]

_SECTION: TypeAdapter[DataSection] = TypeAdapter(DataSection)


def read_section(config: Mapping[str, Any]) -> DataSection:
    """Returns a section from its configuration as JSON.

    Raises:
        pydantic.ValidationError: It is not valid; never in a study that was loaded.
    """
    return _SECTION.validate_python(config)


def section_if_known(config: Mapping[str, Any]) -> DataSection | None:
    """Returns a section from a record's configuration; None if it is empty or of another version."""
    try:
        return read_section(config)
    except ValidationError:
        return None


def open_source(section_name: str, config: DataSection, *, memo_dir: Path) -> Source:
    """Returns the source of a data section; nothing is read yet.

    Args:
        section_name: As in the study, for messages.
        config: The section; its root is absolute.
        memo_dir: Where digests of known files are kept between runs.
    """
    # By name, so that a study of one kind of data does not import the readers of the others.
    module = import_module(type(config).__module__.removesuffix("config") + "reading")
    source: Source = getattr(module, config.reader)(section_name, config, memo_dir=memo_dir)
    return source
