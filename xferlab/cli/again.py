"""What `xferlab report` predicts again with stored weights, where it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xferlab.analysis.ensembles import Again, MeasureTogether
from xferlab.cli.last_plan import StudyComparison
from xferlab.errors import UsageError
from xferlab.plan.spec import EvaluationSpec, TrialSpec


def measuring_together(now: StudyComparison, echo: Callable[[str], object]) -> MeasureTogether:
    """Returns what measures ensembles of a study's trials, and says so by `echo`.

    Raises:
        UsageError: The data of the study cannot be read here.
    """
    specs = {trial.trial_id: trial for trial in now.trials if isinstance(trial, TrialSpec)}
    if not specs:
        raise UsageError(
            "--ensembles: the networks predict images again, and the data of the study cannot be read here. "
            "Write the report on a machine with the data, or leave this option out."
        )
    import torch  # takes seconds

    from xferlab.trial.again import Member, measured_together
    from xferlab.trial.examples import TrialContext

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    context = TrialContext(now.session.store, now.session.cache_dir, device)

    def measure(asked: list[Again]) -> Mapping[str, Mapping[str, float]]:
        members = [Member(*_planned(specs, each), each.digests) for each in asked]
        stage, _, _ = members[0].spec.name.rpartition("/")
        echo(f"predicting again: {members[0].evaluation.name} by {len(members)} networks of {stage}")
        return measured_together(members, context)

    return measure


def _planned(specs: Mapping[str, TrialSpec], asked: Again) -> tuple[TrialSpec, EvaluationSpec]:
    """Returns a trial and its evaluation as the study file has them.

    Raises:
        UsageError: It has others than its last plan.
    """
    spec = specs.get(asked.trial_id)
    for evaluation in spec.evaluations if spec else ():
        if spec and evaluation.evaluation_id in asked.evaluations:
            return spec, evaluation
    raise UsageError(f"trial {asked.trial_id} is not what the study file asks for now; run the study again")
