"""Exports of a real, tiny trial through the command line, read back by the libraries that they are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.conftest import Command, Said
from tests.studies import TINY, noise, write_pack, write_study
from xferlab.cli.main import main
from xferlab.cli.nnunet import case_names
from xferlab.data.decode import read_image
from xferlab.exporting import graph, onnx_model
from xferlab.records import layout, reader
from xferlab.records.store import Store
from xferlab.trial.predictor import Predictor

pytestmark = pytest.mark.component

NAME = "a/private/r01"
PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
SECRETS = ("Doe", "ward7")

Export = Callable[..., Said]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study of images of people who are named, and whose section is not shareable; it has run."""
    root = tmp_path_factory.mktemp("export")
    pairs = [(noise(number, 40), (noise(number, 40) > 99) * np.uint8(255)) for number in range(20)]
    pack = write_pack(root / "ward7", pairs, patient="Doe")
    section = {"source": "manifest", "root": str(pack), "note": "Doe's own ward."}
    donor = {"source": "phantom_cxr", "count": 20, "size_px": 64}
    stage = {"data": "mine", "starts_from": "first", "evaluate_on": ["mine.test"]}
    path = write_study(
        root,
        repetitions=2,
        data={"mine": section, "donor": donor},
        stages={
            "zeroth": {"data": "donor"},
            "first": {"data": "mine", "starts_from": "zeroth"},
            "private": stage,
        },
        training={**TINY["training"], "max_epochs": 1},
        arms={"a": {}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(root / "cache"))
        location = str(root / "storage")
        assert main(["run", str(path), "--executor", "in-process", "--storage", location]) == 0
    yield path
    torch.set_num_threads(1)


@pytest.fixture
def export(study: Path, command: Command, tmp_path: Path) -> Export:
    """Exports the trial into the folder `out` of the test's folder; the page names what is written."""
    Image.fromarray(noise(77, 60)[:, :44]).save(tmp_path / "a.png")

    def export(format: str, *words: object, model: object = NAME, code: int = 0) -> Said:
        place = ("--storage", study.parent / "storage", "--out", "out")
        said = command("export", str(model), "--format", format, *map(str, (*place, *words)), code=code)
        if code == 0 and format != "nnunet-splits":
            assert [name for name in written(tmp_path / "out") if f"`{name}`" not in PAGE] == []
        return said

    return export


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predicted(study: Path, image: Path) -> np.ndarray:
    """What xferlab itself predicts of an image, at the size of the network."""
    store = Store.open(study.parent / "storage")
    (trial,) = (each for each in reader.read_plan(store, "tiny")["trials"] if NAME in each["names"])
    predictor = Predictor.of_trial(store, trial["trial_id"], torch.device("cpu"))
    (output,) = predictor.predictions([predictor.prepared(read_image(image))])
    return output


@pytest.fixture
def nothing_private(study: Path, tmp_path: Path) -> Iterator[None]:
    """No name of a person, no folder of this machine in anything that a test exports."""
    yield
    found = written(tmp_path / "out")
    assert found
    for name, data in found.items():
        assert not [word for word in (*SECRETS, str(study.parent), str(tmp_path)) if word.encode() in data], (
            name
        )


@pytest.mark.usefixtures("nothing_private")
def test_an_onnx_model_is_checked_on_an_image(study: Path, export: Export, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    said = export("onnx", "--image", "a.png")
    assert "largest difference from the network on a.png: " in said.out
    model = onnx.load(tmp_path / "out/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [onnx_model.OPSET]
    told = json.loads((tmp_path / "out/export.json").read_text())
    assert told["largest_difference"] <= 1e-4
    assert told["opset"] == onnx_model.OPSET
    steps = json.loads((tmp_path / "out/preprocessing.json").read_text())
    assert [step["name"] for step in steps["steps"]] == ["grey", "resize", "intensity zscore", "channels"]
    grey = np.asarray(Image.open(tmp_path / "a.png").resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    given = np.repeat(((grey - grey.mean()) / grey.std())[None, None], 3, axis=1)
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(["probability"], {"image": given})
    assert np.abs(output[0] - predicted(study, tmp_path / "a.png")).max() < 1e-5


@pytest.mark.usefixtures("nothing_private")
@pytest.mark.filterwarnings("ignore")  # MONAI's own, of readers that are not installed
def test_a_bundle_runs_in_monai(study: Path, export: Export, tmp_path: Path) -> None:
    from monai.bundle import ConfigParser, verify_net_in_out

    export("monai")
    root = tmp_path / "out"
    assert json.loads((root / "configs/metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    config, metadata = str(root / "configs/inference.json"), str(root / "configs/metadata.json")
    verify_net_in_out(
        "network_def", config_file=config, meta_file=metadata, device="cpu", bundle_root=str(root)
    )
    parser = ConfigParser()
    parser.read_config(config)
    parser.read_meta(metadata)
    parser["bundle_root"], parser["image"] = str(root), str(tmp_path / "a.png")
    output = parser.get_parsed_content("prediction")
    assert np.abs(output[0].cpu().numpy() - predicted(study, tmp_path / "a.png")).max() < 1e-5
    preprocessed = parser.get_parsed_content("preprocessing")
    for name, picture in pictures_of_many_kinds().items():
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(tmp_path / name, **({"exif": exif} if name.startswith("turned") else {}))
        with torch.inference_mode():
            output = parser.get_parsed_content("network_def")(preprocessed(str(tmp_path / name))[None])
        assert np.abs(output[0].numpy() - predicted(study, tmp_path / name)).max() < 1e-5, name
    for name, deep in (
        ("i.png", noise(1, 40).astype(np.uint16) << 8),
        ("f.tif", noise(1, 40) / np.float32(2)),
    ):
        Image.fromarray(deep).save(tmp_path / name)
        with pytest.raises(Exception, match="applying transform") as caught:
            preprocessed(str(tmp_path / name))
        assert "reads images of 8 bits a channel" in str(caught.getrepr(chain=True))


def pictures_of_many_kinds() -> dict[str, Image.Image]:
    """Pictures that all have 8 bits a channel, by the names of their files."""
    colours = Image.fromarray(np.dstack([noise(number, 60)[:, :44] for number in range(4)]), "RGBA")
    return {
        "turned.jpg": colours.convert("RGB"),
        "turned.png": colours.convert("L"),
        "rgba.png": colours,
        "la.png": colours.convert("LA"),
        "palette.png": colours.convert("RGB").quantize(50),
        "one.png": colours.convert("1"),
        "cmyk.tif": colours.convert("CMYK"),
    }


@pytest.mark.usefixtures("nothing_private")
def test_a_folder_for_hugging_face_predicts_by_itself(
    study: Path, export: Export, command: Command, tmp_path: Path
) -> None:
    said = export("huggingface")
    assert "the licence of the weights is unknown: set it before you publish" in said.err
    assert export("huggingface", "--licence", "CC-BY-NC-4.0").err == ""
    files = {
        "README.md",
        "config.json",
        "export.json",
        "model.safetensors",
        "preprocessing.json",
        "record.json",
    }
    assert set(written(tmp_path / "out")) == files
    _, header, page = (tmp_path / "out/README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(header)
    assert (told["license"], told["datasets"]) == ("cc-by-nc-4.0", ["mine", "donor"])
    (result,) = told["model-index"][0]["results"]
    assert result["dataset"] == {"name": "mine.test", "type": "mine", "split": "test"}
    assert "Not a medical device" in page
    assert "| mine | manifest | 20 | 20 | trained and measured on |" in page
    assert "| donor | phantom_cxr | 20 | 20 | trained on in an earlier stage |" in page
    assert "Starts from trial a/first/r01" in page
    dice = {each["type"]: each["value"] for each in result["metrics"]}["DICE"]
    assert f"| Dice | mine.test | {dice:.4f} | " in page
    for number, model in enumerate((tmp_path / "out/model.safetensors", NAME)):
        place = () if number == 0 else ("--storage", study.parent / "storage")
        command("predict", model, "a.png", "--out", f"p{number}", *place, code=0)
    assert (tmp_path / "p0/a_mask.png").read_bytes() == (tmp_path / "p1/a_mask.png").read_bytes()


def test_an_export_that_differs_is_not_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LIMIT", -1.0)
    said = export("torch", code=1)
    assert "model.pt2: differs from the network by up to 0; -1 is accepted. Nothing is written." in said.err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused(
    study: Path, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(study.parent / "storage")
    (trial,) = (each for each in reader.read_plan(store, "tiny")["trials"] if NAME in each["names"])
    weights = store.path(layout.TrialFiles(trial["trial_id"]).weights)
    assert "is a file; export takes a trial" in export("onnx", model=weights, code=2).err
    assert f"Did you mean {NAME!r}?" in export("onnx", model="a/privat/r01", code=2).err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = export("onnx", code=2)
    assert "needs onnx, onnxscript, onnxruntime" in said.err
    assert "pip install 'xferlab[export]'" in said.err
    assert not (tmp_path / "out").exists()


def test_splits_for_nnunet(study: Path, export: Export, tmp_path: Path) -> None:
    assert "2 splits of study tiny" in export("nnunet-splits", model=study).out
    splits: list[dict[str, Any]] = json.loads((tmp_path / "out/mine/splits_final.json").read_text())
    for split in splits:
        assert split.keys() == {"train", "val"}
        assert not set(split["train"]) & set(split["val"])
        assert set(split["train"]) | set(split["val"]) < {str(number) for number in range(20)}
    assert len(splits) == 2
    assert splits[0] != splits[1]
    assert (
        "--image: is for trained networks" in export("nnunet-splits", "--image", "a", model=study, code=2).err
    )


@pytest.mark.parametrize(("format", "model"), [("torch", NAME), ("nnunet-splits", None)])
def test_keys_of_a_storage_for_exports_are_not_printed(
    study: Path, command: Command, tmp_path: Path, format: str, model: str | None
) -> None:
    uri = f"file://{tmp_path}/there"
    words = ("--format", format, "--storage", study.parent / "storage", "--out", f"{uri}?secret_key=word")
    said = command("export", model or study, *map(str, words), "--json", code=0)
    assert json.loads(said.out)["out"] == uri
    assert f"in {uri}: " in said.err
    assert "word" not in said.out + said.err


@pytest.mark.parametrize(
    ("images", "cases"),
    [
        (["a.png"], ["a"]),
        (["imagesTr/a_1_0000.nii.gz", "b.c_0000.png"], ["a_1", "b.c"]),
        (["pat0_2019.png", "pat0_2020.png"], ["pat0_2019", "pat0_2020"]),
        (["img_0000.png", "img_0001.png"], ["img_0000", "img_0001"]),
        (["x0000.tif"], ["x0000"]),
        (["1.2.840.1133"], ["1.2.840.1133"]),
    ],
)
def test_cases_have_the_names_that_nnunet_gives_them(images: list[str], cases: list[str]) -> None:
    """Numbers at the end are a channel only where all images of a section have the same."""
    assert case_names(images) == dict(zip(images, cases, strict=True))
