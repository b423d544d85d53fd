"""What a run does before its first trial, so that bad data and misfit weights end it with one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from xferlab.cli.session import Session, given_weights
from xferlab.data.cache import open_table
from xferlab.errors import DataError, Problem
from xferlab.plan.expand import Plan
from xferlab.plan.identity import canonical_json
from xferlab.plan.spec import TrialSpec
from xferlab.study.schema import DataSection

Progress = Callable[[str, int, int], None]
"""Told what is prepared, how much of it is done, and how much there is."""

_SECTION: TypeAdapter[DataSection] = TypeAdapter(DataSection)


def store_donors(session: Session) -> dict[str, str]:
    """Fetches and stores given weights, so that ids are known and workers find them.

    Returns:
        Their digests by name or path.

    Raises:
        DonorError: Weights cannot be had, or the file holds none.
    """
    weights_by_name = given_weights(session.loaded.arms)
    if not weights_by_name:
        return {}
    from xferlab.trial.given import provide

    return {
        name: provide(given, session.store, cache_dir=session.cache_dir)
        for name, given in weights_by_name.items()
    }


def check_donors(session: Session, trials: Iterable[TrialSpec]) -> None:
    """Loads every given weights file into each network that starts from it, once for each way.

    Raises:
        DonorError: Names or shapes differ.
    """
    started = {
        (
            trial.donor["sha256"],
            canonical_json([trial.identity["model"], trial.identity.get("adapt")]),
        ): trial
        for trial in trials
        if trial.donor
    }
    if not started:
        return
    from xferlab.trial.given import check_fits

    for trial in started.values():
        check_fits(trial, session.store, cache_dir=session.cache_dir)


def decode_images(session: Session, plan: Plan, trials: Iterable[TrialSpec], *, progress: Progress) -> None:
    """Decodes every image that the trials read into this machine's cache, unless it is there.

    Raises:
        DataError: With all cases of all sections that cannot be decoded.
        StorageError: The cache cannot be written.
    """
    problems: list[Problem] = []
    for table in _tables(plan, trials).values():
        try:
            open_table(
                table["name"],
                _SECTION.validate_python(table["config"]),
                size_px=table["size_px"],
                digests=sorted(table["digests"]),
                cache_dir=session.cache_dir,
                progress=partial(progress, f"images of {table['name']}"),
            )
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(list(dict.fromkeys(problems)))


def _tables(plan: Plan, trials: Iterable[TrialSpec]) -> Mapping[str, dict[str, Any]]:
    """The cases to decode, by section and size; arms that agree on a section share its table."""
    tables: dict[str, dict[str, Any]] = {}
    for trial in trials:
        size_px = trial.identity["model"]["image_size"]
        read = [(trial.section, trial.selection)]
        read += [(one.source or one.section, one.selection) for one in trial.evaluations]
        for name, selection in read:
            config = trial.data[name]
            key = f"{size_px} {canonical_json(config)}"
            empty = {"name": name, "config": config, "size_px": size_px, "digests": set()}
            tables.setdefault(key, empty)["digests"].update(plan.selections[selection].digests)
    return tables
