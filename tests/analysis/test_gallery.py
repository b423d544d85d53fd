"""The gallery: which cases it shows, what it says of them, and where their pictures come from."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.browser import PROGRAM, browser
from tests.analysis.conftest import STUDY, StudyBuilder, contents_of
from xferlab.analysis import load_study, write_report
from xferlab.analysis.contents import Contents
from xferlab.analysis.gallery import MAX_ARMS, Gallery, View, galleries, places
from xferlab.metrics.claims import Claims, Place
from xferlab.metrics.classes import LOG_LOSS, metrics_of_classes
from xferlab.metrics.measuring import METRICS
from xferlab.metrics.metric import Metric
from xferlab.tasks import registry

pytestmark = pytest.mark.component
DICE: Metric = next(metric for metric in METRICS if metric.name == "DICE")
VIEW = View(DICE, partial(registry.picture_of, registry.DEFAULT), "The image, and over it the output.")


def gallery_of(contents: Contents, view: View = VIEW) -> Gallery:
    (gallery,) = galleries(contents, lambda task: view)
    return gallery


def test_a_case_has_its_mean_over_repetitions_and_its_place(tmp_path: Path) -> None:
    """Dice of image i in repetition r is 0.9 + 0.01 r + 0.001 i; images take turns in three pathologies."""
    gallery = gallery_of(contents_of(tmp_path / "storage"))
    cards = [card for card in gallery.cards if card.arm == "baseline"]
    assert [(card.why, card.place, card.pathology, card.value) for card in cards] == [
        ("worst 5 %", "1 of 18", "covid19", "0.9250"),
        ("worst", "2 of 18", "normal", "0.9260"),
        ("worst", "3 of 18", "pathological", "0.9270"),
        ("median", "10 of 18", "covid19", "0.9340"),
        ("median", "11 of 18", "normal", "0.9350"),
        ("median", "12 of 18", "pathological", "0.9360"),
        ("best", "16 of 18", "covid19", "0.9400"),
        ("best", "17 of 18", "normal", "0.9410"),
        ("best", "18 of 18", "pathological", "0.9420"),
    ]
    assert {(card.repetitions, card.stage, card.section_part) for card in cards} == {
        (4, "portable", "portable.hold_out")
    }
    assert {card.picture for card in cards} == {b""}
    assert "Of 18 of 18 cases no repetition stored a picture." in gallery.table.caption


def test_pictures_are_of_the_repetition_nearest_to_the_mean(storage: Path) -> None:
    """Of arm baseline, repetitions 1 to 3 are complete: the mean is that of repetition 2."""
    cards = gallery_of(Contents(load_study(storage, STUDY))).cards
    shown = [card for card in cards if card.arm == "baseline" and card.picture]
    assert shown
    assert all(card.shown == f"repetition 2, {card.value}" for card in shown)
    assert all(card.picture.startswith(b"\xff\xd8\xff") for card in shown)
    # Six images have pixels, two of each pathology: the median and the best are not among them.
    assert {card.why for card in shown} == {"worst 5 %", "worst", "near the median"}


def test_the_order_turns_round_where_less_is_better(tmp_path: Path) -> None:
    lower = replace(DICE, better="lower")
    cards = gallery_of(contents_of(tmp_path / "storage"), View(lower, VIEW.draw, "")).cards
    assert [cards[0].place, cards[0].value] == ["1 of 18", "0.9420"]


def test_a_task_that_ranks_nothing_has_none(contents: Contents) -> None:
    assert list(galleries(contents, lambda task: None)) == []


def test_it_shows_what_the_study_is_judged_on(tmp_path: Path) -> None:
    """Stage general is measured on the hold-out, too, and comes before the last stage."""
    place = Place("baseline", "general")
    claims = Claims("DICE", "portable.hold_out", None, ((place, place),), declared=True)
    contents = contents_of(tmp_path / "storage", claims=claims, arms=("baseline", "frozen"))
    assert [(arms, on.stage, on.name) for arms, on in places(contents)] == [
        (("baseline",), "general", "portable.hold_out"),
        (("frozen",), "general", "portable.hold_out"),
    ]


class Sharing(StudyBuilder):
    """Both arms share the trainings of stage general."""

    def _trials(self) -> list[dict[str, Any]]:
        trials = super()._trials()
        shared = [trial for trial in trials if trial["names"][0].startswith("baseline/general")]
        for trial in shared:
            trial["arms"] = [*self.arms]
            trial["names"] = [f"{arm}/general/r{trial['repetition']:02d}" for arm in self.arms]
            trial["evaluations"] = [{**each, "arms": [*self.arms]} for each in trial["evaluations"]]
        return [trial for trial in trials if not trial["names"][0].startswith("frozen/general")]


def test_a_judged_set_is_shown_where_an_earlier_arm_shares_it(tmp_path: Path) -> None:
    """The contrast is of frozen's stage general, which the baseline shares, and the baseline's portable."""
    pair = (Place("baseline", "portable"), Place("frozen", "general"))
    claims = Claims("DICE", "portable.hold_out", None, (pair,), declared=True)
    few: dict[str, Any] = {"missing": set(), "pixels": False, "epochs": 2, "images": 3}
    contents = Contents(load_study(Sharing(tmp_path, claims=claims, **few).write(), STUDY))
    assert [(arms, on.stage, on.name) for arms, on in places(contents)] == [
        (("baseline",), "portable", "portable.hold_out"),
        (("baseline", "frozen"), "general", "portable.hold_out"),
    ]


def test_many_arms_are_bounded_and_it_says_so(tmp_path: Path) -> None:
    arms = ("baseline", *(f"arm{number}" for number in range(MAX_ARMS)))
    gallery = gallery_of(contents_of(tmp_path / "storage", arms=arms, repetitions=1, images=3))
    assert len({card.arm for card in gallery.cards}) == MAX_ARMS
    assert f"The first {MAX_ARMS} of {len(arms)} arms and sets." in gallery.table.caption


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with pixels."""
    folder = tmp_path_factory.mktemp("gallery")
    storage = StudyBuilder(folder / "storage", repetitions=1, missing=set()).write()
    return write_report(storage, STUDY, folder / "out").parent


