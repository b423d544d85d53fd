"""The whole report, for whole, partial and empty studies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from tests.analysis.conftest import STUDY, Parsed, StudyBuilder
from xferlab.analysis import StudyResults, write_report
from xferlab.analysis.contents import Contents
from xferlab.analysis.report import FILE_LIST
from xferlab.errors import RecordError, StorageError
from xferlab.records import codec, layout
from xferlab.records.store import Store

pytestmark = pytest.mark.component
SMALL = {"arms": ("baseline",), "repetitions": 1, "images": 6, "missing": set()}


@pytest.fixture(scope="module")
def written(storage, tmp_path_factory) -> tuple[Path, list[str]]:
    lines: list[str] = []
    path = write_report(storage, STUDY, tmp_path_factory.mktemp("report"), echo=lines.append)
    return path, lines


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of one arm, `storage`, and of its report, `out`; nobody changes them."""
    folder = tmp_path_factory.mktemp("small")
    write_report(StudyBuilder(folder / "storage", **SMALL).write(), STUDY, folder / "out")
    return folder


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study with changes, and its report into the same folder each time."""

    def report(**changes: object) -> Path:
        storage = StudyBuilder(tmp_path / "storage", **changes).write()
        return write_report(storage, STUDY, tmp_path / "out")

    return report


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_links_of_the_markdown_lead_to_files(written) -> None:
    path, _ = written
    links = re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8"))
    assert len(links) > 60
    assert all((path.parent / link).stat().st_size > 0 for link in links)


def test_every_table_and_figure_has_all_its_formats_and_is_listed(written) -> None:
    folder = written[0].parent
    for kind, endings in (("tables", {".csv", ".md", ".tex"}), ("figures", {".png", ".svg", ".pdf"})):
        stems = {path.stem for path in (folder / kind).iterdir()}
        assert all((folder / kind / f"{stem}{ending}").exists() for stem in stems for ending in endings)
    assert {*(folder / FILE_LIST).read_text().splitlines(), FILE_LIST} == files(folder)


def test_the_html_needs_nothing_from_outside(written) -> None:
    page = Parsed(written[0].with_name("index.html").read_text("utf-8"))
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)


def test_completeness_stands_at_the_top_and_in_the_progress(written) -> None:
    path, lines = written
    text = path.read_text("utf-8")
    assert "**Incomplete: 16 of 17 planned trials are complete; the others are in no number.**" in text[:200]
    assert "Missing: 1 of 4 repetitions of baseline, stage portable: failed (TrainingError: killed" in text
    line = next(line for line in text.splitlines() if line.startswith("| baseline/portable/r04"))
    assert re.search(r"failed +\| TrainingError: killed by signal 9.*trials/\w{16}/failure.json", line)
    assert lines[0].startswith("Incomplete: 16 of 17")
    assert lines[-1] == f"report: {path}"


def test_a_complete_study_says_so(report) -> None:
    text = report(missing=set(), repetitions=1, pixels=False).read_text("utf-8")
    assert "Complete: all 5 planned trials." in text


def test_nothing_complete_is_said_clearly(report) -> None:
    stages = ("donor", "general", "portable")
    path = report(repetitions=1, missing={f"{a}/{s}/r01" for a in ("baseline", "frozen") for s in stages})
    assert "0 of 5 planned trials are complete" in path.read_text("utf-8")
    assert "there is nothing to report yet" in path.with_name("index.html").read_text("utf-8")
    assert not (path.parent / "figures").exists()


def test_only_the_first_stage_is_complete(report) -> None:
    path = report(repetitions=1, missing={f"{arm}/portable/r01" for arm in ("baseline", "frozen")})
    names = files(path.parent)
    assert "tables/table5_general_portable_hold_out.csv" in names
    assert not any("table6" in name for name in names)
    assert "Against another study" not in path.read_text("utf-8")


@pytest.mark.slow
def test_two_reports_are_equal(small, tmp_path) -> None:
    one, other = small / "out", write_report(small / "storage", STUDY, tmp_path).parent
    assert files(one) == files(other)
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files(one))


def test_a_report_removes_what_the_former_one_wrote_and_nothing_else(report, small, tmp_path) -> None:
    folder = copytree(small / "out", tmp_path / "out")
    before = files(folder)
    kept = [folder / "tables" / "my_own.csv", folder / "notes.txt", tmp_path / "elsewhere.txt"]
    for path in kept:
        path.write_text("mine")
    (folder / "link").symlink_to(kept[2])
    with (folder / FILE_LIST).open("a") as listed:
        listed.write("../elsewhere.txt\nlink\nfigures\nabsent.csv\n\na\0b\n")
    report(**SMALL, compare_to=None)
    after = files(folder)
    assert "tables/table4_portable_test.csv" in before - after  # it is Table 5 now
    assert "tables/table5_portable_test.csv" in after - before
    assert all(path.read_text() == "mine" for path in kept)
    own = {"tables/my_own.csv", "notes.txt", "link", FILE_LIST}
    assert {*(folder / FILE_LIST).read_text().splitlines()} == after - own


def test_a_report_that_breaks_off_forgets_no_file(report, small, tmp_path, monkeypatch) -> None:
    folder = copytree(small / "out", tmp_path / "out")
    before = {*(folder / FILE_LIST).read_text().splitlines()}
    monkeypatch.setattr("xferlab.analysis.report.pictures", lambda contents, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report(**SMALL, compare_to=None)
    listed = {*(folder / FILE_LIST).read_text().splitlines()}
    assert before < listed == files(folder) - {FILE_LIST}


def test_an_unknown_study_and_an_unwritable_folder_are_named(storage, tmp_path) -> None:
    with pytest.raises(RecordError, match="no plan of study 'nope'"):
        write_report(storage, "nope", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the report cannot be written"):
        write_report(storage, STUDY, tmp_path / "file")


def test_what_cannot_be_read_or_written_is_reported_and_all_else_is_written(small, tmp_path) -> None:
    storage = copytree(small / "storage", tmp_path / "storage")
    out, figure = tmp_path / "out", "fig9_covid19_general_to_portable_baseline"
    (out / "figures" / f"{figure}.png").mkdir(parents=True)
    (out / "tables" / "cohorts.csv").mkdir(parents=True)
    torn = sorted(storage.glob("trials/*/history.jsonl"))[0]
    torn.write_text("torn\n")
    with pytest.raises(StorageError) as caught:
        write_report(storage, STUDY, out)
    reported = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert reported == [str(torn), "table cohorts", f"figure {figure}"]
    text = (out / "report.md").read_text("utf-8")
    figures = {path.name for path in (out / "figures").glob("*.png") if path.is_file()}
    assert f"figures/{figure}.png" not in text
    assert len(figures) > 3
    assert all(f"figures/{name}" in text for name in figures)
    assert {"tables/training.csv", "index.html"} <= files(out)


def test_metrics_are_defined_with_unit_and_source(results: StudyResults) -> None:
    bare = replace(results.metrics.named("DICE"), source="-", unit="years")
    plan = {**results.plan, "metrics": [bare.to_json(), *results.plan["metrics"][3:]]}
    lines = [*Contents(replace(results, plan=plan)).definitions()]
    assert lines[0] == (
        "DICE (Dice, years): 2 TP / (2 TP + FP + FN). 1 if both masks are empty, 0 if one is."
    )
    assert lines[1].endswith("Source: vidal2021, eq. 4, on the thresholded output.")


def test_a_metric_that_the_task_declares_otherwise_is_named(small, tmp_path) -> None:
    sentence = "Declared otherwise by the installed task than by the stored plan, which this report follows: "
    assert sentence not in (small / "out" / "report.md").read_text("utf-8")
    storage = copytree(small / "storage", tmp_path / "storage")
    store, name = Store.open(storage), layout.StudyFiles(STUDY).plan
    plan = codec.read_json(store, name)
    plan["metrics"][2]["unit"] = "%"
    codec.write_json(store, name, plan)
    text = write_report(storage, STUDY, tmp_path / "out").read_text("utf-8")
    assert f"{sentence}DICE. Running the study again stores the new declarations and keeps" in text
