"""Names of problems, optimizers and schedules, their parameters, and the plug-ins that add more.

A registry maps a name to the object that was registered under it and returned unchanged. What ships with optbench
registers itself when its module is imported; a plug-in package names its objects in the entry-point groups
``optbench.problems``, ``optbench.optimizers`` and ``optbench.schedules``, which are scanned the first time a name is not
found, or all names are asked for, and imported only when used.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import math
import numbers
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from optbench.errors import InputError


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One declared parameter of a registered object."""

    name: str
    type: Any
    default: Any

    def __str__(self) -> str:
        return f"{self.name}={format_value(self.default)}"


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
            near = difflib.get_close_matches(name, self._all_names(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"optbench list shows the {self.kind}s there are"
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
                _import_own(module)

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


def _import_own(module: str) -> None:
    """Import a module of ours, and say so if a file of the user's has taken its name."""
    loaded = importlib.import_module(module)
    if not hasattr(loaded, "__optbench__"):
        raise InputError(
            f"{getattr(loaded, '__file__', module)} hides optbench's own module {module!r}; rename that file"
        )


PROBLEMS = Registry("problem", ("problems",))
OPTIMIZERS = Registry("optimizer", ("optbench.rules", "optbench.curvature", "optbench.search"))
SCHEDULES = Registry("schedule", ("optbench.schedules",))


# ---- parameters: declared by a signature or by dataclass fields ------------------------------------------------------


def parameters(target: Any) -> dict[str, Parameter]:
    """The declared parameters of a registered object: a dataclass's fields, or a function's arguments with a default."""
    return _parameters(target)


@functools.cache
def _parameters(target: Any) -> dict[str, Parameter]:
    if dataclasses.is_dataclass(target):
        kind = target if isinstance(target, type) else type(target)
        hints = typing.get_type_hints(kind)
        return {
            f.name: Parameter(f.name, hints[f.name], f.default)
            for f in dataclasses.fields(target)
            if f.init and not f.metadata.get("internal")
        }
    return {
        p.name: Parameter(p.name, type(p.default), p.default)
        for p in inspect.signature(target).parameters.values()
        if p.default is not inspect.Parameter.empty
    }


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``"quadratic:dim=100,condition=1e4"`` into the name and the parameters as text.

    Raises
    ------
    InputError
        If a parameter is not of the form ``name=value``.
    """
    name, _, rest = text.strip().partition(":")
    settings: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"{part!r} in {text!r} is not name=value; write for example quadratic:dim=100,condition=1e4"
            )
        if key.strip() in settings:
            raise InputError(f"{key.strip()!r} is given twice in {text!r}")
        settings[key.strip()] = value.strip()
    return name.strip(), settings


def coerce_all(owner: str, declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters, each checked against its declaration and converted to the declared type."""
    check_names(owner, declared, given)
    return {name: coerce(owner, declared[name], value) for name, value in given.items()}


def check_names(owner: str, declared: Iterable[str], given: Iterable[str]) -> None:
    """Raise `InputError` for a given name that is not declared, and suggest the nearest that is."""
    declared = list(declared)
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else "it has: " + (", ".join(declared) or "none")
            raise InputError(f"{owner} has no parameter {name!r}; {hint}")


def coerce(owner: str, parameter: Parameter, value: Any) -> Any:
    """`value` (text from a command line, or a Python value) as the parameter's declared type.

    A sequence of numbers may be written ``32-16``; a float must be finite.

    Raises
    ------
    InputError
        If the value cannot be of that type.
    """
    kinds = typing.get_args(parameter.type) if _is_union(parameter.type) else (parameter.type,)
    for kind in kinds:
        try:
            return _as_type(kind, value)
        except (TypeError, ValueError, OverflowError):
            continue
    wanted = " or ".join(_type_name(kind) for kind in kinds)
    raise InputError(f"{owner}: {parameter.name} must be {wanted}, not {value!r}")


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _as_type(kind: Any, value: Any) -> Any:
    if kind is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if typing.get_origin(kind) is tuple:
        (item, *_) = typing.get_args(kind)
        if isinstance(value, str):
            value = re.split(r"(?<![eE])-", value) if value else []  # not at the dash of 1e-3
        return tuple(_as_type(item, v) for v in (value if isinstance(value, Iterable) else [value]))
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        if isinstance(value, bool):
            return value
        raise ValueError
    if isinstance(value, bool):
        raise TypeError
    if kind is int:
        number = float(value)
        if number != int(number):
            raise ValueError
        return int(value) if isinstance(value, numbers.Integral) else int(number)
    if kind is float:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number + 0.0  # turns -0.0 into 0.0, so that both have one key
    if kind is str:
        if not isinstance(value, str | Path):
            raise TypeError
        return str(value)
    raise TypeError


def _type_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(kind, "numbers such as 32-16")


def format_value(value: Any) -> str:
    """A parameter's value as it is written in a spec."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple):
        return "-".join(format_value(v) for v in value)
    return "none" if value is None else str(value)


def format_spec(name: str, settings: Mapping[str, Any]) -> str:
    """The inverse of `parse_spec`."""
    inner = ",".join(f"{key}={format_value(value)}" for key, value in settings.items())
    return f"{name}:{inner}" if inner else name


def canonical(value: Any) -> str:
    """The one JSON text of a value made of plain Python types: what keys are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


_sources: dict[str, tuple[Any, str]] = {}  # of modules, as they were when first asked for since they were loaded


def _module_source(name: str) -> str:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)  # another one once a module has been reloaded
    if name not in _sources or _sources[name][0] is not spec:
        try:
            text = inspect.getsource(sys.modules[name])
        except (OSError, TypeError, KeyError):  # typed into an interpreter: there is no file
            text = ""
        _sources[name] = spec, text
    return _sources[name][1]


def source_hash(targets: Iterable[Callable[..., Any] | type], modules: Iterable[str] = ()) -> str:
    """Hash of the source text of the modules that define the targets, and of further modules by name.

    A target without a source file (typed into an interpreter) is known by its byte code; so is, besides, one that its
    module does not have by its name: made within a function, which may make several, or replaced by another one.
    """
    digest = hashlib.sha256()
    for target in targets:
        text = _module_source(target.__module__)
        found: Any = sys.modules.get(target.__module__)
        for name in target.__qualname__.split("."):
            found = getattr(found, name, None)
        if not text or found is not target:  # it cannot be told by its name
            text += byte_code(target)
        digest.update(text.encode())
    for module in modules:
        spec = importlib.util.find_spec(module)  # not imported: some are heavy, and not needed everywhere
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def byte_code(target: Any) -> str:
    """Text that tells a function or a class from another of the same name by what it computes."""
    if isinstance(target, type):
        return "".join(f"{name}{byte_code(member)}" for name, member in sorted(vars(target).items()))
    if isinstance(target, types.CodeType):
        constants = [byte_code(c) if isinstance(c, types.CodeType) else repr(c) for c in target.co_consts]
        return repr((target.co_code, target.co_names, constants))
    if isinstance(target, types.FunctionType):
        held = [repr(cell.cell_contents) for cell in target.__closure__ or ()]
        return byte_code(target.__code__) + repr(held)
    return ""
