"""The splits of a study for nnU-Net: who trains and who validates in each repetition."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from xferlab.cli.options import ExportOptions, StudyOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.errors import UsageError
from xferlab.plan.plan import Plan
from xferlab.records.store import Store

FORMAT, FILE = "nnunet-splits", "splits_final.json"
PARTS = {"train": "train", "validation": "val"}
_CHANNEL = re.compile(r"_\d{4}$")
"""Behind the name of a case in the name of an image, in nnU-Net's folders."""
_OF_MODELS = ("image", "licence", "study")

Splits = list[dict[str, list[str]]]
"""Names of cases by part, for each repetition."""


def export_splits(options: ExportOptions) -> None:
    """Writes a file for each data section on which every repetition trains and validates.

    Raises:
        UsageError: There is no such section, names of cases are not unique, or an option is about networks.
    """
    for name in _OF_MODELS:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name}: is for trained networks, and not for splits. Leave it out.")
    session = Session.open(
        StudyOptions(study=options.model, profile=options.profile, storage=options.storage)
    )
    found = splits_of(session.plan())
    if not found:
        raise UsageError(
            f"--format {FORMAT}: study {session.study} has no data section of which every repetition both "
            "trains and validates on some cases, as nnU-Net needs"
        )
    store = Store.open(options.out)
    for section, splits in found.items():
        store.write(f"{section}/{FILE}", (json.dumps(splits, indent=4) + "\n").encode())
    tell(out=options.out, files=[f"{section}/{FILE}" for section in found])
    number = count_of(len(next(iter(found.values()))), "split")
    files = ", ".join(f"{section}/{FILE}" for section in found)
    print(f"{number} of study {session.study} in {options.out}: {files}")


def splits_of(plan: Plan) -> Mapping[str, Splits]:
    """Returns the splits of each section that nnU-Net could train on.

    Raises:
        UsageError: Names of cases are not unique in such a section.
    """
    repetitions = range(1, plan.loaded.base.repetitions + 1)
    cases: dict[str, dict[str, Sequence[str | None]]] = {}
    for section, case, _ in plan.selector.listed():
        of_repetitions = [plan.selector.part_of(repetition, case) for repetition in repetitions]
        cases.setdefault(section, {}).setdefault(case.name, of_repetitions)
    found = {section: _splits(section, parts, len(repetitions)) for section, parts in cases.items()}
    return {section: splits for section, splits in found.items() if all(all(one.values()) for one in splits)}


def _splits(section: str, parts: Mapping[str, Sequence[str | None]], repetitions: int) -> Splits:
    names = {name: case_name(name) for name in parts}
    twice = [name for name, number in Counter(names.values()).items() if number > 1]
    if twice:
        raise UsageError(
            f"--format {FORMAT}: section {section} has {count_of(len(twice), 'name')} of several images, "
            f"such as {twice[0]}; nnU-Net tells cases by the names of their files"
        )
    return [
        {
            theirs: sorted(names[name] for name, of_all in parts.items() if of_all[number] == ours)
            for ours, theirs in PARTS.items()
        }
        for number in range(repetitions)
    ]


def case_name(image: str) -> str:
    """Returns what nnU-Net calls the case of an image: `a` of `imagesTr/a_0000.nii.gz`."""
    return _CHANNEL.sub("", PurePath(image).name.removesuffix(".gz").rpartition(".")[0])
