"""What is trained, by the engine and the ordinary way alike: network, loss, and one image at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from images import examples
from torch import nn
from torch.nn import functional as F
from turns import Setting

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.networks.build import build, initialise
from xferlab.networks.head import Head
from xferlab.tasks.classification import config as classification
from xferlab.tasks.config import Execution, TrialIdentity
from xferlab.tasks.segmentation import config as segmentation
from xferlab.training.examples import ImageExamples

BATCH_SIZE, LR, SMOOTHING = 16, 1e-3, 1.0
ROTATION = {"degrees": 10.0, "probability": 0.75}


class Work(ABC):
    """A task of the engine as the benchmark uses it."""

    name: str
    identity: type[TrialIdentity]
    classes: tuple[str, ...] = ()
    """Labels of the images, where labels are learnt."""
    training: ClassVar[Mapping[str, Any]] = {}
    """What else a study sets, so that both ways have the same loss."""

    def engine(self, setting: Setting) -> TrialIdentity:
        """Returns what a study that sets batch, learning rate and rotation gives its trials."""
        precision = "bfloat16" if cpu_has_bfloat16() else "float32"
        execution = Execution(device="cpu", threads=setting.threads, precision=precision, compile=False)
        said = {
            "model": self.model(setting),
            "training": {"batch_size": BATCH_SIZE, "lr": LR, "rotation": ROTATION, **self.training},
            "num_classes": len(self.classes) or None,
        }
        about = {"task": self.name, "version": 0, "selection": "", "seed": 0}
        return self.identity.model_validate({**about, **said, "execution": execution.model_dump()})

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
    def normalise(self, image: np.ndarray) -> np.ndarray:
        """Returns an image (H, W), float32, as the network takes it."""

    @abstractmethod
    def sample(self, image: np.ndarray, mask: np.ndarray, row: Mapping[str, str]) -> tuple[torch.Tensor, ...]:
        """Returns the network's input (C, H, W), float32, and what the loss takes beside its output."""

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
        """Returns a U-Net."""
        return build("unet", in_channels=3, out_channels=1, init_features=int(setting.width))

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """Returns an image less its mean, by its deviation."""
        return (image - image.mean()) / max(image.std(), 1.0)

    def sample(self, image: np.ndarray, mask: np.ndarray, row: Mapping[str, str]) -> tuple[torch.Tensor, ...]:
        """Returns image (3, H, W), target and valid (1, H, W), float32."""
        target, valid = torch.from_numpy(mask == 255)[None], torch.from_numpy(mask != 127)[None]
        return torch.from_numpy(image).expand(3, -1, -1), target.float(), valid.float()

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
    classes = ("covid19", "normal", "pathological")
    training: ClassVar[Mapping[str, Any]] = {"class_weights": None}
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

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """Returns an image stretched to 0..1, less the mean, by the deviation."""
        low, high = image.min(), image.max()
        return ((image - low) / max(high - low, 1.0) - self.mean) / self.deviation

    def sample(self, image: np.ndarray, mask: np.ndarray, row: Mapping[str, str]) -> tuple[torch.Tensor, ...]:
        """Returns image (1, H, W), float32, and the number of its class."""
        return torch.from_numpy(image)[None], torch.tensor(self.classes.index(row["pathology"]))

    def loss(self, output: torch.Tensor, *truth: torch.Tensor) -> torch.Tensor:
        """Returns the cross entropy."""
        return F.cross_entropy(output, truth[0])


WORKS: Mapping[str, Work] = {work.name: work for work in (Segmentation(), Classification())}
