"""Several data sections as one set of cases, on a worker: pixels, labels, cache, privacy, prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trial.conftest import CPU, Bench, Make
from xferlab.cohort import single_sections
from xferlab.data.pixels import Picture
from xferlab.data.sources.registry import open_source, read_section
from xferlab.errors import DataError
from xferlab.plan.spec import TrialSpec
from xferlab.records.reader import read_selection
from xferlab.tracking.content import is_shareable, shown_sets
from xferlab.training.examples import AnyExamples
from xferlab.trial.examples import evaluated_examples, fit_examples
from xferlab.trial.predictor import Predictor
from xferlab.trial.redaction import redact_names

SECTION = {"source": "phantom_cxr", "size_px": 40}
DATA: dict[str, dict[str, Any]] = {
    "a": {**SECTION, "count": 15, "seed": 1, "shareable": True, "degrade_to": 20},
    "b": {**SECTION, "count": 12, "seed": 2, "note": "From elsewhere."},
}
NATIVE = {"model.image_size": "native"}


@pytest.fixture(scope="module")
def sets(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A study of one stage on two sections, at 32 px and at the images' own size."""
    evaluated = ["a+b.test", "b.test", "a+b.test@marker", "a+b.test@original"]
    return bench_in(
        tmp_path_factory.mktemp("sets"),
        data=DATA,
        stages={"both": {"data": ["a", "b"], "repetitions": 1, "evaluate_on": evaluated}},
        arms={"resized": {}, "native": NATIVE},
        features=None,
    )


def decoded(bench: Bench, spec: TrialSpec, name: str) -> dict[str, np.ndarray]:
    """The image of each case of a set, read section by section."""
    images = {}
    for section in single_sections(name):
        source = open_source(section, read_section(spec.data[section]), memo_dir=bench.session.cache_dir)
        images |= {case.digest: source.decode(case).image for case in source.cases()}
    return images


def images_of(loaded: AnyExamples) -> Iterator[np.ndarray]:
    return (loaded.case(row)[0][0] for row in range(len(loaded)))


def test_pixels_of_a_set_are_those_of_its_sections(sets: Bench) -> None:
    spec = sets["native/both/r01"]
    images = decoded(sets, spec, "a+b")
    rows = read_selection(sets.store, spec.selection).rows
    train, validation = fit_examples(spec, sets.context)
    for loaded, part in ((train, "train"), (validation, "validation")):
        digests = [digest for digest, case_part in rows if case_part == part]
        assert len(loaded) == len(digests)
        for digest, image in zip(digests, images_of(loaded), strict=True):
            assert np.array_equal(image, images[digest])


@pytest.mark.parametrize("arm", ["resized", "native"])
def test_evaluations_have_the_cases_of_their_sections_in_order(sets: Bench, arm: str) -> None:
    spec = sets[f"{arm}/both/r01"]
    sizes = {}
    for evaluation in spec.evaluations:
        selection = read_selection(sets.store, evaluation.selection)
        parts = list(evaluated_examples(spec, evaluation, selection, sets.context))
        sizes[evaluation.name] = sum(map(len, parts))
        assert sizes[evaluation.name] == len(selection.digests)
        assert {part.structures for part in parts} == {("lung",)}
        if arm == "native" and not evaluation.variant:
            images = decoded(sets, spec, evaluation.section)
            found = [image for part in parts for image in images_of(part)]
            expected = [images[digest] for digest in selection.digests]
            assert all(map(np.array_equal, found, expected))
    assert sizes["a+b.test"] == sizes["a+b.test@marker"] == sizes["a+b.test@original"] > sizes["b.test"]


def test_a_trial_of_a_set_runs_and_predicts(sets: Bench) -> None:
    record = sets.run("resized/both/r01")
    spec = sets["resized/both/r01"]
    assert record.num_train == len(read_selection(sets.store, spec.selection).part("train").digests)
    predictor = Predictor.of_trial(sets.store, spec.trial_id, CPU)
    assert [section.degrade_to for section in predictor.sections] == [20, None]
    assert not predictor.reads_alike
    assert predictor.targets == ("lung",)
    image = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    alike = replace(predictor, sections=predictor.sections[1:])
    assert alike.reads_alike
    assert not np.array_equal(*(network.prepared(Picture(image)) for network in (predictor, alike)))


def test_one_table_holds_a_set_and_answers_for_its_sections(sets: Bench) -> None:
    spec = sets["resized/both/r01"]
    fit_examples(spec, sets.context)
    folder = sets.session.cache_dir / "tables-v6" / "32px"
    tables = set(folder.glob("*.images"))
    (alone,) = [evaluation for evaluation in spec.evaluations if evaluation.section == "b"]
    selection = read_selection(sets.store, alone.selection)
    list(evaluated_examples(spec, alone, selection, sets.context))
    assert set(folder.glob("*.images")) == tables


def test_a_set_is_shareable_if_all_of_it_is(sets: Bench) -> None:
    spec = sets["resized/both/r01"]
    shareable: dict[str, Any] = {"a": {"shareable": True}, "b": {"shareable": True}}
    assert is_shareable(shareable, "a+b")
    assert not is_shareable(spec.data, "a+b")
    assert is_shareable(spec.data, "a")
    assert not is_shareable(shareable, "a+c")
    assert shown_sets(spec, 4) == []
    assert "a+b.validation" in shown_sets(replace(spec, data={**spec.data, **shareable}), 4)


def test_what_is_said_of_a_set_names_nobody_unless_all_is_shareable() -> None:
    sections = {
        name: read_section({"source": "manifest", "root": f"/data/{name}", "shareable": name == "a"})
        for name in "ab"
    }
    with pytest.raises(DataError) as caught, redact_names(sections):
        raise DataError([*DataError.at("/data/a", "there is no such folder.").problems,
                         *DataError.at("/data/b/jane_doe.png", "is no image.").problems])  # fmt: skip
    first, second = map(str, caught.value.problems)
    assert first == "/data/a: there is no such folder."
    assert second.startswith("data.a+b: 1 problems, which are not shown here")
    shareable = {name: section.model_copy(update={"shareable": True}) for name, section in sections.items()}
    with pytest.raises(DataError, match="jane_doe"), redact_names(shareable):
        raise DataError.at("/data/b/jane_doe.png", "is no image.")


def test_changed_data_of_a_set_are_told(sets: Bench, tmp_path: Path) -> None:
    spec = sets["resized/both/r01"]
    fewer = replace(spec, data={**spec.data, "b": {**spec.data["b"], "count": 6}})
    elsewhere = replace(sets.context, cache_dir=tmp_path)
    with pytest.raises(DataError, match=r"data\.a\+b: 1 problems, which are not shown here"):
        fit_examples(fewer, elsewhere)
    shareable = replace(fewer, data={name: {**data, "shareable": True} for name, data in fewer.data.items()})
    with pytest.raises(DataError, match=r"data\.a\+b: \d of \d+ planned cases are not there any more"):
        fit_examples(shareable, elsewhere)
