"""Figures of translated images: what is drawn is what the stored arrays hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder, drawn
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import Picture
from xferlab.metrics.metric import Metric
from xferlab.records.schema import CaseOutputs
from xferlab.tasks.registry import picture_of
from xferlab.tasks.translation.config import metrics_of
from xferlab.tasks.translation.report import pictures
from xferlab.tasks.translation.shown import panels


@dataclass
class Translated(StudyBuilder):
    """A last stage that translates between `general` (a) and `portable` (b), with a segmenter."""

    arms: tuple[str, ...] = ("baseline",)
    repetitions: int = 2
    missing: set[str] = field(default_factory=set)
    compare_to: str | None = None
    metrics: tuple[Metric, ...] = metrics_of(("lung",))
    has_targets: bool = True

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        if metric.startswith("DICE") and not self.has_targets:
            return float("nan")
        known = super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=metric)
        return known - 0.5 if metric == "DICE_UNTRANSLATED" else known

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        plan = super()._plan(trials)
        plan["tasks"]["portable"] = "translation"
        stages = plan["arms"]["baseline"]["stages"]
        stages["portable"] = {**stages["portable"], "sets": {"a": "general", "b": "portable"}}
        return plan

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        trial = super()._trial(arms, stage, repetition, parent)
        if stage == "portable":
            of_a, of_b = trial["evaluations"]
            trial["evaluations"] = [of_a | {"section": "general", "set_name": "a"}, of_b | {"set_name": "b"}]
        return trial

    def _outputs(self, trial: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[CaseOutputs]:
        return [
            replace(case, arrays=self.arrays(number))
            for number, case in enumerate(super()._outputs(trial, evaluation))
        ]

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        known = drawn(seed=number, artefact=False, part=0)
        image, mask = known["image"], (known["probability"] > 127) * np.uint8(255)
        arrays = {
            "image": image,
            "translated": 255 - image,
            "recovered": image // 2,
            "mask": mask,
            "other": np.roll(mask, 3, axis=0),
        }
        return arrays | ({"target": known["target"]} if self.has_targets else {})


def drawn_of(builder: Translated) -> dict[str, Picture]:
    return {each.name: each for each in pictures(Contents(load_study(builder.write(), STUDY)))}


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("has_targets", [True, False])
def test_images_of_b_are_shown_with_both_segmentations(tmp_path: Path, has_targets: bool) -> None:
    builder = Translated(tmp_path, has_targets=has_targets)
    shown = drawn_of(builder)["translated_portable_portable_hold_out_baseline"]
    image, translated, by_way, as_it_is = shown.figure.axes
    # Six cases are stored, and values rise from one to the next; four are evenly spaced.
    arrays = [builder.arrays(number) for number in (0, 2, 3, 5)]
    for axes, name in ((image, "image"), (translated, "translated"), (by_way, "image"), (as_it_is, "image")):
        (drawing,) = axes.images
        pixels = np.asarray(drawing.get_array())
        for column, own in enumerate(arrays):
            np.testing.assert_array_equal(pixels[:, column * 34 : column * 34 + 32], own[name])
        assert (drawing.get_clim(), drawing.get_interpolation()) == ((0, 255), "none")
    assert [texts(axes)[-1] for axes in shown.figure.axes] == [
        "Image of b", "Translated into a", "Segmented by way of a", "Segmented as it is",
    ]  # fmt: skip
    words = [text.get_text() for text in shown.figure.legends[0].get_texts()]
    assert words == ["segmentation", *(["target"] if has_targets else [])]
    assert len(by_way.collections) == len(as_it_is.collections) == (3 if has_targets else 2)
    tops = [axes.collections[0].get_paths()[0].get_extents().y0 for axes in (by_way, as_it_is)]
    assert tops[1] - tops[0] == pytest.approx(3)
    dice = [float(texts(axes)[0].split()[1]) for axes in (by_way, as_it_is)] if has_targets else []
    assert not has_targets or dice[0] - dice[1] == pytest.approx(0.5)
    assert ("No target is known of these images." in shown.caption) is not has_targets


def test_images_of_a_are_shown_there_and_back(tmp_path: Path) -> None:
    shown = drawn_of(Translated(tmp_path))["translated_portable_general_test_baseline"]
    assert [texts(axes)[-1] for axes in shown.figure.axes] == [
        "Image of a", "Translated into b", "Translated back into a",
    ]  # fmt: skip
    assert texts(shown.figure.axes[-1])[0].startswith("change 0.9")
    assert not shown.figure.legends
    assert shown.caption[0].startswith("Domain a: general; domain b: portable.")
    assert any("check the licences of its images" in sentence for sentence in shown.caption)


def test_the_small_picture_has_image_translation_and_segmentation(tmp_path: Path) -> None:
    arrays = Translated(tmp_path).arrays(0)
    image, translated, last = panels(arrays)
    assert image.shape == translated.shape == last.shape == (256, 256, 3)
    np.testing.assert_allclose(image.astype(int) + translated, 255, atol=1)
    assert (last != image).any(axis=-1).mean() > 0.1
    without = {name: arrays[name] for name in ("image", "translated", "recovered")}
    assert (np.ptp(panels(without)[-1].astype(int), axis=-1) == 0).all()
    assert picture_of("translation", arrays).startswith(b"\xff\xd8")
