"""Names of problems, optimizers and schedules, and the plug-ins that add more.

A registry maps a name to an object and its traits. The modules of optbench register their objects when they are imported.
Plug-in packages name theirs in the entry-point groups ``optbench.problems``, ``optbench.optimizers`` and
``optbench.schedules``, which are read once a name is unknown or all names are needed, and imported only when used.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optbench.core.errors import InputError, shown, suggestion
from optbench.core.lazy import import_alone
from optbench.core.specs import Interval

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Declared properties of an optimizer or schedule, for the runner, the checks of settings and the property tests.

    Parameters
    ----------
    full_batch : bool
        Whether it cannot use mini-batches: it compares values at different points, or is defined by the full gradient.
    elementwise : bool
        Whether a rule updates each number from its own gradient and state, and does not combine parameters of a run, for
        example by a norm.
    per_run : tuple of str
        State of a rule that is one number per run, of shape (R, 1); other state has the shape (R, d).
    decay : str or None
        Hyperparameter that moves x even where the gradient is zero, such as ``"weight_decay"``.
    equivariances : tuple of str
        Changes of the problem that commute with the optimizer: ``"rotation"``, ``"flip"`` (permutations and signs of
        coordinates), ``"shift"`` and ``"affine"`` of x, and ``"scale"`` of f (at ``eps=0``).
    special_cases : mapping of str to str
        Settings at which this optimizer equals another one, and the spec of that one: ``{"beta=0": "sgd"}``.
    accuracy : float
        Fraction of the initial gap that it reaches within 400 steps on an easy quadratic.
    ranges : mapping of str to Interval or None
        Ranges of hyperparameters; None removes the default range of a standard name.

    Examples
    --------
    >>> optbench.make_recipe("momentum").traits.special_cases
    {'beta=0': 'sgd'}
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
        ``"problem"``, ``"optimizer"`` or ``"schedule"``, for messages.
    builtin : tuple of str
        Modules of optbench that register objects.
    """

    def __init__(self, kind: str, builtin: tuple[str, ...]) -> None:
        self.kind = kind
        self.group = f"optbench.{kind}s"
        self._builtin = builtin
        self._objects: dict[str, Any] = {}
        self._traits: dict[str, Traits] = {}
        self._entries: dict[str, EntryPoint] | None = None
        self._aliases: set[str] = set()  # entry points to objects that are registered under another name
        # No module that registers objects is imported under this lock: the import system has its own, without deadlocks.
        self._lock = threading.RLock()

    def __reduce__(self) -> str:
        return f"{self.kind.upper()}S"  # the same registry of another process, whatever it contains

    def register(self, name: str, target: Any, traits: Traits | None = None) -> None:
        """Register `target` under `name`, with its traits.

        Raises
        ------
        InputError
            If the name belongs to another object.
        """
        if not name:
            raise InputError(f"the {self.kind} {_origin(target)} needs a name")
        with self._lock:
            known = self._objects.get(name)
            if known is not None and known is not target and _origin(known) != _origin(target):
                raise InputError(
                    f"two {self.kind}s are called {name!r}: {_origin(known)} and {_origin(target)}; rename one"
                )
            self._traits[name] = traits or Traits()  # first, for other threads that already find the object
            self._objects[name] = target
            self._aliases.discard(name)

    def traits(self, name: str, target: Any = None) -> Traits:
        """The traits declared for a name; with a target, those declared for it under this name or another."""
        if target is not None and self._objects.get(name) is not target:
            name = next((other for other, known in list(self._objects.items()) if known is target), "")
        return self._traits.get(name, Traits())

    def __getitem__(self, name: str) -> Any:
        self._load_builtin()
        if name not in self._objects and name in self._plugins:
            self._load_plugin(name)
        if name not in self._objects:
            hint = suggestion(name, [*self._objects, *self._plugins])
            raise InputError(f"no {self.kind} {shown(name)}; {hint or f'optbench list shows all {self.kind}s'}")
        return self._objects[name]

    def names(self) -> list[str]:
        """All names, those of plug-ins too; a broken plug-in is left out with a warning."""
        self._load_builtin()
        for name in list(self._plugins):
            if name not in self._objects:
                self._load_plugin(name)
        return [name for name in list(self._objects) if name not in self._aliases]

    def plugin_of(self, name: str) -> str | None:
        """The package of a plug-in; None for objects of optbench."""
        target = self._objects.get(name)
        for entry in list(self._plugins.values()):
            if entry.name == name or (target is not None and self._objects.get(entry.name) is target):
                return entry.dist.name if entry.dist is not None else None
        return None

    def _load_builtin(self) -> None:
        """Import the modules of optbench, or wait for the thread that does; a failed import is tried again."""
        for module in self._builtin:
            import_alone(module)

    @property
    def _plugins(self) -> dict[str, EntryPoint]:
        """Entry points by name, without those whose names optbench uses itself; read once."""
        with self._lock:
            if self._entries is None:
                self._entries = self._read_entry_points()
            return self._entries

    def _read_entry_points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        plugins: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda e: (e.name, e.value)):
            known = self._objects.get(entry.name)
            # a plug-in that has been imported already may have registered its objects by decorators
            module, _, attribute = entry.value.partition(":")
            imported = getattr(sys.modules.get(module.strip()), attribute.strip(), None)
            if entry.name in plugins or (known is not None and known is not imported):
                warnings.warn(
                    f"the plug-in {entry.value!r} offers a second {self.kind} {entry.name!r}; it is not used",
                    stacklevel=2,
                )
            else:
                plugins[entry.name] = entry
        return plugins

    def _load_plugin(self, name: str) -> None:
        entry = self._plugins.get(name)
        if entry is None:  # another thread found it to be broken
            return
        package = entry.dist.name if entry.dist is not None else entry.value
        try:
            target = entry.load()
            if not callable(target):
                raise TypeError(f"{entry.value} is a {type(target).__name__}; name the object: {entry.module}:NAME")
        except (Exception, SystemExit) as error:  # the other plug-ins remain usable
            if self._plugins.pop(name, None) is not None:
                reason = f"{type(error).__name__}: {error}" if isinstance(error, SystemExit) else error
                warnings.warn(
                    f"the {self.kind} {name!r} of the package {package!r} cannot be used ({reason}); it is left out",
                    stacklevel=3,
                )
            return
        with self._lock:
            if name not in self._objects:
                if any(known is target for known in self._objects.values()):  # a decorator gave it another name
                    self._aliases.add(name)
                self._traits[name] = self.traits(name, target)
                self._objects[name] = target


def _origin(target: Any) -> str:
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', target)}"


PROBLEMS = Registry("problem", ("optbench.problems",))
OPTIMIZERS = Registry("optimizer", ("optbench.optimizers",))
SCHEDULES = Registry("schedule", ("optbench.optimizers",))
