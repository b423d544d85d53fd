"""`xferlab init`: a first study of somebody's own images and masks."""

from __future__ import annotations

from pathlib import Path
from string import Template

from xferlab.cli.import_ import imported
from xferlab.cli.main import COMPLETE
from xferlab.cli.options import InitOptions
from xferlab.cli.output import tell
from xferlab.errors import UsageError
from xferlab.importing.found import as_name
from xferlab.importing.section import as_lines

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
  first: {data: $data, evaluate_on: [$data.test, $data.hold_out]$structures}
training: {batch_size: 8, max_epochs: 60, patience: 10}
arms:                   # what you compare: each changes one thing of the baseline
  baseline: {}
  no_augmentation: {training.rotation: null}
  half_labels: {stages.first.label_fraction: 0.5}
"""
)


def run(options: InitOptions) -> int:
    """Writes the table and the study, and prints the next command."""
    path = Path(options.out)
    if path.exists():
        raise UsageError(f"{path} exists; name another file, or remove it")
    data, section = imported(options.folders, options.patient)
    section["hold_out"] = 0.25  # patients that are never trained on
    joined = [name for name, made in section.get("structures", {}).items() if isinstance(made, list)]
    structures = f", structures: [{joined[0]}]" if joined else ""
    lines = "\n".join(as_lines(data, section))
    path.parent.mkdir(parents=True, exist_ok=True)
    name = as_name(path.stem) or "first"
    text = STUDY.substitute(name=name, data=data, section=lines, structures=structures)
    path.write_text(text, encoding="utf-8")
    tell(study=path, section={data: section})
    print(f"{path}: a study of 3 arms and 5 repetitions. Next: xferlab check {path}")
    return COMPLETE
