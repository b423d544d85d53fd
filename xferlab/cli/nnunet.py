"""The splits of a study for nnU-Net: who trains and who validates in each repetition."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from xferlab.cli.options import ExportOptions, StudyOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.data.formats import without_suffix
from xferlab.errors import UsageError, without_query
from xferlab.plan.plan import Plan
from xferlab.records.store import Store

FORMAT, FILE = "nnunet-splits", "splits_final.json"
PARTS = {"train": "train", "validation": "val"}
_CHANNEL = "_0000"
"""Behind the name of a case in the name of an image of one channel, in nnU-Net's folders."""
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
    of_sections = splits_of(session.plan())
    if not of_sections:
        raise UsageError(
            f"--format {FORMAT}: study {session.study} has no data section of which every repetition both "
            "trains and validates on some cases, as nnU-Net needs"
        )
    store, out = Store.open(options.out), without_query(options.out)
    files = {f"{section}/{FILE}": splits for section, splits in of_sections.items()}
    for name, splits in files.items():
        store.write(name, (json.dumps(splits, indent=4) + "\n").encode())
    tell(out=out, files=list(files))
    number = count_of(len(next(iter(files.values()))), "split")
    print(f"{number} of study {session.study} in {out}: {', '.join(files)}")


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
    trainable = {
        section: parts
        for section, parts in cases.items()
        if all(set(PARTS) <= set(of_repetition) for of_repetition in zip(*parts.values(), strict=True))
    }
    return {section: _splits(section, parts, len(repetitions)) for section, parts in trainable.items()}


def _splits(section: str, parts: Mapping[str, Sequence[str | None]], repetitions: int) -> Splits:
    names = case_names(parts)
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


def case_names(images: Iterable[str]) -> dict[str, str]:
    """Returns what nnU-Net calls the cases of a section's images, by the names of the images.

    `a` of `imagesTr/a_0000.nii.gz`. Where one image lacks `_0000`, no name holds a channel, and numbers at
    its end are its own, such as a year: nnU-Net's folder then has `a_2019_0000.png` for `a_2019.png`.
    """
    names = {image: PurePath(without_suffix(image)).name for image in images}
    with_channels = all(name.endswith(_CHANNEL) for name in names.values())
    return {image: name.removesuffix(_CHANNEL) if with_channels else name for image, name in names.items()}
