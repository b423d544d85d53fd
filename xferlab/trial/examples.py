"""From a spec to the cases that a learner trains on, is measured on, or is looked into with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xferlab import plugins
from xferlab.cohort import Selection, single_sections
from xferlab.data.cache import open_table
from xferlab.data.case_table import CaseTable
from xferlab.data.sources.registry import check_package, read_section
from xferlab.metrics.measuring import NAMES as METRICS
from xferlab.phantoms.foreign_objects import with_objects
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records.reader import read_selection
from xferlab.records.store import Store
from xferlab.tasks.config import Size
from xferlab.training.examples import AnyExamples, ImageExamples, NativeExamples
from xferlab.training.sets import CaseSets, FitExamples
from xferlab.trial.given import NOTHING, Given
from xferlab.trial.redaction import redact_names


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs.

    Attributes:
        store: The storage of records.
        cache_dir: Folder of decoded images on this machine.
        device: Device of the networks.
        go_on: Called after each case that is predicted before a training; may raise to end the trial.
    """

    store: Store
    cache_dir: Path
    device: torch.device
    go_on: Callable[[], None] = lambda: None


def fit_examples(
    spec: TrialSpec, context: TrialContext, given: Given = NOTHING
) -> tuple[FitExamples, FitExamples]:
    """Returns the cases to train and to validate on: of each part those that the gate lets pass.

    Where the trial learns from several sets, those of each are in `CaseSets`.

    Raises:
        TrainingError: The gate lets none of a part pass, or none of a class of the training part.
    """
    train, validation = (fit_part(spec, part, context, given) for part in ("train", "validation"))
    return train, validation


def fit_part(
    spec: TrialSpec, part: str, context: TrialContext, given: Given, *, without: Set[str] = frozenset()
) -> FitExamples:
    """Returns the cases of one part, `train` or `validation`, `without` some; see `fit_examples`."""
    sets = {}
    for cases in spec.trained:
        selection = read_selection(context.store, cases.selection).part(part)
        chosen = given.passing(selection, spec) if not cases.name else selection
        if without:
            chosen = chosen.only(frozenset(chosen.digests) - without)
        loaded = _known(examples(spec, cases.source, chosen.digests, context), spec, chosen, given)
        loaded.set_name = cases.name or spec.first_set
        sets[loaded.set_name] = loaded
    return CaseSets(sets) if spec.others else next(iter(sets.values()))


def evaluated_examples(
    spec: TrialSpec,
    evaluation: EvaluationSpec,
    selection: Selection,
    context: TrialContext,
    given: Given = NOTHING,
) -> Iterator[AnyExamples]:
    """Yields the cases of an evaluation, in the order of its selection, as its variant has them.

    All at once, but for images of native size with objects on them: those are held in memory, and come batch
    by batch.

    Raises:
        PluginError: A metric, or the source, is of another package than the trial was planned with.
    """
    _check_metrics(evaluation)
    section, is_native = evaluation.read_as, spec.identity.image_size == "native"
    if evaluation.at_original_size or not evaluation.variant:
        original = evaluation.at_original_size and not is_native
        loaded = examples(spec, section, selection.digests, context, with_original=original)
        yield _known(_evaluated(loaded, evaluation), spec, selection, given)
        return
    start = 0
    for loaded in in_steps(spec, section, selection.digests, context, objects=[evaluation.variant]):
        yield _known(_evaluated(loaded, evaluation), spec, selection.rows_from(start, len(loaded)), given)
        start += len(loaded)


def check_packages(spec: TrialSpec) -> None:
    """Refuses other packages of sources and metrics than a trial was planned with, before any work.

    Those of its network and its task are checked where its learner is made.

    Raises:
        PluginError: Such as on a worker that has another version installed.
    """
    for config in spec.data.values():
        check_package(config)
    for evaluation in spec.evaluations:
        _check_metrics(evaluation)


def _check_metrics(evaluation: EvaluationSpec) -> None:
    for name, package in evaluation.metrics:
        plugins.check_release(plugins.METRICS, name, package, built_in=METRICS)


