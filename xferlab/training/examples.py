"""Cases on their way to the device: all of one size, or each at its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from xferlab.training.batches import Rows
from xferlab.training.randomness import case_keys
from xferlab.training.upload import uploaded

STRUCTURE, IGNORED = 255, 127
"""Values of a target beside 0, the background; ignored pixels are not to be learnt from or measured."""

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


class NativeImages(Protocol):
    """Cases of any size, such as a table of the image cache."""

    @property
    def spacing_mm(self) -> npt.NDArray[np.float32]:
        """(N, 2): distance of rows and of columns; NaN where unknown."""

    def image(self, row: int) -> Pixels:
        """Returns the image of a row, (C, H, W)."""

    def targets_of(self, row: int) -> Pixels:
        """Returns the targets of a row, (S, H, W): 0 background, 255 structure, 127 ignored."""


class PredictedMasks(Protocol):
    """The masks that another stage predicts of the cases of a set."""

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures, in the order of the planes."""

    def of(self, row: int) -> Pixels:
        """Returns the masks of a case as they were predicted, (S, h, w), 0 and 255."""


class CaseSet:
    """What cases of any size have in common: the labels of whole images, and masks of another stage.

    Attributes:
        labels: (N,) int64, the number of each case's class; empty where labels are not learnt.
        classes: Names of the classes, in the order of the labels.
        masks: What another stage predicts of the cases, where this one takes masks; else None.
        learnt: Names of what the trial learns, in the order of its outputs, where these are several
            structures. A set that is only evaluated may mark some of them, or what the task makes of them
            (`Task.composed`): its targets are those of `structures`. Empty: all of `structures` are learnt.
        set_name: The set of the task that they are of (`Task.sets`); empty where that has one, or where
            nothing is known of them but that they are to be predicted.
        metrics: Names of the metrics of installed packages that they are measured by.
    """

    labels: npt.NDArray[np.int64] = np.empty(0, np.int64)
    classes: tuple[str, ...] = ()
    masks: PredictedMasks | None = None
    learnt: tuple[str, ...] = ()
    set_name: str = ""
    metrics: tuple[str, ...] = ()

    def case(self, row: int) -> tuple[Pixels, Pixels]:
        """Returns the image (C, H, W) and targets (S, H, W) of one case, uint8."""
        raise NotImplementedError

    def masks_of(self, row: int) -> Pixels:
        """Returns the masks of a case that another stage predicts, (S, H, W), uint8, 0 and 255.

        They have the size of the case: stretched by nearest neighbour, as its targets are.
        """
        assert self.masks is not None, "asked for masks of a stage that takes none"
        height, width = self.case(row)[0].shape[-2:]
        planes = [Image.fromarray(plane) for plane in self.masks.of(row)]
        return np.stack(
            [np.asarray(plane.resize((width, height), Image.Resampling.NEAREST)) for plane in planes]
        )

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Returns what `compute` returned the first time that it was asked for under this key."""
        derived: dict[Hashable, object] = self.__dict__.setdefault("_derived", {})
        if key not in derived:
            derived[key] = compute()
        return cast("T", derived[key])

    def label(self, labels: Sequence[int], classes: Sequence[str]) -> None:
        """Gives the cases their labels."""
        self.labels, self.classes = np.array(labels, np.int64), tuple(classes)

    def learn(self, structures: Sequence[str]) -> None:
        """Says what the trial learns, where it is several structures."""
        self.learnt = tuple(structures)


class NativeExamples(CaseSet):
    """Cases of any size; none of their pixels are held.

    Attributes:
        keys: 64 bits of each digest, (N,).
        structures: Names of what the targets mark, in the order of their planes.
        spacing_mm: (N, 2) native row and column spacing, NaN where unknown.
        device: Where batches go.
    """

    def __init__(
        self,
        digests: Sequence[str],
        images: NativeImages,
        *,
        structures: Sequence[str],
        rows: Rows,
        device: torch.device,
    ):
        """Takes `rows` of the images; `digests` names those rows, in order."""
        self.keys = case_keys(digests)
        self.structures = tuple(structures)
        self.spacing_mm = images.spacing_mm[rows]
        self.device = device
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        """Number of cases."""
        return len(self._rows)

    def case(self, row: int) -> tuple[Pixels, Pixels]:
        """Returns the image (C, H, W) and targets (S, H, W) of one case, uint8 views."""
        number = int(self._rows[row])
        return self._images.image(number), self._images.targets_of(number)

    def size(self, row: int) -> tuple[int, int]:
        """Returns height and width of one case."""
        _, height, width = self.case(row)[0].shape
        return height, width


class ImageExamples(CaseSet):
    """Images and targets of one size: on CUDA all live on the device, on the CPU they stay mapped.

    Attributes:
        keys: 64 bits of each digest, (N,).
        images: (N, C, H, W) uint8.
        targets: (N, S, H, W) uint8, a plane for each structure: 0 background, 255 structure, 127 ignored.
        structures: Names of the S structures.
        device: Where batches go.
        spacing_mm: (N, 2) row and column spacing at this size, NaN where unknown.
        original: The same cases at their own size, where outputs are to be measured at that; else None.
    """

    def __init__(
        self,
        digests: Sequence[str],
        images: Pixels,
        targets: Pixels,
        spacing_mm: npt.NDArray[np.float32],
        *,
        structures: Sequence[str],
        rows: Rows,
        device: torch.device,
        original: NativeExamples | None = None,
    ):
        """Takes `rows` of the mapped arrays; `digests` names those rows, in order."""
        self.keys = case_keys(digests)
        self.images, self.targets, self.spacing_mm = images, targets, spacing_mm[rows]
        self.structures, self.original = tuple(structures), original
        self._rows, self.device = rows, device
        self._resident: tuple[torch.Tensor, torch.Tensor] | None = None
        if device.type == "cuda":
            self._resident = (
                torch.from_numpy(images[rows]).to(device),
                torch.from_numpy(targets[rows]).to(device),
            )

    def __len__(self) -> int:
        """Number of cases."""
        return len(self._rows)

    def learn(self, structures: Sequence[str]) -> None:
        """Says what the trial learns, of the cases at their own size, too."""
        super().learn(structures)
        if self.original is not None:
            self.original.learn(structures)

    def take(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns images (n, C, H, W) and targets (n, S, H, W), uint8, on the device."""
        if self._resident is not None:
            index = uploaded(rows, self.device)
            return self._resident[0][index], self._resident[1][index]
        mapped = self._rows[rows]
        return torch.from_numpy(self.images[mapped]), torch.from_numpy(self.targets[mapped])

    def all_masks(self) -> Pixels:
        """Returns the masks of all cases as they were predicted, (N, S, h, w), uint8, 0 and 255; read once.

        Masks of several sizes are stretched to the images.
        """
        return self.once("all masks", self._stacked_masks)

    def _stacked_masks(self) -> Pixels:
        assert self.masks is not None, "asked for masks of a stage that takes none"
        planes = [self.masks.of(row) for row in range(len(self))]
        if len({plane.shape for plane in planes}) > 1:
            planes = [self.masks_of(row) for row in range(len(self))]
        return np.stack(planes)

    def take_masks(self, rows: Rows) -> torch.Tensor:
        """Returns `masks_of` of some cases, (n, S, H, W), on the device, where those of all cases stay."""
        masks = self.once("masks on the device", lambda: torch.from_numpy(self.all_masks()).to(self.device))
        down, across = self.once("lines of the masks", lambda: self._lines(masks.shape[2:]))
        return masks[uploaded(rows, self.device)][:, :, down][..., across]

    def _lines(self, size: tuple[int, ...]) -> list[torch.Tensor]:
        """The row, and the column, of masks (h, w) that each of an image lies in, on the device."""
        sides = zip(size, self.images.shape[2:], strict=True)
        return [nearest(number, side).to(self.device) for number, side in sides]

    def case(self, row: int) -> tuple[Pixels, Pixels]:
        """Returns the image (C, H, W) and targets (S, H, W) of one case, uint8, on the host."""
        return self.images[self._rows[row]], self.targets[self._rows[row]]


