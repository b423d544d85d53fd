"""When a study was planned, and which earlier plans of it had results that somebody may have looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xferlab.plan.changes import renamed_arms
from xferlab.plan.identity import short_id
from xferlab.records import layout
from xferlab.records.store import Store

_OF_TIME = ("planned", "earlier")
_MADE_OF = ("file", "data")


def dated(
    document: Mapping[str, Any],
    store: Store,
    last: Mapping[str, Any],
    *,
    moved: str = "",
    of: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """Returns a plan as it is stored: with its time, digest, and the earlier plans that had finished trials.

    Of those that had none, it keeps the ones that moved patients.

    A plan that says what the last one says keeps the time of that, and tells what it was made of now.

    Args:
        document: What the plan says.
        store: Holds the records of the last plan's trials.
        last: The last plan, which is returned itself where nothing differs; empty if there is none.
        moved: Who is in another part than in that.
        of: What the plan was made of, which is stored with its time.
    """
    now = json.loads(json.dumps(document))
    if {name: value for name, value in last.items() if name not in _OF_TIME} == now:
        planned = {**last["planned"], **(of or {})}
        return last if planned == last["planned"] else {**last, "planned": planned}
    look = _look(store, last)
    kept = [*last.get("earlier", ()), *([look] if look["complete"] or "moved" in look else [])]
    earlier = [{**look, "claims": _renamed(look["claims"], last, now)} for look in kept]
    planned = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "digest": short_id(now), **(of or {})}
    planned |= {"moved": moved} if moved else {}
    return {**now, "planned": planned, **({"earlier": earlier} if earlier else {})}


def _renamed(
    claims: Mapping[str, Any] | None, last: Mapping[str, Any], now: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Returns what an earlier plan claimed, with the names that arms have now: a name is no other claim."""
    before, after = (
        {name: arm.get("description", {}) for name, arm in plan.get("arms", {}).items()}
        for plan in (last, now)
    )
    names = renamed_arms(before, after)
    if not claims or not names:
        return claims
    contrasts = [[[names.get(arm, arm), stage] for arm, stage in pair] for pair in claims["contrasts"]]
    return {**claims, "contrasts": contrasts}


def _look(store: Store, last: Mapping[str, Any]) -> dict[str, Any]:
    """Returns when a plan was made, what it claimed, and how many of its trials are complete."""
    ids = {str(trial["trial_id"]) for trial in last.get("trials", ())}
    begun = ids.intersection(store.list(layout.TRIALS)) if ids else ids
    complete = sum(store.exists(layout.TrialFiles(trial).record) for trial in begun)
    counts = {"complete": complete, "trials": len(ids)}
    known = {name: value for name, value in last.get("planned", {}).items() if name not in _MADE_OF}
    return {**known, **counts, "claims": last.get("claims")}
