"""`xferlab tune`: searches a space for one stage of one arm, and writes the winner as an arm."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.main import COMPLETE, INCOMPLETE, exit_code
from xferlab.cli.options import TuneOptions
from xferlab.cli.output import tell
from xferlab.cli.prepare import decode_images
from xferlab.cli.session import Session, check_name
from xferlab.cli.view import say_if_slow
from xferlab.errors import StorageError, UsageError, listed
from xferlab.plan.selection import CaseSelector
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.samples import SampleRecord, best_of, read_samples
from xferlab.records.store import Store
from xferlab.schedule.graph import Listener, State
from xferlab.schedule.lease import Lease
from xferlab.schedule.retry_policy import SAME_ERRORS, Ending
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import check_writable
from xferlab.search.plan import Tuning, Wanted, wanted_stage
from xferlab.search.samples import SampleGraph, execute
from xferlab.study.space import load_space
from xferlab.study.tuned import HEADER, Tuned, arm_file, latest_search

DEFAULT_REPEATS = 3
SHOWN = 5


def run(options: TuneOptions) -> int:
    """Runs what is left of a search, prints the best samples, writes the winner and the report."""
    if options.samples < 1:
        raise UsageError(f"--samples {options.samples}: at least one sample is needed")
    if options.max_concurrent is not None and options.max_concurrent < 1:
        raise UsageError(f"--max-concurrent {options.max_concurrent}: at least one sample must run")
    check_options(options)
    with StopRequest(graceful=False) as stop:
        session = Session.open(options)
        tuning = _tuning(session, options)
        _check_parents(session, tuning)
        out = _out(session, tuning, options)
        num_samples = min(options.samples, tuning.space.size or options.samples)
        print(_headline(tuning, num_samples))
        if num_samples < options.samples:
            print(
                f"the space has {num_samples} points: {options.samples - num_samples} samples fewer than "
                "asked for"
            )
        with Lease(session.store, tuning.tuning_id, search=True):
            graph = SampleGraph(tuning, session.store, num_samples)
            ending = _search(session, graph, options, stop=stop)
        if ending.signal is not None:
            records = read_samples(session.store, tuning.tuning_id)  # some end after their driver
            left = num_samples - sum(record.number <= num_samples for record in records)
            print(f"interrupted: {left} of {num_samples} samples are left; the same command continues")
            return exit_code(ending.signal)
        stop.graceful = False
        _conclude(session, tuning, out=out)
        reported = _report(session, tuning, options.report)
        whole = ending.repeated is None and not graph.counts()[State.FAILED]
        return COMPLETE if reported and whole else INCOMPLETE


def _search(session: Session, graph: SampleGraph, options: TuneOptions, *, stop: StopRequest) -> Ending:
    lines, tuning = _Lines(graph), graph.tuning
    if graph.exhausted:
        return Ending()
    with say_if_slow("reading images"):
        decode_images(session, tuning.selections, tuning.base, tuning.planned, progress=lambda *_: None)
    stop.graceful = True
    print("starting Ray", flush=True)
    with cluster(options, session.store, tuning.base[:1], stop=stop):
        ending = execute(
            graph,
            listener=lines,
            retries=session.loaded.base.retries,
            cache_dir=session.cache_dir,
            stop=stop,
            max_concurrent=options.max_concurrent,
        )
    if failure := ending.repeated:
        print(
            f"{failure['traceback'] or failure['message']}\nxferlab: stopped: the first {SAME_ERRORS} "
            f"samples all failed with this error, on {failure['host']}. Fix the cause, and the same command "
            "continues.",
            file=sys.stderr,
        )
    return ending


def _tuning(session: Session, options: TuneOptions) -> Tuning:
    loaded = CaseSelector(session.loaded, session.index).loaded
    check_name("arm", options.arm, loaded.arms, loaded.path)
    study = loaded.arms[options.arm]
    stage = wanted_stage(study, options.stage)
    planned = study.stages[stage].repetitions or study.repetitions
    wanted = Wanted(
        arm=options.arm,
        stage=stage,
        repetitions=options.repeats if options.repeats is not None else min(DEFAULT_REPEATS, planned),
        search=options.search,
        asha=options.asha,
        seed=loaded.base.seed if options.seed is None else options.seed,
    )
    space = load_space(options.space, study, stage=stage)
    check_writable(session.store)
    setting = session.setting(session.weights.store_all())
    return Tuning(loaded, space, wanted, index=session.index, setting=setting)


def _check_parents(session: Session, tuning: Tuning) -> None:
    store, parents = session.store, tuning.parents
    absent = [
        f"{name} ({parent})" for parent, name in parents.items() if reader.read_trial(store, parent) is None
    ]
    if absent:
        raise UsageError(
            f"samples start from the study's own trials, and {len(absent)} of {len(parents)} are not "
            f"complete in {store.shown}: {listed(absent, 8)}. Run the study first: "
            f"`xferlab run {session.words} --arms {tuning.wanted.arm}`."
        )


def _headline(tuning: Tuning, num_samples: int) -> str:
    wanted, asha = tuning.wanted, tuning.asha
    early = f"the worse stop from epoch {asha['grace_epochs']} on" if asha else "none stops early"
    return (
        f"search {tuning.tuning_id}: stage {wanted.stage} of arm {wanted.arm}, {num_samples} samples of "
        f"{wanted.repetitions} repetitions each, {wanted.search}, {early}"
    )


class _Lines(Listener):
    """Prints a line for every sample that ends."""

    def __init__(self, graph: SampleGraph) -> None:
        self._graph, self._best = graph, list[SampleRecord]()
        print(
            f"{graph.num_finished} of {graph.num_samples} samples finished already, {len(graph.trials)} "
            "go on",
            flush=True,
        )

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        if reason:
            print(f"{trial.name} {state}: {reason}", file=sys.stderr, flush=True)
        if state is not State.COMPLETE:
            return
        record = self._graph.records[trial.trial_id]
        best = best_of([*self._best, record])
        self._best = [best] if best else []
        print(
            f"[{self._graph.num_finished}/{self._graph.num_samples}] {trial.name} {record.outcome} at epoch "
            f"{record.num_epochs} of {record.max_epochs}"
            + ("" if record.score is None else f", {self._graph.tuning.score.label} {record.score:.4f}")
            + (f"; best of this run: {best.score:.4f} (sample {best.number})" if best else ""),
            flush=True,
        )


def _out(session: Session, tuning: Tuning, options: TuneOptions) -> Path:
    """Returns where the winner goes; refuses to replace a file that somebody wrote, or another winner."""
    name = f"{session.loaded.base.study}-{_what(session, tuning)}.yaml"
    out = Path(options.out) if options.out else Path("search_spaces") / "tuned" / name
    if not out.exists():
        return out
    text = out.read_text("utf-8", "replace") if out.is_file() else ""
    if not text.startswith(HEADER):
        raise UsageError(f"--out: {out} exists, and `xferlab tune` has not written it; give another file")
    if (search := latest_search(text)) is None:
        raise UsageError(f"--out: {out} was edited by hand; give another file, or delete it")
    if search.tuning_id != tuning.tuning_id:
        raise UsageError(
            f"--out: {out} holds the winner of another search ({search.tuning_id}: stage {search.stage} of "
            f"arm {search.arm} of study {search.study}; this one is {tuning.tuning_id}, of other settings, "
            "data, space or seed). Arms that include it would change; give another file, or delete it"
        )
    return out


def _what(session: Session, tuning: Tuning) -> str:
    """Returns what is tuned, for names of files: the arm, if it is not the baseline, stage and profile."""
    arm, profile = tuning.wanted.arm, session.loaded.profile
    return "-".join(filter(None, ("" if arm == "baseline" else arm, tuning.wanted.stage, profile)))


def _report(session: Session, tuning: Tuning, out: str | None) -> bool:
    """Writes tables and figures; returns whether they could be written, which costs nobody the winner."""
    from xferlab.analysis.tuning import tuning_report

    name = f"{session.loaded.base.study}-tuning-{_what(session, tuning)}"
    folder = Path(out) if out else Path("reports") / name
    try:
        path = tuning_report(session.store.location, tuning.tuning_id, folder)
    except StorageError as error:
        print(error, file=sys.stderr)
        return False
    print(f"report: {path}")
    tell(report=path)
    return True


def _conclude(session: Session, tuning: Tuning, *, out: Path) -> None:
    records = read_samples(session.store, tuning.tuning_id)
    ranked = sorted((record for record in records if record.score is not None), key=SampleRecord.rank)
    if ranked:
        print(f"best samples by {tuning.score.described}, mean over repetitions:")
    for record in ranked[:SHOWN]:
        values = [(name.written, record.parameters[name.path]) for name in tuning.space.parameters]
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in values)
        print(f"  {record.score:.4f} sample {record.number} ({record.outcome}): {shown}")
    invalid = [record for record in records if record.outcome == "invalid"]
    for record in invalid:
        print(
            f"sample {record.number} was not trained, as its values are not valid together: {record.reason}"
        )
    trained = sum(record.epochs_trained for record in records)
    saved = sum(record.epochs_saved for record in records)
    print(f"{trained} epochs trained; stopping early saved at most {saved}")
    best = best_of(records)
    tell(
        search=tuning.tuning_id,
        epochs_trained=trained,
        samples=[
            {
                "sample": each.number,
                "score": each.score,
                "outcome": each.outcome,
                "parameters": each.parameters,
            }
            for each in ranked
        ],
        invalid=[{"sample": each.number, "reason": each.reason} for each in invalid],
        winner=None if best is None else {"sample": best.number, "out": out.absolute()},
    )
    if best is None:
        print("no sample trained to its end: there is no winner")
        return
    name = f"tuned_{tuning.wanted.stage}"
    searches = (*tuning.earlier, provenance(tuning, records, best))
    _write(out, arm_file(name, tuning.overrides(best.parameters), searches))
    there = Path(os.path.relpath(out, session.loaded.path.parent)).as_posix()
    print(f"winner: sample {best.number}, written to {out.absolute()}; as an arm of the study:")
    arm = tuning.wanted.arm
    print(f"  {'tuned' if arm == 'baseline' else f'tuned_{arm}'}: {{include: {there}#{name}}}")


def _write(out: Path, text: str) -> None:
    try:
        Store.open(out.parent).write(out.name, text.encode())
    except StorageError as error:
        raise StorageError(
            f"the winner cannot be written to {out}: {error.__cause__}; the same command writes it again, "
            "with --out to another file"
        ) from error


def provenance(tuning: Tuning, records: list[SampleRecord], best: SampleRecord) -> Tuned:
    """Returns what the winner's arm carries."""
    found = {
        **tuning.to_json(),
        "num_samples": sum(record.outcome != "invalid" for record in records),
        "num_stopped": sum(record.outcome == "stopped" for record in records),
        "sample": best.number,
        "score": best.score,
    }
    return Tuned.model_validate({name: found[name] for name in Tuned.model_fields})


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
