"""The learner of classification does what the loop, evaluation and prediction rely on."""

from __future__ import annotations

from tests.tasks.classification.learners import CLASSES, examples, identity
from tests.tasks.contract import LearnerContract
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import ImageExamples

DROPOUT = {"widths": (16, 8), "dropout": (0.2, 0.2)}
INSIDE = {"trials": {}, "places": [0, 1], "threshold": 0.5, "keep": "inside"}


class TestExclusive(LearnerContract):
    targets = CLASSES

    @property
    def identity(self) -> TrialIdentity:
        return identity(
            masks=INSIDE,
            model={"head": DROPOUT},
            rotation={"degrees": 10.0, "probability": 0.75},
            augmentation={"noise": 0.1, "blur": 1.0, "flip": 0.5, "scale": (0.9, 1.1)},
            plateau={"factor": 0.5, "patience": 1, "of": "training_loss"},
            weight_decay=0.1,
            l1=0.001,
            score="mean_f1",
        )

    def examples(self) -> ImageExamples:
        return examples(masks=True)


class TestPatches(LearnerContract):
    targets = CLASSES

    @property
    def identity(self) -> TrialIdentity:
        patches = {"size_px": 32, "number": 5, "validation": 2}
        return identity(
            masks=INSIDE,
            model={"image_size": 48, "patches": patches, "head": DROPOUT},
            rotation={"degrees": 5.0, "probability": 1.0},
            augmentation={"noise": 0.1, "flip": 0.5},
            sampling="balanced",
            class_weights=None,
            score="mean_f1",
        )

    def examples(self) -> ImageExamples:
        return examples(masks=True, side=48)


class TestIndependent(LearnerContract):
    targets = CLASSES

    @property
    def identity(self) -> TrialIdentity:
        return identity(
            model={"name": "resnet18", "outputs": "independent", "standardise": "code"}, score="accuracy"
        )

    def examples(self) -> ImageExamples:
        return examples(labels=(0b011, 0b100, 0b000, 0b111, 0b001, 0b110))


class TestPublishedHead(LearnerContract):
    targets = CLASSES

    @property
    def identity(self) -> TrialIdentity:
        model = {
            "name": "efficientnet_lite0",
            "head": "published",
            "standardise": "imagenet",
            "in_channels": 3,
        }
        return identity(model=model, class_weights=None)

    def examples(self) -> ImageExamples:
        return examples()
