"""Public names that are imported when they are first used (SPEC 1 of Scientific Python), so that imports stay short."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose public names stand in the stub beside its file.

    The stub has a line ``from module import name as name`` for each name, which type checkers understand.
    """
    modules = {}
    with open(f"{file}i", encoding="utf-8") as stub:  # noqa: PTH123 - to import pathlib would double the time of this import
        for line in stub:
            if line.startswith("from "):
                _, module, _, name, *_ = line.split()
                modules[name] = module
    namespace = vars(sys.modules[package])

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name], package), name)
        namespace[name] = value
        return value

    return load, lambda: sorted({*namespace, *modules}), sorted(modules)
