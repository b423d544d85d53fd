"""The figure that shows how far probabilities of pixels can be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analysis.conftest import STUDY, Marking, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.results import EvaluationSet
from xferlab.tasks.segmentation.figures_reliability import reliability_of_pixels

pytestmark = pytest.mark.component
SET = EvaluationSet("portable", "portable", "hold_out")


def contents_of(builder: StudyBuilder) -> Contents:
    builder.write()
    return Contents(load_study(builder.folder, STUDY))


def test_points_are_shares_of_the_pixels_that_trials_stored(tmp_path: Path) -> None:
    contents = contents_of(StudyBuilder(tmp_path))
    picture = reliability_of_pixels(contents, SET)
    assert picture is not None
    results, points, errors = contents.results, [], []
    for repetition in (1, 2, 3):  # the fourth failed
        trial_id = results.trial_names[f"baseline/portable/r{repetition:02}"]
        stored = results.outputs(trial_id, arm="baseline", evaluated=SET)
        probability = np.stack(list(stored["probability"])).ravel() / 255
        target = np.stack(list(stored["target"])).ravel() == 255
        of_bin = np.digitize(probability, np.arange(1, 15) / 15)
        means = [(probability[of_bin == each].mean(), target[of_bin == each].mean()) for each in range(15)]
        points.append(means)
        errors.append(np.bincount(of_bin) / len(of_bin) @ np.abs(np.subtract(*np.transpose(means))))
    (axes,) = picture.figure.axes
    line = next(line for line in axes.lines if line.get_marker() == "o")
    assert line.get_xydata() == pytest.approx(np.mean(points, axis=0))
    assert axes.texts[0].get_text() == f"ECE {np.mean(errors):.3f} ± {np.std(errors, ddof=1):.3f}"
    assert f"baseline: 3 of 4 repetitions, {len(stored)} images of" in " ".join(picture.caption)


def test_ignored_pixels_count_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = contents_of(StudyBuilder(tmp_path, missing=set()))
    whole, read = contents.results.outputs, reliability_of_pixels(contents, SET)

    def ignoring(*given: str, **named: object) -> object:
        """All but the pixels of the last bin, from 14/15 on."""
        frame = whole(*given, **named)  # type: ignore[arg-type]
        pairs = zip(frame["target"], frame["probability"], strict=True)
        return frame.assign(target=[np.where(p >= 238, 127, target) for target, p in pairs])

    monkeypatch.setattr(type(contents.results), "outputs", lambda self, *a, **b: ignoring(*a, **b))
    less = reliability_of_pixels(contents, SET)
    lines = [picture.figure.axes[0].lines for picture in (read, less) if picture]
    before, after = (next(line.get_xydata() for line in each if line.get_marker() == "o") for each in lines)
    assert after == pytest.approx(before[:-1])


@pytest.mark.parametrize("kind", [{"pixels": False}, "several"])
def test_without_stored_probabilities_there_is_none(tmp_path: Path, kind: object) -> None:
    builder = Marking(tmp_path) if kind == "several" else StudyBuilder(tmp_path, pixels=False)
    assert reliability_of_pixels(contents_of(builder), SET) is None
