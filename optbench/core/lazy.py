"""Public names that are imported on first use (SPEC 1 of Scientific Python), so that imports are fast."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

# Modules of optbench that threads request at the same time are imported one after the other. Without this, two imports may
# each wait for a package that the other one is importing, which Python ends by an error in one of them.
_lock = threading.RLock()


def import_alone(module: str, package: str | None = None) -> ModuleType:
    """Import a module of optbench while no other thread does so by this function; it must not wait for another thread."""
    with _lock:
        return importlib.import_module(module, package)


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names are listed in the stub next to its file.

    The stub has a line ``from module import name as name`` for each name, which type checkers understand.
    """
    modules = {}
    with open(f"{file}i", encoding="utf-8") as stub:  # noqa: PTH123 - importing pathlib would double the time
        for line in stub:
            if line.startswith("from "):
                _, module, _, name, *_ = line.split()
                modules[name] = module
    namespace = vars(sys.modules[package])

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_alone(modules[name], package), name)
        namespace[name] = value
        return value

    return load, lambda: sorted({*namespace, *modules}), sorted(modules)
