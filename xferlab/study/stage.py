"""A stage of a study file: what it trains on, what it takes from others, and what it reserves."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator, model_validator

from xferlab.cohort import Labelling, single_sections
from xferlab.errors import suggest
from xferlab.section import NO_BOOL, Float, Name, Scalar, Section
from xferlab.study.evaluated import Evaluated
from xferlab.tasks import registry
from xferlab.tasks.roles import SOURCE, Gate, each_once


class Weights(Section):
    """Weights from outside the study."""

    name: str | None = None
    """Published weights by name, such as `buda2019`."""
    path: str | None = None
    """A local file; `${NAME}` is taken from the environment."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """The digest that the file must have."""

    @model_validator(mode="after")
    def _one_origin(self) -> Weights:
        if (self.name is None) == (self.path is None):
            raise ValueError("give either a name or a path")
        return self


def _of_ten_thousandths(value: float) -> float:
    if value != round(value, 4):
        raise ValueError(f"{value:g} is finer than Ray divides a resource; give a multiple of 0.0001")
    return value


def _whole_above_one(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"{value:g} is neither a share of one GPU nor a whole number of them")
    return value


class Resources(Section):
    """What Ray reserves for one trial; never part of an identity."""

    cpu: Annotated[Float, AfterValidator(_of_ten_thousandths)] = Field(1.0, gt=0)
    """CPU cores."""
    gpu: Annotated[Float, AfterValidator(_of_ten_thousandths), AfterValidator(_whole_above_one)] = Field(
        0.0, ge=0
    )
    """GPUs; 0.25 packs four trials on one. A CUDA trial that names none gets a whole one; CPU trials none."""
    memory_gib: Annotated[float, Field(gt=0), NO_BOOL] | None = None
    """Host memory to reserve."""


def _known_task(name: str) -> str:
    if name not in registry.names():
        names = registry.names()
        raise ValueError(f"{name!r} is no task ({', '.join(names)}).{suggest(name, names)}")
    return name


def _or_bare_name(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string"})


MASKS, GATE = "masks", "gate"
MAX_SEVERAL = 62
"""Classes that a label of 64 bits can hold, where an image may be of several."""


class Producer(NamedTuple):
    """A stage whose predictions another stage takes: in which role, and of which arm (empty: its own)."""

    role: str
    arm: str
    stage: str


class Classes(Section):
    """What whole images are labelled with."""

    column: str = Field("pathology", pattern=r"\S")
    """The column of the data sections that tells the class of an image."""
    names: dict[Name, Annotated[list[Scalar], Field(min_length=1)]] | None = None
    """The values of each class, in the order of the labels; images with other values take no part. Default:
    a class for each value of the column, by name."""
    separator: str | None = Field(None, pattern=r"^\S+$", max_length=8)
    """What stands between the values of a cell, such as `|`: images may be of several classes, or of none."""

    @model_validator(mode="after")
    def _each_value_once(self) -> Classes:
        if self.names is not None and len(self.names) < 2:
            raise ValueError("names has fewer than two classes; to tell classes apart takes two")
        if self.separator and len(self.names or ()) > MAX_SEVERAL:
            raise ValueError(f"names has more than {MAX_SEVERAL} classes, which is the most with a separator")
        seen: dict[str, str] = {}
        for name, values in () if self.separator else (self.names or {}).items():
            for value in values:
                if (other := seen.setdefault(str(value), name)) != name:
                    raise ValueError(f"the value {value!r} is in the classes {other!r} and {name!r}")
        return self

    @property
    def labelling(self) -> Labelling:
        """What it says of a case; there are names."""
        classes = tuple((name, tuple(values)) for name, values in (self.names or {}).items())
        return Labelling(self.column, classes, self.separator or "")


_Sections = str | Annotated[list[str], Field(min_length=1)]
_Share = Annotated[Float, Field(ge=0, le=1)]


def _joined(sections: str | list[str]) -> str:
    """Sections as one set of cases: `a+b`."""
    return sections if isinstance(sections, str) else "+".join(sections)


class Stage(Section):
    """One training phase, or (with `weights`) a donor that is not trained here."""

    task: Annotated[str, AfterValidator(_known_task)] = registry.DEFAULT
    """What is learnt."""
    data: _Sections | Annotated[dict[Name, _Sections], Field(min_length=1)] | None = None
    """The data section to train on; several are one set of cases, `a+b`. A task that learns from several
    sets takes each by its name: `{a: SECTION, b: SECTION}`."""
    structures: Annotated[list[Name], AfterValidator(each_once)] | None = None
    """Structures whose masks it reads, in this order; default: those that the section reads."""
    classes: Classes | None = None
    """What whole images are labelled with, for tasks that learn labels; default: their pathology."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of the network that differ in this stage."""
    weights: Weights | None = Field(None, json_schema_extra=_or_bare_name)
    """Published or local weights in place of a training; a bare name is enough."""
    starts_from: str | Annotated[dict[Name, str], Field(min_length=1)] | None = None
    """The stage whose best weights this one starts from; null starts from random weights. `{NETWORK: STAGE}`
    starts single networks of a task that has several."""
    chaining: Literal["paired", "best"] = "paired"
    """`paired`: repetition k from repetition k. `best`: all from the parent of the best score."""
    adapt: dict[str, Any] | None = None
    """How the weights it starts from are taken over."""
    masks: dict[str, Any] | None = None
    """Masks that another stage predicts, for tasks that read such masks."""
    gate: Gate | None = None
    """Train only on what another stage takes for one of some classes; all cases are measured."""
    label_fraction: _Share | Annotated[dict[Name, _Share], Field(min_length=1)] | None = None
    """Train on this share of the training patients only, drawn anew in each repetition, where smaller shares
    are subsets of larger ones; 0 keeps none. Of sets with names, `{b: SHARE}` is the share of those whose
    labels are read; the images of all take part."""
    stratified: bool = True
    """false takes `label_fraction` of all training patients together, not of each section and pathology."""
    fraction_of_validation: bool = False
    """Whether `label_fraction` holds for the validation patients, too."""
    evaluate_on: list[str] | None = None
    """`section.part` names; default: the stage's own test part. `@implant`, `@cable`, `@electrode` or
    `@marker` behind a part lays such an object on every image; `@original` measures at the original size."""
    repetitions: Annotated[int, Field(ge=1, le=10_000), NO_BOOL] | None = None
    """Default: the study's number; 1 for a stage that needs no other and whose weights others start from, if
    no stage takes its predictions."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Training fields that differ in this stage; of a mapping such as `plateau`, the fields that differ."""
    resources: Resources | None = None
    """Default: the study's."""

    @field_validator("weights", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("evaluate_on")
    @classmethod
    def _section_and_part(cls, value: list[str] | None) -> list[str] | None:
        for item in value or []:
            Evaluated.of(item)
        return value

    @model_validator(mode="after")
    def _trained_or_given(self) -> Stage:
        if (self.data is None) == (self.weights is None):
            raise ValueError("a stage has either `data` to train on or `weights` that are given")
        trained = (
            self.starts_from, self.evaluate_on, self.model, self.training, self.adapt, self.structures,
            self.classes, self.masks, self.gate,
        )  # fmt: skip
        if self.weights is not None and (any(trained) or self.label_fraction is not None):
            raise ValueError(
                "a stage with given weights has no starts_from, evaluate_on, structures, classes, model, "
                "training, adapt, masks, gate or label_fraction"
            )
        if self.adapt is not None and self.starts_from is None:
            raise ValueError(
                "there is nothing to adapt in a stage that starts from random weights; give starts_from"
            )
        if len(set(self.sections)) != len(self.sections):
            raise ValueError(f"data names a section twice: {', '.join(self.sections)}")
        if self.label_fraction is None and (not self.stratified or self.fraction_of_validation):
            field = "fraction_of_validation" if self.stratified else "stratified"
            raise ValueError(f"{field} is about label_fraction, which this stage lacks; leave it out")
        return self

    @property
    def sets(self) -> dict[str, str]:
        """The sets of cases that it trains on, by name, as its task orders them; one alone has no name."""
        if self.data is None:
            return {}
        named = self.data if isinstance(self.data, dict) else {"": self.data}
        order = {name: place for place, name in enumerate(registry.task(self.task).sets)}
        ordered = sorted(named, key=lambda name: order.get(name, len(order)))
        return {name: _joined(named[name]) for name in ordered}

    @property
    def share(self) -> float | None:
        """The share of the labels that it reads, of several sets that of the first that has one."""
        fraction = self.label_fraction
        return next(iter(fraction.values())) if isinstance(fraction, dict) else fraction

    @property
    def section(self) -> str | None:
        """What it trains on: a data section, or a set of several (`a+b`); of several sets, the first."""
        return next(iter(self.sets.values()), None)

    @property
    def sections(self) -> tuple[str, ...]:
        """All data sections that it trains on."""
        return tuple(section for cases in self.sets.values() for section in single_sections(cases))

    def set_of(self, cases: str) -> str | None:
        """Returns the name of the set that all of some sections (`a+b`) are of; None where there is none."""
        wanted = set(single_sections(cases))
        return next((name for name, own in self.sets.items() if wanted <= set(single_sections(own))), None)

    def fraction_of(self, name: str) -> float | None:
        """Returns the share of the labels of a set that are read; None for all."""
        if isinstance(self.label_fraction, dict):
            return self.label_fraction.get(name)
        return self.label_fraction

    @property
    def origins(self) -> dict[str, str]:
        """The stages that it starts from, by the network that does; an empty name is all of its networks."""
        if self.starts_from is None or isinstance(self.starts_from, str):
            return {"": self.starts_from} if self.starts_from else {}
        return self.starts_from

    @property
    def producers(self) -> tuple[Producer, ...]:
        """The stages whose predictions it takes; of masks, those that its fields name if they are valid."""
        source = self.masks.get("from") if self.masks else None
        named = {MASKS: source, GATE: self.gate and self.gate.source}
        return tuple(
            Producer(role, *name.rpartition(".")[::2])
            for role, name in named.items()
            if isinstance(name, str) and re.search(SOURCE, name)
        )
