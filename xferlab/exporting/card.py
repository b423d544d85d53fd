"""The model card of an exported trial: a header in YAML for machines, and a page for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import yaml

from xferlab import __version__
from xferlab.exporting.facts import LICENCE_UNKNOWN, Facts, ResultFacts
from xferlab.exporting.graph import Graph
from xferlab.exporting.preprocessing import steps

_UNKNOWN, _OTHER = "unknown", "other"
_IDENTIFIERS = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0", "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0",
    "eupl-1.1", "eupl-1.2", "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0",
    "gpl-3.0", "grok2-community", "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "lgpl-lr", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit",
    "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openmdw-1.0", "openrail", "openrail++",
    "osl-3.0", "other", "pddl", "postgresql", "unknown", "unlicense", "wtfpl", "zlib",
})  # fmt: skip
"""Identifiers of licences that the Hub of Hugging Face takes; it refuses cards with others."""
_ABSENT = "–"


def model_card(graph: Graph, facts: Facts) -> str:
    """Returns the text of `README.md`."""
    header = yaml.safe_dump(_header(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n\n".join(_parts(graph, facts)) + "\n"


def _header(facts: Facts) -> dict[str, Any]:
    trained = [each.name for each in facts.sections if each.is_trained_on or each.is_inherited]
    return {
        "library_name": "pytorch",
        **_licence_fields(facts.licence),
        "tags": ["medical-imaging", facts.task, facts.network, "xferlab"],
        "datasets": trained,
        "metrics": list(dict.fromkeys(result.metric for result in facts.results)),
        "model-index": [{"name": facts.name, "results": list(_results(facts))}],
    }


def _licence_fields(licence: str) -> dict[str, str]:
    """Returns the fields of a licence: the Hub refuses a `license` that is none of its identifiers."""
    name = licence.strip().lower() or _UNKNOWN
    if name in _IDENTIFIERS:
        return {"license": name}
    if "://" in licence:
        return {"license": _OTHER, "license_link": licence}
    # The Hub asks for an identifier here, too, such as `my-license-1.0`.
    return {"license": _OTHER, "license_name": re.sub(r"[^\w.+]+", "-", name).strip("-")}


def _results(facts: Facts) -> Iterator[dict[str, Any]]:
    for on, results in groupby(facts.results, key=lambda result: result.on):
        yield {
            "task": {"type": f"image-{facts.task}"},
            "dataset": {"name": on, "type": on.partition(".")[0], "split": on.partition(".")[2]},
            "metrics": [
                {"type": result.metric, "name": result.label, "value": round(result.value, 6)}
                for result in results
                if math.isfinite(result.value)
            ],
        }


def _parts(graph: Graph, facts: Facts) -> Iterator[str]:
    yield f"# {facts.name}"
    yield f"{facts.title} Exported by xferlab {__version__}."
    yield f"**{facts.limits}**"
    yield _licence(facts)
    yield "## Where it comes from"
    yield "\n".join(f"- {line}" for line in _origin(facts))
    yield "## Data"
    yield _table(
        ("Section", "Source", "Images", "Patients", "Use"),
        [(each.name, each.source, each.images, each.patients, each.use) for each in facts.sections],
    )
    yield (
        f"Training: {facts.images} images of {facts.patients} patients; {facts.validation_images} images "
        "chose the epoch. A patient is in one part of a repetition only."
    )
    yield from facts.notes
    yield "## Results"
    yield from _results_part(facts.results)
    yield "## How to use it"
    yield (
        "`model.safetensors` holds the weights, `config.json` the network, and `preprocessing.json` all that "
        "is done to an image before the network and how an answer follows from its output:"
    )
    numbered = enumerate(steps(graph), start=1)
    yield "\n".join(f"{number}. {step.name}: {step.rule}" for number, step in numbered)
    if not graph.predictor.reads_alike:
        yield f"Note: {graph.predictor.readings}."
    yield _decision(graph)
    if graph.predictor.givers:
        yield (
            "This network takes what another one of its study predicts, which is not in this folder, so "
            "`xferlab predict` takes the trial only, and not this file of weights."
        )
    else:
        yield (
            "With xferlab, `record.json` and `config.json` beside the weights say the rest: "
            "`xferlab predict model.safetensors image.png --out predictions`."
        )


def _licence(facts: Facts) -> str:
    words = facts.licence or f"{LICENCE_UNKNOWN} (`license` above; `xferlab export --licence`)"
    return (
        f"Licence of the weights: {words}. The licences of the training images may forbid what it allows. "
        "Networks can remember images: ask your data protection officer before you publish weights."
    )


def _origin(facts: Facts) -> Iterator[str]:
    yield f"Study {facts.study}, arm {facts.arm}, stage {facts.stage}, repetition {facts.repetition}"
    yield f"Trial {facts.trial_id}, weights SHA-256 {facts.weights_sha256}"
    yield f"Network {facts.network}, {facts.parameters:,} parameters"
    yield f"Starts from {facts.starts_from or 'random weights'}"
    yield from (f"{what}: {value}" for what, value in facts.others.items())


def _results_part(results: Sequence[ResultFacts]) -> Iterator[str]:
    if not results:
        yield "This trial was measured on nothing."
        return
    yield _table(
        ("Metric", "On", "This network", "Mean", "SD", "Repetitions", "Images", "Patients"),
        [
            (
                each.label, each.on, _number(each.value), _number(each.mean), _number(each.sd),
                each.repetitions, each.images, each.patients,
            )
            for each in results
        ],
    )  # fmt: skip
    yield (
        "Mean: over the repetitions of the arm, each with another division of the patients and another seed. "
        "SD: sample SD over the repetitions; none for one repetition, and for fewer than 5 patients. This "
        "network: the mean over its own images."
    )


def _decision(graph: Graph) -> str:
    plain = {name: value for name, value in graph.exported.thresholds.items() if isinstance(value, float)}
    thresholds = "".join(f" Threshold of the {name}: {value:g}." for name, value in plain.items())
    names = ", ".join(graph.predictor.targets)
    return f"{graph.exported.decision}{thresholds}" + (f" Outputs, in order: {names}." if names else "")


def _number(value: float | None) -> str:
    return _ABSENT if value is None or not math.isfinite(value) else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