def nearest(number: int, side: int) -> torch.Tensor:
    """Returns the pixel of `number` that each of `side` is, (side,), as `masks_of` stretches masks."""
    pixels = Image.fromarray(np.arange(number, dtype=np.int32)[None])
    lines = np.array(pixels.resize((side, 1), Image.Resampling.NEAREST))[0]
    return torch.from_numpy(lines.astype(np.int64))


class Untargeted:
    """Images of any size about which nothing else is known."""

    def __init__(self, images: Sequence[Pixels]):
        """Takes images (C, H, W)."""
        self._images = images
        self.spacing_mm = np.full((len(images), 2), np.nan, np.float32)

    def image(self, row: int) -> Pixels:
        """Returns the image of a row."""
        return self._images[row]

    def targets_of(self, row: int) -> Pixels:
        """Returns one structure that is nowhere."""
        return np.zeros((1, *self._images[row].shape[1:]), np.uint8)


AnyExamples = ImageExamples | NativeExamples


def untargeted(
    images: Sequence[Pixels], size: int | Literal["native"], *, device: torch.device
) -> AnyExamples:
    """Returns images (C, H, W) without targets, for a network that takes images of `size`."""
    cases, digests, rows = Untargeted(images), ["0"] * len(images), np.arange(len(images))
    structures = ("",)
    if size == "native":
        return NativeExamples(digests, cases, structures=structures, rows=rows, device=device)
    targets = np.stack([cases.targets_of(row) for row in range(len(images))])
    return ImageExamples(
        digests,
        np.stack(images),
        targets,
        cases.spacing_mm,
        structures=structures,
        rows=rows,
        device=device,
    )
