"""`xferlab export`: a trained network in a format of other programs, or the splits of a study."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xferlab.cli.facts import facts_of
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import ExportOptions, StudyOptions
from xferlab.cli.session import Session
from xferlab.cli.trials import find_trial, weights_file
from xferlab.cli.view import count_of
from xferlab.errors import ExportError, UsageError
from xferlab.records.store import Store

SPLITS, SPLITS_FILE = "nnunet-splits", "splits_final.json"
_OF_MODELS = ("image", "licence")


def run(options: ExportOptions) -> int:
    """Exports a model or splits; exit code 1 where a model differs from the network."""
    if options.format == SPLITS:
        return _export_splits(options)
    try:
        return _export_model(options)
    except ExportError as error:
        print(f"xferlab: {error}", file=sys.stderr)
        return INCOMPLETE


def _export_model(options: ExportOptions) -> int:
    if weights_file(options.model):
        raise UsageError(
            f"{options.model}: is a file; export takes a trial (arm/stage/rNN, or its id), whose records it "
            "tells. Give --study or --storage to say where these are."
        )
    found = find_trial(options)
    import torch  # it takes seconds to import, and a wrong command line should fail at once

    from xferlab.exporting.formats import Trained, write
    from xferlab.exporting.graph import LIMIT, Graph
    from xferlab.trial.predictor import Predictor

    predictor = Predictor.of_trial(found.store, found.trial_id, torch.device("cpu"))
    graph = Graph.of(predictor, Path(options.image) if options.image else None)
    facts = facts_of(found, licence=options.licence or "")
    trained = Trained(found.store, found.trial_id, graph, facts)
    files, difference = write(trained, Store.open(options.out), format=options.format)
    case = options.image or "seeded noise"
    print(
        f"{facts.name}, {predictor.origin}, as {options.format} in {options.out}: {', '.join(files)}\n"
        f"largest difference from the network on {case}: {difference:.3g} ({LIMIT:g} is accepted)"
    )
    for line in graph.exported.outside:
        print(line)
    if not facts.licence and options.format == "huggingface":
        print(f"warning: the licence of the weights is {facts.licence_words} (--licence)", file=sys.stderr)
    return COMPLETE


def _export_splits(options: ExportOptions) -> int:
    """Writes `splits_final.json` of nnU-Net: an entry for each repetition, a file for each section."""
    for name in _OF_MODELS:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name}: is for trained networks, not for splits. Leave it out.")
    if options.study is not None:
        raise UsageError("--study: the splits are those of the study that stands first. Leave it out.")
    session = Session.open(
        StudyOptions(study=options.model, profile=options.profile, storage=options.storage)
    )
    plan = session.plan()
    splits: dict[str, list[dict[str, list[str]]]] = {}
    for repetition in range(1, plan.loaded.base.repetitions + 1):
        for section, case, _ in plan.selector.listed():
            of_section = splits.setdefault(section, [])
            while len(of_section) < repetition:
                of_section.append({"train": [], "val": []})
            part = {"train": "train", "validation": "val"}.get(plan.selector.part_of(repetition, case))
            if part:
                of_section[-1][part].append(Path(case.name).stem)
    whole = {
        name: folds for name, folds in splits.items() if all(fold["train"] and fold["val"] for fold in folds)
    }
    if not whole:
        raise UsageError(
            f"--format {SPLITS}: in no data section of study {session.study} has every repetition both "
            "training and validation cases; nnU-Net needs both"
        )
    store = Store.open(options.out)
    for section, folds in whole.items():
        ordered = [{part: sorted(names) for part, names in fold.items()} for fold in folds]
        store.write(f"{section}/{SPLITS_FILE}", (json.dumps(ordered, indent=4) + "\n").encode())
    print(
        f"{count_of(len(next(iter(whole.values()))), 'split')} of study {session.study} in {options.out}: "
        + ", ".join(f"{section}/{SPLITS_FILE}" for section in whole)
    )
    for section in splits.keys() - whole.keys():
        print(f"{section}: not every repetition trains and validates on it; nothing is written")
    return COMPLETE
