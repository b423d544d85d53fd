"""`xferlab prune`: lists what a storage holds and no plan names, and deletes it with `--yes`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from rich.filesize import decimal

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import PruneOptions
from xferlab.cli.output import tell
from xferlab.cli.view import print_table
from xferlab.errors import StorageError, UsageError
from xferlab.records.layout import SEARCHES, STUDIES
from xferlab.records.prune import Surplus, delete, find_surplus
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.study.load import load


def run(options: PruneOptions) -> int:
    """Prints what is not needed in each storage, and deletes it if asked.

    Exit code 1 if some storage or file could not be read or deleted; all others are.

    Raises:
        StorageError: No storage could be read.
    """
    locations = [options.storage] if options.storage else _storages(options)
    refused: list[StorageError] = []
    pruned: list[dict[str, Any]] = []
    num_failed = 0
    tell(storages=pruned)
    for location in locations:
        try:
            num_failed += _prune(Store.open(location), options, pruned)
        except StorageError as error:
            refused.append(error)
    if len(refused) == len(locations):
        raise StorageError("; ".join(map(str, refused)))
    for refusal in refused:
        print(refusal, file=sys.stderr)
    return INCOMPLETE if num_failed or refused else COMPLETE


def _storages(options: PruneOptions) -> list[str]:
    if not options.studies:
        raise UsageError("prune: name study files, whose storages are pruned, or one storage by --storage")
    studies = [load(path, profile=options.profile) for path in options.studies]
    return list(dict.fromkeys(Store.open(study.base.storage).location for study in studies))


def _prune(store: Store, options: PruneOptions, pruned: list[dict[str, Any]]) -> int:
    """Returns of how many kinds something could not be deleted; tells `pruned` what is not needed."""
    with ExitStack() as stack:
        if options.yes:
            _shut_out_drivers(store, stack)
        surplus = find_surplus(store, searches=options.searches)
        pruned.append({"storage": store.shown, "surplus": list(map(asdict, surplus)), "deleted": options.yes})
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
