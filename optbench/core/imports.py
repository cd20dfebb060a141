"""Imports of a user's files and modules that register problems, optimizers and schedules: ``--import mine.py``.

Objects defined in a file are pickled by reference to a module name. `Imports` makes worker processes import the same files
under the same names, before they unpickle such objects.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optbench.core.errors import InputError, shown
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.core.specs import check_text

_PREFIX = "optbench_import_"  # of the module names of imported files
_imported: dict[str, str] = {}  # absolute path or module name -> name of the module
_lock = threading.RLock()  # reentrant, because a file may import others in the same way


class Imports:
    """Everything that `import_all` has imported; unpickling it imports the same in another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _import_in_worker, (tuple(_imported),)


def _import_in_worker(sources: Iterable[str]) -> Imports:
    for source in sources:
        _import(source)
    return Imports()


def import_all(sources: str | Path | Iterable[str | Path], folder: Path | None = None) -> None:
    """Import files (``mine.py``) and modules (``my_package.rules``), which register problems, optimizers and schedules.

    Parameters
    ----------
    sources : str, Path, or several
        A name that ends in ``.py`` is the path of a file, relative to `folder`. It may import other files in its folder.
    folder : Path
        By default the working directory.

    Raises
    ------
    InputError
        If one does not exist or cannot be imported; the message names the file and the line.
    """
    for source in sources if isinstance(sources, Iterable) and not isinstance(sources, str | Path) else [sources]:
        if not isinstance(source, str | Path):
            raise InputError(f"import takes paths of Python files and names of modules, not {shown(source)}")
        check_text("import", str(source))
        before = _registered()
        is_file = str(source).endswith(".py")
        name = _import(str(((folder or Path()) / source).resolve()) if is_file else str(source))
        if not _registered() - before and not any(_module_of(target) == name for _, _, target in before):
            warnings.warn(f"{source} registers nothing; decorate a rule with @optbench.rule", stacklevel=2)


def origin_of(registry: Registry, name: str) -> str | None:
    """The imported file or module, or the package, that registered a name; None for optbench itself."""
    module = _module_of(registry[name])
    return next((source for source, known in _imported.items() if known == module), registry.plugin_of(name))


def _registered() -> set[tuple[str, str, Any]]:
    return {
        (registry.kind, name, registry[name])
        for registry in (PROBLEMS, OPTIMIZERS, SCHEDULES)
        for name in registry.names()
    }


def _module_of(target: Any) -> str | None:
    return getattr(target, "__module__", None)


def _import(source: str) -> str:
    """Import an absolute path or a module and return the module's name; a file that has not changed is not run again."""
    with _lock:  # of a file that another thread imports, no half is seen
        return _import_alone(source)


def _import_alone(source: str) -> str:
    path = Path(source)
    is_file = source.endswith(".py")
    if is_file and not path.is_file():
        reason = "it is not a file" if path.exists() else "there is no such file"
        raise InputError(f"cannot import {source!r}: {reason}")
    # first during the import, as for a script, so that it finds its own packages `problems` and `reports`; last afterwards,
    # so that a user's files do not hide later imports
    folder = str(path.parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    sys.path.insert(0, folder)
    try:
        name = _run_file(path) if is_file else importlib.import_module(source).__name__
    except (Exception, SystemExit) as error:
        raise InputError(f"cannot import {source!r}: {_describe(error, source)}") from error
    finally:
        sys.path.remove(folder)
    _imported[source] = name
    return name


def _run_file(path: Path) -> str:
    name = _PREFIX + path.stem
    known = sys.modules.get(name)
    if known is not None and known.__file__ != str(path):
        raise InputError(f"another file of that name has been imported: {known.__file__}; rename one")
    if known is not None and vars(known)["_optbench_text"] == path.read_bytes():
        return name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)["_optbench_text"] = path.read_bytes()
    sys.modules[name] = module  # before it runs, because dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name


def _describe(error: BaseException, source: str) -> str:
    """An error, and the line of the file that raised it."""
    if isinstance(error, SyntaxError):
        file = "" if error.filename == source else f"{error.filename}, "
        return f"{file}line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return (f"line {lines[-1]}: " if lines else "") + f"{name}{error}"
