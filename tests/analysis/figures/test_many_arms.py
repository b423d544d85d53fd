"""A study of many arms: figures of all together, and of few alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.arms import arms_picture
from xferlab.analysis.figures.gallery import pictures
from xferlab.analysis.figures.style import Picture
from xferlab.analysis.selection import EvaluationSet
from xferlab.analysis.tables.arms import ArmsRequest

pytestmark = pytest.mark.component
ARMS = ("baseline", "frozen", "third", "fourth", "fifth", "sixth")
COST = -0.05


def write(folder: Path, arms: tuple[str, ...]) -> Path:
    variants = {"implant": COST, "cable": -0.01, "original": 0.0}
    builder = StudyBuilder(folder, arms=arms, variants=variants, missing=set(), repetitions=1)
    builder.pixels, builder.images, builder.epochs = False, 6, 3
    return builder.write()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("many"), ARMS)


@pytest.fixture(scope="module")
def found(storage: Path) -> dict[str, Picture]:
    return {one.name: one for one in pictures(Contents(load_study(storage, "covid_lung")))}


def test_only_the_first_three_arms_have_figures_alone(found: dict[str, Picture]) -> None:
    alone = {arm for arm in ARMS if any(name.endswith(f"_{arm}") for name in found)}
    assert alone == set(ARMS[:3])


def test_more_arms_cost_no_more_figures(found: dict[str, Picture], tmp_path: Path) -> None:
    fewer = pictures(Contents(load_study(write(tmp_path, ARMS[:4]), "covid_lung")))
    assert len(list(fewer)) == len(found)


def test_every_arm_has_a_panel_of_losses_and_a_line_of_differences(found: dict[str, Picture]) -> None:
    (losses,) = (one for name, one in found.items() if name.endswith("_losses_portable"))
    assert [axes.get_title(loc="left") for axes in losses.figure.axes if axes.get_visible()] == list(ARMS)
    (arms,) = (one for name, one in found.items() if name.endswith("_arms_portable_on_portable_hold_out"))
    assert [text.get_text() for text in arms.figure.axes[0].get_yticklabels()] == list(ARMS)


def portable_arms(contents: Contents) -> Picture:
    evaluated = EvaluationSet("portable", "portable", "hold_out")
    found = contents.against_baseline(evaluated)
    picture = arms_picture(ArmsRequest(contents.results, contents.aggregated, evaluated, found), label="1")
    assert picture is not None
    return picture


def test_an_arm_has_one_interval_that_holds_its_difference(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, arms=ARMS[:2], repetitions=5, pixels=False, images=10, noise=0.05)
    builder.missing, builder.epochs = set(), 2
    contents = Contents(load_study(builder.write(), "covid_lung"))
    arms = portable_arms(contents)
    zero, bar, point = arms.figure.axes[1].lines
    assert list(zero.get_xdata()) == [0, 0]
    low, high = bar.get_xdata()
    assert low < point.get_xdata()[0] < high
    caption = " ".join(arms.caption)
    assert bar.get_linestyle() == "-"
    assert "Bars: 95 % CI, dotted where there is no p; not adjusted for the number of arms." in caption
    assert "two-way t over repetitions and patients" in caption
    assert "bootstrap" not in caption


def test_an_interval_without_a_p_is_dotted(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, arms=ARMS[:2], repetitions=3, pixels=False, images=10, noise=0.05)
    builder.missing, builder.epochs = set(), 2
    picture = portable_arms(Contents(load_study(builder.write(), "covid_lung")))
    assert picture.figure.axes[1].lines[1].get_linestyle() == ":"
    assert any(sentence.startswith("n < 5 repetitions: no p, since") for sentence in picture.caption)


def test_an_arm_without_a_result_is_named_without_a_point(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, arms=ARMS[:3], repetitions=2, pixels=False, images=6)
    builder.missing = {f"third/{stage}/r{r:02d}" for stage in ("general", "portable") for r in (1, 2)}
    contents = Contents(load_study(builder.write(), "covid_lung"))
    (arms,) = (one for one in pictures(contents) if "_arms_portable_on_portable_hold_out" in one.name)
    left, right = arms.figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["baseline", "frozen", "third (failed)"]
    assert [(text.get_text(), text.get_position()[1]) for text in left.texts] == [("0 of 2", 2)]
    points = {
        line.get_ydata()[0] for axes in (left, right) for line in axes.lines if line.get_marker() == "o"
    }
    assert points == {0, 1}
    assert "0 of m: no repetition is complete." in arms.caption


def test_objects_are_drawn_by_pathology_and_by_arm(found: dict[str, Picture]) -> None:
    (by_arm,) = (one for name, one in found.items() if "objects_by_arm" in name)
    (costs,) = (one for name, one in found.items() if "_objects_on_" in name)
    for one, lines in ((by_arm, list(ARMS)), (costs, ["all", "covid19", "normal", "pathological"])):
        assert [axes.get_title(loc="left") for axes in one.figure.axes] == ["cable", "implant"]
        assert [text.get_text() for text in one.figure.axes[0].get_yticklabels()] == lines
        dots = {
            round(line.get_xdata()[0], 6) for line in one.figure.axes[1].lines if line.get_marker() != "None"
        }
        assert dots == {COST}


def test_no_figure_is_of_an_object_alone(found: dict[str, Picture]) -> None:
    assert [name for name in found if "implant" in name or "cable" in name] == []
