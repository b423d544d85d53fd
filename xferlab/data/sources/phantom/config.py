"""Sections of procedural images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from xferlab.data.sources.config import BrainSlices, SourceConfig
from xferlab.section import Count, Int


class _Phantoms(SourceConfig):
    seed: Int = Field(0, ge=0)
    """Another seed gives other patients."""
    size_px: Int = Field(256, ge=32, le=1024)
    """Side of the rendered image."""


class PhantomMriData(BrainSlices, _Phantoms):
    """Procedural brain MRI with FLAIR-like lesions, three channels."""

    reader: ClassVar[str] = "PhantomMriSource"

    source: Literal["phantom_mri"]
    """Kind of this section."""
    count: Count
    """Number of slices."""


class PhantomCxrData(_Phantoms):
    """Procedural chest X-rays of clear, COVID-19-like and otherwise pathological lungs."""

    reader: ClassVar[str] = "PhantomCxrSource"
    contents: ClassVar[str] = "chest X-rays"
    marked: ClassVar[tuple[str, ...]] = ("lung", "left_lung", "right_lung", "heart", "clavicles")

    source: Literal["phantom_cxr"]
    """Kind of this section."""
    count: Count | Annotated[dict[Literal["covid19", "normal", "pathological"], Count], Field(min_length=1)]
    """Number of images: one number, shared equally, or a number for each pathology."""
