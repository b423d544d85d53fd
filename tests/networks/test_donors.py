from __future__ import annotations

import hashlib
import http.server
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.training.learners import same
from xferlab.errors import DonorError
from xferlab.networks import donors, published
from xferlab.networks.build import initialise
from xferlab.networks.unet import UNet

CONTENT = b"some weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Host(http.server.ThreadingHTTPServer):
    """A host of one file on the loopback interface.

    Attributes:
        answers: Number of requests so far.
        withheld: Bytes that it announces and does not send.
    """

    daemon_threads = True
    answers = 0
    withheld = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Host

    def do_GET(self):
        self.server.answers += 1
        content = CONTENT if self.path == "/weights.pt" else b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.withheld])

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Host(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def publish(monkeypatch, host):
    """Publishes `weights` on the host, or elsewhere."""

    def publish(url: str = "", sha256: str | None = None):
        url = url or f"http://127.0.0.1:{host.server_port}/weights.pt"
        weights = replace(published.PUBLISHED["buda2019"], url=url, file_name="weights.pt", sha256=sha256)
        monkeypatch.setattr(published, "PUBLISHED", {"weights": weights})

    return publish


def closed_port() -> int:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        return server.server_port


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("digest", [None, DIGEST, DIGEST.upper()])
def test_fetches_once(tmp_path, publish, host, digest):
    publish()
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        path = donors.fetch("weights", cache_dir=cache, sha256=digest)
        assert path == cache / "weights.pt"
        assert path.read_bytes() == CONTENT
        assert donors.file_sha256(path) == DIGEST
    assert host.answers == 1
    assert files(cache) == ["weights.pt"]


def test_a_file_put_there_by_hand_needs_no_host(tmp_path, publish):
    publish(f"http://127.0.0.1:{closed_port()}/weights.pt")
    (tmp_path / "weights.pt").write_bytes(CONTENT)
    assert donors.fetch("weights", cache_dir=tmp_path, sha256=DIGEST) == tmp_path / "weights.pt"


@pytest.mark.parametrize(("known", "given"), [(None, "0" * 64), ("1" * 64, None)])
def test_a_download_with_another_digest_is_not_kept(tmp_path, publish, known, given):
    publish(sha256=known)
    with pytest.raises(DonorError, match=f"has SHA-256 {DIGEST}; expected {given or known}"):
        donors.fetch("weights", cache_dir=tmp_path, sha256=given)
    assert files(tmp_path) == []
    assert donors.fetch("weights", cache_dir=tmp_path, sha256=DIGEST).read_bytes() == CONTENT


def test_an_altered_file_in_the_cache_is_refused_and_left(tmp_path, publish, host):
    publish()
    (tmp_path / "weights.pt").write_bytes(b"altered")
    with pytest.raises(DonorError, match=rf"weights\.pt has SHA-256 [0-9a-f]{{64}}; expected {DIGEST}"):
        donors.fetch("weights", cache_dir=tmp_path, sha256=DIGEST)
    assert (tmp_path / "weights.pt").read_bytes() == b"altered"
    assert host.answers == 0


@pytest.mark.parametrize(
    ("path", "withheld", "message"),
    [
        ("", 0, "cannot be downloaded .*put it at .*/weights.pt$"),
        ("moved.pt", 0, "Not Found"),
        ("weights.pt", 10, f"after {len(CONTENT) - 10} of {len(CONTENT)} bytes|IncompleteRead"),
    ],
    ids=["offline", "moved", "cut short"],
)
def test_a_failed_download_says_what_to_put_where_and_leaves_nothing(
    tmp_path, publish, host, path, withheld, message
):
    host.withheld = withheld
    url = f"http://127.0.0.1:{host.server_port if path else closed_port()}/{path}"
    publish(url)
    with pytest.raises(DonorError, match=f"{re.escape(url)} .*({message})"):
        donors.fetch("weights", cache_dir=tmp_path, sha256=None)
    assert files(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_host(tmp_path, publish):
    publish()
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(
        DonorError, match=r"weights: .*/cache/donors cannot be written \(Not a directory\); make room"
    ):
        donors.fetch("weights", cache_dir=tmp_path / "cache" / "donors", sha256=None)


def test_an_unknown_donor_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(DonorError, match=r"'buda2018'; accepted: buda2019.*Did you mean 'buda2019'\?"):
        donors.fetch("buda2018", cache_dir=tmp_path, sha256=None)


def seeded(seed: int = 3, **options) -> UNet:
    model = UNet(**({"init_features": 4} | options))
    initialise(model, seed)
    return model


@pytest.mark.parametrize("kind", ["weights.pt", "old.pt", "weights.safetensors"])
def test_a_stored_state_loads_strictly(tmp_path, kind):
    donor, path = seeded(), tmp_path / kind
    donor(torch.randn(2, 3, 16, 16))
    if path.suffix == ".pt":
        torch.save(donor.state_dict(), path, _use_new_zipfile_serialization=kind != "old.pt")
    else:
        path.write_bytes(donors.save_weights(donor))
    model = seeded(4)
    donors.load_strict(model, donors.read_weights(path), origin="donor")
    assert same(model.state_dict(), donor.state_dict())


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"epoch": 3, "model": {}}, "entry 'epoch' is a int; accepted: a state dict"),
        ({"generator": {"conv.weight": torch.zeros(1)}}, "Save the inner state dict"),
        ({0: torch.zeros(1)}, "entry 0 is a Tensor"),
        (torch.zeros(3), "found a Tensor; accepted"),
        ({}, "found an empty dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, stored, message):
    torch.save(stored, tmp_path / "weights.pt")
    with pytest.raises(DonorError, match=message):
        donors.read_weights(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "weights"),
        (b"<!DOCTYPE html>", "weights"),
        (b"PK\x03\x04 torn", "weights"),
        (b"\x80\x02}q\x00.", "weights"),
        (b"\x00" * 64, "weights"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            r"It is a git-LFS pointer, not the file itself: run `git lfs pull`",
        ),
        (None, r"weights\.\w+: cannot be read \(No such file"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torn_foreign_and_absent_files_are_refused(tmp_path, content, message, suffix):
    path = tmp_path / f"weights{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DonorError, match=message):
        donors.read_weights(path)


def test_every_truncation_is_refused(tmp_path):
    whole, path = tmp_path / "whole.pt", tmp_path / "torn.pt"
    torch.save(seeded(init_features=1).state_dict(), whole)
    content = whole.read_bytes()
    for length in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:length])
        with pytest.raises(DonorError, match=r"is torn, .* not read since they may run code"):
            donors.read_weights(path)


