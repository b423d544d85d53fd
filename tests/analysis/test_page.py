"""The page in a real browser, and what it is without its script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.analysis.browser import PROGRAM, Browser, browser
from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import write_report
from xferlab.metrics.claims import Claims, Place

pytestmark = pytest.mark.component
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed here")
LINES = "[...document.querySelectorAll('{} tbody tr:not([hidden]) th[scope=row]')].map(e => e.textContent)"
GROUPS = (
    "[...document.querySelectorAll('{} tbody:not([hidden]) .group')].map(e => e.textContent.split(':')[0])"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of three arms that has few figures."""
    folder = tmp_path_factory.mktemp("page")
    arms = {"arms": ("baseline", "frozen", "third"), "repetitions": 2, "images": 15, "noise": 0.05}
    sides = (Place("frozen", "portable"), Place("baseline", "portable"))
    claims = Claims("DICE", "portable.hold_out", None, (sides,), declared=False)
    few = {"pixels": False, "missing": set(), "epochs": 2, "claims": claims}
    storage = StudyBuilder(folder / "storage", **few, **arms).write()
    return write_report(storage, STUDY, folder / "out").with_name("index.html")


@pytest.fixture(scope="module")
def tab(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def opened(page: Path, tab: Browser) -> Browser:
    tab.complaints.clear()
    tab.call("Emulation.clearDeviceMetricsOverride")
    tab.call("Emulation.setEmulatedMedia", media="")
    tab.open(page)
    return tab


@pytest.fixture(scope="module")
def table(page: Path) -> str:
    """Selects the table of all arms."""
    (name,) = re.findall(r"id='(table\w*_all_arms_portable_on_portable_hold_out)'", page.read_text("utf-8"))
    return f"#{name}"


def test_only_the_script_of_the_page_may_run_and_nothing_may_be_loaded(page: Path) -> None:
    text = page.read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r"Content-Security-Policy' content=\"([^\"]+)\"", text)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_without_the_script_all_is_there_and_further_and_long_tables_are_folded(
    page: Path,
) -> None:
    text = re.sub(r"<script>.*?</script>", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert "hidden" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).split("<main>")[0]
    assert "<button" not in text
    assert "<input" not in text
    folded = re.findall(r"<details class='folded'><summary>(.*?) \((\d+) lines\)</summary>", text)
    assert len(folded) > 5
    assert all("further metrics" in title or int(lines) > 40 for title, lines in folded)
    assert text.count("further metrics (") == len([1 for title, _ in folded if "further metrics" in title])


@needs_browser
def test_a_click_sorts_by_a_column_up_down_and_back(opened: Browser, table: str) -> None:
    before = opened.js(GROUPS.format(table))
    assert before == ["baseline", "frozen", "third"]
    click = f"document.querySelectorAll('{table} thead button')[2].click()"
    value = (
        f"[...document.querySelectorAll('{table} tbody')]"
        ".map(e => parseFloat(e.rows[1].cells[2].textContent))"
    )
    for name, order in (("ascending", 1), ("descending", -1)):
        opened.js(click)
        assert opened.js(value) == sorted(opened.js(value), reverse=order < 0)
        assert opened.js(f"document.querySelectorAll('{table} thead th')[2].ariaSort") == name
    assert opened.js(GROUPS.format(table)) != before
    opened.js(click)
    assert opened.js(GROUPS.format(table)) == before
    assert opened.js(f"document.querySelectorAll('{table} [aria-sort]').length") == 0
    assert opened.complaints == []


@needs_browser
def test_a_filter_shows_the_lines_that_hold_all_words(opened: Browser, table: str) -> None:
    type_in = (
        f"(words => {{ const e = document.querySelector('{table} input'); e.value = words;"
        "e.dispatchEvent(new Event('input')); return document.querySelector("
        f"'{table} output').textContent; }})('{{}}')"
    )
    total = len(opened.js(LINES.format(table)))
    assert opened.js(type_in.replace("{}", "COVID19")) == f" 3 of {total} lines"
    assert opened.js(LINES.format(table)) == ["covid19"] * 3
    assert opened.js(type_in.replace("{}", "covid19 frozen")) == f" 1 of {total} lines"
    assert opened.js(GROUPS.format(table)) == ["frozen"]
    assert opened.js(type_in.replace("{}", "")) == ""
    assert len(opened.js(LINES.format(table))) == total


@needs_browser
def test_a_keyboard_is_enough(opened: Browser, table: str) -> None:
    opened.js(f"document.querySelectorAll('{table} thead button')[1].focus()")
    opened.press("Tab")
    opened.press("Enter", "\r")
    assert opened.js(f"document.querySelectorAll('{table} thead th')[2].ariaSort") == "ascending"


