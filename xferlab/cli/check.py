"""`xferlab check`: the study file and all of its data, with every finding."""

from __future__ import annotations

import sys
from argparse import Namespace

from rich.progress import Progress

from xferlab.cli.grouping import grouped
from xferlab.cli.main import BAD_INPUT, COMPLETE
from xferlab.cli.prepare import check_tiles, donor_problems, parent_problems
from xferlab.cli.session import Session
from xferlab.data.check import check_sections
from xferlab.data.sources.registry import DataSection
from xferlab.errors import DataError, Problem, ProblemsError, XferlabError

SHOWN_PAIRS = 20
"""Of nearly equal images."""


def run(options: Namespace) -> int:
    """Prints all findings; exit code 2 if one is an error."""
    session = Session.open(options)
    findings: list[Problem] = []
    files: list[Problem] = []
    near: tuple[str, ...] = ()
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("reading images")
        for arm, sections in _distinct_sections(session).items():
            try:
                files += check_sections(
                    sections,
                    memo_dir=session.cache_dir / "digests",
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
            except DataError as error:
                files += [
                    Problem(one.where, f"{one.what} (arm {arm})", one.severity) for one in error.problems
                ]
    if not any(one.severity == "error" for one in files):
        try:
            plan = session.plan()
            audit = session.index.audit
            near = audit.near
            findings += (*audit.warnings, *(entry for entry in plan.warnings if entry not in audit.summary))
            findings += (*donor_problems(session, plan), *parent_problems(session, plan))
            check_tiles(session, plan, progress=lambda name, done, total: None)
        except ProblemsError as error:
            findings += error.problems
        except XferlabError as error:  # such as a donor of an unknown name: the other findings are told, too
            findings.append(Problem(str(options.study), str(error)))
    files, findings = (
        list(dict.fromkeys(map(session.loaded.located.locate, group))) for group in (files, findings)
    )
    findings = [finding for finding in findings if finding not in files]
    for finding in (*grouped(files, shown=len(files)), *findings):
        print(finding)
    if near:
        print(f"{len(near)} pairs of images of different patients are nearly equal; they stay apart:")

        print(*(f"  {pair}" for pair in near[:SHOWN_PAIRS]), sep="\n")
    if len(near) > SHOWN_PAIRS:
        print(f"  {len(near) - SHOWN_PAIRS} more")
    errors = sum(one.severity == "error" for one in (*files, *findings))
    print(f"{options.study}: {errors} errors, {len(files) + len(findings) - errors} warnings")
    return BAD_INPUT if errors else COMPLETE


def _distinct_sections(session: Session) -> dict[str, dict[str, DataSection]]:
    """The sections of the base, then those that only an arm has or changes."""
    base = session.loaded.base.data
    seen = {(name, config.model_dump_json()) for name, config in base.items()}
    distinct = {"of the study": dict(base)}
    for arm, study in session.loaded.arms.items():
        for name, config in study.data.items():
            key = (name, config.model_dump_json())
            if key not in seen:
                seen.add(key)
                distinct.setdefault(arm, {})[name] = config
    return distinct
