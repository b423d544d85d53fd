"""`xferlab prune`: lists what a storage holds and no plan names, and deletes it with `--yes`."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack

from rich.table import Table

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import open_storage
from xferlab.cli.view import wide_console
from xferlab.errors import StorageError, UsageError
from xferlab.records.prune import Surplus, delete, find_surplus
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.study.load import load

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def run(options: Namespace) -> int:
    """Prints what is not needed in each storage, and deletes it if asked.

    Exit code 1 if some storage or file could not be dealt with; all others are.

    Raises:
        StorageError: No storage could be read.
    """
    locations = _locations(options)
    refused: list[StorageError] = []
    all_deleted = True
    for location in locations:
        try:
            all_deleted &= _prune(Store.open(location), options)
        except StorageError as error:
            refused.append(error)
    if len(refused) == len(locations):
        raise StorageError("; ".join(map(str, refused)))
    for refusal in refused:
        print(refusal, file=sys.stderr)
    return COMPLETE if all_deleted and not refused else INCOMPLETE


def _locations(options: Namespace) -> list[str]:
    if options.storage:
        return [options.storage]
    if not options.studies:
        raise UsageError("prune: name study files, whose storages are pruned, or one storage by --storage")
    studies = [load(path, profile=options.profile) for path in options.studies]
    return list(dict.fromkeys(open_storage(study, None).location for study in studies))


def _prune(store: Store, options: Namespace) -> bool:
    """Returns whether all is deleted that was to be."""
    with ExitStack() as stack:
        if options.yes:
            _shut_out_drivers(store, stack)
        surplus = find_surplus(store, searches=options.searches)
        _print(store, surplus, options)
        if not surplus or not options.yes:
            return True
        failures = [failure for one in surplus if (failure := _failure(store, one))]
        for failure in failures:
            print(failure, file=sys.stderr)
        print(f"{_total(surplus)} deleted" + (", but for what could not be" if failures else ""))
        return not failures


def _failure(store: Store, surplus: Surplus) -> str:
    """Deletes things of one kind and returns what could not be deleted, empty if nothing."""
    try:
        delete(store, surplus)
    except StorageError as error:
        return str(error)
    return ""


def _shut_out_drivers(store: Store, stack: ExitStack) -> None:
    """Takes every lease, so that nothing is deleted that a driver is about to need.

    Raises:
        LeaseHeldError: A live process drives a study or a search.
    """
    for study in store.list("studies"):
        stack.enter_context(Lease(store, study))
    for tuning_id in store.list("tuning"):
        stack.enter_context(Lease(store, tuning_id, search=True))


def _print(store: Store, surplus: list[Surplus], options: Namespace) -> None:
    if not surplus:
        print(f"{store.shown}: nothing to prune")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("what", "number", "size"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for one in surplus:
        table.add_row(one.kind, str(len(one.names)), _size(one.size))
    console = wide_console()
    console.print(f"{store.shown}:", markup=False, highlight=False)
    console.print(table)
    if options.names:
        for one in surplus:
            for name in one.names:
                print(f"  {name}")
    if not options.yes:
        print(f"{_total(surplus)}; nothing is deleted without --yes")


def _total(surplus: list[Surplus]) -> str:
    return _size(sum(one.size for one in surplus))


def _size(size: float) -> str:
    """Returns a number of bytes for people."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {UNITS[-1]}"
