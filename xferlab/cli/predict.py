"""`xferlab predict`: masks and overlays of image files, with the weights of a trial or of a file."""

from __future__ import annotations

import csv
import io
import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xferlab.cli.images import SUFFIXES, Found, find
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.errors import DataError, Problem, StorageError, UsageError, suggest
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.study.schema import Study
from xferlab.study.sections import COLOUR_SOURCES

if TYPE_CHECKING:  # torch takes seconds to import, and a wrong command line should fail at once
    from xferlab.trial.predict import Folder, Prediction
    from xferlab.trial.segmenter import Segmenter

TABLE = "predictions.csv"
RADIOGRAPHS, MRI = ("CR", "DX", "DR", "RG", "RF"), ("MR",)
"""Modalities of DICOM files."""
UNKNOWN_MODALITY = ("", "OT", "SC")
"""What a file has that is no DICOM, or does not say how it was taken."""

_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth")
_TRIAL_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Trial:
    """A complete trial.

    Attributes:
        store: The storage that it is in.
        trial_id: Its id.
    """

    store: Store
    trial_id: str


def run(options: Namespace) -> int:
    """Segments images; exit code 1 if some, or the table, cannot be read or written, 2 if none can."""
    _check(options)
    model = _model(options)
    found = find(options.images, out=options.out)
    if not found.images:
        raise _nothing(options.images, found)
    from xferlab.trial.predict import Folder

    segmenter = _segmenter(model, options)
    out = Store.open(options.out)
    predictions, problems = _segment(segmenter, found, Folder(out, options.threshold))
    problems = [*found.problems, *problems]
    if not predictions:
        raise DataError(problems)
    is_table_written = _write_table(out, predictions, segmenter.structure)
    _warn_of_others(predictions, segmenter)
    by = segmenter.origin if options.model in segmenter.origin else f"{options.model}, {segmenter.origin}"
    print(
        f"{_counted(len(predictions), 'image')} segmented by {by} at {_size(segmenter)} "
        f"({segmenter.intensity}, {segmenter.device.type}); "
        f"{f'masks, overlays and {TABLE}' if is_table_written else 'masks and overlays'} are in {options.out}"
    )
    if found.num_skipped:
        print(f"{_counted(found.num_skipped, 'other file')} skipped")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{_counted(len(problems), 'input')} could not be segmented", file=sys.stderr)
    return COMPLETE if is_table_written and not problems else INCOMPLETE


def _size(segmenter: Segmenter) -> str:
    return "native size" if segmenter.size_px == "native" else f"{segmenter.size_px} px"


def _check(options: Namespace) -> None:
    if not 0 <= options.threshold < 1:
        raise UsageError(f"--threshold: found {options.threshold}; accepted: 0 to below 1, such as 0.5")


def _model(options: Namespace) -> Trial | Path:
    path = Path(options.model)
    if path.is_file():
        return path
    if path.suffix in _WEIGHTS_SUFFIXES:
        raise UsageError(f"{path}: there is no such file")
    _refuse_preprocessing(options, "a trial's record")
    return _trial(options)


def _trial(options: Namespace) -> Trial:
    store, plans = _plans(options)
    names = {
        (name, study): trial["trial_id"]
        for study, plan in plans.items()
        for trial in plan["trials"]
        for name in trial["names"]
    }
    trial_id = options.model if _TRIAL_ID.fullmatch(options.model) else _named(options.model, names, store)
    if reader.read_trial(store, trial_id) is None:
        known = {*names.values(), *store.list("trials")}
        if trial_id not in known:
            raise UsageError(f"{store.location}: no trial {trial_id!r}.{suggest(trial_id, known)}")
        epochs = len(reader.read_history(store, trial_id))
        raise UsageError(
            f"trial {options.model} is not complete ({_counted(epochs, 'epoch')} so far); "
            f"`xferlab run {options.study or 'STUDY'}` completes it"
        )
    return Trial(store, trial_id)


def _plans(options: Namespace) -> tuple[Store, dict[str, dict[str, Any]]]:
    """Returns the storage and the last plans in it: of the study that is given, or of all."""
    if options.study is None:
        store = Store.open(options.storage or Study.model_fields["storage"].default)
        plans = {
            study: codec.read_json(store, layout.StudyFiles(study).plan) for study in store.list("studies")
        }
        return store, {study: plan for study, plan in plans.items() if plan}
    from xferlab.cli.session import open_storage
    from xferlab.study.load import load

    loaded = load(options.study, profile=options.profile)
    base, store = loaded.base, open_storage(loaded, options.storage)
    plan = reader.read_plan(store, base.study)
    if options.profile and plan["profile"] != options.profile:
        ran = f"profile {plan['profile']!r}" if plan["profile"] else "no profile"
        raise UsageError(
            f"--profile: study {base.study} last ran with {ran} in {store.location}, not with "
            f"{options.profile!r}: its names mean other trials there. Give the trial's id, or that profile."
        )
    return store, {base.study: plan}


