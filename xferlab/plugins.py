"""What installed packages add by entry points: sources, networks, metrics and tasks, by name.

A package is asked for what it declares, which imports nothing; its code is imported when a name is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from xferlab.errors import PluginError

SOURCES, NETWORKS, METRICS, TASKS = GROUPS = ("sources", "networks", "metrics", "tasks")
"""What can be added; the group of an entry point is `xferlab.` and one of these."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package.

    Attributes:
        group: One of `GROUPS`.
        name: By which studies use it.
        value: `module:object`.
        package: Name of the package, as it is installed.
        version: Of the package.
    """

    group: str
    name: str
    value: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"package {self.release}, entry point {self.name!r} of xferlab.{self.group} ({self.value})"

    @property
    def release(self) -> str:
        """Name and version of the package: what identities record of its code."""
        return f"{self.package} {self.version}"

    def load(self, fits: Callable[[Any], bool], *, expected: str) -> Any:
        """Returns the object, imported when it is first asked for.

        Args:
            fits: Whether an object is of the right type.
            expected: What is, for the message: `a subclass of ...`.

        Raises:
            PluginError: It cannot be imported, or is of another type.
        """
        loaded = _imported(self)
        if not fits(loaded):
            raise PluginError(f"{self}: found {_kind(loaded)}; accepted: {expected}. Correct the package.")
        return loaded


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a value of {type(value).__name__}"


@cache
def _imported(plugin: Plugin) -> Any:
    try:
        return EntryPoint(plugin.name, plugin.value, f"xferlab.{plugin.group}").load()
    except Exception as error:  # whatever the package's code raises
        raise PluginError(
            f"{plugin}: cannot be imported: {type(error).__name__}: {error}. Install what it needs, "
            f"correct the package, or remove it: pip uninstall {plugin.package}"
        ) from error


@cache
def _declared() -> Mapping[str, tuple[Plugin, ...]]:
    """What packages declare, by group; a path that stands twice in `sys.path` counts once."""
    points = entry_points()  # one look at all packages
    return {
        group: tuple(
            dict.fromkeys(
                Plugin(group, each.name, each.value, each.dist.name, each.dist.version)
                for each in points.select(group=f"xferlab.{group}")
                if each.dist is not None
            )
        )
        for group in GROUPS
    }


def names(group: str) -> tuple[str, ...]:
    """Returns the names that installed packages add to a group of `GROUPS`, sorted."""
    return tuple(sorted({plugin.name for plugin in _declared()[group]}))


def is_from(module: str, group: str, name: str) -> bool:
    """Returns whether a module is of the code that a package declares for a name; imports nothing."""
    values = (plugin.value for plugin in _declared()[group] if plugin.name == name)
    return module.partition(".")[0] in {value.partition(":")[0].partition(".")[0] for value in values}


def find(group: str, name: str, *, built_in: Collection[str]) -> Plugin | None:
    """Returns the plugin of a name; None where no package declares it, such as for a built-in name.

    Raises:
        PluginError: The name is built in and a package declares it, too, or two packages do.
    """
    plugins = [plugin for plugin in _declared()[group] if plugin.name == name]
    if plugins and name in built_in:
        raise PluginError(
            f"{plugins[0]}: the name {name!r} is one of xferlab's own {group}; give the entry point another "
            f"name, or remove the package: pip uninstall {plugins[0].package}"
        )
    if len(plugins) > 1:
        listed = " and ".join(map(str, plugins))
        raise PluginError(
            f"two plugins have the name {name!r}: {listed}; remove one of them: pip uninstall PACKAGE"
        )
    return plugins[0] if plugins else None


def release(group: str, name: str, *, built_in: Collection[str]) -> str | None:
    """Returns name and version of the package that a name comes from; None for a built-in one."""
    plugin = find(group, name, built_in=built_in)
    return plugin.release if plugin else None


def check_release(group: str, name: str, planned: str | None, *, built_in: Collection[str]) -> None:
    """Refuses another package, or version of it, than a trial was planned with.

    Raises:
        PluginError: Such as on a worker that has another version installed.
    """
    installed = release(group, name, built_in=built_in)
    if installed != planned:
        raise PluginError(
            f"{name!r} of xferlab.{group} was planned with {planned or 'xferlab itself'}, and this machine "
            f"has {installed or 'no package with it'}; install the same package and version on all machines, "
            "or plan the study again"
        )
