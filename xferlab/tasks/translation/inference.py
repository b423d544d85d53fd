"""The networks of a translation at work, without training them: translation, segmentation, validation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xferlab.metrics.domains import DomainClassifier, features_of
from xferlab.tasks.translation.batches import DOMAINS, batch_of
from xferlab.tasks.translation.config import LABELLED, SEGMENTER
from xferlab.tasks.translation.pairs import OTHER, Pair
from xferlab.tasks.translation.segmenting import Segmenting
from xferlab.tasks.translation.styles import Styles
from xferlab.training.batches import fixed
from xferlab.training.examples import AnyExamples
from xferlab.training.precision import float32
from xferlab.training.sets import CaseSets
from xferlab.training.structures import confusions_of


@dataclass(frozen=True)
class Inference:
    """All networks of a stage. What they compute here is float32, of images in [-1, 1].

    Attributes:
        pair: Generators and discriminators.
        styles: Mean styles of the domains; of size 0 where images have none.
        segmenter: Of images of a, if there is one.
        batch_size: Images at a time.
    """

    pair: Pair
    styles: Styles
    segmenter: Segmenting | None
    batch_size: int

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Generators, discriminators, mean styles where there are any, and the segmenter, if any."""
        styles = {"styles": self.styles} if self.pair.style else {}
        segmenter = {SEGMENTER: self.segmenter.network} if self.segmenter else {}
        return {**self.pair.generators, **self.pair.discriminators, **styles, **segmenter}

    @torch.inference_mode()
    def predict(self, images: Tensor, domain: str) -> Tensor:
        """Returns `measures.Planes` of images of a domain, `(N, 2 + 2 S, H, W)`."""
        self._to_eval()
        with float32():
            there, back = self._there_and_back(images, domain)
            planes = [there, back]
            if own := self.segmenter:
                # Of a: as it is, and recovered. Of b: as an image of a, and as it is.
                seen = (images, back) if domain == "a" else (there, images)
                planes += [own.probabilities(own.logits(shown)) for shown in seen]
        return torch.cat(planes, dim=1)

    def learn_styles(self, train: CaseSets) -> None:
        """Takes the mean styles of the training images of each domain."""
        self._to_eval()
        for domain in DOMAINS if self.pair.style else ():
            with torch.inference_mode(), float32():
                codes = [self.pair.style_of(images, domain) for images in self._images(train.sets[domain])]
                self.styles.set(domain, torch.cat(codes).mean(dim=0))

    @torch.inference_mode()
    def validate(self, examples: CaseSets, domains: DomainClassifier | None) -> Mapping[str, float]:
        """Returns what `TranslationLearner.validate` does.

        Args:
            examples: The validation cases.
            domains: Tells images of a from those of b; None where nobody learnt to.
        """
        self._to_eval()
        with float32():
            seen = {name: list(self._images(examples.sets[name])) for name in DOMAINS}
            there = {name: [self.into(images, OTHER[name]) for images in seen[name]] for name in DOMAINS}
            values = {f"cycle_{name}": self._cycle(seen[name], there[name], name) for name in DOMAINS}
            values |= _told_apart(domains, seen, translated=there["b"]) if domains else {}
            labelled = examples.sets.get(LABELLED)
            return values if labelled is None else {**values, **self._judged(labelled)}

    def classifier(self, train: CaseSets) -> DomainClassifier:
        """Returns a classifier that tells the training images of a from those of b."""
        first, second = (_features(self._images(train.sets[domain])) for domain in DOMAINS)
        return DomainClassifier.fit(first, second)

    def _to_eval(self) -> None:
        for network in self.networks.values():
            network.eval()

    def _images(self, examples: AnyExamples) -> Iterator[Tensor]:
        """The images of a set, batch by batch."""
        for rows in fixed(len(examples), self.batch_size):
            yield batch_of(examples, rows).single

    def into(self, images: Tensor, domain: str) -> Tensor:
        """Returns images of the other domain as ones of a domain, in its mean style in training."""
        made: Tensor = self.pair.translated(images, domain, self.styles.of(domain))
        return made

    def _there_and_back(self, images: Tensor, domain: str) -> tuple[Tensor, Tensor]:
        there = self.into(images, OTHER[domain])
        return there, self.into(there, domain)

    def _cycle(self, seen: Sequence[Tensor], there: Sequence[Tensor], domain: str) -> float:
        """The mean distance of images of a domain from those that come back from `there`."""
        distances = [
            (self.into(translated, domain) - images).abs().mean(dim=(1, 2, 3)).sum()
            for images, translated in zip(seen, there, strict=True)
        ]
        return _total(distances) / sum(map(len, seen))

    def _judged(self, examples: AnyExamples) -> dict[str, float]:
        """The segmenter's loss and mean Jaccard index of labelled images of b as images of a."""
        assert self.segmenter is not None
        losses, batches, jaccards = list[Tensor](), list[Tensor](), list[float]()
        for rows in fixed(len(examples), self.batch_size):
            batch = batch_of(examples, rows)
            logits = self.segmenter.logits(self.into(batch.single, "a"))
            losses.append(self.segmenter.loss(logits, batch.targets[LABELLED]).double() * len(rows))
            batches.append(self.segmenter.probabilities(logits))
        for row, probability in enumerate(torch.cat(batches).cpu().numpy()):
            confusions = confusions_of(examples, row, self.segmenter.masks(probability))
            jaccards += [confusion.jaccard() for confusion in confusions]
        return {
            "loss": _total(losses) / len(examples),
            "jaccard": fmean(jaccards) if jaccards else math.nan,
        }


def _total(values: Iterable[Tensor]) -> float:
    """The sum of numbers in float64, one after the other; it waits for a device once."""
    return float(sum(value.double() for value in values))


def _told_apart(
    domains: DomainClassifier, seen: Mapping[str, Sequence[Tensor]], *, translated: Sequence[Tensor]
) -> dict[str, float]:
    first = _features(seen["a"])
    return {
        f"domain_{when}": domains.accuracy(first, _features(images))
        for when, images in (("before", seen["b"]), ("after", translated))
    }


def _features(batches: Iterable[Tensor]) -> npt.NDArray[np.float64]:
    images = torch.cat([batch[:, 0] for batch in batches])
    return features_of(((images + 1.0) / 2.0).cpu().numpy())
