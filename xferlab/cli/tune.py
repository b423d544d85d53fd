"""`xferlab tune`: searches a space for one stage of one arm, and writes the winner as an arm."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.main import COMPLETE, INCOMPLETE, exit_code
from xferlab.cli.options import TuneOptions
from xferlab.cli.prepare import decode_images
from xferlab.cli.session import Session
from xferlab.cli.view import say_if_slow
from xferlab.errors import StorageError, UsageError, suggest
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import reader
from xferlab.records.samples import SampleRecord, best_of, read_samples
from xferlab.records.store import Store
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import check_writable
from xferlab.search.driver import Sampling
from xferlab.search.plan import Tuning, Wanted, wanted_stage
from xferlab.study.space import load_space
from xferlab.study.tuned import HEADER, Tuned, arm_file

DEFAULT_REPEATS = 3
SHOWN = 5


def run(options: TuneOptions) -> int:
    """Runs what is left of a search, prints the best samples, writes the winner and the report."""
    _check(options)
    with StopRequest(graceful=False) as stop:
        session = Session.open(options)
        tuning = _tuning(session, options)
        _check_parents(session.store, tuning)
        out = _out(session, tuning, options)
        num_samples = min(options.samples, tuning.space.size or options.samples)
        for line in _begin(tuning, num_samples, options.samples):
            print(line)
        finished, num_failed = _search(session, tuning, options, num_samples=num_samples, stop=stop)
        if not finished:
            assert stop.signal is not None
            print("interrupted; the same command goes on")
            return exit_code(stop.signal)
        stop.graceful = False
        _conclude(session, tuning, out=out)
        reported = _report(session, tuning, options.report)
        return COMPLETE if reported and not num_failed else INCOMPLETE


def _search(
    session: Session, tuning: Tuning, options: TuneOptions, *, num_samples: int, stop: StopRequest
) -> tuple[bool, int]:
    """Returns whether the search came to its end, and how many samples failed."""
    from xferlab.search import ray_search

    store, study = session.store, session.loaded.base.study
    with ExitStack() as stack:
        stack.enter_context(ray_search.SearchLease(store, study, tuning.tuning_id))
        sampling = Sampling(tuning, store, num_samples, listener=_Lines())
        sampling.begin()
        if sampling.exhausted:
            return True, 0
        with say_if_slow("reading images"):
            decode_images(session, tuning.selections, tuning.base, progress=lambda *_: None)
        stop.graceful = True
        print("starting Ray", flush=True)
        stack.enter_context(cluster(options, store, tuning.base[:1], stop=stop))
        retries = session.loaded.base.retries
        finished = ray_search.execute(
            sampling, store, cache_dir=session.cache_dir, retries=retries, stop=stop
        )
        return finished, sampling.num_failed


def _check(options: TuneOptions) -> None:
    if options.samples < 1:
        raise UsageError(f"--samples {options.samples}: at least one sample is needed")
    check_options(options)


def _tuning(session: Session, options: TuneOptions) -> Tuning:
    arms = session.loaded.arms
    if options.arm not in arms:
        known = ", ".join(arms)
        raise UsageError(
            f"--arm: there is no arm {options.arm!r}; arms: {known}.{suggest(options.arm, arms)}"
        )
    study = arms[options.arm]
    stage = wanted_stage(study, options.stage)
    planned = study.stages[stage].repetitions or study.repetitions
    wanted = Wanted(
        arm=options.arm,
        stage=stage,
        repetitions=options.repeats if options.repeats is not None else min(DEFAULT_REPEATS, planned),
        search=options.search,
        asha=options.asha,
        seed=session.loaded.base.seed if options.seed is None else options.seed,
    )
    space = load_space(options.space, study, stage=stage)
    check_writable(session.store)
    setting = session.setting(session.weights.store_all())
    return Tuning(session.loaded, space, wanted, index=session.index, setting=setting)


def _check_parents(store: Store, tuning: Tuning) -> None:
    parents = tuning.parents
    missing = [f"{parents[one]} ({one})" for one in parents if reader.read_trial(store, one) is None]
    if missing:
        listed = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise UsageError(
            f"samples start from the study's own trials, and {len(missing)} of {len(tuning.parents)} are not "
            f"complete in {store.shown}: {listed}. Run the study first: "
            f"`xferlab run STUDY --arms {tuning.wanted.arm}`."
        )


def _begin(tuning: Tuning, num_samples: int, asked: int) -> list[str]:
    wanted, asha = tuning.wanted, tuning.asha
    early = f"the worse stop from epoch {asha['grace_epochs']} on" if asha else "none stops early"
    lines = [
        f"search {tuning.tuning_id}: stage {wanted.stage} of arm {wanted.arm}, {num_samples} samples of "
        f"{wanted.repetitions} repetitions each, {wanted.search}, {early}"
    ]
    if num_samples < asked:
        lines.append(
            f"the space has {num_samples} points: {asked - num_samples} samples fewer than asked for"
        )
    return lines


class _Lines:
    """Prints a line for every sample that ends."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._best: SampleRecord | None = None

    def begin(self, num_samples: int, finished: int, begun: int) -> None:
        self._total, self._done = num_samples, finished
        print(f"{finished} of {num_samples} samples finished already, {begun} go on", flush=True)

    def epoch(self, record: SampleRecord) -> None:
        """Prints nothing."""

    def finished(self, record: SampleRecord) -> None:
        self._done += 1
        self._best = best_of([one for one in (self._best, record) if one])
        best = f"; best of this run: {self._best.loss:.4f} (sample {self._best.number})" if self._best else ""
        loss = "" if record.loss is None else f", loss {record.loss:.4f}"
        epochs = f"epoch {record.num_epochs} of {record.max_epochs}"
        print(
            f"[{self._done}/{self._total}] sample {record.number} {record.outcome} at {epochs}{loss}{best}",
            flush=True,
        )

    def failed(self, sample: SampleSpec, reason: str) -> None:
        print(f"sample {sample.number} failed: {reason}", file=sys.stderr, flush=True)


