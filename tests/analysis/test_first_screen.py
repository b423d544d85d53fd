"""Ten questions that somebody asks of a study, answered by the text of the first screen alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.browser import PROGRAM, browser
from tests.analysis.test_claims import CLAIMS, DICE, Arms
from xferlab.analysis import load_study, write_report
from xferlab.analysis.tables.missing import missing_lines, missing_table
from xferlab.metrics.measuring import METRICS
from xferlab.records import codec, layout
from xferlab.records.store import Store

pytestmark = pytest.mark.component
STUDY = "covid_lung"


def storage_of(folder: Path) -> Path:
    """A study of four arms and six repetitions, of which one failed and took another with it."""
    missing = {"late/general/r06", "late/portable/r06"}
    fields = {
        "repetitions": 6,
        "images": 30,
        "pixels": False,
        "compare_to": None,
        "epochs": 2,
        "metrics": DICE,
    }
    claims = replace(CLAIMS, margin=0.02)
    Arms(
        folder, arms=("baseline", "better", "alike", "late"), missing=missing, claims=claims, **fields
    ).write()
    store, name = Store.open(folder), layout.StudyFiles(STUDY).plan
    plan = codec.read_json(store, name)
    assert plan is not None
    plan["planned"] = {"at": "2026-11-28T10:00:00+00:00", "digest": "d" * 16}
    plan["earlier"] = [{**plan["planned"], "complete": 9, "trials": 25, "claims": None}]
    codec.write_json(store, name, plan)
    waiting = next(trial for trial in plan["trials"] if trial["names"] == ["late/portable/r06"])
    store.delete(layout.TrialFiles(waiting["trial_id"]).failure)
    return folder


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return storage_of(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def page(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(storage, STUDY, tmp_path_factory.mktemp("out")).with_name("index.html")


@pytest.fixture(scope="module")
def screen(page: Path) -> str:
    """The text before the second table, without what is folded, a line for each paragraph, item and row."""
    html = page.read_text("utf-8").partition("<body>")[2]
    shown = html[: [match.start() for match in re.finditer("<figure class='table'", html)][1]]
    shown = re.sub(r"<details>.*?</details>|<nav.*?</nav>", "", shown, flags=re.DOTALL)
    shown = re.sub(r"\n", " ", shown)
    shown = re.sub(r"</(p|li|tr|h\d)>", "\n", shown)
    return re.sub(r" +", " ", re.sub(r"<[^>]+>", " ", shown))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is judged, and on what?", r"By Dice \(higher is better\) on portable.hold_out"),
        ("Was it declared before?", r"declared on 2026-11-28 10:00:00 UTC"),
        ("Which arm is best?", r"Best mean: better 0\.8\d+, before alike 0\.8\d+; the baseline has 0\.7\d+\. "
         r"Not ranked, since on other images or with fewer than 90 % of the repetitions: late\. Means alone"),
        ("By how much, and is it more than chance?",
         r"Supported\. better − baseline: \+0\.0[23]\d+ \[\+0\.0\d+, \+0\.0\d+\] \(98.33 %\)"),
        ("And those that do not differ?", r"Equivalent\. alike − baseline: .* lies within ±0\.02"),
        ("How many patients and images?", r"30 images of 30 patients"),
        ("How many repetitions finished?", r"late − baseline: −0\.0\d+ \(no interval\), 5 of 6 repetitions"),
        ("What of each pathology?", r"better (0\.8\d+ ± 0\.0\d+ \(\d+\) ){4}6 of 6 48"),
        ("What is missing, and why?",
         r"Missing: 1 of 6 repetitions of late, stage general: failed \(TrainingError: killed by signal 9"),
        ("Were trainings long enough?", r"Cut off: (\d+) of \1 trainings\."),
    ],
)  # fmt: skip
def test_the_first_screen_answers(screen: str, question: str, answer: str) -> None:
    assert re.search(answer, screen), f"{question} {screen}"


def test_its_figure_is_of_the_metric_that_is_judged(tmp_path: Path) -> None:
    """Also of one that is not the first, which keeps its own figure below."""
    two = tuple(metric for metric in METRICS if metric.name in ("DICE", "JACC"))
    claims = replace(CLAIMS, metric="JACC", contrasts=CLAIMS.contrasts[:1])
    fields = {"repetitions": 5, "images": 10, "pixels": False, "compare_to": None, "epochs": 2}
    Arms(
        tmp_path / "s", arms=("baseline", "better"), missing=set(), claims=claims, metrics=two, **fields
    ).write()
    out = write_report(tmp_path / "s", STUDY, tmp_path / "out").parent
    names = sorted(path.stem for path in (out / "figures").glob("*arms_portable_on_portable_hold_out*.svg"))
    assert [name.partition("_")[2] for name in names if name.startswith("fig1_")] == [
        "arms_portable_on_portable_hold_out_by_JACC"
    ]
    assert [name.partition("_")[2] for name in names if not name.startswith("fig1_")] == [
        "arms_portable_on_portable_hold_out"
    ]
    html = (out / "index.html").read_text("utf-8")
    assert html.index("<h2>Result</h2>") < html.index("arms at a glance") < html.index("<h2>Study</h2>")


def test_verdicts_come_first_and_earlier_plans_are_told(page: Path) -> None:
    text = page.with_name("report.md").read_text("utf-8")
    assert text.index("## Result") < text.index("better − baseline: +0.0") < text.index("## Study")
    assert "Earlier plans with results, each a look at them, or with other parts:" in text


def test_it_is_short(screen: str) -> None:
    """Less than a person reads in two minutes, at 200 words a minute, of which verdicts come first."""
    assert len(screen.split()) < 400
    assert screen.index("Supported.") < 500


def test_what_waits_for_a_failed_trial_says_so(storage: Path) -> None:
    results = load_study(storage, STUDY)
    assert [*missing_lines(results)][1:] == [
        "Missing: 1 of 6 repetitions of late, stage portable: not complete (waits for late/general/r06)"
    ]
    table = missing_table(results)
    (group,) = table.groups
    failed, waiting = (
        {"Trial": row.label, **dict(zip(table.columns, row.cells, strict=True))} for row in group.rows
    )
    assert (failed["Trial"], failed["State"], failed["Attempts"]) == ("late/general/r06", "failed", "0")
    assert failed["Log"].endswith("/failure.json")
    assert (storage / failed["Log"]).exists()
    assert (waiting["Trial"], waiting["Log"]) == ("late/portable/r06", "–")


def test_many_reasons_are_named_in_part(tmp_path: Path) -> None:
    missing = {f"baseline/portable/r{number:02d}" for number in (1, 2, 3, 4)}
    Arms(tmp_path, arms=("baseline",), repetitions=4, pixels=False, missing=missing, metrics=DICE).write()
    store, results = Store.open(tmp_path), load_study(tmp_path, STUDY)
    for number, row in enumerate(results.trials[results.trials["state"] == "failed"]["trial_id"]):
        codec.write_json(
            store, layout.TrialFiles(row).failure, {"type": "OSError", "message": f"no {'x' * number}"}
        )
    (line,) = missing_lines(load_study(tmp_path, STUDY))
    assert line.endswith("stage portable: failed (OSError: no); failed (OSError: no x); 2 more reasons")


def test_many_missing_arms_are_named_in_part(tmp_path: Path) -> None:
    arms = ("baseline", "better", "alike", "late")
    missing = {f"{arm}/{stage}/r01" for arm in arms for stage in ("general", "portable")}
    Arms(tmp_path, arms=arms, repetitions=1, pixels=False, missing=missing, metrics=DICE).write()
    lines = [*missing_lines(load_study(tmp_path, STUDY))]
    assert len(lines) == 5
    assert lines[-1] == "Missing: some repetitions of 4 more arms and stages, see the study."


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")
def test_it_is_one_screen(page: Path, tmp_path: Path) -> None:
    """On a large screen (1280 x 1200) down to the lines of the table; words and figure alone on a laptop."""
    bottom = "Math.round(document.querySelector({}).getBoundingClientRect().bottom)"
    with browser(tmp_path) as tab:
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False
        )
        tab.open(page)
        assert tab.js(bottom.format("'#s0 figure:not(.table) img'")) <= 900
        assert tab.js(bottom.format("'#s0 table'")) <= 1200
        assert tab.complaints == []
