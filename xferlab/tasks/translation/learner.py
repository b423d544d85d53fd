"""The learner of translation: generators and discriminators trained against each other, and a segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xferlab.metrics.domains import DomainClassifier
from xferlab.networks.build import initialise
from xferlab.networks.donors import load_each, load_strict
from xferlab.networks.dropout import reseed
from xferlab.networks.layout import layout
from xferlab.tasks.translation.batches import DOMAINS, Batch, batch_of, rows_of_epoch
from xferlab.tasks.translation.config import LABELLED, SEGMENTER, Identity
from xferlab.tasks.translation.exported import exported
from xferlab.tasks.translation.inference import Inference
from xferlab.tasks.translation.losses import discriminator_loss, generator_loss
from xferlab.tasks.translation.measures import Planes, measured, outputs_of, presented
from xferlab.tasks.translation.pairs import factors_of, pair_of
from xferlab.tasks.translation.segmenting import Segmenting
from xferlab.tasks.translation.styles import Styles, drawn
from xferlab.training.batches import Rows
from xferlab.training.examples import STRUCTURE, AnyExamples
from xferlab.training.exported import Exported
from xferlab.training.image_pool import ImagePool
from xferlab.training.learner import Array, AugmentationSeed, Layer, Learner, Presented, State
from xferlab.training.precision import float32
from xferlab.training.sets import CaseSets
from xferlab.training.step import LossGuard, Optimisation, Stepper, check_together, step_together

NOTHING_LEFT = 1e-4
"""Mean loss of a discriminator over an epoch, below which it tells every image: nothing is left to learn."""


class TranslationLearner(Learner[Any, Batch]):
    """Translates between domains `a` and `b`, and with a segmenter segments images of b by way of a."""

    _inference: Inference

    def __init__(self, identity: Identity, device: torch.device, *, share: Learner[Any, Batch] | None = None):
        """Builds the networks of an identity, or shares another learner's."""
        self._identity, self._training, self.device = identity, identity.training, device
        self.seed = identity.seed
        self._inference = share._inference if isinstance(share, TranslationLearner) else self._built()
        self._pair, self._segmenter = self._inference.pair, self._inference.segmenter
        self._pools = {domain: ImagePool(domain, size=self._training.pool) for domain in DOMAINS}
        self._train: CaseSets | None = None
        self._domains: DomainClassifier | None = None
        self._epoch, self._batch = 1, 0

    def _built(self) -> Inference:
        model = self._identity.model
        pair = pair_of(model, self._training.weights)
        segmenter = Segmenting.of(model.segmenter, model.image_size) if model.segmenter else None
        built = Inference(pair, Styles(pair.style), segmenter, self._training.batch_size)
        for number, network in enumerate(built.networks.values()):
            initialise(network, self.seed + number)
            network.to(self.device, memory_format=layout(network, self.device))  # type: ignore[call-overload]
        return built

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Generators, discriminators, mean styles where there are any, and the segmenter, if any."""
        return self._inference.networks

    def start_from(self, weights: Mapping[str, Tensor], *, origin: str) -> None:
        """Takes over the weights of all networks as they are.

        Raises:
            DonorError: A name or a shape differs.
        """
        load_each(self.networks, weights, origin=origin)

    def start_network_from(self, name: str, weights: Mapping[str, Tensor], *, origin: str) -> None:
        """Takes over the weights of the `segmenter`, or those of all networks of a `translation`.

        Raises:
            DonorError: A name or a shape differs.
        """
        if name == SEGMENTER:
            load_strict(self.networks[name], weights, origin=f"{origin}, network {name}")
        else:
            own = {key: network for key, network in self.networks.items() if key != SEGMENTER}
            load_each(own, weights, origin=origin)

    def prepare(self, train: CaseSets) -> None:
        """Keeps the training cases, of which styles are averaged, and learns to tell their domains apart."""
        self._train, self._domains = train, self._inference.classifier(train)

    def batches(self, examples: CaseSets, epoch: int) -> Sequence[Rows]:
        """Returns batches of as many images of each domain, until all of the larger one were seen."""
        return rows_of_epoch(examples, self._training.batch_size, seed=self.seed, epoch=epoch)

    def load(self, examples: CaseSets | AnyExamples, rows: Rows, draw: AugmentationSeed | None) -> Batch:
        """Returns images in [-1, 1] with their targets, by set; those of no known set are of domain b."""
        return batch_of(examples, rows)

    # Made when it is first trained: prediction needs none of them, and they are slow to import.
    @cached_property
    def _steppers(self) -> dict[str, Stepper]:
        training, guard = self._training, LossGuard()
        decay = (training.decay.after, training.decay.over) if training.decay else None
        how = Optimisation(
            lr=training.lr, betas=training.betas, weight_decay=training.weight_decay or 0.0, decay=decay
        )
        steppers = {
            "generators": Stepper(nn.ModuleDict(self._pair.generators), how, guard=guard),
            "discriminators": Stepper(nn.ModuleDict(self._pair.discriminators), how, guard=guard),
        }
        if self._segmenter:
            how = Optimisation(
                lr=training.segmenter_lr, weight_decay=training.segmenter_weight_decay, decay=decay
            )
            network = self._segmenter.network
            steppers[SEGMENTER] = Stepper(network, how, guard=guard, rate="segmenter_lr")
        return steppers

    def begin_epoch(self, epoch: int, batch: int = 0) -> None:
        """Puts the networks into training mode; `batch` is the next one, counted from 0."""
        self._epoch, self._batch = epoch, batch
        for network in self.networks.values():
            network.train()
        for stepper in self._steppers.values():
            stepper.begin_epoch(epoch)

    def train_step(self, batch: Batch) -> Mapping[str, Tensor]:
        """Takes a discriminative, a generative, and where there is a segmenter a supervised step.

        Returns:
            The losses by name: `discriminator_a`, `discriminator_b`, `generator` (the adversarial ones of
            both), those of the pair such as `cycle`, and `supervised`.
        """
        images = {domain: batch.images[domain] for domain in DOMAINS}
        where = {"seed": self.seed, "epoch": self._epoch, "batch": self._batch}
        styles = {
            domain: drawn(len(images[domain]), self._pair.style, domain, device=self.device, **where)
            for domain in DOMAINS
        }
        if self._segmenter:
            reseed(self._segmenter.network, **where)
        with float32(tf32=self._identity.execution.precision == "tf32"):
            losses = self._adversarial_steps(images, styles, where)
            if self._segmenter:
                losses["supervised"] = self._supervised_step(batch, styles)
        self._batch += 1
        return losses

    @contextmanager
    def _short(self) -> Iterator[None]:
        is_short = self._identity.execution.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_short):
            yield

    def _adversarial_steps(
        self, images: Mapping[str, Tensor], styles: Mapping[str, Tensor], where: Mapping[str, int]
    ) -> dict[str, Tensor]:
        with self._short():
            passed = self._pair.passed(images, styles)
        shown = {
            domain: self._pools[domain].exchange(passed.translated[domain], **where) for domain in DOMAINS
        }
        losses = {
            f"discriminator_{domain}": discriminator_loss(
                self._scores(domain, images[domain]), self._scores(domain, shown[domain])
            )
            for domain in DOMAINS
        }
        self._steppers["discriminators"](torch.stack(list(losses.values())).sum())
        weights = factors_of(self._identity.model, self._training.weights)
        with resting(self._pair.discriminators.values()):
            adversarial = torch.stack(
                [generator_loss(self._scores(domain, passed.translated[domain])) for domain in DOMAINS]
            ).sum()
            parts = [weights[name] * loss.float() for name, loss in passed.losses.items()]
            self._steppers["generators"](self._training.weights.adversarial * adversarial + sum(parts))
        losses |= {"generator": adversarial, **passed.losses}
        return {name: loss.detach() for name, loss in losses.items()}

    def _scores(self, domain: str, images: Tensor) -> list[Tensor]:
        with self._short():
            scores = self._pair.discriminators[f"discriminator_{domain}"](images)
        return [score.float() for score in scores]

    def _supervised_step(self, batch: Batch, styles: Mapping[str, Tensor]) -> Tensor:
        """A step of the segmenter and the generators: of a as it is and recovered, and of labelled b."""
        assert self._segmenter is not None
        own, images = self._segmenter, batch.images["a"]
        with self._short():
            there = self._pair.translated(images, "b", styles["b"])
            seen = [(images, "a"), (self._pair.translated(there, "a", styles["a"]), "a")]
            if LABELLED in batch.images:
                labelled = batch.images[LABELLED]
                style = styles["a"][: len(labelled)]
                seen.append((self._pair.translated(labelled, "a", style), LABELLED))
        losses = []
        for shown, name in seen:
            with self._short():
                logits = own.logits(shown.float())
            losses.append(own.loss(logits.float(), batch.targets[name]))
        loss = self._training.weights.supervised * torch.stack(losses).sum()
        return step_together(loss, [self._steppers["generators"], self._steppers[SEGMENTER]])

    def check_steps(self, where: str) -> None:
        """Raises NonFiniteLossError if a step met a loss that is not finite."""
        check_together([*self._steppers.values()], where)

    def validate(self, examples: CaseSets) -> Mapping[str, float]:
        """Returns `cycle_a` and `cycle_b`, and of labelled images of b the segmenter's `loss` and `jaccard`.

        Cycles are mean L1 distances of grey levels in [-1, 1]. Styles of the training images are averaged
        before. After `prepare`, also how well a classifier of the training images' domains tells images of a
        from those of b as they are (`domain_before`) and as images of a (`domain_after`).
        """
        if self._train is not None:
            self._inference.learn_styles(self._train)
        return self._inference.validate(examples, self._domains)

    def end_epoch(self, score: float | None, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Returns the rates that the epoch used, and whether it `diverged` (1) or not (0).

        It did where images came back as others from a translation there and back (`cycle_limit`), or where
        discriminators told every image.
        """
        told = min(losses[f"discriminator_{domain}"] for domain in DOMAINS) < NOTHING_LEFT
        diverged = told or losses["cycle"] / len(DOMAINS) > self._training.cycle_limit
        rates = {"lr": self._steppers["generators"].lr}
        if self._segmenter:
            rates["lr_segmenter"] = self._steppers[SEGMENTER].lr
        return {**rates, "diverged": float(diverged)}

    def predict(self, batch: Batch) -> Sequence[Array]:
        """Returns `Planes` of each case, (P, H, W) float32: translated, recovered, and what is segmented."""
        domain = "a" if "a" in batch.images else "b"
        return list(self._inference.predict(batch.single, domain).cpu().numpy())

    def measure(self, examples: AnyExamples, row: int, prediction: Array) -> Mapping[str, float]:
        """Returns the metrics of one image; those of structures where it has masks of them."""
        return measured(examples, row, self._planes(prediction), self._segmenter)

    def _planes(self, prediction: Array) -> Planes:
        return Planes.of(prediction, self._segmenter.structures if self._segmenter else 0)

    def outputs(self, examples: AnyExamples, row: int, prediction: Array) -> Mapping[str, Array]:
        """Returns `image`, `translated`, `recovered`, and of structures masks, all uint8 (H, W)."""
        return outputs_of(examples, row, self._planes(prediction), self._segmenter)

    def for_others(self, prediction: Array, threshold: float) -> Mapping[str, Array]:
        """Returns `structures`: masks of all, of images of b as images of a."""
        probability = self._planes(prediction).probability
        masks = self._segmenter.masks(probability, threshold) if self._segmenter else probability
        return {"structures": np.where(masks, STRUCTURE, 0).astype(np.uint8)}

    def present(
        self,
        image: npt.NDArray[np.uint8],
        prediction: Array,
        *,
        height: int,
        targets: Sequence[str],
        threshold: float,
    ) -> Presented:
        """Returns the image as one of domain a, and masks of structures, at the image's size."""
        return presented(
            image,
            self._planes(prediction),
            self._segmenter,
            height=height,
            targets=targets,
            threshold=threshold,
        )

    def exported(self) -> Exported:
        """Returns the graph from images of b to the same as images of a, and to probabilities."""
        return exported(self._inference, self._identity)

    def layers(self) -> Mapping[str, Layer]:
        """Names no layers."""
        return {}

    def state(self) -> State:
        """Returns optimizers and image pools."""
        return {
            "steppers": {name: stepper.state() for name, stepper in self._steppers.items()},
            "pools": {domain: pool.state() for domain, pool in self._pools.items()},
        }

    def restore(self, state: State) -> None:
        """Continues where `state` was taken."""
        for name, stepper in self._steppers.items():
            stepper.restore(state["steppers"][name])
        for domain, pool in self._pools.items():
            pool.restore(state["pools"][domain])


@contextmanager
def resting(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Lets gradients pass through networks without giving any to their parameters."""
    parameters = [each for network in networks for each in network.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
