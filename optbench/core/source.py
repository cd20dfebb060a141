"""What the source text of code is known by: hashes of modules, and byte code where there is no text."""

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
