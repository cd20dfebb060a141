"""Hashes that identify versions of code: of the source of modules, or of byte code where there is no source."""

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

_sources: dict[str, tuple[Any, str]] = {}  # spec and source of modules, by name


def _module_source(name: str) -> str:
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)  # new after a reload
    if name not in _sources or _sources[name][0] is not spec:
        try:
            text = inspect.getsource(sys.modules[name])
        except (OSError, TypeError, KeyError):  # typed into an interpreter
            text = ""
        _sources[name] = spec, text
    return _sources[name][1]


def source_hash(targets: Iterable[Callable[..., Any] | type], modules: Iterable[str] = ()) -> str:
    """Hash of the source text of the modules that define the targets, and of further modules by name.

    Byte code is hashed too where module and name do not identify a target: if it has no source file, is defined inside a
    function, or its name now refers to another object.
    """
    digest = hashlib.sha256()
    for target in targets:
        text = _module_source(target.__module__)
        named: Any = sys.modules.get(target.__module__)
        for name in target.__qualname__.split("."):
            named = getattr(named, name, None)
        if not text or named is not target:
            text += byte_code(target)
        digest.update(text.encode())
    for module in modules:
        spec = importlib.util.find_spec(module)  # without an import, which may be slow
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def byte_code(target: Any) -> str:
    """Byte code, constants and closure of a function, or of the methods of a class, as text."""
    if isinstance(target, type):
        return "".join(f"{name}{byte_code(member)}" for name, member in sorted(vars(target).items()))
    if isinstance(target, types.CodeType):
        constants = [byte_code(c) if isinstance(c, types.CodeType) else repr(c) for c in target.co_consts]
        return repr((target.co_code, target.co_names, constants))
    if isinstance(target, types.FunctionType):
        closure = [repr(cell.cell_contents) for cell in target.__closure__ or ()]
        return byte_code(target.__code__) + repr(closure)
    return ""
