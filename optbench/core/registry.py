"""Names of problems, optimizers and schedules, their parameters, and the plug-ins that add more.

A registry maps a name to the object that was registered under it and returned unchanged. What ships with optbench
registers itself when its module is imported; a plug-in package names its objects in the entry-point groups
``optbench.problems``, ``optbench.optimizers`` and ``optbench.schedules``, which are scanned the first time a name is not
found, or all names are asked for, and imported only when used.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any

from optbench.core.errors import InputError, suggestion


class Registry:
    """Names of one kind of object.

    Parameters
    ----------
    kind : str
        What the objects are, for messages: ``"problem"``, ``"optimizer"`` or ``"schedule"``.
    builtin : tuple of str
        Modules that register the objects that ship with optbench.
    """

    def __init__(self, kind: str, builtin: tuple[str, ...]) -> None:
        self.kind = kind
        self.group = f"optbench.{kind}s"
        self._builtin = builtin
        self._objects: dict[str, Any] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._loaded = False

    def register(self, name: str, target: Any, **options: Any) -> None:
        """Enter `target` under `name`, with options that its maker reads back.

        Raises
        ------
        InputError
            If another object has the name already.
        """
        known = self._objects.get(name)
        if known is not None and known is not target and _origin(known) != _origin(target):
            raise InputError(
                f"two {self.kind}s are called {name!r}: {_origin(known)} and {_origin(target)}; rename one"
            )
        self._objects[name] = target
        self._options[name] = options

    def options(self, name: str) -> dict[str, Any]:
        """What was said of a name when it was registered."""
        return self._options.get(name, {})

    def __getitem__(self, name: str) -> Any:
        self._load_builtin()
        if name not in self._objects and name in self._plugins:
            self._load_plugin(name)
        if name not in self._objects:
            hint = suggestion(name, self._all_names()) or f"optbench list shows the {self.kind}s there are"
            raise InputError(f"no {self.kind} {name!r}; {hint}")
        return self._objects[name]

    def names(self) -> list[str]:
        """All names that can be used, plug-ins too; a plug-in that cannot be imported is warned of and left out."""
        self._load_builtin()
        for name in self._plugins:
            if name not in self._objects:
                self._load_plugin(name)
        return list(self._objects)

    def plugin_of(self, name: str) -> str | None:
        """The distribution that a plug-in came from; None for what ships with optbench."""
        entry = self._plugins.get(name)
        return entry.dist.name if entry is not None and entry.dist is not None else None

    def _all_names(self) -> set[str]:
        return set(self._objects) | set(self._plugins)

    def _load_builtin(self) -> None:
        if not self._loaded:
            self._loaded = True
            for module in self._builtin:
                importlib.import_module(module)

    @functools.cached_property
    def _plugins(self) -> dict[str, Any]:
        """Entry points by name; what ships with optbench wins over a plug-in of the same name."""
        from importlib.metadata import entry_points

        found: dict[str, Any] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda e: (e.name, e.value)):
            if entry.name in self._objects or entry.name in found:
                warnings.warn(
                    f"the plug-in {entry.value!r} offers a second {self.kind} {entry.name!r}; it is not used",
                    stacklevel=2,
                )
            else:
                found[entry.name] = entry
        return found

    def _load_plugin(self, name: str) -> None:
        entry = self._plugins[name]
        try:
            target = entry.load()
        except Exception as error:  # a broken plug-in must not take the others down
            package = entry.dist.name if entry.dist is not None else entry.value
            warnings.warn(
                f"the {self.kind} {name!r} of the package {package!r} cannot be imported ({error}); it is left out",
                stacklevel=3,
            )
        else:
            self._objects[name] = target


def _origin(target: Any) -> str:
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', target)}"


PROBLEMS = Registry("problem", ("optbench.problems",))
OPTIMIZERS = Registry("optimizer", ("optbench.optimizers",))
SCHEDULES = Registry("schedule", ("optbench.optimizers.schedules",))
