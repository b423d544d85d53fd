"""Any bytes are a study, or refused with messages that name the file and a line of it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.mutations import feed, mutated
from xferlab.errors import StudyError
from xferlab.study.load import load

ROOT = Path(__file__).parents[2]
JOBS = [
    data for path in sorted((ROOT / "jobs").glob("*.yaml")) if b"\nstudy: " in (data := path.read_bytes())
]
TOKENS = [
    b"\n", b"\t", b" ", b": ", b"- ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!x ", b"!!python/none ",
    b"#", b"'", b'"', b"\\", b"|\n", b">", b"%", b"@", b"`", b"---\n", b"...\n", b"\xff", b"\0", b"\r",
    b"\xc2\x85", b"\xe2\x80\xa8", b"<<: ", b"? ", b"\xef\xbb\xbf", b"~", b".", b"${", b"${X}", b"1e999",
    b".nan", b"null", b"9" * 400, b"include: '#baseline'", b"stages", b"data", b"[" * 300, b"{a: " * 300,
    b"\xf0\x9f\x98\x80", b"0x10", b"2020-01-01", b"yes",
]  # fmt: skip
ENVIRON = dict.fromkeys(("XFERLAB_DATA", "XFERLAB_GENERAL", "XFERLAB_PORTABLE"), "/data")
INPUTS = st.one_of(
    mutated(JOBS, TOKENS), st.text(max_size=80).map(lambda text: text.encode(errors="replace"))
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
