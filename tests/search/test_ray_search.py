"""Losses of nodes do not count as failures of a sample."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xferlab.schedule.retry_policy import NODE_LOSSES

pytestmark = pytest.mark.component  # Ray is imported


@pytest.fixture
def tuned() -> Any:
    """A trial of Tune's that allows no failure, as a search hands it out."""
    from ray.tune.experiment import Trial

    from xferlab.search.ray_search import _NodeLossRetries

    tuned = Trial("sample", stub=True, max_failures=0)
    tuned.storage = SimpleNamespace(trial_driver_staging_path="")  # no folder for texts of errors
    tuned.handle_error = _NodeLossRetries(tuned)
    return tuned


def node_died(reason: str = "") -> Exception:
    """As Ray raises it where a node has died."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    message = f"The actor died because its node has died.{reason}"
    return ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=bytes(16)))


def test_a_sample_survives_losses_of_nodes_and_no_failure_of_its_own(tuned: Any) -> None:
    from ray.exceptions import RayTaskError

    for _ in range(NODE_LOSSES):
        tuned.handle_error(node_died())
        assert tuned.should_recover()
    tuned.handle_error(RayTaskError("step", "Traceback", ValueError("no")))
    assert not tuned.should_recover()


def test_a_sample_whose_nodes_vanish_for_ever_ends(tuned: Any) -> None:
    for _ in range(NODE_LOSSES + 1):
        tuned.handle_error(node_died())
    assert not tuned.should_recover()


def test_a_sample_that_gets_further_may_lose_any_number_of_nodes(tuned: Any) -> None:
    for epoch in range(3 * NODE_LOSSES):
        tuned.run_metadata.last_result = {"epoch": epoch}
        tuned.handle_error(node_died())
    assert tuned.should_recover()
