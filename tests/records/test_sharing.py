"""What an archive tells of places and hosts, and what it leaves alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xferlab.records.sharing import Sharing
from xferlab.study.yaml_lines import read, written

PLACES = {
    "/mnt/Studie Müller/Bilder 1/x": "x",
    "../klinikum/mueller/x": "x",
    "../../home/erika/chests": "chests",
    r"\\server\share\x": "x",
    r"C:\Users\erika": "~",
    "/home/erika/": "~",
    "~erika": "~",
    "${DATA}/müller/cxr": "cxr",
    "${CXR}": "${CXR}",
    "s3://bucket/key?secret=1": "s3://...",
    "../müller/arms.yaml#deep": "arms.yaml#deep",
    ".": ".",
}
MESSAGES = {
    "/mnt/Studie Müller/Bilder 1/7.png: cannot be decoded": "7.png: cannot be decoded",
    "7 images of /mnt/Studie Müller/Bilder 1/a b/7.png, and more": "7 images of 7.png, and more",
    "/mnt/Haus Müller/a b/7.png: is torn": "7.png: is torn",
    "OSError: /mnt/Haus Müller/7.png: is torn": "OSError: 7.png: is torn",
    "No such file: '/mnt/Haus Müller/7 8.png'": "No such file: '7 8.png'",
    'No such file: "/mnt/O\'Hara/x"': 'No such file: "x"',
    "see ../../home/erika/chests, ~/x and ~erika/y": "see chests, x and y",
    r"at \\server\share\x or C:\data\y": "at x or y",
    "/srv/My results/trials/a/record.json: is torn": "trials/a/record.json: is torn",
    "s3://bucket/x?key=1 and https://erika:pw@page.org/a": "s3://... and https://page.org/a",
    "10.1.2.3 gpu1, gpu1.uni.de and gpu2.other.org": "address host-01, host-01 and host-02",
    "no route to fe80::1 or [::1]:80": "no route to address or [address]:80",
    r"baseline/portable/r01: 3/4 of '\d+_\d+\.png' at 12:30:45, std::bad_alloc, gpu12": None,
}


@pytest.fixture
def sharing() -> Sharing:
    folders = ["/mnt/Studie Müller/Bilder 1", "/mnt/Studie Müller"]
    return Sharing(["gpu2", "gpu1.uni.de"], storage="/srv/My results", folders=folders)


@pytest.mark.parametrize(("place", "shared"), PLACES.items())
def test_of_a_place_the_last_part_stays(sharing: Sharing, place: str, shared: str) -> None:
    study = {"data": {"cxr": {"root": place}}, "arms": {"a": {"data.cxr.root": place, "include": [place]}}}
    expected = {
        "data": {"cxr": {"root": shared}},
        "arms": {"a": {"data.cxr.root": shared, "include": [shared]}},
    }
    assert sharing.of(study) == expected


@pytest.mark.parametrize(("message", "shared"), MESSAGES.items())
def test_messages_tell_no_hosts_and_no_folders(sharing: Sharing, message: str, shared: str | None) -> None:
    assert sharing.of({"warnings": [message]}) == {"warnings": [message if shared is None else shared]}


@pytest.mark.parametrize("text", [*MESSAGES, r"\d+_\d+\.png", "1 /s/ b", r"$\frac{a}{b}$", "/home/erika"])
def test_what_is_no_place_stays(sharing: Sharing, text: str, tmp_path: Path) -> None:
    study = {"note": text, "data": {"cxr": {"where": {"name": text}}}, "metrics": [{"definition": text}]}
    assert sharing.of(study) == study
    (tmp_path / "study.yaml").write_text(written(study))
    assert read(tmp_path / "study.yaml").value == study


def test_accounts_tracebacks_and_hosts(sharing: Sharing) -> None:
    told = {"entity": "my-lab", "tracking.wandb.entity": "my-lab", "traceback": "/x/y", "host": "gpu2"}
    silent = {"entity": None, "tracking.wandb.entity": None, "traceback": "", "host": "host-02"}
    assert sharing.of({"attempts": [told]}) == {"attempts": [silent]}


@pytest.mark.parametrize(
    "part", ["a-", "/a", "~a", ":", "'/", "../", "1.1.", " ~/", "://a", "/mnt/Studie Müller/x ", "a:"]
)
def test_long_messages_take_a_moment(sharing: Sharing, part: str) -> None:
    """A quadratic pattern takes minutes for them."""
    start = time.process_time()
    sharing.message(part * 40_000)
    assert time.process_time() - start < 2


def test_a_written_study_is_read_as_it_was(tmp_path: Path) -> None:
    values = {
        "a": ["1e3", "no", "null", "0x1", "", "~", 1e-05, 10, True, None, "ä: #b\n"],
        "on": {"010": "=", "<<": []},
    }
    (tmp_path / "x.yaml").write_text(written(values))
    assert read(tmp_path / "x.yaml").value == values
