"""Bad studies, data sets and options on the command line: one message each, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import Command
from tests.studies import noise, write_pack, xferlab
from xferlab.study.paths import replaced

Change = Callable[["Case"], None]
MASK = np.pad(np.full((20, 20), 255, np.uint8), 10)


@dataclass
class Case:
    """A good study on a small folder of images, to be spoiled.

    Attributes:
        folder: Holds the study and everything else.
        study: The study as a mapping, or as text.
        words: Options of the command.
    """

    folder: Path
    study: Any
    words: list[str] = field(default_factory=list)

    @property
    def pack(self) -> Path:
        return self.folder / "pack"

    def write(self) -> Path:
        path = self.folder / "study.yaml"
        is_text = isinstance(self.study, str)
        path.write_text(self.study if is_text else yaml.safe_dump(self.study, sort_keys=False))
        return path


@pytest.fixture
def case(tmp_path: Path) -> Case:
    pack = write_pack(tmp_path / "pack", [(noise(number, 40), MASK) for number in range(15)])
    study = {
        "study": "bad",
        "repetitions": 1,
        "storage": str(tmp_path / "st"),
        "data": {"lungs": {"source": "manifest", "root": str(pack)}},
        "model": {"init_features": 2, "image_size": 32, "in_channels": 1},
        "stages": {"first": {"data": "lungs"}, "second": {"data": "lungs", "starts_from": "first"}},
        "training": {"max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32"},
        "arms": {"a": {}},
    }
    return Case(tmp_path, study)


def put(path: str, value: Any) -> Change:
    """Sets a field by dotted path."""
    return lambda case: setattr(case, "study", replaced(case.study, path.split("."), value))


def options(*words: str) -> Change:
    return lambda case: case.words.extend(words)


def text(content: str) -> Change:
    """The study file as text in place of a mapping."""
    return lambda case: setattr(case, "study", content)


def image(name: str, pixels: np.ndarray) -> Change:
    """Replaces an image of the folder."""
    return lambda case: Image.fromarray(pixels.astype(np.uint8)).save(case.pack / name)


def content(name: str, head: bytes | int) -> Change:
    """Replaces a file of the folder by some bytes, or by that many of its first."""

    def change(case: Case) -> None:
        path = case.pack / name
        path.write_bytes(head if isinstance(head, bytes) else path.read_bytes()[:head])

    return change


def absent_image(case: Case) -> None:
    (case.pack / "4.png").unlink()


def two_patients_only(case: Case) -> None:
    table = case.pack / "metadata.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:3]) + "\n")


def donor(case: Case) -> None:
    import torch

    from xferlab.networks.build import build

    network = build("unet", in_channels=3, out_channels=1, init_features=2)
    torch.save(network.state_dict(), case.folder / "donor.pt")
    given_donor(case)


def given_donor(case: Case) -> None:
    case.study["stages"]["donor"] = {"weights": {"path": str(case.folder / "donor.pt")}}
    case.study["stages"]["first"]["starts_from"] = "donor"


def published(case: Case) -> None:
    given_donor(case)
    case.study["stages"]["donor"] = {"weights": "buda2091"}


EMPTY = (
    "{{study}}:{}: stage '{}': the validation part of section 'lungs' is empty in repetition 1; add "
    "patients, widen `where`, or change `split` or `hold_out`"
)

STUDIES: list[tuple[str, Change, str]] = [
    ("typo", put("stages.second.start_from", "first"),
     "{study}:18: unknown field 'start_from' in stages.second. Did you mean 'starts_from'?"),
    ("type", put("training.lr", "fast"), "{study}:23: training.lr is 'fast'; it must be a number."),
    ("bool", put("repetitions", True), "{study}:2: repetitions: true is not a number"),
    ("range", put("training.patience", 0), "{study}:20: training.patience is 0; it must be at least 1."),
    ("size", put("model.image_size", 100),
     "{study}:10: model.image_size: 100 is not divisible by 16; the nearest sizes are 96 and 112"),
    ("cycle", put("stages.first.starts_from", "second"),
     "{study}:15: stages start from each other in a circle: first -> second -> first"),
    ("parent", put("stages.second.starts_from", "frist"),
     "{study}:17: stage 'second' starts from 'frist', which is no stage of this study (there is first). "
     "Did you mean 'first'?"),
    ("section", put("stages.second.data", "lung"),
     "{study}:16: stage 'second' trains on 'lung', which is no data section (there is lungs). "
     "Did you mean 'lungs'?"),
    ("part", put("stages.first.evaluate_on", ["lungs.tset"]),
     "{study}:15: stages.first.evaluate_on: 'lungs.tset' is not `section.part` with a part out of train, "
     "validation, test, hold_out. Did you mean 'test'?"),
    ("yaml", text("study: [\n"),
     "{study}:1: this is not valid YAML: while parsing a flow node, did not find expected node content"),
    ("empty", text(""),
     "{study}:1: the file is empty; a study is a mapping that begins with `study: NAME`"),
    ("arm", put("arms.b", {"stages.thrid.data": "lungs"}),
     "{study}:26: arm 'b': there is no stage 'thrid'; this study has first, second."),
    ("variable", put("data.lungs.root", "${XFERLAB_NOT_SET}/x"),
     "{study}:7: data.lungs.root needs the environment variable `XFERLAB_NOT_SET`, which is not set; for "
     "example: export XFERLAB_NOT_SET=/path/to/it"),
    ("profile", options("--profile", "cpu"), "{study}:1: there is no profile 'cpu'; this study has none."),
    ("split", put("split", {"train": 0.9, "validation": 0.2, "test": 0.2}),
     "{study}:25: split: train + validation + test is 1.3; it must be 1"),
    ("weights and data", put("stages.first.weights", "buda2019"),
     "{study}:13: stages.first: a stage has either `data` to train on or `weights` that are given"),
    ("scheme", put("storage", "ftp://host/x"),
     "xferlab: storage 'ftp://host/x' cannot be opened: Unrecognized filesystem type in URI: ftp://host/x. "
     "Give a folder, or a URI that pyarrow knows such as s3://bucket/prefix."),
    ("no file", lambda case: (setattr(case, "write", lambda: case.folder / "stduy.yaml")),
     "{folder}/stduy.yaml: there is no such file."),
]  # fmt: skip

INDEX: list[tuple[str, Change, str]] = [
    ("no folder", put("data.lungs.root", "/no/such/folder"),
     "{study}:7: data.lungs.root: /no/such/folder: there is no such folder. If `root` names an environment "
     "variable, see that it is set right."),
    ("empty part", two_patients_only,
     f"{EMPTY.format(14, 'first')}\n{EMPTY.format(16, 'second')}\n2 problems"),
    ("column", content("metadata.csv", b"image,mask,patient,pathology\n"),
     "{pack}/metadata.csv: no column 'patient_id' (columns: image, mask, patient, pathology). "
     "Did you mean 'patient'?"),
    ("absent image", absent_image, "{pack}/metadata.csv:6: {pack}/4.png: No such file or directory."),
    ("where", put("data.lungs.where", {"device": "fixed"}),
     "{study}:9: data.lungs.where.device: {pack}/metadata.csv has no such column (columns: image, mask, "
     "patient_id, pathology)."),
    ("where of an arm", put("arms.b", {"data.lungs.where": {"device": "fixed"}}),
     "{study}:27: arm 'b': data.lungs.where.device: {pack}/metadata.csv has no such column (columns: image, "
     "mask, patient_id, pathology)."),
    ("no table", put("data.lungs.table", "metdata.csv"),
     "{study}:8: data.lungs.table: {pack}/metdata.csv: there is no such table; tables there: metadata.csv. "
     "Name one with `table:`. Did you mean 'metadata.csv'?"),
]  # fmt: skip

TRUNCATED, NO_IMAGE = content("3.png", 200), content("4.png", b"not an image")
OTHER_SIZE = image("5_mask.png", np.full((20, 20), 255))
DECODE: list[tuple[str, Change, str]] = [
    ("truncated", TRUNCATED, "{pack}/3.png: cannot be read: image file is truncated."),
    ("mask size", OTHER_SIZE, "{pack}/5_mask.png: the mask is 20x20 pixels, its image 5.png is 40x40."),
    ("mask value", image("5_mask.png", np.full((40, 40), 7)),
     "{pack}/5_mask.png: mask values 7 (1600 px) are in no label (accepted: 0, 255). Name them under "
     "`labels:`, as a structure's or as `ignore`. For example: `labels: {{lung: [7]}}`."),
    ("no image", NO_IMAGE,
     "{pack}/4.png: is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file of a kind that can be read."),
]  # fmt: skip

WEIGHTS: list[tuple[str, Change, str]] = [
    ("channels", donor,
     "{study}:20: a/first/r01: donor {folder}/donor.pt: these weights do not fit the network. 1 of another "
     "shape: "
     "encoder1.enc1conv1.weight (2, 3, 3, 3), not (2, 1, 3, 3). The first convolution has 3 input channels "
     "while model.in_channels is 1: set in_channels: 3; a stage may then fold them into one "
     "(adapt: {{fold: sum}})."),
    ("no donor", given_donor,
     "{study}:20: donor {folder}/donor.pt: there is no such file; correct `weights.path` in the study"),
]  # fmt: skip

RUN_ALONE: list[tuple[str, Change, str]] = [
    *WEIGHTS,
    ("arms option", options("--arms", "a,c"),
     "xferlab: --arms: there is no arm 'c' in {study}; accepted: a."),
    ("workers", options("--workers", "2"), "xferlab: --address and --workers belong to --executor ray"),
    ("no workers", options("--executor", "ray", "--workers", "0"),
     "xferlab: --workers 0: at least one CPU core is needed"),
    ("both", options("--executor", "ray", "--workers", "1", "--address", "auto"),
     "xferlab: --workers is for this machine; the cluster at --address has its own number"),
    ("storage", lambda case: (case.folder / "st").write_text("in the way"),
     "xferlab: storage {st} is a file; give a folder with --storage"),
    ("published", published,
     "{study}:20: weights: found 'buda2091'; accepted: buda2019, imagenet/efficientnet_lite0, "
     "imagenet/resnet18, imagenet/vgg16, imagenet/vgg19, or a file. Did you mean 'buda2019'?"),
]  # fmt: skip


def cases(*groups: list[tuple[str, Change, str]]) -> list[Any]:
    return [pytest.param(*case, id=name.replace(" ", "-")) for group in groups for name, *case in group]


def filled(message: str, case: Case) -> str:
    places = {"study": case.folder / "study.yaml", "pack": case.pack, "folder": case.folder}
    return message.format(**places, st=case.folder / "st")


def changed(case: Case, change: Change) -> Path:
    change(case)
    return case.write()


def written(case: Case) -> set[str]:
    """Folders of the storage that hold anything."""
    return {path.name for path in (case.folder / "st").glob("*")} if (case.folder / "st").is_dir() else set()


REFUSED = [
    *((verb, *case) for verb in ("run", "plan", "check", "status") for case in STUDIES),
    *((verb, *case) for verb in ("run", "plan", "status") for case in INDEX),
    *(("plan", *case) for case in (*DECODE, WEIGHTS[1])),
]

NOT_RUN = "holds no plan of study bad: it has not run here."


@pytest.mark.component
@pytest.mark.parametrize(
    ("verb", "change", "message"),
    [pytest.param(verb, *case, id=f"{verb}-{name.replace(' ', '-')}") for verb, name, *case in REFUSED],
)
def test_bad_input_is_reported_before_anything_is_written(
    case: Case, command: Command, verb: str, change: Change, message: str
) -> None:
    study = changed(case, change)
    for _ in range(2):  # also when all other images are known
        said = command(verb, study, *case.words)
        err = said.err
        if verb == "status" and NOT_RUN in err:  # which it says first where the data are at fault
            first, err = err.split("\n", 1)
            assert NOT_RUN in first
        assert (said.code, err, said.out) == (2, filled(message, case) + "\n", "")
    assert not (case.folder / "st").exists()


@pytest.mark.component
@pytest.mark.parametrize(("change", "message"), cases(INDEX, DECODE, WEIGHTS))
def test_check_reports_bad_data_and_weights(
    case: Case, command: Command, change: Change, message: str
) -> None:
    said = command("check", changed(case, change))
    *lines, summary = said.out.splitlines()
    expected = filled(message, case).removesuffix("\n2 problems").splitlines()
    assert (said.code, said.err) == (2, "")
    trial = "a/first/r01: "  # which `run` names
    errors = [line.replace(trial, "") for line in lines if ": warning: " not in line]
    assert errors == [line.replace(trial, "") for line in expected]
    assert summary.startswith(f"{case.folder / 'study.yaml'}: {len(expected)} error")
    assert not (case.folder / "st").exists()


@pytest.mark.component
@pytest.mark.parametrize(("change", "message"), cases(DECODE, RUN_ALONE))
def test_run_reports_bad_input_before_it_trains(
    case: Case, command: Command, change: Change, message: str
) -> None:
    study = changed(case, change)
    executor = [] if "--executor" in case.words else ["--executor", "in-process"]
    said = command("run", study, *executor, *case.words)
    expected = filled(message, case) + "\n"
    assert (said.code, said.err[-len(expected) :]) == (2, expected)  # lines before it say what takes long
    assert "running" not in said.out
    assert written(case) <= {"studies", "selections", "donors"}
    assert not list((case.folder / "st").glob("studies/*/driver.lease"))


@pytest.mark.component
@pytest.mark.parametrize(
    "words",
    [
        ["plan"],
        ["run"],
        ["check"],
        ["tune", "--space", "space.yaml", "--samples", "1", "--arm", "a", "--stage", "first"],
    ],
    ids=lambda words: words[0],
)
def test_many_unusable_masks_are_one_line(case: Case, command: Command, words: list[str]) -> None:
    (case.folder / "space.yaml").write_text("training.lr: {choice: [1.0e-3, 1.0e-2]}\n")
    verb, *more = words
    for number in range(6):
        Image.fromarray(np.full((40, 40), 7 + number % 2, np.uint8)).save(case.pack / f"{number}_mask.png")
    said = command(verb, case.write(), *more)
    line, *others = (said.out if verb == "check" else said.err).splitlines()
    assert said.code == 2
    assert line.startswith(f"{case.pack}/0_mask.png: mask values 7 (1600 px) are in no label (accepted: 0,")
    assert " (5 more like this: 1_mask.png, 2_mask.png, 3_mask.png, 4_mask.png, 5_mask.png)" in line
    if verb == "check":
        assert "study.yaml: 6 errors, " in others[-1]
    else:
        assert others == []
        assert line.endswith(f"`xferlab check {case.folder}/study.yaml` lists all.")


def zeros_and_ones(case: Case) -> None:
    for path in case.pack.glob("*_mask.png"):
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    case.study["data"]["lungs"]["labels"] = {"lung": {"above": 127}}


@pytest.mark.component
@pytest.mark.parametrize("verb", ["run", "check"])
def test_masks_of_which_none_has_a_structure_are_refused(case: Case, command: Command, verb: str) -> None:
    said = command(verb, changed(case, zeros_and_ones), code=2)
    assert "masks has a pixel of the structure, so there is nothing to learn or" in said.out + said.err
    assert not (case.folder / "st" / "trials").exists()


def beside(case: Case, **fields: Any) -> dict[str, Any]:
    """A second folder of images, of which two masks cannot be used, as a section."""
    masks = [np.full((40, 40), 7, np.uint8)] * 2 + [MASK] * 13
    pairs = [(noise(100 + number, 40), mask) for number, mask in enumerate(masks)]
    other = write_pack(case.folder / "other", pairs, patient="q")
    return {"source": "manifest", "root": str(other), **fields}


def arm_left_out(case: Case) -> None:
    case.study["arms"]["b"] = {"data.other": beside(case), "stages.second.data": "other"}
    case.words += ["--arms", "a"]


@pytest.mark.component
@pytest.mark.parametrize("of_an_arm", [True, False])
def test_plan_and_run_take_files_that_no_chosen_trial_reads(
    case: Case, command: Command, of_an_arm: bool
) -> None:
    study = changed(case, arm_left_out if of_an_arm else put("data.spare", beside(case)))
    counted = f"unusable images or masks that no chosen trial reads (2); `xferlab check {study}` shows them"
    for words in (("plan", study), ("run", study, "--executor", "in-process")):
        said = command(*words, *case.words, code=0)
        assert said.err.count(counted) == 1
    assert command("check", study).code == 2


@pytest.mark.component
@pytest.mark.parametrize("fields", [{}, {"simulate": "portable"}])
def test_plan_refuses_what_an_arm_that_is_chosen_reads(
    case: Case, command: Command, fields: dict[str, Any]
) -> None:
    arm = {"data.other": beside(case, **fields), "stages.second.data": "other"}
    study = changed(case, put("arms.b", arm))
    for words in ((), ("--arms", "b")):
        said = command("plan", study, *words, code=2)
        assert said.err.startswith(f"{case.folder}/other/0_mask.png: mask values 7 (1600 px) are in no label")


@pytest.mark.component
def test_all_bad_images_are_reported_at_once(case: Case, command: Command) -> None:
    for change in (TRUNCATED, OTHER_SIZE, NO_IMAGE):
        change(case)
    said = command("run", case.write(), "--executor", "in-process")
    assert (said.code, said.err.splitlines()[3:]) == (2, ["3 problems"])


@pytest.mark.slow
@pytest.mark.parametrize(("change", "message"), cases(STUDIES[:1], DECODE[:2], WEIGHTS))
def test_real_processes_on_ray(case: Case, change: Change, message: str) -> None:
    said = xferlab(case.folder, "run", changed(case, change), timeout_s=60)
    expected = filled(message, case) + "\n"
    # On a busy machine, lines before it say what takes long.
    assert (said.returncode, said.stderr[-len(expected) :]) == (2, expected)