@needs_browser
def test_cases_are_chosen_by_arm_pathology_and_rank_with_the_keyboard(opened: Browser) -> None:
    cards = "[...document.querySelectorAll('.card:not([hidden])')]"
    opened.js("document.querySelector('.gallery summary').focus()")
    opened.press("Enter", "\r")
    assert opened.js("document.querySelector('.gallery').open")
    total = opened.js(f"{cards}.length")
    assert total == 3 * 9
    opened.press("Tab")
    assert opened.js("document.activeElement.parentElement.textContent.startsWith('Arm:')")
    choose = (
        "((number, value) => {{ const e = document.querySelectorAll('.choice select')[number];"
        "e.value = value;"
        "e.dispatchEvent(new Event('change')); }})({}, '{}')"
    )
    opened.js(choose.format(0, "frozen"))
    opened.js(choose.format(1, "covid19"))
    assert opened.js(f"{cards}.map(e => e.dataset.arm + ' ' + e.dataset.pathology)") == ["frozen covid19"] * 3
    assert opened.js("document.querySelector('.gallery output').textContent") == f"3 of {total} images"
    opened.js(choose.format(2, "best"))
    assert opened.js(f"{cards}.length") == 1
    assert opened.complaints == []


@needs_browser
def test_print_shows_what_is_folded_and_folds_it_again(opened: Browser) -> None:
    closed = "document.querySelectorAll('details:not([open])').length"
    num = opened.js(closed)
    opened.js("addEventListener('beforeprint', () => { window.closedInPrint = " + closed + "; })")
    printed = base64.b64decode(opened.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    assert opened.js("window.closedInPrint") == 0
    assert opened.js(closed) == num > 5


@needs_browser
def test_links_lead_somewhere_pictures_load_and_a_telephone_scrolls_only_down(opened: Browser) -> None:
    assert opened.js("[...document.links].every(a => document.getElementById(a.hash.slice(1)))")
    assert opened.js("document.images.length > 3 && [...document.images].every(i => i.naturalWidth > 0)")
    opened.resize(400)
    assert opened.js("document.documentElement.scrollWidth") <= 400
    # A figure keeps the size at which it can be read, 7.2 inches or 3.5, and is scrolled.
    widths = opened.js("[...document.images].map(i => i.getBoundingClientRect().width)")
    assert set(map(round, widths)) == {691, 336}
    assert opened.complaints == []


@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_no_rule_of_accessibility_is_broken(opened: Browser, width: int) -> None:
    """Contrast, names, order of headings, tables and keyboard, with all that is folded open."""
    opened.resize(width)
    opened.js("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert opened.violations() == []
    opened.js("document.querySelector('.status').style.color = '#bbb'")  # what is broken is seen
    assert [each.partition(":")[0] for each in opened.violations("'.status'")] == ["color-contrast"]
    assert opened.complaints == []


@needs_browser
def test_what_scrolls_sideways_is_reached_by_the_keyboard_and_nothing_else_is_a_stop(opened: Browser) -> None:
    boxes = "[...document.querySelectorAll('.scroll')]"
    stops = f"{boxes}.map(e => [e.tabIndex === 0, e.scrollWidth > e.clientWidth])"
    for width, some in ((1280, False), (400, True)):
        opened.resize(width)
        opened.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found = opened.js(stops)
        assert all(stop == scrolls for stop, scrolls in found)
        assert any(stop for stop, _ in found) == some


@needs_browser
def test_a_printed_page_cuts_no_table_and_repeats_its_head(opened: Browser) -> None:
    opened.js("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    opened.call("Emulation.setEmulatedMedia", media="print")
    opened.resize(700)  # A4 less its margins
    wide = "[...document.querySelectorAll('table, img')].filter(e => e.getBoundingClientRect().right > 700)"
    assert opened.js(f"{wide}.map(e => e.closest('figure').id)") == []
    # A head whose words are in a box of their own is blank from the second page on.
    styles = "[...document.querySelectorAll('thead button')].map(e => getComputedStyle(e).display)"
    assert set(opened.js(styles)) == {"contents"}


@needs_browser
def test_a_table_without_groups_is_sorted_and_filtered_by_its_lines(opened: Browser) -> None:
    """Its first line stands where others have the name of a group."""
    name = opened.js("document.querySelector('figure.table[id$=reached]').id")
    assert opened.js(f"document.querySelectorAll('#{name} .group').length") == 0
    lines = LINES.format(f"#{name}")
    before = opened.js(lines)
    opened.js(f"document.querySelector('#{name} thead button').click()")
    opened.js(f"document.querySelector('#{name} thead button').click()")
    assert opened.js(lines) == sorted(before, reverse=True)


def test_a_figure_says_in_words_what_is_drawn(page: Path) -> None:
    texts = re.findall(r"<img [^>]*alt='([^']*)'", page.read_text("utf-8"))
    assert len(texts) > 3
    arms = next(text for text in texts if "difference to baseline" in text)
    assert arms == (
        "Drawing with Dice; Dice, difference to baseline; baseline; frozen; third; Mean; "
        "SD over repetitions; SD over images; 95 % CI, not adjusted."
    )
