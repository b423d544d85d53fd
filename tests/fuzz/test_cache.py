"""Whatever the bytes of a table of the image cache are: those that were written, or it is built again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.mutations import feed, mutated
from xferlab.data.cache import open_table
from xferlab.data.case_table import read_table
from xferlab.data.sources.registry import open_source, read_section


@pytest.mark.parametrize("ending", ["json", "images", "targets"])
def test_tables(tmp_path: Path, ending: str, examples: int) -> None:
    config = read_section({"source": "phantom_cxr", "count": 3, "size_px": 32})
    cases = open_source("s", config, memo_dir=tmp_path).cases()
    digests = [case.digest for case in cases]
    table = open_table({"s": config}, size=8, digests=digests, cache_dir=tmp_path)
    expected = [np.array(pixels) for pixels in table.pixels]
    (index,) = (tmp_path / "tables-v5").rglob("*.json")
    path = index.with_suffix(f".{ending}")
    whole = path.read_bytes()

    def read(data: bytes) -> bool:
        path.unlink(missing_ok=True)  # a file that is mapped is not written over
        path.write_bytes(data)
        found = read_table(index)
        if found is not None:
            assert found.digests == table.digests
            assert all(map(np.array_equal, found.pixels, expected))
        return found is not None

    assert read(whole)
    feed(mutated([whole]), read, examples=examples, accepts=False)
