"""The whole report, for whole, partial and empty studies."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xferlab import analysis
from xferlab.errors import RecordError, StorageError

pytestmark = pytest.mark.component


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def parsed(path: Path) -> Page:
    page = Page()
    page.feed((path.parent / "index.html").read_text("utf-8"))
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def written(storage, tmp_path_factory) -> tuple[Path, list[str]]:
    lines: list[str] = []
    path = analysis.report(storage, "covid_lung", tmp_path_factory.mktemp("report"), echo=lines.append)
    return path, lines


def test_links_of_the_markdown_lead_to_files(written) -> None:
    path, _ = written
    links = re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8"))
    assert len(links) > 60
    assert all((path.parent / link).stat().st_size > 0 for link in links)


def test_every_table_and_figure_has_all_its_formats(written) -> None:
    folder = written[0].parent
    for kind, endings in (("tables", {".csv", ".md", ".tex"}), ("figures", {".png", ".svg"})):
        stems = {path.stem for path in (folder / kind).iterdir()}
        assert all((folder / kind / f"{stem}{ending}").exists() for stem in stems for ending in endings)


def test_the_html_needs_nothing_from_outside(written) -> None:
    page = parsed(written[0])
    assert page.sources
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)


def test_completeness_stands_at_the_top_and_in_the_progress(written) -> None:
    path, lines = written
    text = path.read_text("utf-8")
    assert "**Incomplete: 16 of 17 planned trials are complete; the others are in no number.**" in text[:200]
    assert "baseline/portable/r04: failed (TrainingError: killed by signal 9" in text
    assert lines[0].startswith("Incomplete: 16 of 17")
    assert lines[-1] == f"report: {path}"


def test_texts_from_data_are_escaped(builder, tmp_path) -> None:
    builder.arms, builder.missing, builder.images = ("baseline",), {"baseline/portable/r02"}, 9
    builder.repetitions = 2
    builder.note = "<script>alert(1)</script> *note* | pipe"
    builder.pathologies = ("<i>covid</i>|19", "../normal", "a_b & c")
    builder.warnings = ("<img src=x onerror=y>",)
    path = analysis.report(builder.write(), "covid_lung", tmp_path / "out")
    page = parsed(path)
    html = (path.parent / "index.html").read_text("utf-8")
    assert not re.search(r"<(script|i|b|img src=x)\b", html)
    assert "<script>alert(1)</script> *note* | pipe" in page.text
    markdown = path.read_text("utf-8")
    assert not re.search(r"<[a-zA-Z/]", markdown)
    assert all(
        file.parent.name in ("out", "figures", "tables")
        for file in tmp_path.rglob("*.*")
        if file.is_file() and "storage" not in str(file)
    )


def test_a_complete_study_says_so(builder, tmp_path) -> None:
    builder.missing, builder.repetitions, builder.pixels = set(), 1, False
    text = analysis.report(builder.write(), "covid_lung", tmp_path / "out").read_text("utf-8")
    assert "Complete: all 5 planned trials." in text
    assert "| n < 5 repetitions |" in text
    assert "n < 5 repetitions: no p, since at least 5 paired repetitions are needed." in text
    assert "SD over repetitions (1 repetition)" in text


def test_nothing_complete_is_said_clearly(builder, tmp_path) -> None:
    builder.repetitions = 1
    builder.missing = {f"{arm}/{s}/r01" for arm in builder.arms for s in ("donor", "general", "portable")}
    path = analysis.report(builder.write(), "covid_lung", tmp_path / "out")
    assert "0 of 5 planned trials are complete" in path.read_text("utf-8")
    assert "there is nothing to report yet" in parsed(path).text
    assert not (path.parent / "figures").exists()


def test_only_the_first_stage_is_complete(builder, tmp_path) -> None:
    builder.repetitions = 1
    builder.missing = {f"{arm}/portable/r01" for arm in builder.arms}
    path = analysis.report(builder.write(), "covid_lung", tmp_path / "out")
    files = {file.stem for file in path.parent.rglob("*.csv")}
    assert "table5_general_portable_hold_out" in files
    assert "table6_portable_hold_out" not in files


def test_two_reports_are_equal(builder, tmp_path) -> None:
    builder.arms, builder.repetitions, builder.images = ("baseline",), 1, 6
    storage = builder.write()
    one, other = (analysis.report(storage, "covid_lung", tmp_path / name).parent for name in ("one", "other"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_an_unknown_study_and_an_unwritable_folder_are_named(storage, tmp_path) -> None:
    with pytest.raises(RecordError, match="no plan of study 'nope'"):
        analysis.report(storage, "nope", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the report cannot be written"):
        analysis.report(storage, "covid_lung", tmp_path / "file")


def test_what_cannot_be_read_or_written_is_told_and_all_else_is_there(builder, tmp_path) -> None:
    builder.arms, builder.repetitions, builder.images = ("baseline",), 1, 6
    storage, out, figure = builder.write(), tmp_path / "out", "fig9_covid19_general_to_portable_baseline"
    (out / "figures" / f"{figure}.png").mkdir(parents=True)
    (out / "tables" / "cohorts.csv").mkdir(parents=True)
    torn = sorted(storage.glob("trials/*/history.jsonl"))[0]
    torn.write_text("torn\n")
    with pytest.raises(StorageError) as caught:
        analysis.report(storage, "covid_lung", out)
    told = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert told == [str(torn), "table cohorts", f"figure {figure}"]
    text = (out / "report.md").read_text("utf-8")
    figures = {path.name for path in (out / "figures").glob("*.png") if path.is_file()}
    assert f"figures/{figure}.png" not in text
    assert len(figures) > 3
    assert all(f"figures/{name}" in text for name in figures)
    assert (out / "tables" / "progress.csv").is_file()
    assert (out / "index.html").is_file()