def _named(asked: str, names: dict[tuple[str, str], str], store: Store) -> str:
    matches = {study: trial_id for (name, study), trial_id in names.items() if name == asked}
    if len(set(matches.values())) == 1:
        return next(iter(matches.values()))
    if matches:
        where = ", ".join(f"{study} ({trial_id})" for study, trial_id in matches.items())
        raise UsageError(f"{asked} is a trial of several studies: {where}. Give --study, or the id.")
    known = sorted({name for name, _ in names})
    if not known:
        raise UsageError(
            f"{store.location}: no study has run here, so {asked!r} names nothing; --study or --storage "
            "tells where the trial is. A weights file is accepted too."
        )
    raise UsageError(
        f"{store.location}: no trial {asked!r}; accepted: an id, or arm/stage/rNN such as {known[0]}, or a "
        f"weights file.{suggest(asked, known)}"
    )


def _segmenter(model: Trial | Path, options: Namespace) -> Segmenter:
    import torch

    from xferlab.networks.donors import read_bytes, read_weights
    from xferlab.networks.unet import SIZE_MULTIPLE
    from xferlab.trial.segmenter import Segmenter, TrainedOn

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, Trial):
        return Segmenter.of_trial(model.store, model.trial_id, device)
    data = read_bytes(model)
    if trained := TrainedOn.record_beside(model, data):
        _refuse_preprocessing(options, "the record beside the weights file")
        origin = f"{model}, trial {trained.record.trial_id}"
        return Segmenter.of_record(trained, read_weights(model, data), origin=origin, device=device)
    if options.image_size is None or options.intensity is None:
        raise UsageError(
            f"{model}: no record beside these weights tells how they were trained; give --image-size PX and "
            "--intensity (zscore, unit, minmax or equalise; zscore is a study's default). A trial's "
            "record.json, copied into the folder of its weights, tells both."
        )
    if options.image_size < SIZE_MULTIPLE or options.image_size % SIZE_MULTIPLE:
        raise UsageError(
            f"--image-size: found {options.image_size}; accepted: multiples of {SIZE_MULTIPLE}, such as "
            f"{max(1, round(options.image_size / SIZE_MULTIPLE)) * SIZE_MULTIPLE}"
        )
    return Segmenter.of_weights(
        model,
        size_px=options.image_size,
        intensity=options.intensity,
        device=device,
        note=lambda sentence: print(sentence, file=sys.stderr),
    )


def _refuse_preprocessing(options: Namespace, teller: str) -> None:
    for name, given in (("--image-size", options.image_size), ("--intensity", options.intensity)):
        if given is not None:
            raise UsageError(f"{name}: {teller} tells how the weights were trained. Leave it out.")


def _warn_of_others(predictions: Sequence[Prediction], segmenter: Segmenter) -> None:
    """Says which images are of another kind than those that the weights are for, as far as that is known."""
    source = segmenter.section.get("source")
    is_mri = source in COLOUR_SOURCES
    trained_on = "slices of brain MRI" if is_mri else "chest X-rays" if source == "phantom_cxr" else ""
    accepted = MRI if is_mri else RADIOGRAPHS
    others = [one for one in predictions if one.modality not in (*accepted, *UNKNOWN_MODALITY)]
    if is_mri and any(one.modality not in MRI for one in predictions):
        print(
            f"warning: these weights were trained on slices of three channels ({source}); images are read as "
            "grey here, as in their evaluations on radiographs",
            file=sys.stderr,
        )
    for modality, number in Counter(one.modality for one in others).items():
        first = next(one.request.image for one in others if one.modality == modality)
        remark = f"the weights were trained on {trained_on}" if trained_on else "are the weights for these?"
        print(f"warning: {_counted(number, f'{modality} image')} (first: {first}); {remark}", file=sys.stderr)


def _segment(segmenter: Segmenter, found: Found, folder: Folder) -> tuple[list[Prediction], list[Problem]]:
    from xferlab.trial.predict import Request, segment

    requests = [Request(path, name) for name, path in found.images.items()]
    shown = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*shown, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(requests))
        return segment(
            segmenter,
            requests,
            folder,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _write_table(store: Store, predictions: Sequence[Prediction], structure: str) -> bool:
    """Returns whether the table could be written; without it, the masks are there all the same."""
    from xferlab.trial.predict import columns

    rows = [columns(one, structure) for one in predictions]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # File names that are no UTF-8 go through as the bytes they are.
    try:
        store.write(TABLE, text.getvalue().encode("utf-8", "surrogateescape"))
    except StorageError as error:
        print(error, file=sys.stderr)
        return False
    return True


def _nothing(paths: Sequence[str], found: Found) -> Exception:
    if found.problems:
        return DataError(found.problems)
    others = f" among {_counted(found.num_skipped, 'file')}" if found.num_skipped else ""
    return UsageError(
        f"{', '.join(paths)}: no image{others}; accepted: {', '.join(SUFFIXES)}, and DICOM under any name"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