def _evaluated(loaded: AnyExamples, evaluation: EvaluationSpec) -> AnyExamples:
    """The same cases with the set that they are of, and what they are measured by."""
    loaded.set_name = evaluation.set_name
    for cases in filter(None, (loaded, getattr(loaded, "original", None))):
        cases.metrics = tuple(name for name, _ in evaluation.metrics)
    return loaded


def in_steps(
    spec: TrialSpec,
    section: str,
    digests: Sequence[str],
    context: TrialContext,
    *,
    objects: Sequence[str] = (),
) -> Iterator[AnyExamples]:
    """Yields cases in order; arguments as for `examples`. All at once, but for what is held in memory."""
    is_held = objects and spec.identity.image_size == "native"
    step = spec.identity.training.batch_size if is_held else max(len(digests), 1)
    for start in range(0, len(digests), step):
        yield examples(spec, section, digests[start : start + step], context, objects=objects)


def _known(loaded: AnyExamples, spec: TrialSpec, selection: Selection, given: Given) -> AnyExamples:
    """The same cases with what is learnt of them, labels or structures, and with what others predict."""
    if labels := selection.labels:
        loaded.label(labels, spec.targets)
    elif len(spec.targets) > 1:
        loaded.learn(spec.targets)
    return given.give(loaded, selection.digests)


def examples(
    spec: TrialSpec,
    section: str,
    digests: Sequence[str],
    context: TrialContext,
    *,
    objects: Sequence[str] = (),
    with_original: bool = False,
) -> AnyExamples:
    """Returns the cases of a section at the size that the trial's network takes; builds the image cache.

    Args:
        spec: The trial.
        section: Key of the section in `spec.data`; of a set the keys, joined by `+`.
        digests: The cases, in this order.
        context: Where the trial runs.
        objects: Foreign objects that are laid on all images at once.
        with_original: Whether the cases at their own size come with those of one size.
    """
    size = spec.identity.image_size
    if size == "native":
        return _native(spec, section, digests, context, objects=objects)
    structures = _structures(spec, section)
    table = _table(spec, section, digests, context, size=size)
    rows = np.asarray(table.rows(digests), dtype=np.intp)
    images, targets, spacing_mm = table.images, table.targets, table.spacing_mm
    if objects:
        images, targets = with_objects(images[rows], digests, objects), targets[rows]
        spacing_mm, rows = spacing_mm[rows], np.arange(len(rows))
    original = _native(spec, section, digests, context) if with_original else None
    return ImageExamples(
        tuple(digests),
        images,
        targets,
        spacing_mm,
        structures=structures,
        rows=rows,
        device=context.device,
        original=original,
    )


def _table(
    spec: TrialSpec, section: str, digests: Sequence[str], context: TrialContext, *, size: Size
) -> CaseTable:
    keys = single_sections(section)
    for key in keys:
        check_package(spec.data[key])
    sections = {key: read_section(spec.data[key]) for key in keys}
    with redact_names(sections):
        return open_table(sections, size=size, digests=digests, cache_dir=context.cache_dir)


def _structures(spec: TrialSpec, section: str) -> tuple[str, ...]:
    """All sections of a set are read with the same structures."""
    return read_section(spec.data[single_sections(section)[0]]).targets


def _native(
    spec: TrialSpec,
    section: str,
    digests: Sequence[str],
    context: TrialContext,
    *,
    objects: Sequence[str] = (),
) -> NativeExamples:
    table = _table(spec, section, digests, context, size="native")
    rows, structures = table.rows(digests), _structures(spec, section)
    if not objects:
        return NativeExamples(digests, table, structures=structures, rows=rows, device=context.device)
    images = {
        row: with_objects(table.image(row)[None], [digest], objects)[0]
        for row, digest in zip(rows.tolist(), digests, strict=True)
    }
    cases = _Overlaid(table, images)
    return NativeExamples(digests, cases, structures=structures, rows=rows, device=context.device)


@dataclass(frozen=True)
class _Overlaid:
    """Cases whose images have foreign objects on them."""

    cases: CaseTable
    images: Mapping[int, NDArray[np.uint8]]

    @property
    def spacing_mm(self) -> NDArray[np.float32]:
        return self.cases.spacing_mm

    def image(self, row: int) -> NDArray[np.uint8]:
        return self.images[row]

    def targets_of(self, row: int) -> NDArray[np.uint8]:
        return self.cases.targets_of(row)
