"""What is trained, in all ways alike: network, loss, and what both take of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from images import examples, manifest_rows, section
from torch import nn
from torch.nn import functional as F
from turns import Setting

from xferlab.networks.build import build, initialise
from xferlab.networks.head import Head
from xferlab.networks.upsampling import TransposedConv2d
from xferlab.tasks.classification import config as classification
from xferlab.tasks.config import Execution, TrialIdentity
from xferlab.tasks.segmentation import config as segmentation
from xferlab.training.examples import ImageExamples

BATCH_SIZE, LR, SMOOTHING = 16, 1e-3, 1.0
PATHOLOGIES = ("covid19", "normal", "pathological")
ROTATION = {"degrees": 10.0, "probability": 0.75}


class Work(ABC):
    """A task of the engine as the benchmark uses it."""

    name: str
    identity: type[TrialIdentity]
    classes: tuple[str, ...] = ()
    """Labels of the images, where labels are learnt."""
    training: ClassVar[Mapping[str, Any]] = {}
    """What else a study sets, so that all ways have the same loss."""
    stage: ClassVar[Mapping[str, Any]] = {}
    """What a study's stage says of the task."""

    def sections(self, setting: Setting) -> dict[str, Any]:
        """Returns `model` and `training` of a study that sets batch, learning rate and rotation."""
        training = {"batch_size": BATCH_SIZE, "lr": LR, "rotation": ROTATION, **self.training}
        return {"model": self.model(setting), "training": training}

    def engine(self, setting: Setting, **changes: Any) -> TrialIdentity:
        """Returns what such a study gives its trials; `changes` are fields of its execution."""
        where = {"device": setting.device, "precision": "bfloat16" if setting.is_short else "float32"}
        own = {"deterministic": True} if setting.device == "cuda" else {"threads": setting.threads}
        execution = Execution.model_validate({**where, **own, "compile": False, **changes})
        about = {"task": self.name, "version": 0, "selection": "", "seed": 0}
        about |= {"num_classes": len(self.classes) or None, "execution": execution.model_dump()}
        return self.identity.model_validate({**about, **self.sections(setting)})

    def study(
        self,
        setting: Setting,
        *,
        epochs: int,
        seed: int,
        num_images: int,
        trials: int = 1,
        compiled: bool = False,
    ) -> dict[str, Any]:
        """Returns a study of trials that share the cores; each trains on about so many images."""
        sections, threads = self.sections(setting), setting.threads // trials
        ends = {"max_epochs": epochs, "patience": epochs}
        sections["training"] |= {**ends, "device": "cpu", "threads": threads, "compile": compiled}
        shares = {"train": 0.9, "validation": 0.05, "test": 0.05}
        share = min(1.0, num_images / (shares["train"] * len(manifest_rows(setting.root))))
        few = {"label_fraction": share, "stratified": False, "fraction_of_validation": True}
        return {
            "study": "benchmark", "seed": seed, "repetitions": trials, "split": shares, "overlay_cases": 0,
            "data": {"images": section(setting.root)}, "resources": {"cpu": threads},
            "stages": {"training": {"data": "images", **few, **self.stage, **sections}},
        }  # fmt: skip

    def examples(self, setting: Setting, device: torch.device) -> ImageExamples:
        """Returns the cases as the engine holds them."""
        return examples(setting, device, self.classes)

    @abstractmethod
    def model(self, setting: Setting) -> Mapping[str, Any]:
        """Returns the section of the network in a study."""

    @abstractmethod
    def network(self, setting: Setting) -> nn.Module:
        """Returns the same network with arbitrary weights."""

    @abstractmethod
    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images (N, 1, H, W), float32, as the network takes them, each for itself."""

    @abstractmethod
    def batch(
        self, images: torch.Tensor, masks: torch.Tensor, pathologies: Sequence[str]
    ) -> tuple[torch.Tensor, ...]:
        """Returns the network's input (N, C, H, W) and what the loss takes beside its output.

        Args:
            images: What `normalise` returns, turned or not.
            masks: (N, 1, H, W): 0 background, 255 structure, 127 ignored.
            pathologies: Of the images.
        """

    @abstractmethod
    def loss(self, output: torch.Tensor, *truth: torch.Tensor) -> torch.Tensor:
        """Returns the loss of a batch."""


class Segmentation(Work):
    """A U-Net and the smooth Dice loss."""

    name = "segmentation"
    identity = segmentation.Identity

    def model(self, setting: Setting) -> Mapping[str, Any]:
        """Returns a U-Net."""
        return {"image_size": setting.size_px, "init_features": int(setting.width)}

    def network(self, setting: Setting) -> nn.Module:
        """Returns a U-Net of PyTorch's own layers."""
        network = build("unet", in_channels=3, out_channels=1, init_features=int(setting.width))
        for module in network.modules():
            if isinstance(module, TransposedConv2d):
                module.forward = partial(nn.ConvTranspose2d.forward, module)  # type: ignore[method-assign]
        return network

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images less their mean, by their deviation."""
        deviation, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
        return (images - mean) / deviation.clamp_min(1.0)

    def batch(
        self, images: torch.Tensor, masks: torch.Tensor, pathologies: Sequence[str]
    ) -> tuple[torch.Tensor, ...]:
        """Returns images (N, 3, H, W), targets and what counts (N, 1, H, W), float32."""
        return images.expand(-1, 3, -1, -1), (masks == 255).float(), (masks != 127).float()

    def loss(self, output: torch.Tensor, *truth: torch.Tensor) -> torch.Tensor:
        """Returns the smooth Dice loss."""
        (target, valid), probability = truth, torch.sigmoid(output)
        intersection = (probability * target * valid).sum()
        total = (probability * valid).sum() + (target * valid).sum()
        return 1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)


class Classification(Work):
    """VGG16 of one channel with a single layer as head, and the cross entropy of three classes."""

    name = "classification"
    identity = classification.Identity
    classes = PATHOLOGIES
    training: ClassVar[Mapping[str, Any]] = {"class_weights": None}
    stage: ClassVar[Mapping[str, Any]] = {
        "task": "classification", "classes": {"names": {name: [name] for name in PATHOLOGIES}},
    }  # fmt: skip
    mean, deviation = 0.5, 0.25
    """Of the training images, which the ordinary way knows before it starts."""

    def model(self, setting: Setting) -> Mapping[str, Any]:
        """Returns VGG16."""
        return {"name": "vgg16", "image_size": setting.size_px, "width": setting.width}

    def network(self, setting: Setting) -> nn.Module:
        """Returns VGG16."""
        network = build("vgg16", in_channels=1, out_channels=3, width=setting.width, head=Head())
        initialise(network, seed=0)
        return network

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images stretched to 0..1, less the mean, by the deviation."""
        low, high = torch.aminmax(images.flatten(1), dim=1)
        low, high = (value[:, None, None, None] for value in (low, high))
        return ((images - low) / (high - low).clamp_min(1.0) - self.mean) / self.deviation

    def batch(
        self, images: torch.Tensor, masks: torch.Tensor, pathologies: Sequence[str]
    ) -> tuple[torch.Tensor, ...]:
        """Returns images (N, 1, H, W) and the numbers of their classes."""
        return images, torch.tensor([self.classes.index(name) for name in pathologies])

    def loss(self, output: torch.Tensor, *truth: torch.Tensor) -> torch.Tensor:
        """Returns the cross entropy."""
        return F.cross_entropy(output, truth[0])


WORKS: Mapping[str, Work] = {work.name: work for work in (Segmentation(), Classification())}
