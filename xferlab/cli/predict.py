"""`xferlab predict`: masks and overlays of image files, with the weights of a trial or of a file."""

from __future__ import annotations

import csv
import io
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xferlab.cli.images import SUFFIXES, Found, find
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.errors import DataError, Problem, UsageError, suggest
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.study.schema import Study
from xferlab.study.sections import COLOUR_SOURCES

if TYPE_CHECKING:  # torch takes seconds to import, and a wrong command line should fail at once
    from xferlab.trial.predict import Prediction, Segmenter

TABLE = "predictions.csv"
DEFAULT_SIZE_PX, DEFAULT_INTENSITY = 256, "zscore"

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
    """Segments images; exit code 1 if some cannot be read, 2 if none can."""
    _check(options)
    model = _model(options)
    found = find(options.images, out=options.out)
    if not found.images:
        raise _nothing(options.images, found)
    segmenter = _segmenter(model, options)
    predictions, problems = _segment(segmenter, found, options)
    problems = [*found.problems, *problems]
    if not predictions:
        raise DataError(problems)
    _write_table(Store.open(options.out), predictions)
    by = segmenter.origin if options.model in segmenter.origin else f"{options.model}, {segmenter.origin}"
    print(
        f"{_counted(len(predictions), 'image')} segmented by {by} at {_size(segmenter)} "
        f"({segmenter.intensity}, {segmenter.device.type}); "
        f"masks, overlays and {TABLE} are in {options.out}"
    )
    if found.num_skipped:
        print(f"{_counted(found.num_skipped, 'other file')} skipped")
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{_counted(len(problems), 'input')} could not be read", file=sys.stderr)
    return INCOMPLETE if problems else COMPLETE


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
    for name, given in (("--image-size", options.image_size), ("--intensity", options.intensity)):
        if given is not None:
            raise UsageError(
                f"{name} belongs to a weights file; a trial's record tells its own. Leave it out."
            )
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
        plans = {study: codec.read_json(store, layout.plan_path(study)) for study in store.list("studies")}
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

    from xferlab.models.unet import SIZE_MULTIPLE
    from xferlab.trial.predict import Segmenter

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, Path):
        size_px = DEFAULT_SIZE_PX if options.image_size is None else options.image_size
        if size_px < SIZE_MULTIPLE or size_px % SIZE_MULTIPLE:
            raise UsageError(
                f"--image-size: found {size_px}; accepted: multiples of {SIZE_MULTIPLE}, such as "
                f"{max(1, round(size_px / SIZE_MULTIPLE)) * SIZE_MULTIPLE}"
            )
        intensity = options.intensity or DEFAULT_INTENSITY
        return Segmenter.of_weights(
            model,
            size_px=size_px,
            intensity=intensity,
            device=device,
            note=lambda sentence: print(sentence, file=sys.stderr),
        )
    _warn_of_colour(model)
    return Segmenter.of_trial(model.store, model.trial_id, device)


def _warn_of_colour(trial: Trial) -> None:
    spec = codec.read_json(trial.store, layout.spec_path(trial.trial_id)) or {}
    source = spec.get("data", {}).get(spec.get("section"), {}).get("source")
    if source in COLOUR_SOURCES:
        print(
            f"warning: trial {trial.trial_id} trained on slices of three channels ({source}); images are "
            "read as grey here, as in its evaluations on radiographs",
            file=sys.stderr,
        )


def _segment(
    segmenter: Segmenter, found: Found, options: Namespace
) -> tuple[list[Prediction], list[Problem]]:
    from xferlab.trial.predict import Folder, Request, segment

    requests = [Request(path, name) for name, path in found.images.items()]
    shown = (TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*shown, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(requests))
        return segment(
            segmenter,
            requests,
            Folder(Store.open(options.out), options.threshold),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _write_table(store: Store, predictions: Sequence[Prediction]) -> None:
    from xferlab.trial.predict import columns

    rows = [columns(one) for one in predictions]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # File names that are no UTF-8 go through as the bytes they are.
    store.write(TABLE, text.getvalue().encode("utf-8", "surrogateescape"))


def _nothing(paths: Sequence[str], found: Found) -> Exception:
    if found.problems:
        return DataError(found.problems)
    others = f" among {_counted(found.num_skipped, 'file')}" if found.num_skipped else ""
    return UsageError(
        f"{', '.join(paths)}: no image{others}; accepted: {', '.join(SUFFIXES)}, and DICOM under any name"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
