"""RO-Crate 1.2 metadata of an archive: what it is, its licence, its files, and the software behind them.

JSON-LD by hand, flattened and compacted: https://w3id.org/ro/crate/1.2 (structure, root and data entities).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from xferlab.records.archive import CRATE, FileFacts

_SPECIFICATION = "https://w3id.org/ro/crate/1.2"
UNKNOWN_LICENCE = "unknown: ask the authors"
_KINDS = (
    (r"\.parquet", "application/vnd.apache.parquet"),
    (r"\.jsonl", "application/jsonl"),
    (r"\.json", "application/json"),
    (r"\.csv", "text/csv"),
    (r"\.md", "text/markdown"),
    (r"\.tex", "application/x-tex"),
    (r"\.ya?ml", "application/yaml"),
)
_DESCRIPTIONS = (
    (r"xferlab-archive\.json", "All files with their digests, what is left out, and what is not complete"),
    (r"environment\.json", "Software and devices of the trials, with the number of trials"),
    (r"study/.*", "The study file: data, stages, arms and training, as they were asked for"),
    (
        r".*/plan\.json",
        "The plan: every trial with its seed, parents and evaluations; arms, metrics and claims",
    ),
    (r".*/selections/.*", "An ordered choice of cases: their digests, pseudonyms and strata"),
    (r".*/spec\.json", "What is needed to run a trial again"),
    (r".*/(?:history|progress)\.jsonl", "Losses and learning rate of each epoch of a trial"),
    (r".*/run\.json", "When, on what and with which versions a trial ran"),
    (r".*/failure\.json", "The last failure of a trial"),
    (r".*/cases\.parquet", "The value of each metric for each case of an evaluation"),
    (r".*/features\.parquet", "Deep features of a trial, as Gram matrices of their averages"),
    (r".*/(?:evaluations|features)/.*record\.json", "What was measured, with the digests of its tables"),
    (r".*/record\.json", "The record of a complete training, with the digest of its weights"),
    (r".*\.safetensors", "The best weights of a trial"),
    (r"tables/.*", "A table of the report"),
)


@dataclass(frozen=True)
class Description:
    """What is said of an archive as a whole.

    Attributes:
        study: Name of the study.
        description: What it is, in sentences.
        date: When its records were last written, ISO 8601.
        licence: A name of SPDX, a URL or words; empty where it is not known.
        versions: The versions of xferlab that its trials ran with.
        written_by: The version that wrote the archive.
        study_file: Name of the study file in the archive; empty without one.
    """

    study: str
    description: str
    date: str
    licence: str
    versions: tuple[str, ...]
    written_by: str
    study_file: str


def metadata(about: Description, files: Mapping[str, FileFacts]) -> bytes:
    """Returns `ro-crate-metadata.json` of an archive with these files."""
    document = {"@context": f"{_SPECIFICATION}/context", "@graph": list(_graph(about, files))}
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _graph(about: Description, files: Mapping[str, FileFacts]) -> Iterator[dict[str, Any]]:
    licence = _licence(about.licence)
    yield {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": _SPECIFICATION},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Records and tables of the study {about.study}",
        "description": about.description,
        "datePublished": about.date,
        "license": {"@id": licence["@id"]} if licence else UNKNOWN_LICENCE,
        "hasPart": [{"@id": _id(name)} for name in sorted(files)],
        "mentions": [{"@id": "#trials"}, {"@id": "#archive"}],
    }
    yield from [licence] if licence else []
    yield from (_file(name, files[name]) for name in sorted(files))
    for version in sorted({*about.versions, about.written_by}):
        yield {
            "@id": _software(version)["@id"],
            "@type": "SoftwareApplication",
            "name": "xferlab",
            "version": version,
        }
    yield {
        "@id": "#trials",
        "@type": "CreateAction",
        "name": "Training and evaluation of all complete trials",
        "endTime": about.date,
        "instrument": [_software(version) for version in about.versions],
        **({"object": {"@id": _id(about.study_file)}} if about.study_file else {}),
        "result": [{"@id": _id(name)} for name in sorted(files) if name.endswith("/record.json")],
    }
    yield {
        "@id": "#archive",
        "@type": "CreateAction",
        "name": "Tables and archive of the records",
        "instrument": _software(about.written_by),
        "result": {"@id": "./"},
    }


def _file(name: str, facts: FileFacts) -> dict[str, Any]:
    return {
        "@id": _id(name),
        "@type": "File",
        "name": name,
        "description": _first(_DESCRIPTIONS, name, "A file of the study"),
        "encodingFormat": next(
            (kind for ending, kind in _KINDS if re.search(rf"{ending}$", name)), "application/octet-stream"
        ),
        "contentSize": str(facts.size),
        "sha256": facts.sha256,
    }


def _first(patterns: tuple[tuple[str, str], ...], name: str, otherwise: str) -> str:
    return next((words for pattern, words in patterns if re.fullmatch(pattern, name)), otherwise)


def _software(version: str) -> dict[str, str]:
    return {"@id": f"#xferlab-{quote(version)}"}


def _licence(text: str) -> dict[str, Any]:
    """Returns the entity of a licence; empty without one."""
    if not text:
        return {}
    spdx = re.fullmatch(r"[A-Za-z0-9.+-]+", text)
    address = text if "://" in text else f"https://spdx.org/licenses/{text}" if spdx else "#licence"
    return {"@id": address, "@type": "CreativeWork", "name": text, "description": f"Licence: {text}"}


def _id(name: str) -> str:
    return quote(name, safe="/@+")
