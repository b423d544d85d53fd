"""The templates of `xferlab init`: which files each one writes, and what to do with them."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml

from xferlab.errors import UsageError, suggest
from xferlab.section import Section
from xferlab.study.yaml_lines import written

SHIPPED = Path(__file__).parents[1] / "templates"
"""Holds links to `jobs`, `search_spaces` and `examples`: an installation has copies of these folders."""

# A first afternoon on a laptop: small images, a small network, few repetitions.
STUDY = Template(
    """\
# A first study of your own images. Change it as you like: `xferlab plan` shows what that trains anew.
study: $name
seed: 1
repetitions: 5          # trainings of every arm, each with other splits and seeds; 10 and more for a paper
data:
$section
model: {name: unet, init_features: 16, image_size: 128}     # 32 and 256 on a GPU
stages:
  first: {data: $key, evaluate_on: [$data.test, $data.hold_out]$structures}
training: {batch_size: 8, max_epochs: 60, patience: 10}
arms:                   # what you compare: each changes one thing of the baseline
  baseline: {}
  no_augmentation: {training.rotation: null}
  half_labels: {stages.first.label_fraction: 0.5}
profiles:               # `xferlab run $file --profile quick` shows in minutes that everything works
  quick: {repetitions: 2, model: {init_features: 8, image_size: 64}, training.max_epochs: 10}
# Before the first `xferlab run`, say what the study is to show. What is declared later is exploratory:
# primary: {metric: DICE, stage: first, on: $data.hold_out}
# contrasts: [[no_augmentation, baseline], [half_labels, baseline]]
"""
)

_SECTION = """\
  # chests/metadata.csv has a row for each image: `image` and `mask` are paths below chests, `patient_id` says
  # who is on it, and `pathology` may be empty. A mask has the size of its image. Replace the example row.
  chests:                          # your name for the data; then change it below, too
    source: manifest
    root: chests                   # the folder of metadata.csv, beside this file
    labels: {structure: [255]}     # your name for what is learnt: the value that marks it, or {above: 127}
    hold_out: 0.25                 # share of the patients who are never trained on"""

_TABLE = """\
image,mask,patient_id,pathology
images/P01_1.png,masks/P01_1.png,P01,normal
"""


class StudyTemplate(Section):
    """A study, and files beside it."""

    files: tuple[str, ...]
    """Paths below `SHIPPED`, that of the study first; a copy has the same path below its folder."""
    command: str
    """The next one, with {folder} and {environment}."""
    first: str = ""
    """What is to be done before it."""
    written: Mapping[str, str] = {}
    """Other paths of copies."""

    def contents(self) -> dict[str, str]:
        """Returns the text of each file by its path below the folder."""
        texts = {
            "study.yaml": study_text(name="chests", data="chests", section=_SECTION),
            "chests/metadata.csv": _TABLE,
        }
        return {
            self.written.get(name, name): texts.get(name) or (SHIPPED / name).read_text(encoding="utf-8")
            for name in self.files
        }

    def next_command(self, folder: Path) -> str:
        """Returns the next command for files in a folder."""
        prefix = shlex.quote(f"{folder}/") if folder.parts else ""
        return self.command.format(folder=prefix, environment=shlex.quote(sys.prefix))


def templates() -> dict[str, StudyTemplate]:
    """Returns all templates by name."""
    content = yaml.safe_load((SHIPPED / "templates.yaml").read_text(encoding="utf-8"))
    return {name: StudyTemplate(**facts) for name, facts in content.items()}


def template(name: str) -> StudyTemplate:
    """Returns the template of a name.

    Raises:
        UsageError: There is none.
    """
    known = templates()
    if name not in known:
        raise UsageError(f"--template: found {name!r}; accepted: {', '.join(known)}.{suggest(name, known)}")
    return known[name]


def study_text(
    *, name: str, data: str, section: str, structure: str | None = None, file: str = "study.yaml"
) -> str:
    """Returns a first study of a data section.

    Args:
        name: Of the study.
        data: Of the section.
        section: Its lines under `data:`.
        structure: What is learnt, if it is not all that the section has.
        file: Of the study.
    """
    structures = f", structures: [{_in_line(structure)}]" if structure else ""
    return STUDY.substitute(
        name=_in_line(name),
        data=data,
        key=_in_line(data),
        section=section,
        structures=structures,
        file=shlex.quote(file),
    )


def section_lines(name: str, section: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a section under `data:`."""
    text = written({name: dict(section)}, width=math.inf, leaves_in_line=True)
    return [f"  {line}" for line in text.splitlines()]


def _in_line(text: str) -> str:
    """Returns a text as YAML, in quotes where it would be something else without."""
    return written([text], width=math.inf).removeprefix("- ").strip()
