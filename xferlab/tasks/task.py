"""What a task declares: what it reads from a study file, what it measures, and where its parts are.

Nothing here computes: studies, plans and reports read it without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from xferlab.errors import TaskError, suggest
from xferlab.metrics.measuring import added as added_metrics
from xferlab.metrics.metric import ImageMetric, Metric
from xferlab.metrics.sets import FUNCTIONS, MACRO
from xferlab.section import Section
from xferlab.tasks.config import OBJECTS, Engine, Execution, Training, TrialIdentity
from xferlab.tasks.roles import Masks

Path = tuple[str | int, ...]
"""A path into a study file, such as `("stages", "general", "adapt")`."""


@dataclass(frozen=True)
class Finding:
    """A problem of the value at a path of a study.

    Attributes:
        path: Path of the value; the problem gets its line.
        what: Message.
        severity: `error` or `warning`.
        related: Other paths that it depends on; an arm that overrides one of them has caused it.
        is_required: Whether the value that contains `path` cannot be read without it.
    """

    path: Path
    what: str
    severity: str = "error"
    related: tuple[Path, ...] = field(default=(), compare=False)
    is_required: bool = field(default=False, compare=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths that it depends on; `path` is the first."""
        return (self.path, *self.related)


@dataclass(frozen=True)
class StageView:
    """A stage as its task checks it.

    Attributes:
        name: Of the stage.
        model: The network's section.
        network: The network of this stage, adapted by the stage and those before it.
        training: Its training.
        adapt: How it takes over weights; None where it does not say.
        parent: Name of the stage that it starts from, or None.
        parent_network: That stage's network, or None.
        origins: The network of each stage that it starts from, by its own network that does; an empty name is
            all of them.
        lineage: Names of the stages from the root down to this one.
        channels: Channels of the images of each section that it reads, by the path that names the section.
        structures: Names of the structures whose masks it trains on; None where its section is not known.
        parent_targets: What the stage that it starts from learns to tell; empty where weights are given.
        has_several: Whether an image may be of several classes, or of none; False where it learns none.
        masks: What it takes of the masks that another stage predicts; None where it takes none.
        written: Returns where a training field is written: in the stage, or for all stages.
    """

    name: str
    model: Any
    network: Any
    training: Any
    adapt: Any
    parent: str | None
    parent_network: Any
    origins: Mapping[str, Any]
    lineage: tuple[str, ...]
    channels: Mapping[tuple[str, Path], int]
    structures: tuple[str, ...] | None
    parent_targets: tuple[str, ...]
    has_several: bool
    masks: Masks | None
    written: Callable[[str], Path]


@dataclass(frozen=True)
class Origin:
    """A stage of another task that one network of a stage starts from, as the task of this one takes it.

    Attributes:
        network: Its network, as adapted by it and those before it.
        training: Its training, with what is done to images.
    """

    network: Any
    training: Any


def same_network(
    model: Any, adaptations: Sequence[Any], targets: tuple[str, ...], origins: Mapping[str, Origin]
) -> Any:
    """Returns the network's section as it is: for tasks whose stages adapt nothing."""
    return model


def no_files(targets: tuple[str, ...]) -> Mapping[str, str]:
    """Returns no endings: for tasks of which `predict` writes figures alone."""
    return {}


