"""`xferlab export`: a trained network in a format of other programs, or the splits of a study."""

from __future__ import annotations

import sys
from pathlib import Path

from xferlab.cli import nnunet
from xferlab.cli.facts import facts_of
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import ExportOptions
from xferlab.cli.output import tell
from xferlab.cli.trials import KnownTrials, weights_file
from xferlab.errors import ExportError, UsageError, without_query
from xferlab.records.store import Store
from xferlab.trial.trained_on import UNKNOWN_STEPS

HUGGING_FACE = "huggingface"
"""The format with a model card."""


def run(options: ExportOptions) -> int:
    """Exports a model or splits; exit code 1 where a model differs from the network."""
    if options.format == nnunet.FORMAT:
        nnunet.export_splits(options)
        return COMPLETE
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
    trial = KnownTrials.of(options, compares=True).complete(options.model)
    import torch  # it takes seconds to import, and a wrong command line should fail at once

    from xferlab.exporting.formats import Trained, write
    from xferlab.exporting.graph import LIMIT, Graph
    from xferlab.exporting.preprocessing import outside
    from xferlab.trial.predictor import Predictor

    predictor = Predictor.of_trial(trial.store, trial.trial_id, torch.device("cpu"))
    graph = Graph.of(predictor, Path(options.image) if options.image else None)
    is_card = options.format == HUGGING_FACE
    facts = facts_of(trial, licence=options.licence or "", with_results=is_card)
    trained, out = Trained(trial.store, graph, facts), without_query(options.out)
    files, difference = write(trained, Store.open(options.out), format=options.format)
    tell(
        trial_id=trial.trial_id,
        format=options.format,
        out=out,
        files=files,
        difference=difference,
    )
    case = options.image or "seeded noise"
    print(
        f"{facts.name}, {predictor.origin}, as {options.format} in {out}: {', '.join(files)}\n"
        f"largest difference from the network on {case}: {difference:.3g} ({LIMIT:g} is accepted)"
    )
    for line in outside(graph):
        print(line)
    if not predictor.reads_alike:
        print(f"warning: {predictor.readings}", file=sys.stderr)
    if predictor.section is None:
        print(f"warning: {UNKNOWN_STEPS}", file=sys.stderr)
    if not facts.licence and is_card:
        print(f"warning: the licence of the weights is {facts.licence_words} (--licence)", file=sys.stderr)
    return COMPLETE
