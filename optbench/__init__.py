"""optbench: an honest benchmark of gradient-based optimizers.

>>> import optbench
>>> from problems import Logistic
>>> runs = optbench.sweep(Logistic(data="breast_cancer"), "adam", lr=[1e-3, 1e-2, 1e-1], seeds=5, steps=500)
>>> runs.table, runs.curves  # pandas
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optbench.arrays import Backend, get_backend
    from optbench.checks import check_gradient, check_problem
    from optbench.errors import BackendError, InputError, OptbenchError, StoreError
    from optbench.loop import minimize
    from optbench.optimizer import FirstOrder, Optimizer, make_recipe
    from optbench.problem import Optimum, Problem, make_problem
    from optbench.record import Trace
    from optbench.results import Runs
    from optbench.rules import rule
    from optbench.store import Store
    from optbench.study import load_study, sweep

__optbench__ = True
__version__ = "0.1.0"

# where each public name lives; modules are imported when a name of theirs is first used, so that the import stays short
_HOMES = {
    "Backend": "arrays",
    "BackendError": "errors",
    "FirstOrder": "optimizer",
    "InputError": "errors",
    "OptbenchError": "errors",
    "Optimizer": "optimizer",
    "Optimum": "problem",
    "Problem": "problem",
    "Runs": "results",
    "Store": "store",
    "StoreError": "errors",
    "Trace": "record",
    "check_gradient": "checks",
    "check_problem": "checks",
    "get_backend": "arrays",
    "load_study": "study",
    "make_problem": "problem",
    "make_recipe": "optimizer",
    "minimize": "loop",
    "rule": "rules",
    "sweep": "study",
}

__all__ = [
    "Backend", "BackendError", "FirstOrder", "InputError", "OptbenchError", "Optimizer", "Optimum", "Problem", "Runs",
    "Store", "StoreError", "Trace", "check_gradient", "check_problem", "get_backend", "load_study", "make_problem",
    "make_recipe", "minimize", "rule", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'optbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"optbench.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