def _out(session: Session, tuning: Tuning, options: TuneOptions) -> Path:
    """Returns where the winner goes; refuses to replace a file that somebody wrote."""
    name = f"{session.loaded.base.study}-{tuning.wanted.stage}.yaml"
    out = Path(options.out) if options.out else Path("search_spaces") / "tuned" / name
    if out.exists() and not (out.is_file() and out.read_text("utf-8", "replace").startswith(HEADER)):
        raise UsageError(f"--out: {out} exists, and `xferlab tune` has not written it; give another file")
    return out


def _report(session: Session, tuning: Tuning, out: str | None) -> bool:
    """Writes tables and figures; returns whether they could be written, which costs nobody the winner."""
    from xferlab.analysis.tuning import tuning_report

    study, stage = session.loaded.base.study, tuning.wanted.stage
    folder = Path(out) if out else Path("reports") / f"{study}-tuning-{stage}"
    try:
        print(f"report: {tuning_report(session.store.location, tuning.tuning_id, folder)}")
    except StorageError as error:
        print(error, file=sys.stderr)
        return False
    return True


def _conclude(session: Session, tuning: Tuning, *, out: Path) -> None:
    records = read_samples(session.store, tuning.tuning_id)
    for record in sorted((one for one in records if one.loss is not None), key=_by_loss)[:SHOWN]:
        values = ", ".join(
            f"{one.written} {_shown(record.parameters[one.path])}" for one in tuning.space.parameters
        )
        print(f"  {record.loss:.4f} sample {record.number} ({record.outcome}): {values}")
    trained, saved = (sum(map(what, records)) for what in (_trained, _saved))
    print(f"{trained} epochs trained; stopping early saved at most {saved}")
    best = best_of(records)
    if best is None:
        print("no sample trained to its end: there is no winner")
        return
    name = f"tuned_{tuning.wanted.stage}"
    overrides = {one.path: best.parameters[one.path] for one in tuning.space.parameters}
    _write(out, arm_file(name, overrides, provenance(tuning, records, best)))
    there = Path(os.path.relpath(out, session.loaded.path.parent)).as_posix()
    print(f"winner: sample {best.number}, written to {out.absolute()}; as an arm of the study:")
    print(f"  tuned: {{include: {there}#{name}}}")


def _write(out: Path, text: str) -> None:
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise StorageError(
            f"the winner cannot be written to {out}: {error.strerror}; the same command writes it again, "
            "with --out to another file"
        ) from error


def provenance(tuning: Tuning, records: list[SampleRecord], best: SampleRecord) -> Tuned:
    """Returns what the winner's arm carries."""
    document: dict[str, Any] = tuning.to_json()
    names = (
        "tuning_id",
        "study",
        "arm",
        "stage",
        "search",
        "asha",
        "seed",
        "space_sha256",
        "validated_on",
    )
    return Tuned.model_validate(
        {
            **{name: document[name] for name in names},
            "num_samples": len(records),
            "num_stopped": sum(one.outcome == "stopped" for one in records),
            "sample": best.number,
            "loss": best.loss,
        }
    )


def _by_loss(record: SampleRecord) -> tuple[bool, float, int]:
    return record.outcome != "complete", record.loss or 0.0, record.number


def _trained(record: SampleRecord) -> int:
    return record.epochs_trained


def _saved(record: SampleRecord) -> int:
    return record.epochs_saved


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
