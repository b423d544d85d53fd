"""Phantom sections: known without drawing, and stable when a study asks for more of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.conftest import cases_of
from xferlab.data.sources.phantom import reading as phantom
from xferlab.data.sources.registry import open_source
from xferlab.errors import DataError
from xferlab.phantoms import brain_mri, chest_mask, chest_xray


@pytest.fixture
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(**arguments: object) -> None:
        raise AssertionError(f"drew {arguments}")

    monkeypatch.setattr(phantom, "chest_xray", draw)
    monkeypatch.setattr(phantom, "brain_mri", draw)


@pytest.mark.usefixtures("_no_drawing")
def test_indexing_draws_nothing(section: Any, tmp_path: Path) -> None:
    assert len(cases_of(section(source="phantom_cxr", count=9), tmp_path)) == 9
    assert len(cases_of(section(source="phantom_mri", count=9), tmp_path)) == 9


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (8, {"covid19": 3, "normal": 3, "pathological": 2}),
        ({"covid19": 4, "normal": 1}, {"covid19": 4, "normal": 1}),
    ],
)
def test_counts(section: Any, tmp_path: Path, count: Any, expected: dict[str, int]) -> None:
    all_cases = cases_of(section(source="phantom_cxr", count=count), tmp_path)
    assert Counter(c.pathology for c in all_cases) == expected
    assert len({c.patient for c in all_cases}) == len(all_cases)


@pytest.mark.parametrize("more", [9, {"covid19": 7, "normal": 2, "pathological": 2}])
def test_more_keeps_those_that_were_there(section: Any, tmp_path: Path, more: Any) -> None:
    before = set(cases_of(section(source="phantom_cxr", count=6), tmp_path))
    assert before < set(cases_of(section(source="phantom_cxr", count=more), tmp_path))


@pytest.mark.parametrize("change", [{"seed": 1}, {"size_px": 64}, {"simulate": "portable"}])
def test_the_recipe_is_the_identity(section: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    before = {c.digest for c in cases_of(section(source="phantom_cxr", count=6), tmp_path)}
    after = {c.digest for c in cases_of(section(source="phantom_cxr", count=6, **change), tmp_path)}
    assert len(before) == len(after) == 6
    assert not before & after


def test_filters_and_joined_patients(section: Any, tmp_path: Path) -> None:
    config = section(
        source="phantom_cxr",
        count=9,
        where={"pathology": "normal"},
        same_patient=[["phantom-chest-0-4", "phantom-chest-0-1"]],
    )
    all_cases = cases_of(config, tmp_path)
    assert [(c.name, c.patient) for c in all_cases] == [
        ("phantom-chest-0-1", "phantom-chest-0-1"),
        ("phantom-chest-0-4", "phantom-chest-0-1"),
        ("phantom-chest-0-7", "phantom-chest-0-7"),
    ]
    assert [case.columns["patient_id"] for case in all_cases] == [case.name for case in all_cases]
    with pytest.raises(DataError, match=r"has 'norml'.*Did you mean 'normal'\?"):
        cases_of(section(source="phantom_cxr", count=9, where={"pathology": "norml"}), tmp_path)


def test_chest_pixels(section: Any, tmp_path: Path) -> None:
    source = open_source("s", section(source="phantom_cxr", count=3, size_px=32), memo_dir=tmp_path)
    for index, case in enumerate(source.cases()):
        drawn = chest_xray(seed=0, index=index, pathology=case.pathology, size_px=32)
        decoded = source.decode(case)
        assert (decoded.image == drawn.image).all()
        assert ((decoded.targets == 255) == chest_mask(drawn.labels)).all()
        assert set(np.unique(decoded.targets)) == {0, 255}


def test_brain_pixels_and_patients(section: Any, tmp_path: Path) -> None:
    source = open_source("s", section(source="phantom_mri", count=6, size_px=32, seed=2), memo_dir=tmp_path)
    assert Counter(c.patient for c in source.cases()) == {"phantom-brain-2-0": 4, "phantom-brain-2-1": 2}
    assert {c.pathology for c in source.cases()} == {"brain"}
    for index, case in enumerate(source.cases()):
        drawn = brain_mri(seed=2, index=index, size_px=32)
        decoded = source.decode(case)
        assert (decoded.image == drawn.image).all()
        assert ((decoded.targets == 255) == (drawn.labels > 0)).all()


def test_simulated_phantoms(section: Any, tmp_path: Path) -> None:
    fields = {"source": "phantom_cxr", "count": 1, "size_px": 64}
    configs = [section(**fields, simulate=name) for name in ("portable", "portable", None)]
    sources = [open_source("s", config, memo_dir=tmp_path) for config in configs]
    assert sources[0].cases()[0].simulated == "portable"
    first, second, plain = (source.decode(source.cases()[0]) for source in sources)
    assert (first.image == second.image).all()
    assert set(np.unique(first.targets)) == {0, 255}
    assert (first.image != plain.image).any()
