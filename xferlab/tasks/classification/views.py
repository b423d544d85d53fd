"""What a network is given of cases: whole images, or patches of them; and what it predicts of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xferlab.networks.saliency import class_maps, grad_cam
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.network import Classifier
from xferlab.tasks.classification.patch_heat import PatchHeat
from xferlab.tasks.classification.patches import Boxes, Places, draws, repeated
from xferlab.tasks.classification.prediction import Floats, Prediction
from xferlab.tasks.classification.regions import Region
from xferlab.tasks.classification.sections import Patches
from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import AugmentationSeed
from xferlab.training.precision import float32
from xferlab.training.upload import uploaded

Probable = Callable[[Tensor], Floats]
"""Takes logits (N, K), and returns probabilities."""
_AT_ONCE = 32
"""Patches that go through the network together where an image is predicted."""
_HEAT_SIDE = 256
"""Largest side of a stored map; larger ones are averaged down."""
_WHITE = 255.0


class View(Protocol):
    """What a network is given of cases."""

    @property
    def region(self) -> Region:
        """What of an image is seen."""

    @property
    def per_case(self) -> int:
        """How many inputs a case is where epochs are judged."""

    def drawn(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed) -> Tensor:
        """Returns the inputs to train on, one a row, (n, C, H, W) float32."""

    def judged(self, examples: ImageExamples, rows: Rows) -> Tensor:
        """Returns the inputs that judge epochs, `per_case` for each row, (n * per_case, C, H, W) float32."""

    def cases(self, examples: ImageExamples, rows: Rows) -> object:
        """Returns what `predict` takes."""

    def predict(self, network: Classifier, cases: object, probable: Probable) -> Iterator[Prediction]:
        """Yields the prediction of each case; the network is in evaluation mode."""


@dataclass(frozen=True)
class WholeImages:
    """Each image is one input."""

    region: Region
    per_case: int = 1

    def drawn(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed) -> Tensor:
        """As of all views."""
        rows, keys = repeated(rows, examples)
        raw, _ = examples.take(rows)
        return self.region.augmented(raw, self.region.left(examples, rows), keys, draw)

    def judged(self, examples: ImageExamples, rows: Rows) -> Tensor:
        """As of all views."""
        return self.cases(examples, rows)

    def cases(self, examples: ImageExamples, rows: Rows) -> Tensor:
        """Returns the inputs."""
        raw, _ = examples.take(rows)
        return self.region.inputs(raw, self.region.left(examples, rows))

    def predict(self, network: Classifier, cases: object, probable: Probable) -> Iterator[Prediction]:
        """As of all views."""
        assert isinstance(cases, Tensor)
        with float32():
            logits, maps = grad_cam(network, cases, network.last_features)
        yield from map(Prediction, probable(logits), maps.cpu().numpy())


class Uncut(NamedTuple):
    """Cases whose patches are not cut yet.

    Attributes:
        images: (n, C, H, W) uint8.
        places: Where their regions are.
        rows: The cases among all that `places` knows.
        centres: (n, K, 2), of the patches.
    """

    images: Tensor
    places: Places
    rows: Rows
    centres: Tensor


@dataclass(frozen=True)
class PatchView:
    """Inputs are squares of an image, around pixels of a region (oh2020, section II-B).

    In training there is one a case and epoch. The region is what masks leave of the image, or all of it.

    Attributes:
        region: What of an image is seen.
        options: Size and numbers.
        seed: Of the trial.
        side: Of the images in pixels.
    """

    region: Region
    options: Patches
    seed: int
    side: int

    @property
    def per_case(self) -> int:
        """Patches of a case by which epochs are judged."""
        return self.options.validation

    def drawn(self, examples: ImageExamples, rows: Rows, draw: AugmentationSeed) -> Tensor:
        """As of all views."""
        rows, keys = repeated(rows, examples)
        numbers = draws(keys, number=1, seed=draw.seed, epoch=draw.epoch)
        uncut = self._uncut(examples, rows, numbers)
        pixels, left = self._cut(uncut, self._boxes(uncut.centres))
        return self.region.augmented(pixels, self._left(left), keys, draw)

    def judged(self, examples: ImageExamples, rows: Rows) -> Tensor:
        """As of all views: the first patches of those that predict."""
        uncut = self._fixed(examples, rows, self.options.validation)
        pixels, left = self._cut(uncut, self._boxes(uncut.centres))
        return self.region.inputs(pixels, self._left(left))

    def cases(self, examples: ImageExamples, rows: Rows) -> Uncut:
        """Returns cases and the centres of the patches that predict."""
        return self._fixed(examples, rows, self.options.number)

    def _fixed(self, examples: ImageExamples, rows: Rows, number: int) -> Uncut:
        return self._uncut(examples, rows, draws(examples.keys[rows], number=number, seed=self.seed, epoch=0))

    def _uncut(self, examples: ImageExamples, rows: Rows, numbers: np.ndarray) -> Uncut:
        places = examples.once(("places", self.region), lambda: self._places(examples))
        images, _ = examples.take(rows)
        apart = self.options.centre == "row_and_column"
        return Uncut(images, places, rows, places.centres(rows, numbers, apart=apart))

    def _places(self, examples: ImageExamples) -> Places:
        """Where the regions of all cases are."""
        masks = self.region.masks(examples)
        whole = np.ones((len(examples), 1, 1), np.bool_) if masks is None else masks
        return Places(whole, side=self.side, device=examples.device)

    def _boxes(self, centres: Tensor) -> Boxes:
        return Boxes.around(centres, size_px=self.options.size_px, side=self.side)

    def _cut(self, uncut: Uncut, boxes: Boxes) -> tuple[Tensor, Tensor]:
        """The pixels of patches, and which of these show nothing but the region."""
        index = uploaded(uncut.rows, uncut.images.device)
        return boxes.pixels(uncut.images), boxes.inside(uncut.places.masks[index], uncut.places.lines)

    def _left(self, inside: Tensor) -> Tensor | None:
        return None if self.region.is_whole else inside.float()

    def predict(self, network: Classifier, cases: object, probable: Probable) -> Iterator[Prediction]:
        """As of all views."""
        assert isinstance(cases, Uncut)
        for row in range(len(cases.rows)):
            case = slice(row, row + 1)
            yield self._predicted(
                network,
                Uncut(cases.images[case], cases.places, cases.rows[case], cases.centres[case]),
                probable,
            )

    def _predicted(self, network: Classifier, case: Uncut, probable: Probable) -> Prediction:
        boxes, tables, heat = self._boxes(case.centres), [], None
        for start in range(0, len(boxes), _AT_ONCE):
            some = boxes.part(start, start + _AT_ONCE)
            pixels, inside = self._cut(case, some)
            seen = self.region.inputs(pixels, self._left(inside))
            with float32():
                logits, maps = class_maps(network, seen, network.last_features)
                probability = probable(logits)
                heat = heat or PatchHeat(maps.shape[1], self.side, maps.device)
                heat.add(maps, uploaded(probability, maps.device), some)
            centres = case.centres[0, start : start + _AT_ONCE].cpu().numpy()
            tables.append(np.concatenate([centres, _greys(pixels, inside), probability], axis=1))
        assert heat is not None, "a case has at least one patch"
        means = F.adaptive_avg_pool2d(heat.means(), min(self.side, _HEAT_SIDE)).cpu().numpy()
        table = np.concatenate(tables).astype(np.float32)
        return Prediction.of_patches(table, means, self._covered(case, heat.covered))

    def _covered(self, case: Uncut, covered: Tensor) -> float:
        """Share of the region's pixels that are covered; NaN where there are none."""
        row = int(case.rows[0])
        if case.places.is_empty[row]:
            return float("nan")
        region = case.places.region(row)
        return float((covered & region).sum()) / float(region.sum())


def _greys(pixels: Tensor, inside: Tensor) -> Floats:
    """Mean and SD of grey levels inside, as shares of white, (M, 2); NaN where nothing is inside."""
    values, counted = pixels[:, :1].double() / _WHITE, inside.double()
    number = counted.sum(dim=(1, 2, 3))
    mean = (values * counted).sum(dim=(1, 2, 3)) / number
    variance = ((values - mean[:, None, None, None]).square() * counted).sum(dim=(1, 2, 3)) / number
    return torch.stack([mean, variance.sqrt()], dim=1).float().cpu().numpy()


def view_of(identity: Identity) -> View:
    """Returns what the network of an identity is given of cases."""
    region, model = Region.of(identity), identity.model
    if model.patches is None:
        return WholeImages(region)
    return PatchView(region, model.patches, identity.seed, model.image_size)
