"""`xferlab prune`: lists what a storage holds and nothing asks for, and deletes it with `--yes`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal

from xferlab.cli.last_plan import compared
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import PruneOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session, shown_profile
from xferlab.cli.view import print_table
from xferlab.data.cache import default_cache_dir
from xferlab.errors import StorageError, UsageError, XferlabError
from xferlab.plan.document import to_document
from xferlab.records.layout import SEARCHES, STUDIES
from xferlab.records.prune import Surplus, delete, find_surplus, read_plans
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.study.load import LoadedStudy, load


def run(options: PruneOptions) -> int:
    """Prints what is not needed in each storage, and deletes it if asked.

    Exit code 1 if some storage or file could not be read or deleted; all others are.

    Raises:
        StorageError: No storage could be read, or none has the plans that the study files ask for.
    """
    if not options.studies and not options.storage:
        raise UsageError("prune: name study files, whose storages are pruned, or one storage by --storage")
    studies = [load(path, profile=options.profile) for path in options.studies]
    given = [options.storage] if options.storage else [study.base.storage for study in studies]
    locations = list(dict.fromkeys(Store.open(location).location for location in given))
    refused: list[XferlabError] = []
    pruned: list[dict[str, Any]] = []
    num_failed = 0
    tell(storages=pruned)
    for location in locations:
        try:
            num_failed += _prune(Store.open(location), options, studies, pruned)
        except (StorageError, UsageError) as error:
            refused.append(error)
    if len(refused) == len(locations):
        raise StorageError("; ".join(map(str, refused)))
    for refusal in refused:
        print(refusal, file=sys.stderr)
    return INCOMPLETE if num_failed or refused else COMPLETE


def _prune(
    store: Store, options: PruneOptions, studies: Sequence[LoadedStudy], pruned: list[dict[str, Any]]
) -> int:
    """Returns of how many kinds something could not be deleted; tells `pruned` what is not needed."""
    with ExitStack() as stack:
        if options.yes:
            _shut_out_drivers(store, stack)
        plans = read_plans(store)
        for study in studies:
            _refuse_other_profile(store, study, plans)
        edited = _edited(store, studies, plans)
        surplus = find_surplus(store, [*plans, *edited.values()], searches=options.searches)
        pruned.append(
            {
                "storage": store.shown,
                "plans": [{"study": plan["study"], "profile": plan["profile"]} for plan in plans],
                "surplus": list(map(asdict, surplus)),
                "deleted": options.yes,
            }
        )
        print(f"{store.shown}: kept is what these plans name: {', '.join(map(_described, plans))}")
        if edited:
            print(f"{store.shown}: and what these files ask for now: {', '.join(edited)}")
        if not surplus:
            print(f"{store.shown}: nothing to prune")
            return 0
        _print(store, surplus, with_names=options.names)
        total = decimal(sum(kind.size for kind in surplus))
        if not options.yes:
            print(f"{total}; nothing is deleted without --yes")
            return 0
        num_failed = 0
        for kind in surplus:
            try:
                delete(store, kind)
            except StorageError as error:
                print(error, file=sys.stderr)
                num_failed += 1
        print(f"{total} deleted" + (", but for what could not be" if num_failed else ""))
        return num_failed


def _refuse_other_profile(store: Store, study: LoadedStudy, plans: Sequence[Mapping[str, Any]]) -> None:
    """Refuses to prune by a plan of another profile, which may name fewer trials than the study file.

    Raises:
        UsageError: Names both profiles, and the commands that help.
    """
    name, asked = study.base.study, study.profile
    for last in (plan["profile"] for plan in plans if plan["study"] == name):
        if last != asked:
            words = [str(study.path), *(["--profile", asked] if asked else [])]
            raise UsageError(
                f"{store.shown}: the last plan of study {name!r} is of {shown_profile(last)}, not of "
                f"{shown_profile(asked)}, and prune would delete what only the latter needs; run what is to "
                f"stay, `xferlab run {shlex.join(words)}`, which trains no complete trial again; or prune by "
                f"the last plan: {f'--profile {last}' if last else 'without --profile'}"
            )


def _edited(
    store: Store, studies: Sequence[LoadedStudy], plans: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Returns what study files ask for that differ from their last plans, by the file.

    Raises:
        UsageError: A file was edited, and its data cannot be read.
    """
    last = {plan["study"]: plan for plan in plans}
    documents: dict[str, dict[str, Any]] = {}
    for study in studies:
        if study.base.study not in last:
            continue
        session = Session(study, store, default_cache_dir(), shlex.quote(str(study.path)))
        comparison = compared(session, last[study.base.study])
        if comparison.plan is None and session.is_edited_since(last[study.base.study]):
            raise UsageError(
                f"{study.path}: was edited since its last plan, and its data cannot be read here, so prune "
                "might delete trials that it asks for now; prune where the data are, or leave the file out "
                f"to prune by the last plans alone: `xferlab prune --storage {shlex.quote(store.shown)}`"
            )
        if comparison.plan is not None and comparison.differences:
            documents[str(study.path)] = to_document(comparison.plan)
    return documents


def _described(plan: Mapping[str, Any]) -> str:
    """Returns whose plan it is, of which profile and when it was made."""
    at = (plan.get("planned") or {}).get("at")
    return (
        f"{plan['study']} ({', '.join([shown_profile(plan['profile']), *([f'planned {at}'] if at else [])])})"
    )


def _shut_out_drivers(store: Store, stack: ExitStack) -> None:
    """Takes every lease, so that nothing is deleted that a driver is about to need.

    Raises:
        LeaseHeldError: A live process drives a study or a search.
    """
    for study in store.list(STUDIES):
        stack.enter_context(Lease(store, study))
    for tuning_id in store.list(SEARCHES):
        stack.enter_context(Lease(store, tuning_id, search=True))


def _print(store: Store, surplus: list[Surplus], *, with_names: bool) -> None:
    rows = [(kind.kind, str(len(kind.names)), decimal(kind.size)) for kind in surplus]
    print_table(("what", "number", "size"), rows, title=f"{store.shown}:", right=("number", "size"))
    if with_names:
        for name in (name for kind in surplus for name in kind.names):
            print(f"  {name}")
