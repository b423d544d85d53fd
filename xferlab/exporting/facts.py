"""What the records tell of an exported trial, as plain values: no name of a person or file, no path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LICENCE_UNKNOWN = "unknown: set it before you publish"


@dataclass(frozen=True)
class SectionFacts:
    """A data section that a trial learns from or is measured on.

    Attributes:
        name: In the study.
        source: Its kind of source.
        contents: What its images are; empty where that is not known.
        images: How many it has.
        patients: Of how many people.
        is_trained_on: Whether the trial learnt from it.
        is_measured_on: Whether it was measured on it.
        is_inherited: Whether a trial whose weights it starts from learnt from it, or one before that.
    """

    name: str
    source: str
    contents: str
    images: int
    patients: int
    is_trained_on: bool
    is_measured_on: bool
    is_inherited: bool = False

    @property
    def use(self) -> str:
        """What it was used for, by the trial and by those whose weights it starts from."""
        own = {"trained": self.is_trained_on, "measured": self.is_measured_on}
        words = " and ".join(use for use, is_used in own.items() if is_used)
        before = "trained on in an earlier stage" if self.is_inherited and not self.is_trained_on else ""
        return "; ".join(filter(None, (words and f"{words} on", before)))


@dataclass(frozen=True)
class ResultFacts:
    """One metric on one set.

    Attributes:
        on: `section.part`.
        metric: Name in records.
        label: Its heading, with its unit.
        value: Of this trial: the mean over its images, or the value of a metric of sets.
        mean: Over the repetitions of its arm; None where it is not known.
        sd: Sample SD over them; None for one repetition, and for few patients.
        repetitions: How many of them are complete.
        images: That the arm is measured on.
        patients: The same.
    """

    on: str
    metric: str
    label: str
    value: float
    mean: float | None
    sd: float | None
    repetitions: int
    images: int
    patients: int


@dataclass(frozen=True)
class Facts:
    """What is told of a trial.

    Attributes:
        study: Its study.
        arm: The first of its arms.
        stage: Its stage.
        repetition: From 1.
        trial_id: Its id.
        task: What its network does.
        network: Its architecture.
        parameters: How many train.
        starts_from: What it starts from, in words; empty from scratch.
        patients: That it trains on.
        images: That it trains on.
        validation_images: By which its epochs were judged.
        sections: The data.
        results: Its metrics.
        notes: Sentences that stand under tables of these data.
        weights_sha256: Digest of its weights.
        licence: Of the weights, as the user states it; empty for unknown.
        others: What its study put beside: arms, repetitions, seed.
    """

    study: str
    arm: str
    stage: str
    repetition: int
    trial_id: str
    task: str
    network: str
    parameters: int
    starts_from: str
    patients: int
    images: int
    validation_images: int
    sections: tuple[SectionFacts, ...]
    results: tuple[ResultFacts, ...]
    notes: tuple[str, ...]
    weights_sha256: str
    licence: str
    others: Mapping[str, str]

    @property
    def name(self) -> str:
        """`study arm/stage/rNN`."""
        return f"{self.study} {self.arm}/{self.stage}/r{self.repetition:02d}"

    @property
    def title(self) -> str:
        """What it is, in a sentence."""
        what = ", ".join(self._contents) or "images of a study"
        return f"{self.network} for {self.task}, trained on {what} ({self.name})."

    @property
    def licence_words(self) -> str:
        """The licence for readers."""
        return self.licence or LICENCE_UNKNOWN

    @property
    def modality(self) -> str:
        """What the images are, in a word or two."""
        return next(iter(self._contents), "unknown")

    @property
    def _contents(self) -> list[str]:
        trained_on = dict.fromkeys(each.contents for each in self.sections if each.is_trained_on)
        return list(filter(None, trained_on))

    @property
    def limits(self) -> str:
        """What it is not for."""
        return (
            "Not a medical device: for research only, never for diagnosis or treatment. On images of other "
            "devices, places or patients than those of its study, its errors are unknown. It needs exactly "
            "the preprocessing that is given with it."
        )
