"""Whatever stands in a manifest: cases, or messages that name the table, the row or the section."""

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
from xferlab.errors import DataError

TEXT = (
    "image,mask,patient_id,pathology,device\na.png,m.png,p1,normal,fixed\nb.png,m.png,p2,covid19,portable\n"
)
TOKENS = [
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
        mutated([TEXT.encode()], TOKENS),
        st.lists(st.sampled_from(TOKENS), max_size=30).map(lambda tokens: TEXT.encode() + b"".join(tokens)),
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
