"""Simulated studies in which two arms are equally good: what a rule of inference may not call different.

Both arms are the same learner on two feature sets that come from one distribution, so the expected
difference between them is 0 over patients, training samples and seeds. As in a study, patients have several
images, every repetition trains on another part of one pool of patients, and both arms share the parts.

`additive` is no learner but the worst case: every training patient adds an effect to the score of an arm, and
there is no noise of seeds, so what a pool adds is never averaged away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xferlab.analysis.design import Design
from xferlab.analysis.estimates import FEW_TRAINING_PATIENTS

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Learner = Callable[[Floats, Floats, Floats, np.random.Generator], Floats]
"""Training features, training targets, features to predict, and a seed's generator -> predictions."""


def ridge(features: Floats, targets: Floats, asked: Floats, seed: np.random.Generator) -> Floats:
    """Returns predictions of ridge regression, which has no seed."""
    del seed
    return asked @ _weights(features, targets)


def elm(features: Floats, targets: Floats, asked: Floats, seed: np.random.Generator) -> Floats:
    """Returns predictions of an extreme learning machine: ridge regression on random hidden units."""
    hidden = seed.normal(size=(features.shape[1], 40)) / np.sqrt(features.shape[1])
    shift = seed.normal(size=40)
    return np.tanh(asked @ hidden + shift) @ _weights(np.tanh(features @ hidden + shift), targets)


