"""`xferlab failures`: which trials failed, each error once with its first real traceback, and what to do."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from xferlab.cli.last_plan import stored
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import StudyOptions
from xferlab.cli.output import tell
from xferlab.cli.status import states
from xferlab.cli.view import count_of
from xferlab.schedule.machine import REMEDIES
from xferlab.trial.failure import Kind, signature

ADVICE: Mapping[str, str] = {
    Kind.MEMORY: "It ran out of memory; further attempts have the machine to themselves. Give it more "
    "(`resources.memory_gib`, a larger device) or make it smaller in the study (`training.batch_size`, "
    "`model.image_size`), which gives it another id.",
    Kind.DEVICE: "The accelerator reported an error. Run again, which resumes. If it is always this host, "
    "leave it out; if it is always this trial, see the traceback.",
    Kind.MACHINE: "The same host would fail again: put right what the message names, and run again, which "
    "resumes. Other nodes of the cluster have been tried, where there are any.",
    Kind.HOPELESS: "The same trial would fail again: change what the message names first.",
    Kind.LOST: "Run again, which resumes from its last checkpoint. If it fails again, look on the host for "
    "what killed it: out of memory, a time limit.",
    Kind.NODE: "The nodes failed, not the study: run again, which resumes from its last checkpoint.",
    Kind.OTHER: "Run again, which resumes from its last checkpoint. If it fails again, see the traceback.",
}
"""What to do, by kind of failure."""


def run(options: StudyOptions) -> int:
    """Prints failures, equal errors together; exit code 1 if there is one."""
    now = stored(options)
    now.print_remarks()
    failed = [row for row in states(now.session.store, now.session.study, now.trials) if "failure" in row]
    tell(study=now.session.study, remarks=now.remarks(), failures=failed)
    _print(failed)
    return INCOMPLETE if failed else COMPLETE


def _print(failed: list[dict[str, Any]]) -> None:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in failed:
        _, stage, repetition = row["name"].rsplit("/", 2)
        groups[signature(row["failure"], row["name"], stage, repetition)].append(row)
    for rows in groups.values():
        failure = rows[0]["failure"]
        print(f"{failure['type']}: {failure['message']}")
        for row in rows:
            print(f"  {_facts(row)}")
        print(advice(failure))
        print(f"{failure['traceback'].rstrip()}\n".lstrip("\n"))
    counts = f"{count_of(len(failed), 'trial')} failed, with {count_of(len(groups), 'distinct error')}"
    print(counts if failed else "no trial failed")


def advice(failure: Mapping[str, Any]) -> str:
    """Returns what to do about a failure; a full disk is told by its message."""
    for number in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(number) in failure["message"]:
            return f"{REMEDIES[number]} Then run again, which resumes from its last checkpoint."
    return ADVICE.get(failure.get("kind", Kind.OTHER), ADVICE[Kind.OTHER])


def _facts(row: Mapping[str, Any]) -> str:
    failure = row["failure"]
    peak, pid = failure.get("memory_peak_gib"), failure.get("pid")
    parts = [
        f"{row['name']} ({row['trial_id']}): attempt {row['attempts']}, after epoch {failure['epoch']}",
        f"on {failure['host']}" + (f" (pid {pid})" if pid else ""),
        f"at {failure['when']}",
        f"signal {failure['signal']}" if failure.get("signal") else "",
        f"memory at most {peak:.1f} GiB" if peak else "",
    ]
    return ", ".join(filter(None, parts))
