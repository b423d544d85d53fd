"""What `xferlab report` predicts again with stored weights, where it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from xferlab.analysis.again import NOTHING, Again, Predicting, Scaled, Values
from xferlab.cli.last_plan import ArchivedStudy, StudyComparison
from xferlab.cli.options import ReportOptions
from xferlab.cli.session import Session
from xferlab.errors import UsageError
from xferlab.plan.spec import TrialSpec

if TYPE_CHECKING:  # torch takes seconds to import
    from xferlab.trial.again import Member
    from xferlab.trial.examples import TrialContext

Echo = Callable[[str], object]


def predicting(
    now: StudyComparison[Session] | StudyComparison[ArchivedStudy], options: ReportOptions, echo: Echo
) -> Predicting:
    """Returns what predicts again for a report, and says so by `echo`.

    Raises:
        UsageError: The data of the study cannot be read here.
    """
    asked = {"--ensembles": options.ensembles, "--temperature": options.temperature}
    if not any(asked.values()):
        return NOTHING
    session = now.session
    specs = {trial.trial_id: trial for trial in now.trials if isinstance(trial, TrialSpec)}
    if not specs or not isinstance(session, Session):
        names = " and ".join(name for name, is_asked in asked.items() if is_asked)
        raise UsageError(
            f"{names}: the networks predict images again, and the data of the study cannot be read here. "
            "Write the report on a machine with the data, or leave this option out."
        )
    import torch

    from xferlab.trial.examples import TrialContext

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = _Networks(specs, TrialContext(session.store, session.cache_dir, device), echo)
    return Predicting(
        networks.together if options.ensembles else None, networks.scaled if options.temperature else None
    )


class _Networks:
    """The trained networks of a study."""

    def __init__(self, specs: Mapping[str, TrialSpec], context: TrialContext, echo: Echo):
        self._specs, self._context, self._echo = specs, context, echo
        self._temperature = cache(self._fitted)

    def together(self, asked: list[Again]) -> Values:
        from xferlab.trial.again import measured_together

        members = list(map(self._member, asked))
        stage, _, _ = members[0].spec.name.rpartition("/")
        self._echo(f"predicting again: {members[0].evaluation.name} by {len(members)} networks of {stage}")
        return measured_together(members, self._context)

    def scaled(self, asked: Again) -> Scaled | None:
        from xferlab.trial.again import measured_at

        member = self._member(asked)
        temperature = self._temperature(asked.trial_id)
        if temperature is None:
            return None
        self._echo(f"predicting again: {member.evaluation.name} by {member.spec.name} at {temperature:.2f}")
        return Scaled(temperature, measured_at(member, temperature, self._context))

    def _fitted(self, trial_id: str) -> float | None:
        from xferlab.trial.again import temperature_of

        self._echo(f"fitting the temperature of {self._specs[trial_id].name}")
        return temperature_of(self._specs[trial_id], self._context)

    def _member(self, asked: Again) -> Member:
        """Returns a trial and its evaluation as the study file has them.

        Raises:
            UsageError: The file asks for others than the last plan.
        """
        from xferlab.trial.again import Member

        spec = self._specs.get(asked.trial_id)
        for evaluation in spec.evaluations if spec else ():
            if spec and evaluation.evaluation_id in asked.evaluations:
                return Member(spec, evaluation, asked.digests)
        raise UsageError(
            f"trial {asked.trial_id} is not what the study file asks for now; run the study again"
        )
