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
    from optbench.core.backend import Backend, get_backend
    from optbench.core.errors import BackendError, InputError, OptbenchError, StoreError
    from optbench.core.trace import Trace
    from optbench.optimizer import FirstOrder, Optimizer, make_recipe, rule
    from optbench.problem import Optimum, Problem, make_problem
    from optbench.results.runs import Runs
    from optbench.results.store import Store
    from optbench.runner.loop import minimize
    from optbench.runner.study import load_study
    from optbench.runner.sweep import sweep
    from optbench.verify.check import check_problem
    from optbench.verify.gradients import check_gradient

__version__ = "0.1.0"

# where each public name lives; modules are imported when a name of theirs is first used, so that the import stays short
_HOMES = {
    "Backend": "core.backend",
    "BackendError": "core.errors",
    "FirstOrder": "optimizer",
    "InputError": "core.errors",
    "OptbenchError": "core.errors",
    "Optimizer": "optimizer",
    "Optimum": "problem",
    "Problem": "problem",
    "Runs": "results.runs",
    "Store": "results.store",
    "StoreError": "core.errors",
    "Trace": "core.trace",
    "check_gradient": "verify.gradients",
    "check_problem": "verify.check",
    "get_backend": "core.backend",
    "load_study": "runner.study",
    "make_problem": "problem",
    "make_recipe": "optimizer",
    "minimize": "runner.loop",
    "rule": "optimizer",
    "sweep": "runner.sweep",
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
