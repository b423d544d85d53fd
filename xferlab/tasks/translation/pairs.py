"""The networks that translate between two domains, with the losses of their generators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from xferlab.networks import cyclegan, munit
from xferlab.tasks.translation.batches import DOMAINS
from xferlab.tasks.translation.losses import reconstruction_loss
from xferlab.tasks.translation.sections import Network, Weights

OTHER = {"a": "b", "b": "a"}
ByDomain = Mapping[str, Tensor]


@dataclass(frozen=True)
class Passed:
    """What one forward pass of all generators gives.

    Attributes:
        translated: Images of each domain, made of those of the other one, `(N, 1, H, W)` in [-1, 1].
        losses: Of the generators but for the adversarial ones, by name: scalars, summed over both domains.
    """

    translated: ByDomain
    losses: Mapping[str, Tensor]


class Pair(Protocol):
    """Two domains with the networks that translate between them. Images are float32 in [-1, 1]."""

    generators: Mapping[str, nn.Module]
    discriminators: Mapping[str, nn.Module]
    style: int

    def passed(self, images: ByDomain, styles: ByDomain) -> Passed:
        """Translates images of both domains and back.

        Args:
            images: Of each domain, `(N, 1, H, W)`.
            styles: Of each domain, to give to the images that are translated into it, `(N, style)`.
        """

    def translated(self, images: Tensor, into: str, style: Tensor) -> Tensor:
        """Returns images of the other domain as ones of a domain, in a style, `(style,)` or `(N, style)`."""

    def style_of(self, images: Tensor, domain: str) -> Tensor:
        """Returns the styles of images of a domain, `(N, style)`."""


class CycleGan(Pair):
    """A generator for each direction (Zhu et al. 2017); images have no style."""

    style = 0

    def __init__(self, network: Network, *, has_identity: bool):
        """Builds the networks; their weights are arbitrary."""
        self._has_identity = has_identity
        width, blocks, judging = network.sizes
        self.generators = {f"generator_{d}": cyclegan.Generator(width=width, blocks=blocks) for d in DOMAINS}
        self.discriminators = {
            f"discriminator_{domain}": cyclegan.PatchDiscriminator(width=judging) for domain in DOMAINS
        }

    def passed(self, images: ByDomain, styles: ByDomain) -> Passed:
        """Translates images of both domains and back, and into their own domain if that has a loss."""
        translated = {d: self.translated(images[OTHER[d]], d, styles[d]) for d in DOMAINS}
        each = {"cycle": [(self.translated(translated[OTHER[d]], d, styles[d]), images[d]) for d in DOMAINS]}
        if self._has_identity:
            each["identity"] = [(self.translated(images[d], d, styles[d]), images[d]) for d in DOMAINS]
        return Passed(translated, _summed(each))

    def translated(self, images: Tensor, into: str, style: Tensor) -> Tensor:
        """Returns images of the other domain as images of a domain."""
        made: Tensor = self.generators[f"generator_{into}"](images)
        return made

    def style_of(self, images: Tensor, domain: str) -> Tensor:
        """Returns no style, `(N, 0)`."""
        return images.new_zeros(len(images), 0)


class Munit(Pair):
    """An auto-encoder for each domain, of content and style (Huang et al. 2018)."""

    def __init__(self, network: Network):
        """Builds the networks; their weights are arbitrary."""
        width, blocks, judging = network.sizes
        design = replace(munit.DESIGNS[network.name], width=width, blocks=blocks)
        judged = replace(design, width=judging)
        self.style = design.style
        self.generators = {f"autoencoder_{domain}": munit.AutoEncoder(design) for domain in DOMAINS}
        self.discriminators = {
            f"discriminator_{domain}": munit.MultiScaleDiscriminator(judged) for domain in DOMAINS
        }

    def _of(self, domain: str) -> munit.AutoEncoder:
        network = self.generators[f"autoencoder_{domain}"]
        assert isinstance(network, munit.AutoEncoder)
        return network

    def passed(self, images: ByDomain, styles: ByDomain) -> Passed:
        """Translates images of both domains and back, and reconstructs them."""
        codes = {d: self._of(d).encode(images[d]) for d in DOMAINS}
        translated = {d: self._of(d).decode(codes[OTHER[d]][0], styles[d]) for d in DOMAINS}
        again = {d: self._of(d).encode(translated[d]) for d in DOMAINS}
        each = {
            "image": [(self._of(d).decode(*codes[d]), images[d]) for d in DOMAINS],
            "content": [(again[d][0], codes[OTHER[d]][0]) for d in DOMAINS],
            "style": [(again[d][1], styles[d]) for d in DOMAINS],
            "cycle": [(self._of(d).decode(again[OTHER[d]][0], codes[d][1]), images[d]) for d in DOMAINS],
        }
        return Passed(translated, _summed(each))

    def translated(self, images: Tensor, into: str, style: Tensor) -> Tensor:
        """Returns images of the other domain with their content and a style of a domain."""
        content, _ = self._of(OTHER[into]).encode(images)
        return self._of(into).decode(content, style.expand(images.shape[0], -1))

    def style_of(self, images: Tensor, domain: str) -> Tensor:
        """Returns the styles of images of a domain, `(N, style)`."""
        return self._of(domain).encode(images)[1]


def _summed(each: Mapping[str, list[tuple[Tensor, Tensor]]]) -> dict[str, Tensor]:
    """Losses of pairs of result and original, each summed over the domains."""
    return {
        name: torch.stack([reconstruction_loss(*pair) for pair in pairs]).sum()
        for name, pairs in each.items()
    }


def pair_of(network: Network, weights: Weights) -> Pair:
    """Returns the networks of a section."""
    if network.name == "cyclegan":
        return CycleGan(network, has_identity=bool(weights.identity))
    return Munit(network)


def factors_of(network: Network, weights: Weights) -> dict[str, float]:
    """Returns what the losses of `Passed` are multiplied by."""
    if network.name == "cyclegan":
        return {
            "cycle": 10.0 if weights.cycle is None else weights.cycle,
            "identity": weights.identity or 0.0,
        }
    cycle = 1.0 if weights.cycle is None else weights.cycle
    return {"image": weights.image, "content": weights.content, "style": weights.style, "cycle": cycle}