@pytest.mark.slow
def test_page_and_table_show_the_same_cases(out: Path) -> None:
    html = (out / "index.html").read_text("utf-8")
    (csv,) = (out / "tables").glob("*_cases.csv")
    lines = len(csv.read_text("utf-8").splitlines()) - 1
    assert html.count("<figure class='card'") == lines == 18
    assert html.count("<img decoding='async' src='data:image/jpeg;base64,") > 5
    assert "check the licences of its images before you pass this on" in html
    assert "no picture stored" in html


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")
def test_all_pictures_are_printed_though_they_are_folded(out: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        tab.open(out / "index.html")
        printed = base64.b64decode(tab.call("Page.printToPDF")["data"])
        assert tab.complaints == []
    html = (out / "index.html").read_text("utf-8")
    distinct = set(re.findall(r"data:image/jpeg;base64,([^']+)", html))  # equal ones are printed from one
    assert printed.count(b"/DCTDecode") == len(distinct) > 5


class Classes(StudyBuilder):
    """Images are ill, well, ill ...; an image i gets 0.9 - 0.01 i for ill, and a log loss of i / 10."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        ill, p = float(image % 2 == 0), 0.9 - 0.01 * image
        known = {"IS_ill": ill, "IS_well": 1 - ill, "P_ill": p, "P_well": 1 - p, "LOG_LOSS": image / 10}
        return known.get(metric, 1.0)


def test_cards_of_classes_say_what_is_true_and_what_was_told(tmp_path: Path) -> None:
    builder = Classes(tmp_path / "storage", metrics=metrics_of_classes(("ill", "well")), images=6)
    builder.repetitions, builder.missing = 1, set()
    view = View(LOG_LOSS, VIEW.draw, "")
    cards = gallery_of(Contents(load_study(builder.write(), STUDY)), view).cards
    assert (cards[0].why, cards[0].place, cards[0].value) == ("worst 5 %", "1 of 6", "0.5000")
    assert cards[0].told == "is well; probabilities: ill 0.85, well 0.15"
    assert cards[1].told == "is ill; probabilities: ill 0.86, well 0.14"
