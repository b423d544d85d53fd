"""The contract of a task, for images of one size, at their own size, and by tiles."""

from __future__ import annotations

from tests.tasks.contract import LearnerContract
from tests.tasks.segmentation.learners import identity
from tests.training.images import STRONG, images_of, native, noisy, resized
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import ImageExamples, NativeExamples

SIZES = [(48, 40), (33, 64), (50, 32), (40, 40), (64, 33)]


def tiny(**changed: object) -> TrialIdentity:
    return identity(batch_size=2, max_epochs=2, augmentation=vars(STRONG), lr=0.01, **changed)


class TestResized(LearnerContract):
    identity = tiny(precision="bfloat16", model={"in_channels": 3})

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 16))


class TestNative(LearnerContract):
    identity = tiny(model={"image_size": "native"})

    def examples(self) -> NativeExamples:
        return native(images_of(SIZES))


DENSE = {"name": "fc_densenet56", "growth": 1, "image_size": 32}


class TestDense(LearnerContract):
    identity = tiny(model=DENSE)

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 32))


class TestDenseTiled(TestNative):
    identity = tiny(model={**DENSE, "image_size": "native", "tiles": {"size": 32}})


class TestFullyConvolutional(TestDense):
    identity = tiny(model={"name": "fcn8s", "width": 0.02, "outputs": "exclusive", "image_size": 32})


class TestSegNet(TestDense):
    identity = tiny(model={"name": "segnet", "width": 0.02, "image_size": 32})


class TestTiled(TestNative):
    identity = tiny(model={"image_size": "native", "tiles": {"size": 32}})
