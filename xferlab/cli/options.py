"""The options of every verb: their types, and how the command line writes them. Imports nothing heavy.

The classes have no `__eq__` and `__repr__`, which saves a quarter of the time to import this module.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from xferlab.errors import UsageError, without_query

_PATHS = {
    "DIR", "FILE", "FILE|DIR", "STUDY", "IMAGE", "IMAGES", "MASKS", "TRIAL|CHECKPOINT", "TRIAL|STUDY",
}  # fmt: skip
"""What options are called that take paths, and no URI."""


def _positional(**settings: Any) -> Any:
    return field(metadata={**settings, "positional": True})


def _option(**settings: Any) -> Any:
    return field(default=settings.get("default"), metadata=settings)


def _flag(help: str) -> Any:
    return field(default=False, metadata={"action": "store_true", "help": help})


@dataclass(frozen=True, eq=False, repr=False)
class Options:
    """Base of all options. A field's metadata are the arguments of `add_argument`."""

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the options to the parser of a verb."""
        for option in fields(cls):
            settings = dict(option.metadata)
            is_positional = settings.pop("positional", False)
            flag = settings.pop("flag", f"--{option.name.replace('_', '-')}")
            if is_positional:
                parser.add_argument(option.name, **settings)
            else:
                parser.add_argument(flag, dest=option.name, **settings)

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Returns the options that argparse has parsed."""
        return cls(**{option.name: getattr(parsed, option.name) for option in fields(cls)})

    def check_paths(self) -> None:
        """Refuses a URI where only a path is accepted.

        Raises:
            UsageError: Says so, without the keys that may be in it.
        """
        for option in fields(self):
            metavar, value = option.metadata.get("metavar", ""), getattr(self, option.name)
            if _PATHS.isdisjoint([metavar] if isinstance(metavar, str) else metavar):
                continue
            flag = option.metadata.get("flag", f"--{option.name}")
            name = metavar if "positional" in option.metadata else flag
            for given in value if isinstance(value, list) else [value]:
                if "://" in str(given):
                    what = f"{name} {without_query(given)}: accepted: a file or folder on this machine"
                    raise UsageError(what)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JsonOptions(Options):
    """Whether to tell the result as JSON; all that `version` needs."""

    json: bool = _flag("print one JSON document, and lines for people to standard error")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StudyOptions(JsonOptions):
    """A study; all that `check` and `failures` need."""

    study: str = _positional(metavar="STUDY", help="the study file")
    profile: str | None = _option(metavar="P", help="apply this profile of the study file")
    storage: str | None = _option(
        metavar="DIR|URI",
        help="in place of the study's `storage`; relative to the folder where the command runs",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImagesOptions(JsonOptions):
    """How images are read that have no table yet."""

    patient: str | None = _option(
        metavar="REGEX|TABLE|dicom",
        help="who is on an image: a regular expression for its name, a table with the columns image and "
        "patient_id, or the header of DICOM files; default: every image shows somebody else",
    )
    mask: str | None = _option(
        metavar="PATTERN",
        help="how masks are named, such as '{name}_seg.png' for the mask of the image {name}, or a regular "
        "expression whose group is the name of the image; default: what is found",
    )
    spacing_mm: str | None = _option(
        metavar="MM",
        help="millimetres from pixel to pixel of all images, or ROWxCOLUMN, for files that do not tell it",
    )
    layout: str | None = _option(
        metavar="NAME", help="how the data are laid out; default: what is found, see docs/data.md"
    )
    keep_ids: bool = _flag("keep the ids of DICOM headers as they are; without it they are hashed")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class InitOptions(ImagesOptions):
    """Of `init`."""

    out: str | None = _option(
        metavar="FILE|DIR",
        help="the study to write (default: study.yaml), or the folder for a template (default: this one)",
    )
    folders: Sequence[str] | None = _option(
        flag="--from",
        metavar=("IMAGES", "MASKS"),
        nargs="+",
        help="the folders of images and of their masks, as for `import`",
    )
    template: str | None = _option(
        metavar="NAME", help="in place of --from: write the files of smoke, own-images, slurm, k8s or ci"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportOptions(ImagesOptions):
    """Of `import`."""

    images: str = _positional(
        metavar="IMAGES", help="the folder of the images, or the folder or file of a published layout"
    )
    masks: Sequence[str] = _positional(
        metavar="MASKS",
        nargs="*",
        help="the folder of their masks, or STRUCTURE=FOLDER for each of several structures",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PlanOptions(StudyOptions):
    """Of `plan`."""

    cases: str | None = _option(
        metavar="FILE",
        help="write a table of all cases: their names in records, their patients, and their parts",
    )
    arms: str | None = _option(metavar="A,B", help="only these arms")
    measure: bool = _flag("train for a minute, where no complete trial tells how long others will take")
    power: bool = _flag("say how small a difference could be supported, by the repetitions that are complete")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WatchOptions(StudyOptions):
    """Of `watch`."""

    stage: str | None = _option(metavar="S", help="only the trials of this stage")
    arm: str | None = _option(metavar="A", help="only the trials of this arm")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StatusOptions(WatchOptions):
    """Of `status`."""

    study: str = _positional(metavar="STUDY", help="the study file, or an archive of a study")
    state: str | None = _option(metavar="STATE", help="show only trials in this state, for example `running`")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClusterOptions(StudyOptions):
    """A study and the Ray cluster that its trials run on."""

    address: str | None = _option(metavar="A", help="join the Ray cluster at this address")
    workers: int | None = _option(
        metavar="N", type=int, help="number of CPU cores that Ray may use on this machine"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunOptions(ClusterOptions):
    """Of `run`."""

    executor: str = _option(choices=("ray", "in-process"), default="ray")
    arms: str | None = _option(metavar="A,B", help="only these arms")
    max_hours: float | None = _option(
        metavar="H", type=float, help="save and end after H hours, as on SIGTERM; the same command continues"
    )
    report: str | None = _option(metavar="DIR", help="write the report into DIR when no trial is left to run")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CancelOptions(StudyOptions):
    """Of `cancel`."""

    what: Sequence[str] = _positional(
        metavar="WHAT", nargs="+", help="an arm, arm/stage, or a trial's name or id"
    )
    reason: str = _option(metavar="TEXT", default="", help="why: `status` and the run show it")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PrefetchOptions(StudyOptions):
    """Of `prefetch`."""

    images: bool = _flag("decode all images, too")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TuneOptions(ClusterOptions):
    """Of `tune`."""

    space: str = _option(metavar="FILE", required=True, help="what may vary: paths and distributions")
    samples: int = _option(
        metavar="N", type=int, required=True, help="number of samples, earlier ones included"
    )
    repeats: int | None = _option(metavar="R", type=int, help="repetitions of each; default: at most 3")
    stage: str | None = _option(metavar="S", help="the stage to tune; default: the last")
    arm: str = _option(metavar="A", default="baseline", help="the arm to tune; default: baseline")
    search: str = _option(choices=("random", "optuna"), default="random")
    asha: bool = _option(
        action=argparse.BooleanOptionalAction, default=True, help="stop the worse samples early"
    )
    seed: int | None = _option(metavar="N", type=int, help="seed of the search; default: the study's")
    max_concurrent: int | None = _option(
        metavar="N",
        type=int,
        help="samples that run or wait for a worker at once; default: as many as the cluster has room for",
    )
    out: str | None = _option(
        metavar="FILE", help="file for the winner; default: ./search_spaces/tuned/<study>-<stage>.yaml"
    )
    report: str | None = _option(
        metavar="DIR", help="folder for tables and figures; default: ./reports/<study>-tuning-<stage>"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReportOptions(StudyOptions):
    """Of `report`."""

    study: str = _positional(metavar="STUDY", help="the study file, or an archive of a study")
    out: str | None = _option(metavar="DIR", help="folder of the report; default: ./reports/<study>")
    compare: str | None = _option(
        metavar="STUDY|STORAGE", help="show another study, or another version of this one, beside this one"
    )
    ensembles: bool = _flag("predict again by the mean of all repetitions; needs the data and takes a while")
    temperature: bool = _flag(
        "predict again with a temperature fitted to validation images; needs the data and takes a while"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ArchiveOptions(StudyOptions):
    """Of `archive`."""

    out: str = _option(metavar="FILE", required=True, help="the file to write; it ends in .zip")
    weights: bool = _flag("include the best weights of all complete trials")
    licence: str | None = _option(
        metavar="NAME", help="of the archive: a name of SPDX such as CC-BY-4.0, or a URL; default: unknown"
    )
    force: bool = _flag("replace a file that differs")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MirrorOptions(StudyOptions):
    """Of `mirror`."""

    mode: str | None = _option(choices=("online", "offline"), help="in place of the study's")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DashboardOptions(StudyOptions):
    """Of `dashboard`."""

    entity: str | None = _option(metavar="E", help="team or user in place of the study's")
    project: str | None = _option(metavar="P", help="project in place of the study's")
    name: str | None = _option(
        metavar="TITLE",
        help="title of the pages; another title makes further pages; default: the study's name",
    )
    output: str | None = _option(
        metavar="FILE", help="write what would be sent as JSON, and send nothing; takes no key"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrialOptions(JsonOptions):
    """Where the records of a trial are, whose name or id is given."""

    study: str | None = _option(metavar="STUDY", help="the study file that names the trial")
    profile: str | None = _option(metavar="P", help="the profile that the study ran with")
    storage: str | None = _option(metavar="DIR|URI", help="where the trial's records are")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LogsOptions(TrialOptions):
    """Of `logs`."""

    trial: str = _positional(metavar="TRIAL", help="a trial's name or id")
    follow: bool = _flag("show new lines until the trial ends")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PredictOptions(TrialOptions):
    """Of `predict`."""

    model: str = _positional(
        metavar="TRIAL|CHECKPOINT",
        help="a trial's name or id, arm/stage for the mean of its repetitions, or a weights file",
    )
    images: Sequence[str] = _positional(
        metavar="IMAGE", nargs="+", help="images, DICOM files, or folders of them"
    )
    out: str = _option(
        metavar="DIR|URI", required=True, help="folder for the files of each image and the table"
    )
    format: str = _option(
        choices=("png", "dicom-seg"),
        default="png",
        help="dicom-seg: beside PNG files, a DICOM-SEG object for each DICOM image, which names the patient",
    )
    threshold: float | None = _option(
        metavar="T",
        type=float,
        help="on the network's output, for tasks that have a threshold; default 0.5",
    )
    image_size: int | None = _option(
        metavar="PX",
        type=int,
        help="for a weights file without its trial's record: side of the images that it was trained on",
    )
    intensity: str | None = _option(
        metavar="NAME",
        help="for a weights file without its trial's record: `training.intensity` that it was trained with",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportOptions(TrialOptions):
    """Of `export`."""

    model: str = _positional(
        metavar="TRIAL|STUDY", help="a trial's name or id; with --format nnunet-splits a study file"
    )
    format: str = _option(
        choices=("onnx", "torch", "monai", "huggingface", "nnunet-splits"),
        required=True,
        help="what to write: an ONNX model, a file of torch.export, a MONAI bundle, a folder for Hugging "
        "Face, or the splits of a study for nnU-Net",
    )
    out: str = _option(metavar="DIR|URI", required=True, help="folder for the files")
    image: str | None = _option(
        metavar="FILE", help="what the export is checked on; default: seeded noise of the right size"
    )
    licence: str | None = _option(
        metavar="NAME", help="of the weights, such as cc-by-nc-4.0, for the model card; default: unknown"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PruneOptions(JsonOptions):
    """Of `prune`."""

    studies: Sequence[str] = _positional(
        metavar="STUDY", nargs="*", help="study files whose storages are pruned"
    )
    profile: str | None = _option(metavar="P", help="apply this profile of the study files")
    storage: str | None = _option(metavar="DIR|URI", help="one storage, in place of the studies'")
    yes: bool = _flag("delete what is listed")
    names: bool = _flag("list every file and folder by name")
    searches: bool = _flag("include searches (`xferlab tune`)")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SchemaOptions(Options):
    """Of `schema`."""

    json: bool = _flag("changes nothing, because the schema is JSON")


VERBS: dict[str, tuple[type[Options], str]] = {
    "init": (InitOptions, "write a first study: of your images and masks, or a template"),
    "import": (ImportOptions, "make a table of your images and masks"),
    "check": (StudyOptions, "validate a study file and read all of its data"),
    "plan": (PlanOptions, "show the trials of a study: names, ids, parents, which are complete or shared"),
    "prefetch": (PrefetchOptions, "fetch what a run needs, for nodes without internet"),
    "run": (RunOptions, "run all trials that are not complete; running again resumes"),
    "status": (StatusOptions, "show the state of every trial of a study"),
    "cancel": (CancelOptions, "stop trials of a study that runs, from any machine; the others go on"),
    "watch": (WatchOptions, "show a running study until its trials are complete"),
    "failures": (
        StudyOptions,
        "show why trials failed: each error once, with its traceback, and what to do",
    ),
    "logs": (LogsOptions, "show what a trial, and the driver and W&B about it, have said"),
    "report": (ReportOptions, "write tables and figures"),
    "archive": (ArchiveOptions, "write a study into one file, for the supplement of a paper"),
    "tune": (
        TuneOptions,
        "search hyperparameters of one stage and write the winner as an arm; running again continues",
    ),
    "mirror": (MirrorOptions, "add to Weights & Biases what is missing there"),
    "dashboard": (DashboardOptions, "make a workspace and a report of a study in Weights & Biases"),
    "predict": (PredictOptions, "predict images with the weights of a trial or a file"),
    "export": (ExportOptions, "write a trained network in a format of other programs, checked against it"),
    "prune": (PruneOptions, "list what a storage holds and no study's last plan names; --yes deletes it"),
    "version": (JsonOptions, "show the versions of xferlab, of its libraries and of its records"),
    "schema": (SchemaOptions, "print the JSON Schema of study files, for editors"),
}
"""The options of each verb, and its summary."""
