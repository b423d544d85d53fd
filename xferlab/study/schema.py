"""The study file as frozen values: every field a line with its default.

The same models validate `jobs/*.yaml` and give editors their JSON Schema (`xferlab schema`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from xferlab import plugins
from xferlab.analysis.published import papers
from xferlab.cohort import single_sections
from xferlab.data.sources.registry import DataSection
from xferlab.errors import PluginError, suggest
from xferlab.metrics.measuring import NAMES as METRICS
from xferlab.metrics.measuring import added
from xferlab.section import Float, Int, Name, Section
from xferlab.study.claims import Contrasts, Primary
from xferlab.study.prices import Prices
from xferlab.study.split import Split
from xferlab.study.stage import Classes, Resources, Stage
from xferlab.tasks import registry
from xferlab.tasks.config import Engine, Training
from xferlab.tasks.roles import Masks
from xferlab.tasks.task import Origin, Task

if TYPE_CHECKING:
    PaperName = str
else:  # papers are folders, so their names are known at run time only
    PaperName = Literal[papers()]


class Features(Section):
    """Deep features of every trial on the same few cases, so that stages can be compared layer by layer."""

    on: str
    """`section.hold_out`: cases that no stage has trained on; of each pathology by its share."""
    cases: Int = Field(64, ge=4, le=64)
    """Number of cases; all that are held out if there are fewer."""

    @field_validator("on")
    @classmethod
    def _hold_out(cls, value: str) -> str:
        section, _, part = value.partition(".")
        if not section or part != "hold_out":
            raise ValueError(
                f"{value!r} is not `section.hold_out`; only a hold-out is the same for all trials"
            )
        return value


_NOT_IN_WANDB_NAMES = "/\\#?%:"
_LONGEST_WANDB_NAME = 128


def _wandb_name(value: str) -> str:
    """What W&B checks itself (`wandb.Settings.validate_project`), but not before a trial runs."""
    if not value.strip():
        raise ValueError("the name is empty")
    if len(value) > _LONGEST_WANDB_NAME:
        raise ValueError(f"the name has {len(value)} characters; W&B takes at most {_LONGEST_WANDB_NAME}")
    if refused := "".join(dict.fromkeys(letter for letter in value if letter in _NOT_IN_WANDB_NAMES)):
        listed = " ".join(_NOT_IN_WANDB_NAMES)
        hint = "; give the team as `entity`" if "/" in refused else ""
        raise ValueError(f"{value!r} has {refused!r}, and W&B refuses {listed} in names{hint}")
    return value


def _wandb_entity(value: str) -> str:
    if any(letter.isspace() for letter in value):
        raise ValueError(f"{value!r} has a blank; the name of a W&B team or user has none")
    return _wandb_name(value)


class Wandb(Section):
    """The mirror in Weights & Biases."""

    project: Annotated[str, AfterValidator(_wandb_name)] = "xferlab"
    """Project name."""
    entity: Annotated[str, AfterValidator(_wandb_entity)] | None = None
    """Team or user; default: the account's own."""
    mode: Literal["online", "offline", "disabled"] = "offline"
    """`offline` writes files that `wandb sync` uploads."""
    images: Int = Field(4, ge=0, le=64)
    """Validation overlays a trial logs, of shareable sections only."""


def _variable(value: str) -> str:
    # The message does not repeat the value, which may be a secret in the wrong place.
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(
            "it must be the name of an environment variable that holds the address, such as XFERLAB_WEBHOOK; "
            "the address itself does not belong in a study file, since whoever has it can post"
        )
    return value


Event = Literal["end", "failure", "stall"]
"""What a team is told of."""
_EVENTS: list[Event] = ["end", "failure", "stall"]


class Notify(Section):
    """Who is told when a study ends, first fails or stalls."""

    webhook: Annotated[str, AfterValidator(_variable)] | None = None
    """Name of the environment variable with the address that messages are sent to; null: none is sent."""
    format: Literal["slack", "mattermost", "json"] = "slack"
    """Of the messages; `json`: event, study, profile, title, text, counts and hours by name."""
    wandb_alert: bool = False
    """W&B tells them, too, where `wandb` has `mode: online`."""
    on: list[Event] = Field(default_factory=lambda: list(_EVENTS))
    """What is told; of failures the first of a run."""
    stall_after_min: Float = Field(60, gt=0)
    """Minutes without the end of an epoch, or a trial that begins or ends, that count as a stall."""