@dataclass(frozen=True)
class Task:
    """A learning problem: what it reads from a study file, and where its parts are.

    Attributes:
        name: As in `task:` of a stage; the name of its folder.
        version: Part of every trial's identity; raised when the same configuration gives other weights.
        metrics_version: Part of every evaluation's identity; raised when a metric may give other values.
        metrics: Takes the targets of a trial, and returns what is reported of it; see `measured`. Reports
            take the declarations from the stored plan of a study, so that a change of them shows after the
            next `xferlab run`.
        image_metrics: Takes the targets of a trial and metrics of images, and returns what is reported by
            them: studies may then name metrics of installed packages, and `Learner.measure` also returns
            those of `examples.metrics`. None where outputs are not measured by metrics of images.
        model: The section `model`.
        training: The section `training`.
        identity: The identity of its trials; it declares anew each of the sections that the task has.
        learner: `module:class` of its `Learner`; called with the identity, the device, and `share`: None, or
            another learner of the same trial, whose networks it uses (a search judges a sample by them).
        targets: What of the cases it learns to tell: `structures` (by their masks), or `classes` (by their
            labels). Their names are the targets of a trial. Other stages may take what it predicts of them
            (`Learner.for_others`): masks of the structures, or a gate by the classes. Empty where what it
            learns has no names.
        composed: Takes the targets of a trial, and returns what is made of several of them: the names of the
            parts by its own. A stage may then be evaluated on sections that mark only some of its targets, or
            only what is made of them: see `CaseSet.learnt`. None where `Learner.measure` needs all targets.
        sets: Names of the sets of cases that a stage learns from, as `data: {NAME: SECTION}` gives them; a
            stage learns from the masks of the first, and from those of a share of the others
            (`label_fraction`), whose images all take part. `Learner` then gets `training.sets.CaseSets` to
            train and to select with. Empty: from one set, which has no name.
        targets_from: The network of `networks` whose targets a stage learns; a stage that starts none learns
            no targets, and reads no masks. Empty: a stage learns those that its data name.
        networks: Networks that may each start from another stage (`starts_from: {NAME: STAGE}`): by name,
            what the task of that stage gives; empty for a stage of the same task. `Learner` then has
            `start_network_from`. Without any, a stage starts from one other of its task.
        masks: The section `masks` of a stage, a subclass of `roles.Masks`, for a task that reads masks that
            other stages predict; None for others.
        adapt: The section `adapt` of a stage; None where weights are taken over as they are. The identity
            then has `adapt: Adapt | None = None`.
        new_head: Takes the `adapt` of a stage: whether it starts the last layer from random weights, as
            `adapt: {head: new}` does; None for a task without that, whose stages take over that layer only
            from as many targets.
        network: Takes the section `model`, the `adapt` of every stage from the root down, the targets of the
            last stage, and by name the stages of other tasks that its networks start from; returns its
            network.
        check: What is wrong or odd about a stage, beyond single fields.
        check_single: The same where a stage trains on one image at a time, or has labels of one image of a
            further set: takes the stage, why, and what to do about it.
        headline: The metric of a case that a run ends with; empty for none.
        ranked_by: The metric of a case that tells the worst cases from the best; empty for the headline.
        panels: `module:function` that takes what `Learner.outputs` returns of a case, and returns the panels
            of a small picture of it, RGB, uint8, (H, W, 3), of one height; empty for none.
        panels_show: A sentence on what these panels are.
        variants: What may follow `@` in `evaluate_on`. Objects ask nothing of a learner; `original` does.
        files: What `predict` writes for an image: takes the targets of a trial, and returns the ending of
            each file's name, by its column in `predictions.csv`. With `{"card": "_age.txt"}`, `a.png` gets
            the file `a_age.txt`, whose bytes are `files["card"]` of what `Learner.present` returns.
        ensemble_files: The endings of the files that `Learner.present_ensemble` returns beside these, by
            column; None where outputs of several networks are not averaged, and `predict` refuses them.
        reads_masks: Whether its learner asks for masks. Where it does not, a corrected mask renews no trial,
            and images without masks take part.
        of_weights: `module:function` that returns an identity for bare weights; empty where none can.
        package: Name and version of the package that it comes from, which the registry sets; empty for a task
            of xferlab.
        report: Module whose `pictures(contents)` yields the figures that only this task has in a report, such
            as of its `Learner.outputs`; empty for none.

    Raises:
        TaskError: `headline` or `ranked_by` is none of the metrics of a case, or it declares what does not
            exist.
    """

    name: str
    version: int
    metrics_version: int
    metrics: Callable[[tuple[str, ...]], tuple[Metric, ...]]
    model: type[Section]
    training: type[Training]
    identity: type[TrialIdentity]
    learner: str
    targets: Literal["structures", "classes", ""] = ""
    image_metrics: Callable[[tuple[str, ...], tuple[ImageMetric, ...]], tuple[Metric, ...]] | None = None
    composed: Callable[[tuple[str, ...]], Mapping[str, Sequence[str]]] | None = None
    sets: tuple[str, ...] = ()
    targets_from: str = ""
    networks: Mapping[str, Literal["structures", "classes", ""]] = field(default_factory=dict)
    masks: type[Masks] | None = None
    adapt: type[Section] | None = None
    new_head: Callable[[Any], bool] | None = None
    network: Callable[[Any, Sequence[Any], tuple[str, ...], Mapping[str, Origin]], Section] = same_network
    check: Callable[[StageView], Iterator[Finding]] = field(default=lambda stage: iter(()))
    check_single: Callable[[StageView, Path, str, str], Iterator[Finding]] = field(
        default=lambda stage, path, why, remedy: iter(())
    )
    headline: str = ""
    ranked_by: str = ""
    panels: str = ""
    panels_show: str = ""
    variants: tuple[str, ...] = OBJECTS
    files: Callable[[tuple[str, ...]], Mapping[str, str]] = no_files
    ensemble_files: Mapping[str, str] | None = None
    reads_masks: bool = True
    of_weights: str = ""
    report: str = ""
    package: str = ""

    @property
    def reads_labels(self) -> bool:
        """Whether its learner asks for the classes of images; those without one then take no part."""
        return self.targets == "classes"

    def __post_init__(self) -> None:
        self._check_declared()
        names = [metric.name for metric in self.metrics(()) if not metric.computed_by]
        for field_name, name in (("headline", self.headline), ("ranked_by", self.ranked_by)):
            if name and name not in names:
                raise TaskError(
                    f"task {self.name!r}: {field_name} is {name!r}, which is none of its metrics of "
                    f"a case ({', '.join(names)}).{suggest(name, names)}"
                )

    @property
    def ranking(self) -> Metric | None:
        """The metric by which cases are ranked; None where it has none, or one of which neither is better."""
        name = self.ranked_by or self.headline
        return next((each for each in self.metrics(()) if each.name == name and each.better), None)

    def _check_declared(self) -> None:
        """Refuses a kind of targets and functions of metrics that do not exist."""
        kinds, several = ("structures", "classes", ""), ("a", "b") if self.targets else ()
        if self.targets not in kinds:
            raise TaskError(f"task {self.name!r}: targets is {self.targets!r}, and not one of {kinds}")
        functions = ("", MACRO, *FUNCTIONS)
        for metric in self.metrics(several):
            if metric.computed_by not in functions:
                raise TaskError(
                    f"task {self.name!r}: metric {metric.name} is computed by {metric.computed_by!r}, which "
                    f"is no function of sets ({', '.join(FUNCTIONS)})."
                    f"{suggest(metric.computed_by, FUNCTIONS)}"
                )

    def marked(self, structures: Sequence[str], markable: Sequence[str]) -> list[str]:
        """Returns which structures of a stage a set marks, and what is made of those that it does not mark.

        Args:
            structures: Those that the stage learns.
            markable: What the masks of the set mark.

        Returns:
            Names in the order of the structures; all of them, or none, where `composed` is None.
        """
        marked = [name for name in structures if name in markable]
        if self.composed is None:
            return marked if marked == list(structures) else []
        made = [
            name
            for name, parts in self.composed(tuple(structures)).items()
            if name in markable and not set(parts).intersection(marked)
        ]
        return [*marked, *made]

    def declared(self, targets: tuple[str, ...], added: tuple[str, ...] = ()) -> tuple[Metric, ...]:
        """Returns what is reported of a trial, with the metrics of installed packages of these names."""
        if not added or self.image_metrics is None:
            return self.metrics(targets)
        return (*self.metrics(targets), *self.image_metrics(targets, added_metrics(added)))

    def measured(self, targets: tuple[str, ...], added: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Returns the names of what `Learner.measure` gives, in order.

        They are the metrics of a case, and what those of sets are made of; arguments as of `declared`.
        """
        names = [
            name
            for metric in self.declared(targets, added)
            for name in (metric.made_of if metric.computed_by else (metric.name,))
        ]
        return tuple(dict.fromkeys(names))

    def identity_of(
        self,
        *,
        model: Section,
        training: Training,
        adapt: Section | None,
        execution: Execution,
        num_classes: int | None = None,
    ) -> TrialIdentity:
        """Returns the identity of a stage's trials, without their cases, seed and parent.

        The number of classes is that of a stage that learns labels.

        Raises:
            TaskError: The identity does not have the fields of the sections.
        """
        fields = {
            "task": self.name,
            "version": self.version,
            "package": self.package or None,
            "selection": "",
            "seed": 0,
            "model": model.model_dump(),
            "training": training.model_dump(exclude=set(Engine.model_fields)),
            "adapt": (adapt and adapt.model_dump(exclude_none=True)) or None,
            "execution": execution.model_copy(update=dict(self.identity.unused)),
            "num_classes": num_classes,
        }
        try:
            return self.identity.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise TaskError(
                f"task {self.name!r}: its identity does not take {'.'.join(map(str, first['loc']))} "
                f"({first['msg']}); declare in it each section that the task has, such as "
                "`adapt: Adapt | None = None`"
            ) from error