def test_three_channels_into_one_says_what_to_set():
    model = seeded(in_channels=1)
    before = donors.save_weights(model)
    with pytest.raises(DonorError) as caught:
        donors.load_strict(model, seeded().state_dict(), origin="donor buda2019")
    assert str(caught.value) == (
        "donor buda2019: these weights do not fit the network. "
        "1 of another shape: encoder1.enc1conv1.weight (4, 3, 3, 3), not (4, 1, 3, 3). "
        "The first convolution has 3 input channels while model.in_channels is 1: set in_channels: 3; "
        "a stage may then fold them into one (adapt: {fold: sum})."
    )
    assert donors.save_weights(model) == before


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {f"module.{key}": value for key, value in seeded().state_dict().items()},
            r"missing: encoder1\..* and \d+ more; \d+ unexpected: module\.enc",
        ),
        (
            seeded(init_features=8).state_dict(),
            r"more\. The first level has 8 features while .* set init_features: 8, or train a donor",
        ),
        (
            seeded(out_channels=3).state_dict(),
            r"has 3 outputs, and what the stage learns needs 1: start from weights of as many outputs\.$",
        ),
    ],
    ids=["names", "width", "outputs"],
)
def test_what_does_not_fit_is_listed(state, message):
    with pytest.raises(DonorError, match=message):
        donors.load_strict(seeded(), state, origin="weights.pt")


def test_saved_bytes_depend_on_names_and_values_alone():
    model = seeded()
    expected = donors.save_weights(model)
    assert donors.save_weights(model.to(memory_format=torch.channels_last)) == expected
    assert donors.save_weights(dict(reversed(model.state_dict().items()))) == expected
    assert donors.save_weights(seeded(4)) != expected
    assert same(safetensors.torch.load(expected), model.state_dict())
    base = torch.arange(12.0).reshape(3, 4)
    shared = {"row": base[1], "transposed": base.T, "all": base}
    assert same(safetensors.torch.load(donors.save_weights(shared)), shared)
