"""The Ray cluster of `run` and `tune`: its options, and whether it can run what is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xferlab.cli.options import ClusterOptions
from xferlab.errors import UsageError
from xferlab.parallel import num_workers
from xferlab.plan.spec import TrialSpec
from xferlab.records.store import Store
from xferlab.schedule.stop import StopRequest

NEEDED = ("xferlab.trial.run", "torch._dynamo")
"""Modules that take a worker seconds to import before its first trial; optimizers import the second."""


def check_options(options: ClusterOptions) -> None:
    """Raises UsageError if `--address` and `--workers` do not fit together."""
    if options.address and options.workers is not None:
        raise UsageError("--workers is for this machine; the cluster at --address has its own number")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: at least one CPU core is needed")


@contextmanager
def cluster(
    options: ClusterOptions, store: Store, trials: Sequence[TrialSpec], *, stop: StopRequest
) -> Iterator[None]:
    """Starts or joins Ray for the time of the context.

    Args:
        options: With `address` and `workers`.
        store: That all nodes must reach.
        trials: What is to run.
        stop: Told if the cluster is lost.

    Raises:
        UsageError: Ray cannot be started or joined, or a node cannot do the work.
    """
    from xferlab.schedule import nodes, ray_session

    imports = NEEDED if nodes.each_core_gets_one(trials, options.workers or num_workers()) else ()
    with ray_session.cluster(options.address, num_cpus=options.workers, imports=imports, stop=stop):
        if unmet := nodes.unmet_resources(trials):
            # A cluster may grow while trials wait for it; this machine does not.
            if options.address is None:
                raise UsageError(unmet)
            print(f"warning: {unmet} Waiting for nodes.", file=sys.stderr)
        if options.address is not None:
            nodes.check_nodes(store)
        yield
