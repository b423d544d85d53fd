"""What the files of a trial tell of its weights: its record, with its spec or the config of an export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xferlab.cohort import STEPS, single_sections
from xferlab.data.sources.described import DescribedSection, described
from xferlab.data.sources.registry import DataSection, section_if_known
from xferlab.errors import RecordError
from xferlab.plan.spec import GATE, MASKS, Input
from xferlab.records import codec, layout
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store

TAKEN = {MASKS: "masks", GATE: "a gate"}
"""Roles of what a trial takes of the predictions of others, with what messages call it."""
CONFIG = "config.json"
"""Beside exported weights: `trial_id`, `targets`, and `sections` as `described` reads them."""
UNKNOWN_STEPS = (
    f"the steps of the data section that the weights were trained on ({', '.join(STEPS)}) are not known; "
    f"none is applied, so predictions are wrong if it has any. A trial's {layout.SPEC}, or the {CONFIG} of an"
    f" export, in the folder of {layout.RECORD} tells them; a source of a package needs this package."
)


@dataclass(frozen=True)
class TrainedOn:
    """What the records of a trial tell of its weights.

    Attributes:
        record: The trial's record.
        sections: Configurations of the data sections that it trained on, of several sets those of the second,
            which such a task is to predict; empty if they are not known.
        targets: Names of what it learnt; None if they are not known.
        takes: What it takes of the predictions of other trials.
    """

    record: TrialRecord
    sections: tuple[DataSection | DescribedSection, ...] = ()
    targets: tuple[str, ...] | None = None
    takes: tuple[Input, ...] = ()

    @staticmethod
    def record_beside(path: Path, data: bytes) -> TrainedOn | None:
        """Returns what lies beside a weights file: in a storage, or in one folder with a copy or an export.

        None where there is no record, or it is one of other weights than `data`, the bytes of the file.
        """
        for folder in path.absolute().parents[:2]:
            store = Store.open(folder)
            with suppress(RecordError, TypeError, LookupError):  # a file of that name, and of another program
                record = TrialRecord.from_json(codec.read_json(store, layout.RECORD) or {})
                if codec.matches(data, record.weights_sha256):
                    spec = codec.read_json(store, layout.SPEC)
                    return TrainedOn.of(record, spec) if spec else TrainedOn._exported(record, store)
        return None

    @staticmethod
    def of(record: TrialRecord, spec: Mapping[str, Any] | None) -> TrainedOn:
        """Takes a trial's record and, where it is at hand, its spec; one of another trial tells nothing."""
        if not spec or spec["trial_id"] != record.trial_id:
            return TrainedOn(record)
        others = [other["source"] for other in spec.get("others", ())]
        names = single_sections((others or [spec["section"]])[0])
        known = [section_if_known(spec["data"].get(name, {})) for name in names]
        sections = tuple(section for section in known if section)
        # Specs of earlier versions have no targets; those trials learnt one structure of their section.
        targets = spec.get("targets", sections[0].targets[:1] if sections else None)
        takes = [given for given in map(Input.from_json, spec.get("inputs", ())) if given.role in TAKEN]
        return TrainedOn(record, sections, None if targets is None else tuple(targets), tuple(takes))

    @staticmethod
    def _exported(record: TrialRecord, store: Store) -> TrainedOn:
        """Takes a record and the `config.json` beside it; one of another program or trial tells nothing."""
        with suppress(ValueError, TypeError, LookupError):
            config = json.loads(store.read(CONFIG) or b"{}")
            if config["trial_id"] == record.trial_id:
                return TrainedOn(record, tuple(map(described, config["sections"])), tuple(config["targets"]))
        return TrainedOn(record)
