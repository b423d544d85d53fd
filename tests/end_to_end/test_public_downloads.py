"""From the public sets, in small folders of their layouts, to the studies of the papers that read them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.importing.layouts import image, mask
from xferlab.cli.main import COMPLETE, main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "papers.md"
SIDE = 48
COHENS = {
    "Pneumonia/Viral/COVID-19": "PA",
    "Pneumonia/Viral/SARS": "AP",
    "Pneumonia/Bacterial": "AP Supine",
    "Tuberculosis": "PA",
    "No Finding": "PA",
    "Pneumonia": "L",
}
"""Findings of a small collection, each with its view."""


def marked(rows: slice, columns: slice) -> np.ndarray:
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[rows, columns] = 255
    return values


SHAPES = {
    "left lung": marked(slice(8, 40), slice(26, 42)),
    "right lung": marked(slice(8, 40), slice(6, 22)),
    "heart": marked(slice(24, 38), slice(20, 32)),
    "left clavicle": marked(slice(6, 9), slice(26, 42)),
    "right clavicle": marked(slice(6, 9), slice(6, 22)),
}
BOTH = SHAPES["left lung"] | SHAPES["right lung"]


def publish(data: Path) -> None:
    """Writes small sets, each in its published layout."""
    for number in range(30):
        jsrt, sick = f"JPC{'LN'[number % 2]}N{number:03}", number % 2
        image(data / "jsrt-scr-512" / "All247images" / f"{jsrt}.png", number, size=SIDE)
        for name, shape in SHAPES.items():
            mask(data / "jsrt-scr-512" / f"fold{1 + sick}" / "masks" / name / f"{jsrt}.gif", shape)
        montgomery = f"MCUCXR_{number:04}_{sick}.png"
        image(data / "montgomery-512" / "CXR_png" / montgomery, 100 + number, size=SIDE)
        for side in ("left", "right"):
            mask(data / "montgomery-512" / "ManualMask" / f"{side}Mask" / montgomery, SHAPES[f"{side} lung"])
        shenzhen = f"CHNCXR_{number:04}_{sick}"
        image(data / "shenzhen-512" / "CXR_png" / f"{shenzhen}.png", 200 + number, size=SIDE)
        mask(data / "shenzhen-512" / "mask" / f"{shenzhen}_mask.png", BOTH)
        kermany = ("NORMAL/IM-{:04}-0001.jpeg", "PNEUMONIA/person{}_virus_1.jpeg")[sick].format(number)
        image(data / "kermany" / "train" / kermany, 300 + number, size=SIDE)
    lines = ["patientid,age,finding,view,modality,folder,filename,license"]
    for number, (finding, view) in enumerate([*COHENS.items()] * 12):
        image(data / "cohen" / "images" / f"{number}.png", 400 + number, size=SIDE)
        lines.append(f"{number},50,{finding},{view},X-ray,images,{number}.png,CC BY")
    (data / "cohen" / "metadata.csv").write_text("\n".join(lines) + "\n")


def words(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sets, after the commands of the page."""
    folder = tmp_path / "data"
    publish(folder)
    (commands,) = (text for text in words("sh") if "import jsrt" in text)
    monkeypatch.chdir(folder)
    for command in re.findall(r"^xferlab (.*)$", commands, re.MULTILINE):
        assert main(command.split()) == COMPLETE
    monkeypatch.setenv("XFERLAB_DATA", str(folder))
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    (script,) = (text for text in words("python") if "def join" in text)
    for _ in range(2):  # what is there already is written again
        subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_the_studies_of_papers_read_what_import_writes(capsys: pytest.CaptureFixture[str]) -> None:
    for name, trials in (("oliveira2018", 55), ("oh2020", 20), ("arias_garzon2021", 55)):
        capsys.readouterr()
        words = [str(ROOT / "jobs" / f"{name}.yaml"), "--profile", "cpu"]
        assert main(["check", *words]) == COMPLETE, capsys.readouterr()
        capsys.readouterr()
        assert main(["plan", *words, "--json"]) == COMPLETE, capsys.readouterr()
        assert len(json.loads(capsys.readouterr().out)["trials"]) == trials
