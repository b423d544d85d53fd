"""Public sets of chest X-rays, as their authors lay them out.

Pixel spacings: JSRT from Shiraishi et al. (2000), Am J Roentgenol 174:71-74; Montgomery from the readme of
the set, which Jaeger et al. (2014) describe, Quant Imaging Med Surg 4:475-477. Shenzhen has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from xferlab.data.formats import PILLOW


@dataclass(frozen=True)
class RawImages:
    """Files that hold nothing but pixels.

    Attributes:
        ending: Of their names, in lower case.
        side_px: Rows, and columns.
        dtype: Of the pixels, as NumPy writes it.
        bits: How many of each value are used.
        shrink: Masks have this many times fewer rows and columns.
        inverted: Whether bone is dark in them.
    """

    ending: str
    side_px: int
    dtype: str
    bits: int
    shrink: int
    inverted: bool


@dataclass(frozen=True)
class Sampling:
    """How many pixels the images of a set have as published, and how far apart these are.

    Attributes:
        short_px: The shorter side; images may be upright or not.
        long_px: The longer side.
        spacing_mm: Distance between rows and between columns.
    """

    short_px: int
    long_px: int
    spacing_mm: float

    def spacing_of(self, width: int, height: int) -> float | None:
        """Returns the spacing of an image that was resized as a whole; None for one of another shape."""
        short, long = sorted((width, height))
        is_whole = math.isclose(short / long, self.short_px / self.long_px, rel_tol=0.01)
        return self.spacing_mm * self.long_px / long if is_whole else None


@dataclass(frozen=True)
class PublishedSet:
    """Where the files of a public set are.

    Attributes:
        name: Short, as the command line has it.
        title: What a message calls it.
        marks: Folders that tell it apart from others; all must be there, each under one of its names.
        images: Regular expression for paths of images. The group `id` joins them with masks and, without a
            group `patient`, is the patient; `class` is what `classes` names.
        masks: Those of masks, by structure. Other groups than `id` are columns of the table.
        parts: Structures that are made of others.
        merged: Masks of several structures: column -> structure -> its value. Studies of published papers
            read these; where structures overlap, the first one counts.
        classes: `class`, in capital letters -> the table's `pathology`.
        raw: How images without a header are stored.
        sampling: Their pixels, where the authors state the spacing.
    """

    name: str
    title: str
    marks: tuple[tuple[str, ...], ...]
    images: str
    masks: Mapping[str, str]
    parts: Mapping[str, tuple[str, ...]]
    merged: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, str]
    raw: RawImages | None = None
    sampling: Sampling | None = None


_ENDING = f"(?:{'|'.join(map(re.escape, PILLOW))})"
_MONTGOMERY_ID = "(?P<id>MCUCXR_[0-9]{4}_(?P<class>[01]))"
# A published copy of the Shenzhen set has Montgomery's images and masks in the same folders.
_SHENZHEN_ID = "(?P<id>(?:MCU|CHN)CXR_[0-9]{4}_(?P<class>[01]))"
_NLM_CLASSES = {"0": "normal", "1": "tuberculosis"}
_SCR_MASK = "fold(?P<fold>[12])/masks/{}/(?P<id>JPC[LN]N[0-9]{{3}})" + _ENDING

SETS = (
    PublishedSet(
        name="montgomery",
        title="the Montgomery County set of chest X-rays",
        marks=(("CXR_png",), ("ManualMask",)),
        images=f"CXR_png/{_MONTGOMERY_ID}{_ENDING}",
        masks={
            "left_lung": f"leftMask/{_MONTGOMERY_ID}{_ENDING}",
            "right_lung": f"rightMask/{_MONTGOMERY_ID}{_ENDING}",
        },
        parts={"lungs": ("left_lung", "right_lung")},
        merged={"mask": {"left_lung": 255, "right_lung": 255}},
        classes=_NLM_CLASSES,
        sampling=Sampling(4020, 4892, 0.0875),
    ),
    PublishedSet(
        name="shenzhen",
        title="the Shenzhen set of chest X-rays",
        marks=(("CXR_png",), ("mask", "masks")),
        images=f"CXR_png/{_SHENZHEN_ID}{_ENDING}",
        masks={"lungs": f"masks?/{_SHENZHEN_ID}(?:_mask)?{_ENDING}"},
        parts={},
        merged={"mask": {"lungs": 255}},
        classes=_NLM_CLASSES,
    ),
    PublishedSet(
        name="jsrt",
        title="the JSRT set of chest X-rays, with the masks of SCR",
        marks=(("fold1/masks",), ("fold2/masks",)),
        images=r"(?P<id>JPC(?P<class>[LN])N[0-9]{3})\.(?:img|png|jpe?g|tiff?|bmp)",
        masks={
            "left_lung": _SCR_MASK.format("left lung"),
            "right_lung": _SCR_MASK.format("right lung"),
            "heart": _SCR_MASK.format("heart"),
            "left_clavicle": _SCR_MASK.format("left clavicle"),
            "right_clavicle": _SCR_MASK.format("right clavicle"),
        },
        parts={"lungs": ("left_lung", "right_lung"), "clavicles": ("left_clavicle", "right_clavicle")},
        merged={
            "mask": {"heart": 85, "left_lung": 170, "right_lung": 255},
            "mask_lungs": {"left_lung": 170, "right_lung": 255},
            "mask_clavicles": {"left_clavicle": 170, "right_clavicle": 255},
        },
        classes={"L": "nodule", "N": "normal"},
        raw=RawImages(".img", 2048, ">u2", 12, shrink=2, inverted=True),
        sampling=Sampling(2048, 2048, 0.175),
    ),
    PublishedSet(
        name="kermany",
        title="Kermany's set of chest X-rays",
        marks=(("NORMAL",), ("PNEUMONIA",)),
        images=f"(?P<class>NORMAL|PNEUMONIA)/(?P<id>(?P<patient>person[0-9]+|(?:NORMAL2-)?IM-[0-9]+)[^/]*){_ENDING}",
        masks={},
        parts={},
        merged={},
        classes={"NORMAL": "normal", "PNEUMONIA": "pathological"},
    ),
)
