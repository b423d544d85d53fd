"""`xferlab predict`: what a task shows of image files, with the weights of a trial or of a file."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xferlab.cli.ensemble import Repetitions
from xferlab.cli.findings import grouped
from xferlab.cli.images import check_outputs, find
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import PredictOptions
from xferlab.cli.output import tell
from xferlab.cli.trials import KnownTrials, StoredTrial, weights_file
from xferlab.cli.view import count_of, progress_bar, say
from xferlab.data.formats import SUFFIXES
from xferlab.data.sources.config import SourceConfig
from xferlab.errors import DataError, Problem, StorageError, UsageError, attempt, joined, without_query
from xferlab.metrics.measuring import check_threshold
from xferlab.parallel import for_each
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.trial import dicom_seg
from xferlab.trial.trained_on import UNKNOWN_STEPS, TrainedOn

if TYPE_CHECKING:  # torch takes seconds to import, and a wrong command line should fail at once
    import torch

    from xferlab.trial.predict import Prediction
    from xferlab.trial.predictor import Predictor

TABLE = "predictions.csv"
DICOM_SEG = "dicom-seg"
UNKNOWN_MODALITY = ("", "OT", "SC")
"""What a file has that is no DICOM, or does not say how it was taken."""


def run(options: PredictOptions) -> int:
    """Predicts images; exit code 1 if some, or the table, cannot be read or written, 2 if none can."""
    if options.threshold is not None:
        check_threshold(options.threshold, name="--threshold")
    model = _model(options)
    files = find(options.images, out=options.out)
    if not files.images and files.problems:
        raise DataError(files.problems)
    if not files.images:
        others = f" among {count_of(files.num_skipped, 'file')}" if files.num_skipped else ""
        raise UsageError(
            f"{', '.join(options.images)}: no image{others}; accepted: {', '.join(SUFFIXES)}, and DICOM "
            "under any name"
        )
    predictor = _predictor(model, options)
    threshold = predictor.accepted_threshold(options.threshold, name="--threshold")
    endings = [*predictor.files.values()]
    if with_object := options.format == DICOM_SEG:
        _check_objects(predictor, files.images)
        endings.append(dicom_seg.ENDING)
    check_outputs(files.images, out=options.out, endings=endings)
    parts: list[tuple[Predictor, Mapping[str, Path]]] = [(predictor, files.images)]
    problems = list(files.problems)
    if isinstance(model, Repetitions):
        parts, found = model.parts(predictor, files.images)
        problems += found
    out, shown_out = Store.open(options.out), without_query(options.out)
    predictions, failed = _predict(parts, out, threshold, with_object=with_object)
    problems += failed
    if not predictions:
        raise DataError(problems)
    is_table_written = _write_table(out, predictions)
    _warn_of_others(predictions, predictor)
    by = predictor.origin if options.model in predictor.origin else f"{options.model}, {predictor.origin}"
    how = ", ".join(filter(None, (predictor.identity.preprocessing, predictor.device.type)))
    written = [*(f"*{ending}" for ending in endings), *([TABLE] if is_table_written else [])]
    print(
        f"{count_of(len(predictions), 'image')} predicted by {by} at {_shown_size(predictor)} ({how}); "
        f"written to {shown_out}: {', '.join(written) or 'nothing'}"
    )
    tell(
        origin=predictor.origin,
        out=shown_out,
        files=written,
        images=[prediction.row() for prediction in predictions],
        skipped=files.num_skipped,
        problems=list(map(asdict, problems)),
    )
    if files.num_skipped:
        print(f"{count_of(files.num_skipped, 'other file')} skipped")
    for problem in grouped(problems, shown=len(problems)):
        print(problem, file=sys.stderr)
    if errors := sum(problem.severity == "error" for problem in problems):
        print(f"{count_of(errors, 'input')} could not be predicted", file=sys.stderr)
    return COMPLETE if is_table_written and not errors else INCOMPLETE


def _check_objects(predictor: Predictor, images: Mapping[str, Path]) -> None:
    """Refuses networks and images of which no DICOM-SEG object can be."""
    task = registry.task(predictor.identity.task)
    if task.targets != "structures" or not predictor.targets:
        raise UsageError(
            f"--format {DICOM_SEG}: this network (task {task.name!r}) marks no structures in images. Leave "
            "this option out."
        )
    problems = joined(for_each(list(images.values()), partial(attempt, dicom_seg.header_of))).problems
    if problems:
        remedy = f"Leave out this file or the option --format {DICOM_SEG}."
        raise DataError([replace(problem, what=f"{problem.what} {remedy}") for problem in problems])


def _shown_size(predictor: Predictor) -> str:
    size = predictor.identity.image_size
    return "native size" if size == "native" else f"{size} px"


def _model(options: PredictOptions) -> StoredTrial | Repetitions | Path:
    if path := weights_file(options.model):
        return path
    _refuse_preprocessing(options, "a trial's record")
    known = KnownTrials.of(options, compares=True)
    if ids := known.repetitions(options.model):
        return Repetitions.of(known.store, options.model, ids, known.sections)
    return known.complete(options.model, otherwise="a weights file", stages=True)


def _predictor(model: StoredTrial | Repetitions | Path, options: PredictOptions) -> Predictor:
    import torch

    from xferlab.trial.predictor import Predictor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, Path):
        return _of_file(model, options, device)
    if isinstance(model, Repetitions):
        return _warned(model.load(device))
    return _warned(Predictor.of_trial(model.store, model.trial_id, device))


def _of_file(path: Path, options: PredictOptions, device: torch.device) -> Predictor:
    from xferlab.networks.donors import read_bytes, read_weights
    from xferlab.trial.predictor import Predictor

    data = read_bytes(path)
    if trained := TrainedOn.record_beside(path, data):
        _refuse_preprocessing(options, "the record beside the weights file")
        origin = f"{path}, trial {trained.record.trial_id}"
        return _warned(Predictor.of_record(trained, read_weights(path, data), origin=origin, device=device))
    given = {"image_size": options.image_size, "intensity": options.intensity}
    return _warned(Predictor.of_weights(path, options=given, device=device, note=say))


def _warned(predictor: Predictor) -> Predictor:
    """Returns a network; says it where nobody knows the steps of its data section."""
    if predictor.section is None:
        print(f"warning: {predictor.origin}: {UNKNOWN_STEPS}", file=sys.stderr)
    return predictor


def _refuse_preprocessing(options: PredictOptions, source: str) -> None:
    for name, given in (("--image-size", options.image_size), ("--intensity", options.intensity)):
        if given is not None:
            raise UsageError(f"{name}: {source} says how the weights were trained. Leave this option out.")


def _warn_of_others(predictions: Sequence[Prediction], predictor: Predictor) -> None:
    """Says which images are of another kind than those that the weights are for, as far as that is known."""
    section = predictor.section
    if not predictor.reads_alike:
        print(f"warning: {predictor.readings}", file=sys.stderr)
    accepted = section.modalities if section else SourceConfig.modalities
    trained_on = section.contents if section else ""
    others: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.modality not in (*accepted, *UNKNOWN_MODALITY):
            others[prediction.modality].append(prediction)
    is_colour = section is not None and section.channels == 3
    if section and is_colour and any(prediction.modality not in accepted for prediction in predictions):
        print(
            f"warning: these weights were trained on slices of three channels ({section.source}); images are "
            "read as grey here, as in their evaluations on radiographs",
            file=sys.stderr,
        )
    remark = f"the weights were trained on {trained_on}" if trained_on else "are the weights for these?"
    for modality, group in others.items():
        count = count_of(len(group), f"{modality} image")
        print(f"warning: {count} (first: {group[0].request.image}); {remark}", file=sys.stderr)


def _predict(
    parts: Sequence[tuple[Predictor, Mapping[str, Path]]],
    out: Store,
    threshold: float,
    *,
    with_object: bool,
) -> tuple[list[Prediction], list[Problem]]:
    """Predicts the images of each part by its network, in the order of their files."""
    from xferlab.trial.predict import Request, predict

    predictions: list[Prediction] = []
    problems: list[Problem] = []
    for predictor, images in parts:
        requests = [Request(path, name) for name, path in images.items()]
        with progress_bar("predicting") as progress:
            found, failed = predict(
                predictor,
                requests,
                out,
                threshold=threshold,
                with_object=with_object,
                progress=progress,
            )
        predictions += found
        problems += failed
    return sorted(predictions, key=lambda each: os.path.abspath(each.request.image)), problems


def _write_table(store: Store, predictions: Sequence[Prediction]) -> bool:
    """Returns whether the table could be written; without it, the other files are still there."""
    import pandas as pd

    # Not pandas' texts, which are UTF-8 alone.
    table = pd.DataFrame([prediction.row() for prediction in predictions], dtype=object)
    text = table.to_csv(index=False, lineterminator="\n")
    try:
        # File names that are no UTF-8 go through as the bytes they are.
        store.write(TABLE, text.encode("utf-8", "surrogateescape"))
    except StorageError as error:
        print(error, file=sys.stderr)
        return False
    return True
