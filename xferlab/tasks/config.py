"""What every task's configuration has: fields of a training, and the identity of its trials.

Nothing here computes: studies, plans and reports read it without PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field

from xferlab.metrics.score import Score
from xferlab.section import Float, Int, Section

Size = int | Literal["native"]
"""Side in pixels of the square that images are stretched to; `native` leaves each at its own size."""


OBJECTS = ("cable", "electrode", "marker", "implant")
"""Variants of an evaluation with one foreign object of this kind on every image; targets stay as they are."""
ORIGINAL = "original"
"""The variant that measures at the images' own size, which `ImageExamples.original` then holds."""


class Engine(Section):
    """Where and how exactly a training computes; the study's values hold for the stages of every task."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Resolved when planning; results are bit-equal on the CPU only."""
    threads: Int = Field(1, ge=1, le=256)
    """CPU threads of the network, independent of `resources`; another number gives other bits."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of the forward and backward pass; loss and evaluation are IEEE float32 always. `tf32`, on CUDA only, is
    float32 whose convolutions round their factors to 10 bits; `auto` is bfloat16 where the device has it."""
    validation_precision: Literal["float32", "same"] = "float32"
    """Of the forward pass on validation cases, whose loss ends a training and chooses its weights: `same` is
    that of training, which is faster. It has no effect on translations."""
    deterministic: bool = True
    """On CUDA: deterministic algorithms, somewhat slower."""
    compile: bool = False
    """Use torch.compile for training steps of images of one size. It has no effect on translations."""
    cuda_graph: bool = False
    """On CUDA: record the training step once and replay it as one graph. It saves the host work, so it pays
    for small networks and where trials share a GPU. Steps of tiles, of images at their own size and of
    translations are taken as usual."""
    checkpoint_every_s: Float = Field(60.0, gt=0)
    """Seconds between two checkpoints of the state needed to resume."""


class Loop(Section):
    """What the training loop does, whatever is learnt; part of a trial's identity."""

    batch_size: Int = Field(16, ge=1)
    """Images in a batch."""
    max_epochs: Int = Field(200, ge=1)
    """Upper bound on epochs."""
    patience: Int = Field(20, ge=1)
    """Stop at this many consecutive validations without improvement."""


class Training(Loop, Engine):
    """The training section of a study file or stage. A task adds its own fields to `Loop` and to this."""


class Execution(Section):
    """How a trial computes, with `auto` resolved: the part of its identity that names the machine.

    `float32: ieee` tells trials on CUDA from those whose float32 was rounded to TF32 by cuDNN.
    """

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "tf32", "bfloat16"]
    compile: bool
    validation: Literal["tf32", "bfloat16"] | None = None
    threads: int | None = None
    deterministic: bool | None = None
    cuda_graph: bool | None = None
    float32: Literal["ieee"] | None = None


@dataclass(frozen=True)
class CaseProblem:
    """Cases that a network cannot take, such as by their size.

    Attributes:
        digests: Of the cases.
        what: The message; `{names}` stands for the names of the cases.
    """

    digests: tuple[str, ...]
    what: str


AnySection = TypeVar("AnySection", bound=Section)


def _without_defaults(section: AnySection) -> AnySection:
    """Returns a section in which the fields that were not given are null."""
    changes: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name not in section.model_fields_set:
            changes[name] = None
        elif isinstance(value, Section):
            changes[name] = _without_defaults(value)
    return section.model_copy(update=changes)


class TrialIdentity(Section):
    """All that can change the weights of a trial, and nothing else. Each task has a subclass.

    Fields that are off (null) stay out of the JSON that is hashed, so that a new option renews no trial.
    """

    judged_by: ClassVar[tuple[str, ...]] = ("batch_size",)
    """Fields of the training that say how the score is computed: a search judges all samples by the same."""
    bounds: ClassVar[tuple[str, ...]] = ("max_epochs", "patience")
    """Fields of the training that only end it: trials that differ in nothing else go through the same epochs.
    A task whose learner computes anything from one of them, such as a learning rate, leaves that one out."""
    unused: ClassVar[Mapping[str, Any]] = {}
    """Fields of the execution that change nothing in its learner, with the value that they then have."""
    layers: ClassVar[tuple[str, ...]] = ()
    """Names of the layers that deep features compare, in the order of the forward pass; of several networks,
    those of all."""

    task: str
    version: int
    package: str | None = None
    """Name and version of the package that the task comes from; null for a task of xferlab."""
    model: Section
    training: Loop
    adapt: Section | None = None
    execution: Execution
    num_classes: int | None = None
    selection: str
    others: Mapping[str, str] | None = None
    """Digests of the selections of the other sets that it learns from, by name; null for one set."""
    seed: int
    parent: Mapping[str, Any] | None = None
    """What it starts from: `trials` or `weights`; by name for several networks."""
    masks: Mapping[str, Any] | None = None
    """Masks that other trials predict: `trials` (id -> digest of the predicted cases it trains and selects
    with), `places` of the structures among their targets, `threshold`, and what the task's section adds."""
    gate: Mapping[str, Any] | None = None
    """Who may train, as others predict: `trials`, as of masks, `places` of the classes that pass, and `by`,
    what the class of a case is called by, where that is not its probability."""

    @property
    def score(self) -> Score | None:
        """By which value of `Learner.validate` epochs are judged; None keeps the last, and has no patience.

        Taken from fields of the training where it can vary, so that another score is another trial.
        """
        return Score("loss", "lower")

    @property
    def image_size(self) -> Size:
        """The size at which the network takes images."""
        raise NotImplementedError

    @property
    def compared_layers(self) -> tuple[str, ...]:
        """Those of `layers` that its network has."""
        return self.layers

    @property
    def default_targets(self) -> tuple[str, ...]:
        """What its targets are called where only weights are at hand."""
        return ()

    @property
    def has_threshold(self) -> bool:
        """Whether `Learner.present` uses the threshold of `predict`."""
        return False

    @property
    def exclusive_targets(self) -> bool:
        """Whether no pixel of a case that it trains on may belong to two structures.

        Images are then decoded before anything is trained, to see that none does.
        """
        return False

    @property
    def has_several(self) -> bool:
        """Whether a case may be of several classes or of none: its label then has a bit for each class."""
        return False

    @property
    def calls_by(self) -> str | None:
        """By what the class of a case is called (`called` of `Learner.for_others`); None: by probability.

        It is in the identity of trials that take a gate from it.
        """
        return None

    @property
    def preprocessing(self) -> str:
        """What is done to grey levels, in a word for people."""
        return ""

    @property
    def needs_sizes(self) -> bool:
        """Whether `check_sizes` can find anything: images are then decoded to learn their sizes."""
        return False

    def check_sizes(
        self, sizes: Mapping[str, tuple[int, int]], trained: Collection[str]
    ) -> Iterator[CaseProblem]:
        """Yields what the sizes of images at their own size forbid.

        Args:
            sizes: Height and width of every case that trials with this network read, by digest.
            trained: Digests of those that they train on.
        """
        yield from ()

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON value that a trial's id is the hash of."""
        return {**self.model_dump(mode="json", exclude_none=True), "parent": self.parent}

    @classmethod
    def course_of(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """Returns an identity's JSON without `bounds`: equal for trials of which one can continue another."""
        training = {name: item for name, item in value["training"].items() if name not in cls.bounds}
        return {**value, "training": training}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Returns the identity that `to_json` wrote: what is absent is off (null), whatever its default."""
        return _without_defaults(cls.model_validate(value))