def neighbours(features: Floats, targets: Floats, asked: Floats, seed: np.random.Generator) -> Floats:
    """Returns the mean target of the five nearest of half the training images, which the seed chooses."""
    chosen = seed.permutation(len(features))[: max(5, len(features) // 2)]
    kept, known = features[chosen], targets[chosen]
    distances = (asked**2).sum(axis=1)[:, None] - 2 * asked @ kept.T + (kept**2).sum(axis=1)
    nearest = np.argpartition(distances, 4, axis=1)[:, :5]
    return np.asarray(known[nearest].mean(axis=1))


def _weights(features: Floats, targets: Floats) -> Floats:
    penalty = 1.0 * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(features.T @ features + penalty, features.T @ targets))


def additive(features: Floats, targets: Floats, asked: Floats, seed: np.random.Generator) -> Floats:
    """Returns scores, not predictions: the mean effect of training images, and one of each asked image."""
    del targets, seed
    return np.asarray(features[:, 0].mean() + asked[:, 1])


@dataclass(frozen=True)
class Setting:
    """One kind of study.

    Attributes:
        learner: Of both arms.
        repetitions: Number of splits of the pool, times `seeds`.
        seeds: Repetitions of a split.
        pool: Patients who train, validate and test.
        hold_out: Patients who are held out.
        images: Images per patient; of unequal ones, the most.
        unequal: Whether patients have 1 to `images` images, all numbers alike often.
        share: Share of the pool that a repetition trains on.
        labels: Share of these of each stratum that has labels, at least one patient; 1 for all.
        strata: Patients of the pool in each stratum; without any, all are in one.
        test_share: Share of the pool that a repetition tests on.
        num_features: Features of an image.
        noise: Standard deviation of the features around what tells the target.
    """

    learner: Learner = elm
    repetitions: int = 25
    seeds: int = field(default=1, kw_only=True)
    pool: int = 60
    hold_out: int = 50
    images: int = 2
    unequal: bool = False
    share: float = 0.6
    labels: float = 1.0
    strata: tuple[int, ...] = ()
    test_share: float = 0.2
    num_features: int = 12
    noise: float = 1.5


@dataclass(frozen=True)
class Outcome:
    """What one simulated study measures.

    Attributes:
        differences: Second arm's score minus the first's on the hold-out, shape (repetitions, images).
        patients: Patient of each of these images, numbered, shape (images,).
        sides: Whether the target is above 0, and the prediction, of both arms on the hold-out, shape
            (2, repetitions, images, 2): what areas under the ROC curve are made of.
        test_means: Mean difference on each repetition's own test part, shape (repetitions,).
        splits: The split of each repetition, shape (repetitions,).
        share: Mean number of training patients of a repetition over the patients who train in any.
        num_train: Mean number of training patients of a repetition.
        test_to_train: Test images per training image.
    """

    differences: Floats
    patients: Codes
    sides: Floats
    test_means: Floats
    splits: Codes
    share: float
    num_train: float
    test_to_train: float

    @property
    def design(self) -> Design:
        """What a plan would say of it."""
        few = self.num_train < FEW_TRAINING_PATIENTS
        return Design(
            planned=len(self.differences),
            share=self.share,
            share_of_few=self.share if few else 0.0,
            num_train=self.num_train,
        )


def outcomes(setting: Setting, number: int, *, seed: int) -> Iterator[Outcome]:
    """Yields independent studies of one setting, each with another pool, hold-out and splits."""
    for stream in np.random.default_rng(seed).spawn(number):
        yield _outcome(setting, stream)


def _outcome(setting: Setting, random: np.random.Generator) -> Outcome:
    numbers = np.full(setting.pool + setting.hold_out, setting.images)
    if setting.unequal:
        numbers = random.integers(1, setting.images + 1, len(numbers))
    patients = np.repeat(np.arange(len(numbers)), numbers)
    targets, arms = _data(setting, patients, random)
    held_out = patients >= setting.pool
    differences, test_means, trained, sides = [], [], [], []
    num_test = round(setting.test_share * setting.pool)
    order = np.empty(0, dtype=np.int64)
    for number in range(setting.repetitions):
        order = order if number % setting.seeds else random.permutation(setting.pool)
        trained.append(_labelled(setting, order[: round(setting.share * setting.pool)]))
        training, test = (np.isin(patients, part) for part in (trained[-1], order[-num_test:]))
        seeds = random.integers(2**63, size=2)
        predicted = [
            setting.learner(features[training], targets[training], features, np.random.default_rng(seed))
            for features, seed in zip(arms, seeds, strict=True)
        ]
        first, second = (_scores(setting, values, targets) for values in predicted)
        sides.append([np.stack([targets > 0, values], axis=-1)[held_out] for values in predicted])
        differences.append((second - first)[held_out])
        test_means.append(float((second - first)[test].mean()))
    num_train = np.mean([len(part) for part in trained])
    return Outcome(
        differences=np.array(differences),
        patients=patients[held_out] - setting.pool,
        sides=np.moveaxis(np.array(sides), 0, 1),
        test_means=np.array(test_means),
        splits=np.arange(setting.repetitions) // setting.seeds,
        share=float(num_train / len(np.unique(np.concatenate(trained)))),
        num_train=float(num_train),
        test_to_train=float(num_test / num_train),
    )


def _labelled(setting: Setting, training: Codes) -> Codes:
    """The training patients with labels: the first of each stratum, since their order is drawn."""
    stratum = np.searchsorted(np.cumsum(setting.strata), training, side="right")
    kept = [
        members[: max(1, round(setting.labels * len(members)))]
        for members in (training[stratum == each] for each in np.unique(stratum))
    ]
    return np.concatenate(kept)


def _scores(setting: Setting, values: Floats, targets: Floats) -> Floats:
    """The higher the better."""
    return values if setting.learner is additive else np.exp(-np.abs(values - targets))


def _data(setting: Setting, patients: Codes, random: np.random.Generator) -> tuple[Floats, list[Floats]]:
    """Returns targets and the features of both arms; a patient's images resemble each other in both."""

    def grouped(*shape: int) -> Floats:
        of_patients = random.normal(size=(patients.max() + 1, *shape))[patients]
        return np.asarray((of_patients + random.normal(size=(len(patients), *shape))) / np.sqrt(2))

    targets, direction = grouped(), np.ones(setting.num_features) / np.sqrt(setting.num_features)
    return targets, [
        np.outer(targets, direction) + setting.noise * grouped(setting.num_features) for _ in range(2)
    ]
