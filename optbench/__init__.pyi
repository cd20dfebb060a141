"""The public names of optbench; `optbench/__init__.py` reads them from this file."""

from optbench.core.backend import Backend as Backend
from optbench.core.backend import get_backend as get_backend
from optbench.core.errors import BackendError as BackendError
from optbench.core.errors import InputError as InputError
from optbench.core.errors import OptbenchError as OptbenchError
from optbench.core.errors import StoreError as StoreError
from optbench.core.registry import Traits as Traits
from optbench.core.specs import Interval as Interval
from optbench.core.trace import Trace as Trace
from optbench.core.types import Metric as Metric
from optbench.core.types import Oracle as Oracle
from optbench.optimizer import FirstOrder as FirstOrder
from optbench.optimizer import Optimizer as Optimizer
from optbench.optimizer import make_recipe as make_recipe
from optbench.optimizer import rule as rule
from optbench.problem import Optimum as Optimum
from optbench.problem import Problem as Problem
from optbench.problem import make_problem as make_problem
from optbench.reports import report as report
from optbench.results.runs import Runs as Runs
from optbench.results.store import Store as Store
from optbench.runner.loop import minimize as minimize
from optbench.runner.race import race as race
from optbench.runner.study import Study as Study
from optbench.runner.study import load_study as load_study
from optbench.runner.sweep import compare as compare
from optbench.runner.sweep import run as run
from optbench.runner.sweep import sweep as sweep
from optbench.verify.check import check as check
from optbench.verify.check import check_problem as check_problem
from optbench.verify.gradients import check_gradient as check_gradient

__all__: list[str]
__version__: str
