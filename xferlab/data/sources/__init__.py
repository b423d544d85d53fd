"""Where images come from: one file for each kind of source, and one entry here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from xferlab.data.sources.source import IGNORED, STRUCTURE, Decoded, Source, Survey
from xferlab.study.sections import DataSection

__all__ = ["IGNORED", "STRUCTURE", "Decoded", "Source", "Survey", "open_source"]

# By name, so that a study of one kind of data does not import the readers of the others.
_SOURCES = {
    "manifest": "xferlab.data.sources.manifest:ManifestSource",
    "lgg": "xferlab.data.sources.lgg:LggSource",
    "phantom_mri": "xferlab.data.sources.phantom:PhantomMriSource",
    "phantom_cxr": "xferlab.data.sources.phantom:PhantomCxrSource",
}


def open_source(section_name: str, config: DataSection, *, memo_dir: Path) -> Source:
    """Returns the source of a data section; nothing is read yet.

    Args:
        section_name: As in the study, for messages.
        config: The section; its root is absolute.
        memo_dir: Where digests of known files are kept between runs.
    """
    module, _, name = _SOURCES[config.source].partition(":")
    source: Source = getattr(import_module(module), name)(section_name, config, memo_dir=memo_dir)
    return source
