"""Versions of code: hashes of the source of modules, and byte code where there is no source."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_sources: dict[str, tuple[Any, str]] = {}  # spec and source of modules, read when first needed after they were loaded


def _module_source(name: str) -> str:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)  # a reloaded module has a new one
    if name not in _sources or _sources[name][0] is not spec:
        try:
            text = inspect.getsource(sys.modules[name])
        except (OSError, TypeError, KeyError):  # typed into an interpreter: there is no file
            text = ""
        _sources[name] = spec, text
    return _sources[name][1]


def source_hash(targets: Iterable[Callable[..., Any] | type], modules: Iterable[str] = ()) -> str:
    """Hash of the source text of the modules that define the targets, and of further modules by name.

    Byte code is hashed too where the module and the name do not identify a target: one without a source file (typed into an
    interpreter), one made within a function, which may make several, and one whose name now belongs to another object.
    """
    digest = hashlib.sha256()
    for target in targets:
        text = _module_source(target.__module__)
        named: Any = sys.modules.get(target.__module__)  # the object of that name, in the end
        for name in target.__qualname__.split("."):
            named = getattr(named, name, None)
        if not text or named is not target:
            text += byte_code(target)
        digest.update(text.encode())
    for module in modules:
        spec = importlib.util.find_spec(module)  # not imported: some are heavy, and not needed everywhere
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def byte_code(target: Any) -> str:
    """Text that differs between functions or classes of the same name that compute different things."""
    if isinstance(target, type):
        return "".join(f"{name}{byte_code(member)}" for name, member in sorted(vars(target).items()))
    if isinstance(target, types.CodeType):
        constants = [byte_code(c) if isinstance(c, types.CodeType) else repr(c) for c in target.co_consts]
        return repr((target.co_code, target.co_names, constants))
    if isinstance(target, types.FunctionType):
        closure = [repr(cell.cell_contents) for cell in target.__closure__ or ()]
        return byte_code(target.__code__) + repr(closure)
    return ""
