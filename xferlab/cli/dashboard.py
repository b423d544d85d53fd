"""`xferlab dashboard`: a workspace and a report in Weights & Biases, of what the study's runs hold."""

from __future__ import annotations

import json

from xferlab.cli.last_plan import compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import DashboardOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.study_results import contents_of, study_results
from xferlab.cli.written import write_file
from xferlab.data.cache import check_cache
from xferlab.errors import UsageError
from xferlab.plan.spec import PlannedTrial
from xferlab.records.complete import complete_trials
from xferlab.records.reader import read_plan
from xferlab.tracking.dashboard import Dashboard, dashboard_of
from xferlab.tracking.publish import publish
from xferlab.tracking.rebuild import DEFAULT_TRACKING
from xferlab.tracking.recorded import RecordedRuns


def run(options: DashboardOptions) -> int:
    """Makes the pages, sends them, and prints where they are.

    Returns:
        1 if trials of the study are not complete.
    """
    now = compare(options, must_have_run=True)
    session = now.session
    check_cache(session.cache_dir)
    now.print_remarks()
    where = _where(session, options)
    dashboard = _dashboard(session, options.name)
    place = "/".join(filter(None, (where["entity"], where["project"])))
    panels = sum(len(section.panels) for section in dashboard.workspace)
    sections = len(dashboard.sections)
    print(
        f"{dashboard.title}: a workspace of {panels} panels and a report of {sections} sections, for {place}"
    )
    answer = publish(dashboard, where, directory=session.cache_dir / "wandb", send=options.output is None)
    tell(study=session.study, title=dashboard.title, pages=answer.get("sent", []), runs=answer.get("runs"))
    if options.output is not None:
        content = json.dumps({**where, "pages": answer["pages"]}, indent=1) + "\n"
        write_file(options.output, content, shown=f"--output {options.output}")
        print(f"{options.output}: what would be sent; nothing was sent")
    for page in answer.get("sent", ()):
        print(f"{page['kind']} {'replaced' if page['replaced'] else 'made'}: {page['url']}")
    if answer.get("sent") and answer["runs"] < (expected := _num_runs(session)):
        print(
            f"W&B has {answer['runs'] or 'none'} of the {expected} runs of this study, and the pages show no "
            f"others; `xferlab mirror {session.words} --mode online` sends what is missing"
        )
    return COMPLETE if now.is_complete() else INCOMPLETE


def _dashboard(session: Session, name: str | None) -> Dashboard:
    plan = read_plan(session.store, session.study)
    results = study_results(contents_of(session), pixels=False)
    tracking = {**DEFAULT_TRACKING, **(plan["tracking"] or {})}
    runs = RecordedRuns(session.store, plan, results, images=tracking["images"])
    trials = [run for entry in runs.first_complete() if (run := runs.trial(entry))]
    if not trials:
        raise UsageError(
            f"study {session.study} has no complete trial yet, so there is nothing to show; "
            f"`xferlab status {session.words}` says what runs"
        )
    profile = plan["profile"]
    title = name or f"{session.study}{f' ({profile})' if profile else ''}"
    return dashboard_of(plan, runs.study(), trials, title=title)


def _num_runs(session: Session) -> int:
    """Returns how many runs W&B holds once all is mirrored: of complete trials, and that of the study."""
    trials = read_plan(session.store, session.study)["trials"]
    planned = tuple(map(PlannedTrial.from_entry, trials))
    return 1 + len(complete_trials(session.store, session.study, planned))


def _where(session: Session, options: DashboardOptions) -> dict[str, str | None]:
    tracking = session.loaded.base.tracking.wandb
    if tracking is None and options.project is None:
        raise UsageError(
            f"study {session.study} has no `tracking.wandb`; add it to the study file, or give --project"
        )
    given = {"entity": options.entity, "project": options.project}
    named = tracking.model_dump(include=set(given)) if tracking else {}
    return {name: value or named.get(name) for name, value in given.items()}
