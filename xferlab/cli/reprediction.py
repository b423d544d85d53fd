"""Reprediction for `xferlab report`: stored weights predict again what it is asked to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import isnan
from typing import TYPE_CHECKING

from xferlab.analysis.reprediction import NOTHING, Reprediction, Repredictor, Scaled, Values
from xferlab.cli.last_plan import ArchivedStudy, StudyComparison
from xferlab.cli.options import ReportOptions
from xferlab.cli.session import Session
from xferlab.errors import TaskError, UsageError
from xferlab.plan.plan import Plan
from xferlab.plan.seen import learned_from, seen_by_parents
from xferlab.trial.failure import Kind, kind_of

if TYPE_CHECKING:  # torch takes seconds to import
    from xferlab.trial.examples import TrialContext
    from xferlab.trial.reprediction import Member

Echo = Callable[[str], object]


def repredictor(
    now: StudyComparison[Session] | StudyComparison[ArchivedStudy], options: ReportOptions, echo: Echo
) -> Repredictor:
    """Returns what repredicts for a report, and says so by `echo`.

    Raises:
        UsageError: The data of the study cannot be read here.
    """
    asked = {"--ensembles": options.ensembles, "--temperature": options.temperature}
    if not any(asked.values()):
        return NOTHING
    session = now.session
    if now.plan is None or not isinstance(session, Session):
        names = " and ".join(name for name, is_asked in asked.items() if is_asked)
        raise UsageError(
            f"{names}: the networks predict images again, and the data of the study cannot be read here. "
            "Write the report on a machine with the data, or leave this option out."
        )
    import torch

    from xferlab.trial.examples import TrialContext

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = _Networks(now.plan, TrialContext(session.store, session.cache_dir, device), echo)
    return Repredictor(
        networks.together if options.ensembles else None, networks.scaled if options.temperature else None
    )


class _Networks:
    def __init__(self, plan: Plan, context: TrialContext, echo: Echo):
        self._plan, self._context, self._echo = plan, context, echo
        self._temperature = cache(self._fitted)
        self._seen = cache(lambda trial_id: seen_by_parents(plan, plan.by_id[trial_id], "validation"))

    def together(self, asked: list[Reprediction]) -> Values:
        from xferlab.trial.reprediction import measured_together

        members = list(map(self._member, asked))
        stage, _, _ = members[0].spec.name.rpartition("/")
        self._echo(f"predicting again: {members[0].evaluation.name} by {len(members)} networks of {stage}")
        with _failures(members[0], "measure_ensemble"):
            return measured_together(members, self._context)

    def scaled(self, asked: Reprediction) -> Scaled | None:
        from xferlab.trial.reprediction import measured_at

        member = self._member(asked)
        spec = member.spec
        with _failures(member, "outcomes or measure_at"):
            temperature = self._temperature(asked.trial_id)
            if temperature is None:
                return None
            values: Values = {}
            if not isnan(temperature):
                self._echo(f"predicting again: {member.evaluation.name} by {spec.name} at {temperature:.2f}")
                values = measured_at(member, temperature, self._context)
        number = len(learned_from(self._plan, spec, "validation"))
        return Scaled(temperature, values, number, len(self._seen(spec.trial_id)))

    def _fitted(self, trial_id: str) -> float | None:
        from xferlab.trial.reprediction import temperature_of

        spec = self._plan.by_id[trial_id]
        self._echo(f"fitting the temperature of {spec.name}")
        return temperature_of(spec, self._context, without=self._seen(trial_id))

    def _member(self, asked: Reprediction) -> Member:
        """Returns a trial and its evaluation as the study file has them.

        Raises:
            UsageError: The file asks for others than the last plan.
        """
        from xferlab.trial.reprediction import Member

        spec = self._plan.by_id.get(asked.trial_id)
        for evaluation in spec.evaluations if spec else ():
            if spec and evaluation.evaluation_id in asked.evaluations:
                return Member(spec, evaluation, asked.digests)
        raise UsageError(
            f"trial {asked.trial_id} is not what the study file asks for now; run the study again"
        )


@contextmanager
def _failures(member: Member, methods: str) -> Iterator[None]:
    """Turns failures that end what is asked, and nothing else of a report, into errors that it notes.

    Raises:
        TaskError: The task's learner lacks methods.
        UsageError: Memory ran out, or the device failed.
    """
    try:
        yield
    except NotImplementedError as error:
        raise TaskError(
            f"task {member.spec.identity.task!r} declares ensemble_files, and its learner has no {methods}; "
            "the package of the task has to add this"
        ) from error
    except (MemoryError, RuntimeError) as error:  # PyTorch's are RuntimeErrors
        kind = kind_of(type(error).__name__, str(error))
        if kind not in (Kind.MEMORY, Kind.DEVICE):
            raise
        remedy = "use a machine with more memory" if kind is Kind.MEMORY else "write the report again"
        first, _, _ = str(error).partition("\n")
        what = ": ".join(filter(None, (type(error).__name__, first.rstrip("."))))
        raise UsageError(f"{what}; {remedy}, or leave the option out") from error
