"""Names of problems, optimizers and schedules, and the plug-ins that add more.

A registry maps a name to the object that was registered under it and returned unchanged, and to its traits. What ships with
optbench registers itself when its module is imported; a plug-in package names its objects in the entry-point groups
``optbench.problems``, ``optbench.optimizers`` and ``optbench.schedules``. They are scanned the first time that a name is
unknown, or all names are needed, and imported only when used.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optbench.core.errors import InputError, suggestion
from optbench.core.specs import Interval

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What holds for an optimizer or schedule. The property tests read it, and so do the checks of settings.

    Attributes
    ----------
    full_batch : bool
        Whether a mini-batch would mislead it: it compares values of different points, or its name promises the gradient of
        the whole objective.
    elementwise : bool
        Whether a rule treats every number alone, so that it can be compiled number by number. A rule that reduces over the
        parameters of a run runs uncompiled.
    per_run : tuple of str
        State of a rule that is one number per run, of shape (R, 1); other state has the shape (R, d).
    decay : str or None
        Hyperparameter that moves x even where the gradient is zero, such as ``"weight_decay"``.
    equivariances : tuple of str
        Changes of the problem that commute with the optimizer: ``"rotation"``, ``"flip"`` (permutations and signs of
        coordinates), ``"shift"`` and ``"affine"`` of x, and ``"scale"`` of f (at ``eps=0``).
    special_cases : mapping of str to str
        Spec of an equal optimizer by the settings that make this one equal to it: ``{"beta=0": "sgd"}``.
    accuracy : float
        Fraction of the initial gap that it goes below within 400 steps on an easy quadratic.
    ranges : mapping of str to Interval or None
        Ranges of hyperparameters; None lifts a range that a standard name has by default.
    """

    full_batch: bool = False
    elementwise: bool = True
    per_run: tuple[str, ...] = ()
    decay: str | None = None
    equivariances: tuple[str, ...] = ("flip", "shift")
    special_cases: Mapping[str, str] = field(default_factory=dict)
    accuracy: float = 1e-10
    ranges: Mapping[str, Interval | None] = field(default_factory=dict)


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
        self._traits: dict[str, Traits] = {}
        self._aliases: set[str] = set()  # names that only an entry point gives to an object registered under another
        self._loaded = False

    def register(self, name: str, target: Any, traits: Traits | None = None) -> None:
        """Enter `target` under `name`, with its traits.

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
        self._traits[name] = traits or Traits()
        self._aliases.discard(name)

    def traits(self, name: str, target: Any = None) -> Traits:
        """The traits declared for a name; with a target, those declared for it under this name or another."""
        if target is not None and self._objects.get(name) is not target:
            name = next((other for other, known in self._objects.items() if known is target), "")
        return self._traits.get(name, Traits())

    def __getitem__(self, name: str) -> Any:
        self._load_builtin()
        if name not in self._objects and name in self._plugins:
            self._load_plugin(name)
        if name not in self._objects:
            hint = suggestion(name, [*self._objects, *self._plugins])
            raise InputError(f"no {self.kind} {name!r}; {hint or f'optbench list shows the {self.kind}s there are'}")
        return self._objects[name]

    def names(self) -> list[str]:
        """All names that can be used, plug-ins too; a plug-in that cannot be used causes a warning and is left out."""
        self._load_builtin()
        for name in list(self._plugins):
            if name not in self._objects:
                self._load_plugin(name)
        return [name for name in self._objects if name not in self._aliases]

    def plugin_of(self, name: str) -> str | None:
        """The distribution that a plug-in came from; None for what ships with optbench."""
        target = self._objects.get(name)
        for entry in self._plugins.values():
            if entry.name == name or (target is not None and self._objects.get(entry.name) is target):
                return entry.dist.name if entry.dist is not None else None
        return None

    def _load_builtin(self) -> None:
        if not self._loaded:
            self._loaded = True
            for module in self._builtin:
                importlib.import_module(module)

    @functools.cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        """Entry points by name; what ships with optbench wins over a plug-in of the same name."""
        from importlib.metadata import entry_points

        plugins: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda e: (e.name, e.value)):
            known = self._objects.get(entry.name)
            # the module of a plug-in may have been imported already, and have registered its objects by decorators
            imported = getattr(sys.modules.get(entry.module), entry.attr or "", None)
            if entry.name in plugins or (known is not None and known is not imported):
                warnings.warn(
                    f"the plug-in {entry.value!r} offers a second {self.kind} {entry.name!r}; it is not used",
                    stacklevel=2,
                )
            else:
                plugins[entry.name] = entry
        return plugins

    def _load_plugin(self, name: str) -> None:
        entry = self._plugins[name]
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            target = entry.load()
            if not callable(target):
                raise TypeError(f"{entry.value} is a {type(target).__name__}; name the object: {entry.module}:NAME")
        except Exception as error:  # a broken plug-in must not take the others down
            del self._plugins[name]
            warnings.warn(
                f"the {self.kind} {name!r} of the package {package!r} cannot be used ({error}); it is left out",
                stacklevel=3,
            )
            return
        if name not in self._objects:
            if any(known is target for known in self._objects.values()):  # a decorator gave it another name
                self._aliases.add(name)
            self._traits[name] = self.traits(name, target)
            self._objects[name] = target


def _origin(target: Any) -> str:
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', target)}"


PROBLEMS = Registry("problem", ("optbench.problems",))
OPTIMIZERS = Registry("optimizer", ("optbench.optimizers",))
SCHEDULES = Registry("schedule", ("optbench.optimizers.schedules",))
