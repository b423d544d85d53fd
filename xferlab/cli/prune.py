"""`xferlab prune`: lists what a storage holds and no plan names, and deletes it with `--yes`."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from rich.table import Table

from xferlab.cli.main import COMPLETE
from xferlab.cli.session import open_storage
from xferlab.cli.view import wide_console
from xferlab.errors import UsageError
from xferlab.records.prune import Surplus, delete, find_surplus
from xferlab.records.store import Store
from xferlab.schedule.lease import Lease
from xferlab.study.load import load

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def run(options: Namespace) -> int:
    """Prints what is not needed in each storage, and deletes it if asked."""
    for location in _locations(options):
        _prune(Store.open(location), options)
    return COMPLETE


def _locations(options: Namespace) -> list[str]:
    if options.storage:
        return [options.storage]
    if not options.studies:
        raise UsageError("prune: name study files, whose storages are pruned, or one storage by --storage")
    studies = [load(path, profile=options.profile) for path in options.studies]
    return list(dict.fromkeys(open_storage(study, None).location for study in studies))


def _prune(store: Store, options: Namespace) -> None:
    with ExitStack() as stack:
        if options.yes:
            _shut_out_drivers(store, stack)
        surplus = find_surplus(store, searches=options.searches)
        _print(store, surplus, options)
        if surplus and options.yes:
            for one in surplus:
                delete(store, one)
            print(f"{_total(surplus)} deleted")


def _shut_out_drivers(store: Store, stack: ExitStack) -> None:
    """Takes every lease, so that nothing is deleted that a driver is about to need.

    Raises:
        LeaseHeldError: A live process drives a study or a search.
    """
    for study in store.list("studies"):
        stack.enter_context(Lease(store, study))
    for tuning_id in store.list("tuning"):
        from xferlab.schedule.tune import SearchLease

        stack.enter_context(SearchLease(store, f"of search {tuning_id}", tuning_id))


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
