"""The runs of a study as its plan and its records tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xferlab.cohort import single_sections
from xferlab.errors import RecordError
from xferlab.plan.identity import joint_digest
from xferlab.plan.sharing import may_leave
from xferlab.plan.spec import Input, TrialSpec
from xferlab.records import codec
from xferlab.records.layout import TrialFiles
from xferlab.records.reader import read_cases, read_evaluation, read_history, read_outputs, read_trial
from xferlab.records.store import Store
from xferlab.tracking.content import RunOrder, content_of, pixel_row, run_config, shown_sets
from xferlab.tracking.lineage import taken_weights
from xferlab.tracking.overlays import overlays
from xferlab.tracking.study_run import StudyContent, study_order, study_summary
from xferlab.tracking.summary import trial_summary


@dataclass(frozen=True)
class RecordedRun:
    """A run to write.

    Attributes:
        order: What it is, with its epochs.
        summary: Its final values.
        messages: Returns what is sent between its epochs and its end.
        main: Names of the metrics that stand in tables and figures of many arms.
        content: What the run of a study holds; of a trial nothing.
    """

    order: RunOrder
    summary: Mapping[str, Any]
    messages: Callable[[], Iterable[dict[str, Any]]]
    main: tuple[str, ...] = ()
    content: StudyContent = field(default_factory=StudyContent)


class RecordedRuns:
    """The runs of a study."""

    def __init__(
        self, store: Store, plan: Mapping[str, Any], results: StudyContent | None = None, *, images: int = 0
    ):
        """Takes the storage, the plan document, what the study's run is to hold, and images of each trial."""
        self._store, self._plan, self._images = store, plan, images
        self._results = results or StudyContent()

    def trial(self, entry: Mapping[str, Any]) -> RecordedRun | None:
        """Returns the run of a trial from its records; None if it is not complete."""
        store, trial_id = self._store, entry["trial_id"]
        record = read_trial(store, trial_id)
        ids = [evaluation["evaluation_id"] for evaluation in entry["evaluations"]]
        evaluations = [read_evaluation(store, trial_id, evaluation_id) for evaluation_id in ids]
        if record is None or None in evaluations:
            return None
        spec = self._spec(entry)
        records = dict(zip(spec.evaluations, filter(None, evaluations), strict=True))
        tables = {
            evaluation.read_name: read_cases(store, measured) for evaluation, measured in records.items()
        }
        history = read_history(store, trial_id)
        headline = self._results.headline(spec)
        summary = trial_summary(record, history, tables, headline=headline)
        config = run_config(spec, names=entry["names"], parent_weights=self._parent_weights(spec))
        epochs = [result.flat() for result in history]
        shown = shown_sets(spec, self._images)
        taken = taken_weights(store, spec, record)
        content = content_of(spec, epochs=epochs, summary=summary, images=self._images)

        def messages() -> Iterator[dict[str, Any]]:
            for evaluation, measured in records.items():
                if evaluation.read_name in shown:
                    rows = [
                        pixel_row(case.arrays, caption=" ".join(filter(None, [case.pathology, case.name])))
                        for case in read_outputs(store, measured)
                    ]
                    yield {"kind": "outputs", "title": evaluation.read_name, "rows": rows}
            yield {"kind": "weights", "made": record.weights_sha256, "taken": taken}

        order = replace(RunOrder.of_trial(spec, config), content=content, epochs=epochs)
        return RecordedRun(order, summary, messages, headline.main)

    def study(self) -> RecordedRun:
        """Returns the run of the study, with cases to look at of each stage of each arm."""
        shown = overlays(
            self._store,
            (self._spec(entry) for entry in self.first_complete()) if self._images else (),
            images=self._images,
            metric=lambda trial: self._results.headline(trial).metric,
        )
        whole = replace(self._results, overlays=shown)
        order = study_order(self._plan, whole)
        return RecordedRun(order, study_summary(whole), whole.messages, content=whole)

    def first_complete(self) -> Iterator[Mapping[str, Any]]:
        """Yields the plan's entry of the first complete trial of each stage of each arm."""
        met = set[tuple[str, ...]]()
        for entry in self._plan["trials"]:
            place = (entry["stage"], *entry["arms"])
            if place in met or entry.get("fold") or not read_trial(self._store, entry["trial_id"]):
                continue
            met.add(place)
            yield entry

    def _spec(self, entry: Mapping[str, Any]) -> TrialSpec:
        """Returns the spec of a trial with name, arms and evaluations of the plan, which may be more."""
        name = TrialFiles(entry["trial_id"]).spec
        body = codec.read_json(self._store, name)
        if body is None:
            raise RecordError(f"{self._store.path(name)}: is missing; run the study again")
        planned = {field: entry[field] for field in ("stage", "arms", "evaluations")}
        # Another study, or an earlier version, may have run it.
        settings = {**body["settings"], "study": self._plan["study"], "profile": self._plan["profile"]}
        changed = {**planned, "name": entry["names"][0], "settings": settings}
        spec = TrialSpec.from_json({**body, **changed})
        return replace(spec, data=self._shared(spec))

    def _shared(self, spec: TrialSpec) -> dict[str, Any]:
        """Returns the data of a trial, shareable where the plan says so now of all arms that use them."""
        shared: dict[str, bool] = {}
        used = [(cases.source, cases.section, spec.arms) for cases in spec.trained]
        used += [(each.read_as, each.section, each.arms or spec.arms) for each in spec.evaluations]
        for keys, sections, arms in used:
            for key, section in zip(single_sections(keys), single_sections(sections), strict=True):
                shared[key] = shared.get(key, True) and may_leave(self._plan, section, arms)
        told = {key: {**spec.data.get(key, {}), "shareable": value} for key, value in shared.items()}
        return {**spec.data, **told}

    def _parent_weights(self, spec: TrialSpec) -> str | None:
        digests = {given.role: self._digest(given) for given in spec.origins}
        known = {role: digest for role, digest in digests.items() if digest}
        return joint_digest(known) if len(known) == len(digests) else None

    def _digest(self, given: Input) -> str | None:
        if given.donor is not None:
            return given.donor.sha256
        parent = read_trial(self._store, given.trials[0]) if len(given.trials) == 1 else None
        return parent.weights_sha256 if parent else None
