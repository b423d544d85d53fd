"""The one list of kinds of sources; each is a folder with its configuration and its reader."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
from pydantic_core import PydanticKnownError

from xferlab import plugins
from xferlab.data.sources.config import NAMING_COLUMNS, SourceConfig
from xferlab.data.sources.lgg.config import LggData
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.phantom.config import PhantomCxrData, PhantomMriData
from xferlab.errors import PluginError, suggest

if TYPE_CHECKING:  # a study is checked without the readers and what they import
    from xferlab.data.sources.source import Source

__all__ = [
    "NAMING_COLUMNS",
    "DataSection",
    "check_package",
    "open_source",
    "read_section",
    "section_if_known",
    "told",
]

KINDS = ("manifest", "lgg", "phantom_mri", "phantom_cxr")
"""Values of `source` of the sections here."""
_PACKAGE = "package"
"""Key in a section that trials are told: name and version of the package that its source comes from."""


def _added(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validates a section as the class that an installed package declares for its `source`, or as ours."""
    name = value.get("source") if isinstance(value, Mapping) else None
    if not isinstance(name, str):
        return value if isinstance(value, SourceConfig) else handler(value)
    if name not in (known := (*KINDS, *plugins.names(plugins.SOURCES))):
        tags = {"discriminator": "'source'", "tag": name, "expected_tags": ", ".join(map(repr, known))}
        raise PydanticKnownError("union_tag_invalid", tags)
    try:
        plugin = plugins.find(plugins.SOURCES, name, built_in=KINDS)
        return _as_declared(value, plugin) if plugin else handler(value)
    except PluginError as error:
        raise ValueError(str(error)) from error


def _as_declared(value: Mapping[str, Any], plugin: plugins.Plugin) -> SourceConfig:
    kind: type[SourceConfig] = plugin.load(
        lambda loaded: (
            isinstance(loaded, type)
            and issubclass(loaded, SourceConfig)
            and _PACKAGE not in loaded.model_fields
        ),
        expected=f"a subclass of xferlab.data.sources.config.SourceConfig without a field {_PACKAGE!r}",
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
    """Returns a section from its configuration as JSON, or as `told`.

    Raises:
        pydantic.ValidationError: It is not valid; never in a study that was loaded.
    """
    return _SECTION.validate_python({name: value for name, value in config.items() if name != _PACKAGE})


def section_if_known(config: Mapping[str, Any]) -> DataSection | None:
    """Returns a section from a record's configuration; None if it is empty or of another version."""
    try:
        return read_section(config)
    except ValidationError:
        return None


def told(config: DataSection, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns a section as JSON for a trial: `package` names that of its source, unless the source is ours.

    Args:
        config: The section.
        without: Fields that are left out.
    """
    package = _package_of(config.source)
    fields = config.model_dump(mode="json", exclude=set(without))
    return {**fields, **({_PACKAGE: package} if package else {})}


def check_package(config: Mapping[str, Any]) -> None:
    """Refuses what `told` gave where another package, or version of it, was installed.

    Raises:
        PluginError: The source would decode images that the trial was not planned with.
    """
    plugins.check_release(plugins.SOURCES, config["source"], config.get(_PACKAGE), built_in=KINDS)


def _package_of(name: str) -> str | None:
    return plugins.release(plugins.SOURCES, name, built_in=KINDS)


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
    source.package = _package_of(config.source)
    return source
