"""The one list of kinds of sources; each is a folder with its configuration and its reader."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
)

from xferlab import plugins
from xferlab.data.sources.config import NAMING_COLUMNS, SourceConfig
from xferlab.data.sources.lgg.config import LggData
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.phantom.config import PhantomCxrData, PhantomMriData
from xferlab.errors import PluginError, suggest

if TYPE_CHECKING:  # a study is checked without the readers and what they import
    from xferlab.data.sources.source import Source

__all__ = ["NAMING_COLUMNS", "DataSection", "open_source", "read_section", "section_if_known"]

KINDS = ("manifest", "lgg", "phantom_mri", "phantom_cxr")
"""Values of `source` of the sections here."""


def _added(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validates a section as the class that an installed package declares for its `source`, or as ours."""
    name = value.get("source") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in (*KINDS, *plugins.names(plugins.SOURCES)):
        return value if isinstance(value, SourceConfig) else handler(value)
    try:
        plugin = plugins.find(plugins.SOURCES, name, built_in=KINDS)
        return _as_declared(value, plugin) if plugin else handler(value)
    except PluginError as error:
        raise ValueError(str(error)) from error


def _as_declared(value: Mapping[str, Any], plugin: plugins.Plugin) -> SourceConfig:
    kind: type[SourceConfig] = plugin.load(
        lambda loaded: isinstance(loaded, type) and issubclass(loaded, SourceConfig),
        expected="a subclass of xferlab.data.sources.config.SourceConfig",
    )
    for field in value.keys() - kind.model_fields.keys():  # else our own sections' fields would be suggested
        hint = suggest(field, kind.model_fields) or f" Fields: {', '.join(kind.model_fields)}."
        raise ValueError(f"unknown field {field!r} of source {plugin.name!r}.{hint}")
    return kind.model_validate(value)


def _dumped(value: Any, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
    if type(value).__module__.startswith(f"{__package__}."):
        return handler(value)
    return value.model_dump(mode=info.mode, exclude_none=info.exclude_none, exclude_unset=info.exclude_unset)


DataSection = Annotated[
    Annotated[ManifestData | LggData | PhantomMriData | PhantomCxrData, Field(discriminator="source")],
    WrapValidator(_added),
    WrapSerializer(_dumped),
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
    module, _, reader = config.reader.rpartition(":")
    reading = import_module(module or type(config).__module__.removesuffix("config") + "reading")
    source: Source = getattr(reading, reader)(section_name, config, memo_dir=memo_dir)
    return source
