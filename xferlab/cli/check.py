"""`xferlab check`: the study file and all of its data, with every finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

from xferlab.cli.findings import grouped
from xferlab.cli.main import BAD_INPUT, COMPLETE
from xferlab.cli.options import StudyOptions
from xferlab.cli.output import tell
from xferlab.cli.prepare import check_cases
from xferlab.cli.session import Session
from xferlab.cli.view import count_of, progress_bar
from xferlab.data.check import check_sections
from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, Problem, ProblemsError, XferlabError

SHOWN_PAIRS = 20
"""Of nearly equal images."""


def run(options: StudyOptions) -> int:
    """Prints all findings; exit code 2 if one is an error."""
    session = Session.open(options)
    locate = session.loaded.locate
    files = list(map(locate, dict.fromkeys(_of_files(session))))
    others: list[Problem] = []
    if not any(problem.severity == "error" for problem in files):
        located = dict.fromkeys(map(locate, _of_plan(session)))
        others = [problem for problem in located if problem not in files]
    for problem in (*grouped(files, shown=len(files)), *others):
        print(problem)
    counts = Counter(problem.severity for problem in (*files, *others))
    shown = ", ".join(count_of(counts[severity], severity) for severity in ("error", "warning"))
    print(f"{options.study}: {shown}")
    tell(
        errors=counts["error"],
        warnings=counts["warning"],
        findings=[asdict(each) for each in (*files, *others)],
    )
    return BAD_INPUT if counts["error"] else COMPLETE


def _of_files(session: Session) -> Iterator[Problem]:
    """Reads all data of all arms, and yields what is wrong or odd."""
    memo_dir = session.cache_dir / "digests"
    with progress_bar("reading images") as progress:
        for arm, sections in _distinct_sections(session).items():
            try:
                problems = check_sections(sections, memo_dir=memo_dir, progress=progress)
            except DataError as error:
                problems = list(error.problems)
            yield from (replace(problem, arm=arm) for problem in problems)


def _of_plan(session: Session) -> Iterator[Problem]:
    """Plans the study, and yields what is wrong or odd about patients, given weights, and sizes of images."""
    try:
        plan, audit = session.plan(), session.index.audit
        if audit.near:
            print(
                f"{len(audit.near)} pairs of images of different patients look much alike. They stay apart;"
                " see whether they show one person twice:"
            )
            print(*(f"  {pair}" for pair in audit.near[:SHOWN_PAIRS]), sep="\n")
            if len(audit.near) > SHOWN_PAIRS:
                print(f"  {len(audit.near) - SHOWN_PAIRS} more")
        print(*plan.classes, sep="\n", end="\n" if plan.classes else "")
        yield from audit.warnings
        yield from (warning for warning in plan.warnings if warning not in audit.summary)
        yield from session.weights.problems(plan.trials, stored=False)
        yield from session.weights.parent_problems(plan.trials)
        check_cases(session, plan, progress=lambda name, done, total: None)
    except ProblemsError as error:
        yield from error.problems
    except XferlabError as error:
        yield Problem(str(session.loaded.path), str(error))


def _distinct_sections(session: Session) -> dict[str, dict[str, DataSection]]:
    """The sections of the base, under an empty name, then those that only an arm has or changes."""
    studies = {"": session.loaded.base, **session.loaded.arms}
    seen: set[tuple[str, str]] = set()
    distinct: dict[str, dict[str, DataSection]] = {}
    for arm, study in studies.items():
        for name, config in study.data.items():
            key = (name, config.model_dump_json())
            if key not in seen:
                seen.add(key)
                distinct.setdefault(arm, {})[name] = config
    return distinct
