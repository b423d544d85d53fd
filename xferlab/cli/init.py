"""`xferlab init`: a first study of somebody's own images and masks, or the files of a template."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from xferlab.cli.import_ import imported
from xferlab.cli.main import COMPLETE
from xferlab.cli.options import ImagesOptions, InitOptions
from xferlab.cli.output import tell
from xferlab.cli.templates import section_lines, study_text, template, templates
from xferlab.cli.written import write_file
from xferlab.errors import UsageError
from xferlab.importing.found import as_name

STUDY = "study.yaml"


def run(options: InitOptions) -> int:
    """Writes a study and what belongs to it, and prints the next command."""
    if options.template is None and options.folders:
        return _of_images(options.folders, options.out or STUDY, options)
    of_images = (options.patient, options.mask, options.spacing_mm, options.layout, options.keep_ids)
    if options.template is None or options.folders or any(of_images):
        raise UsageError(
            "init takes either --from IMAGES MASKS, for a study of your images, or --template NAME: "
            f"{', '.join(templates())}"
        )
    return _of_template(options.template, options.out or os.curdir)


def _of_images(folders: Sequence[str], out: str, options: ImagesOptions) -> int:
    path = Path(out)
    _refuse_existing([path], instead="name another file")
    data, section = imported(folders, options, needs_masks=True)
    section["hold_out"] = 0.25  # patients that are never trained on
    joined = [name for name, made in section.get("structures", {}).items() if isinstance(made, list)]
    root, beside = Path(section["root"]), Path(os.path.abspath(path)).parent
    if root.is_relative_to(beside):  # the folder of a project may move
        section["root"] = root.relative_to(beside).as_posix()
    lines = "\n".join(section_lines(data, section))
    name = data if out == STUDY else as_name(path.stem) or "first"
    text = study_text(name=name, data=data, section=lines, structure=next(iter(joined), None), file=path.name)
    write_file(path, text)
    following = f"xferlab check {shlex.quote(out)}"
    tell(study=path, section={data: section}, next=following)
    print(f"{path}: a study of 3 arms and 5 repetitions. Next: {following}")
    return COMPLETE


def _of_template(name: str, out: str) -> int:
    chosen, folder = template(name), Path(out)
    texts = {folder / path: text for path, text in chosen.contents().items()}
    _refuse_existing(texts, instead="name another folder (--out)")
    with ExitStack() as undone:  # half a template would keep the next try from writing it
        for path, text in texts.items():
            undone.callback(path.unlink, missing_ok=True)
            write_file(path, text)
        undone.pop_all()
    print(*texts, sep="\n")
    if chosen.first:
        print(chosen.first)
    following = chosen.next_command(folder)
    tell(study=folder / chosen.files[0], files=[*texts], next=following)
    print(f"Next: {following}")
    return COMPLETE


def _refuse_existing(paths: Iterable[Path], *, instead: str) -> None:
    """Ends the verb, before it writes anything, if it would write over files or below a file.

    Raises:
        UsageError: Names what is there.
    """
    ways = [(path, *filter(Path.is_file, path.parents)) for path in paths]
    existing = dict.fromkeys(str(path) for way in ways for path in way if os.path.lexists(path))
    if existing:
        raise UsageError(
            f"{', '.join(existing)} {'exists' if len(existing) == 1 else 'exist'}; {instead}, or remove "
            f"{'it' if len(existing) == 1 else 'them'}"
        )
