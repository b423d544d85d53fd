"""Whatever a user writes, a study or a manifest: it is read, or refused with messages that name the place."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from PIL import Image

from tests.data.conftest import data_section, index_sections
from tests.fuzz.mutations import feed, mutated
from xferlab.data.check import check_sections
from xferlab.errors import DataError, StudyError
from xferlab.study.load import load

# --- studies ---------------------------------------------------------------------------------------------


ROOT = Path(__file__).parents[2]
JOBS = [
    data for path in sorted((ROOT / "jobs").glob("*.yaml")) if b"\nstudy: " in (data := path.read_bytes())
]
STUDY_TOKENS = [
    b"\n", b"\t", b" ", b": ", b"- ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!x ", b"!!python/none ",
    b"#", b"'", b'"', b"\\", b"|\n", b">", b"%", b"@", b"`", b"---\n", b"...\n", b"\xff", b"\0", b"\r",
    b"\xc2\x85", b"\xe2\x80\xa8", b"<<: ", b"? ", b"\xef\xbb\xbf", b"~", b".", b"${", b"${X}", b"1e999",
    b".nan", b"null", b"9" * 400, b"include: '#baseline'", b"stages", b"data", b"[" * 300, b"{a: " * 300,
    b"\xf0\x9f\x98\x80", b"0x10", b"2020-01-01", b"yes",
]  # fmt: skip
ENVIRON = dict.fromkeys(("XFERLAB_DATA", "XFERLAB_GENERAL", "XFERLAB_PORTABLE"), "/data")
INPUTS = st.one_of(
    mutated(JOBS, STUDY_TOKENS), st.text(max_size=80).map(lambda text: text.encode(errors="replace"))
)


def test_studies(tmp_path: Path, examples: int) -> None:
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    path = tmp_path / "jobs" / "study.yaml"
    path.parent.mkdir()

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            return bool(load(path, environ=ENVIRON).arms)
        except StudyError as error:
            places = [problem.where for problem in error.problems]
        assert places
        assert all(place == str(path) or place.rpartition(":")[2].isdigit() for place in places), places
        return False

    assert all(read(job) for job in JOBS)
    feed(INPUTS, read, examples=examples)


# --- manifests -------------------------------------------------------------------------------------------


TEXT = (
    "image,mask,patient_id,pathology,device\na.png,m.png,p1,normal,fixed\nb.png,m.png,p2,covid19,portable\n"
)
TABLE_TOKENS = [
    b'"', b",", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xe2\x80\xae", b"../", b"/", b"a.png",
    b"m.png", b";", b"\t", b"'", b"NaN", b"x" * 300, b"image", b"patient_id", "é".encode(), b"e\xcc\x81",
    b" ", b".", b"circle", b"folder", b"\xed\xa0\x80", b"\n" * 5, b'"a\nb"',
]  # fmt: skip


def parquets() -> list[bytes]:
    names = ["image", "mask", "patient_id", "pathology", "n", "day"]
    rows = [["a.png", "b.png"], ["m.png", "m.png"], ["p1", "p2"], ["normal", "covid19"]]
    columns = [*rows, [1.0, float("nan")], pa.array([0, 9], pa.date32())]
    plain = {"use_dictionary": False, "compression": "none"}
    made = [io.BytesIO() for _ in range(4)]
    for sink, options in zip(made, ({}, {"compression": "zstd"}, plain, {"version": "1.0"}), strict=True):
        pq.write_table(pa.table(columns, names), sink, **options)
    return [sink.getvalue() for sink in made]


KINDS: dict[str, st.SearchStrategy[bytes]] = {
    "metadata.csv": st.one_of(
        mutated([TEXT.encode()], TABLE_TOKENS),
        st.lists(st.sampled_from(TABLE_TOKENS), max_size=30).map(
            lambda tokens: TEXT.encode() + b"".join(tokens)
        ),
        st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
    ),
    "metadata.parquet": mutated(parquets()),
}


@pytest.fixture
def section(tmp_path: Path) -> Any:
    """A folder with two images, a mask, and things that are no files; its table is still to come."""
    root = tmp_path / "pack"
    (root / "folder").mkdir(parents=True)
    (root / "circle").symlink_to("circle")
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) + number).save(root / name)
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(root / "m.png")
    return data_section(source="manifest", root=str(root))


@pytest.mark.parametrize("name", KINDS)
def test_manifests(tmp_path: Path, section: Any, name: str, examples: int) -> None:
    path = Path(section.root) / name
    memo_dir = tmp_path / "memo"

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        problems = check_sections({"s": section}, memo_dir=memo_dir)
        assert all(problem.where.startswith((section.root, "data.s")) for problem in problems)
        if any(problem.severity == "error" for problem in problems):
            with pytest.raises(DataError):
                index_sections({"s": section}, memo_dir=memo_dir)
            return False
        cases = index_sections({"s": section}, memo_dir=memo_dir)["s"]
        assert cases
        assert len({case.digest for case in cases}) == len(cases)
        assert all(case.patient and case.pathology for case in cases)
        return True

    assert read(TEXT.encode() if name == "metadata.csv" else parquets()[0])
    feed(KINDS[name], read, examples=examples)