class Tracking(Section):
    """Where records are mirrored; the records themselves are the truth."""

    wandb: Wandb | None = None
    """null: no mirror."""
    notify: Notify | None = None
    """null: nobody is told."""

    @model_validator(mode="after")
    def _can_alert(self) -> Tracking:
        if self.notify and self.notify.wandb_alert and not (self.wandb and self.wandb.mode == "online"):
            raise ValueError(
                "`notify.wandb_alert` needs `wandb` with `mode: online`: from a run that is offline, W&B "
                "tells nobody"
            )
        return self


def _added_metric(name: str) -> str:
    known = plugins.names(plugins.METRICS)
    try:
        if plugins.find(plugins.METRICS, name, built_in=METRICS) is None:
            if name in METRICS:
                raise ValueError(f"{name!r} is measured in any case; leave it out")
            listed = ", ".join(known) or "none"
            hint = suggest(name, known) or " Install the package that has it."
            raise ValueError(f"no installed package has a metric {name!r} (installed: {listed}).{hint}")
        added((name,))
    except PluginError as error:
        raise ValueError(str(error)) from error
    return name


class Study(Section):
    """One study: stages x arms x repetitions. Arms and profiles are overrides by dotted path."""

    study: Name
    """Name; the folder of the study's plan and the key of its tables."""
    seed: Int = Field(0, ge=0)
    """All randomness descends from it."""
    repetitions: Int = Field(25, ge=1, le=10_000)
    """Independent seeded reruns of every stage."""
    storage: str = "./xferlab-results"
    """Folder or URI (`s3://bucket/prefix`); relative paths start at the study file."""
    data: dict[Name, DataSection] = Field(min_length=1)
    """Data sections by name."""
    split: Split = Field(default_factory=Split)
    """Division of patients in each repetition."""
    model: registry.DefaultModel = Field(default_factory=registry.DefaultModel)
    """The network of the stages of the default task."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """Stages by name, each after the one that it starts from."""
    training: registry.DefaultTraining = Field(default_factory=registry.DefaultTraining)
    """Defaults of all stages; those of another task take from it where and how exactly they compute."""
    resources: Resources = Field(default_factory=Resources)
    """Defaults of all stages."""
    retries: Int = Field(1, ge=0, le=100)
    """How often a failed trial is tried again before its descendants are blocked."""
    keep_states: bool = False
    """Keep the full state at the end of each training, so that a longer one continues there."""
    overlay_cases: Int = Field(4, ge=0, le=64)
    """Cases per pathology whose image, target and output are stored with each evaluation."""
    features: Features | None = None
    """What is stored for the analysis of deep features; null: nothing."""
    tracking: Tracking = Field(default_factory=Tracking)
    """Mirrors."""
    compare_to: PaperName | None = None
    """Published values to print beside this study's."""
    primary: Primary | None = None
    """What the study is to show; null: all that its report says is exploratory."""
    contrasts: Contrasts | None = None
    """What is compared by it: `[x, y]` is x minus y, each `arm`, or `arm.stage` for a stage that is not that
    of `primary`; default: every arm minus the baseline."""
    subgroups: list[Annotated[str, Field(pattern=r"\S")]] = Field(default_factory=list)
    """Columns of the data, such as of sex or site, by whose values the report has tables."""
    metrics: list[Annotated[str, AfterValidator(_added_metric)]] = Field(default_factory=list)
    """Metrics of installed packages, by name, that masks are measured by beside xferlab's own."""
    note: str | None = None
    """A sentence that stands under every table."""
    prices: Prices | None = None
    """What machines cost and take, for the estimates of `plan`; null: time, memory and storage only."""

    @field_validator("subgroups")
    @classmethod
    def _columns(cls, value: list[str]) -> list[str]:
        if doubled := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"{', '.join(doubled)} stands twice; name each column once")
        return value

    def metrics_of(self, stage: str) -> tuple[tuple[str, str], ...]:
        """Returns the metrics of installed packages that a stage is measured by, each with its package."""
        if self.task_of(stage).image_metrics is None:
            return ()
        releases = {name: plugins.release(plugins.METRICS, name, built_in=METRICS) for name in self.metrics}
        return tuple((name, release or "") for name, release in releases.items())

    def task_of(self, stage: str) -> Task:
        """Returns the task of a stage."""
        return registry.task(self.stages[stage].task)

    def classes_of(self, stage: str) -> Classes | None:
        """Returns what a stage's images are labelled with; None where its task learns no labels."""
        return (self.stages[stage].classes or Classes()) if self.task_of(stage).reads_labels else None

    def section_of(self, stage: str, section: str) -> DataSection:
        """Returns a data section as a stage reads it: the images, and the masks of its structures.

        A stage without `structures` reads those of the section that it trains on in all others, too. Where
        each has one by itself, its name does not matter. A section that the stage is only evaluated on may
        mark some of several structures, or what the task makes of them.
        """
        config, structures = self.data[section], self.stages[stage].structures
        sections = single_sections(self.stages[stage].section or "")
        if not self.reads_masks(stage):
            return config.reading(())
        if network := self.task_of(stage).targets_from:
            structures = list(self.targets_of(self.stages[stage].origins[network]))
        elif structures is None:
            structures = list(self.data.get(sections[0], config).targets)
            if len(structures) == len(config.targets) == 1:
                return config
        marked = self.task_of(stage).marked(structures, config.markable)
        if section in self.stages[stage].sections[len(sections) :]:
            return config.reading(marked)
        return config.reading(structures if section in sections else marked or structures)

    def reads_masks(self, stage: str) -> bool:
        """Returns whether a stage learns from masks of the data, or is measured by them."""
        return self.task_of(stage).reads_masks and self.learns_targets(stage)

    def learns_targets(self, stage: str) -> bool:
        """Returns whether a stage learns to tell anything that has a name, where its task does."""
        source = self.task_of(stage).targets_from
        return not source or source in self.stages[stage].origins

    def targets_of(self, stage: str) -> tuple[str, ...]:
        """Returns the names of what a stage learns to tell, in order; empty where its task names nothing."""
        section = single_sections(self.stages[stage].section or "")[0]
        if section not in self.data or not self.task_of(stage).targets or not self.learns_targets(stage):
            return ()
        if classes := self.classes_of(stage):
            return classes.labelling.names
        return self.section_of(stage, section).targets

    def training_of(self, stage: str) -> Training:
        """Returns the training of one stage: the study's, with the fields that the stage changes.

        Raises:
            pydantic.ValidationError: The stage changes a field that does not exist, or to a bad value; never
                in a study that was loaded.
        """
        shared = None if self.stages[stage].task == registry.DEFAULT else set(Engine.model_fields)
        base = self.training.model_dump(include=shared)
        return self.task_of(stage).training.model_validate(_merged(base, self.stages[stage].training))

    def model_of(self, stage: str) -> Section:
        """Returns the section `model` of one stage: the study's, with the fields that the stage changes.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        base = self.model.model_dump() if self.stages[stage].task == registry.DEFAULT else {}
        return self.task_of(stage).model.model_validate(_merged(base, self.stages[stage].model))

    def adapt_of(self, stage: str) -> Section | None:
        """Returns how a stage takes over weights; None where it says nothing.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        section, value = self.task_of(stage).adapt, self.stages[stage].adapt
        return section.model_validate(value) if section is not None and value is not None else None

    def masks_of(self, stage: str) -> Masks | None:
        """Returns the masks that a stage takes from another one; None where it takes none.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        section, value = self.task_of(stage).masks, self.stages[stage].masks
        return section.model_validate(value) if section is not None and value is not None else None

    def lineage(self, stage: str) -> list[str]:
        """Returns a stage and what all of its networks start from, from the root down."""
        names = [stage]
        while (parent := self.stages[names[0]].origins.get("")) is not None:
            names.insert(0, parent)
        return names

    def needs(self, stage: str) -> list[str]:
        """Returns the stages of the study that a stage needs in any role."""
        producers = (producer.stage for producer in self.stages[stage].producers if not producer.arm)
        return list(dict.fromkeys([*self.stages[stage].origins.values(), *producers]))

    def generation(self, stage: str) -> int:
        """Returns how many stages stand above a stage, in its longest line; 0 if it needs none."""
        return max((1 + self.generation(needed) for needed in self.needs(stage)), default=0)

    def network_of(self, stage: str) -> Any:
        """Returns the network of one stage: its model, as adapted by the stage and those before it."""
        adaptations = [self.adapt_of(name) for name in self.lineage(stage)]
        origins = {
            network: Origin(self.network_of(parent), self.training_of(parent))
            for network, parent in self.stages[stage].origins.items()
            if parent in self.stages
            and self.stages[parent].weights is None
            and self.stages[parent].task != self.stages[stage].task
        }
        return self.task_of(stage).network(self.model_of(stage), adaptations, self.targets_of(stage), origins)

    def resources_of(self, stage: str) -> Resources:
        """Returns what one stage reserves: its own `resources`, else the study's."""
        return self.stages[stage].resources or self.resources


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in changes.items()
    }
    return {**base, **inner}
