"""Rule and oracle in one compiled loop: the results of the uncompiled loop, digit by digit."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optbench.compile import fused_loop as fusing
from optbench.compile import rules
from optbench.compile import steps as printing
from optbench.compile.fused_loop import FusedLoop
from optbench.core.backend import PRECISIONS, get_backend
from optbench.core.registry import OPTIMIZERS, PROBLEMS, Traits
from optbench.core.specs import parameters
from optbench.core.trace import Trace
from optbench.core.types import Status
from optbench.optimizer import FirstOrder
from optbench.problem import Optimum, Problem, make_problem
from optbench.runner import loop as looping
from optbench.runner.loop import minimize
from problems import Quadratic, Rosenbrock
from problems.landscapes import Landscape
from tests.conftest import run_python
from tests.rules import STATE_PER_RUN, UNKNOWN, in_place, radam, restarted

RULES = [name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])]
LANDSCAPES = [name for name in PROBLEMS.names() if issubclass(PROBLEMS[name], Landscape)]
SIZED = [f"{name}:dim=" for name in LANDSCAPES if "dim" in parameters(PROBLEMS[name])] + ["quadratic:rotate=false,dim="]


def traits_of(rule: Any) -> Traits:
    if isinstance(rule, str):
        return OPTIMIZERS.traits(rule)
    return Traits(elementwise=False, per_run=STATE_PER_RUN.get(rule, ()))


def run(problem: Problem, rule: Any, fused: bool, runs: int = 7, precision: str = "float64", **options: Any) -> Trace:
    """Runs with learning rates from much too small to diverging."""
    problem = problem.on(get_backend("numpy", precision=precision, fused=fused))
    target = OPTIMIZERS[rule] if isinstance(rule, str) else rule
    rates = {"lr": np.geomspace(1e-4, 30.0, runs)} if "lr" in parameters(target) else {}
    settings, factor = rates | options.pop("settings", {}), options.pop("factor", None)
    seeds = tuple(range(runs))
    options = dict[str, Any](x0=problem.starts(seeds), steps=300, checkpoint_count=40) | options
    return minimize(problem, FirstOrder(target, settings, factor, traits=traits_of(rule)), seeds=seeds, **options)


def assert_same(one: Trace, other: Trace) -> None:
    """Equal digits in everything that a trace contains."""
    assert one.status == other.status
    assert one.metrics.keys() == other.metrics.keys()
    names = ("t", "end", "steps_to_target", "f", "best", "gradient_norm", "f_end", "best_end", "x")
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in names]
    pairs += [(name, one.metrics[name], other.metrics[name]) for name in one.metrics]
    for name, a, b in pairs:
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> list[FusedLoop]:
    """All fused loops that are used."""
    loops: list[FusedLoop] = []
    run_fused = looping._run_fused

    def noted(fused_loop: FusedLoop, *rest: Any) -> Any:
        loops.append(fused_loop)
        return run_fused(fused_loop, *rest)

    monkeypatch.setattr(looping, "_run_fused", noted)
    return loops


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Machine code writes nothing next to its arrays, which would end the process much later, if at all."""
    copies: list[np.ndarray] = []
    align = fusing._aligned

    def with_margins(array: np.ndarray) -> np.ndarray:
        margin = 128 // array.dtype.itemsize  # whole cache lines
        wide = align(np.full(array.size + 2 * margin, 12345.0, array.dtype))  # (margin + size + margin,)
        copies.append(wide)
        inner = wide[margin : margin + array.size].reshape(array.shape)
        inner[...] = array
        return inner

    monkeypatch.setattr(fusing, "_aligned", with_margins)
    yield
    for wide in copies:
        margin = 128 // wide.dtype.itemsize
        assert (wide[:margin] == 12345).all()
        assert (wide[-margin:] == 12345).all()


def both(used: list[FusedLoop], problem: Problem, rule: Any, **options: Any) -> tuple[Trace, Trace]:
    """The traces of the uncompiled and of the fused loop, which must have been used."""
    used.clear()
    plain = run(problem, rule, False, **options)
    assert not used
    fused = run(problem, rule, True, **options)
    assert used
    return plain, fused


# ---- all rules and landscapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("problem", LANDSCAPES)
def test_every_rule_on_every_landscape(problem: str, precision: str, used: list[FusedLoop]) -> None:
    statuses: set[Status] = set()
    for k, rule in enumerate(RULES):
        runs = (7, 16, 1, 17, 2, 3)[k % 6]
        plain, fused = both(used, make_problem(problem), rule, runs=runs, precision=precision)
        assert_same(fused, plain)
        statuses |= set(plain.status)
    assert statuses == {Status.BUDGET, Status.DIVERGED}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 3, 8, 16, 17, 40, 130, 300])
def test_every_number_of_parameters(dim: int, precision: str, used: list[FusedLoop]) -> None:
    for k, spec in enumerate(SIZED):
        declared = parameters(PROBLEMS[spec.partition(":")[0]])["dim"]
        if declared.range is not None and dim not in declared.range:
            continue
        rule, runs = (("adam", (17, 3)[dim > 16]), ("dog", (1, 9)[k % 2]))[(k + dim) % 2]
        plain, fused = both(used, make_problem(f"{spec}{dim}"), rule, runs=runs, precision=precision, steps=150)
        assert_same(fused, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("runs", [1, 2, 3, 9, 17, 100])
def test_every_number_of_runs(runs: int, precision: str, used: list[FusedLoop]) -> None:
    for dim in (5, 21):
        plain, fused = both(used, Rosenbrock(dim=dim), "nesterov", runs=runs, precision=precision)
        assert_same(fused, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", [rule for rule in UNKNOWN if rule is not restarted], ids=lambda rule: rule.__name__)
def test_rules_that_are_not_registered(rule: Callable[..., Any], precision: str, used: list[FusedLoop]) -> None:
    for problem, runs in ((Rosenbrock(dim=4), 5), (Rosenbrock(dim=20), 2)):
        plain, fused = both(used, problem, rule, runs=runs, precision=precision, steps=100)
        assert_same(fused, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", ["adam", "sgdw", radam])
def test_schedules_and_every_hyperparameter_per_run(rule: Any, precision: str, used: list[FusedLoop]) -> None:
    declared = parameters(OPTIMIZERS[rule] if isinstance(rule, str) else rule)
    settings = {name: float(p.default) * np.linspace(0.5, 1.0, 7) for name, p in declared.items()}
    for dim in (4, 20):
        for options in ({}, {"settings": settings}, {"settings": {"lr": 0.01}}):
            factor = lambda t: 1 / (1 + 0.1 * t)  # noqa: E731
            plain, fused = both(used, Rosenbrock(dim=dim), rule, precision=precision, factor=factor, **options)
            assert_same(fused, plain)


# ---- how runs end, and what is recorded ------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [4, 20])
@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"stop_at_target": True}, {Status.TARGET, Status.DIVERGED, Status.BUDGET}),
        ({"stop_at_gradient": 1e-2}, {Status.GRADIENT, Status.DIVERGED, Status.BUDGET}),
        ({"stop_at_gradient": 1e-2, "stop_at_target": True}, {Status.GRADIENT, Status.DIVERGED, Status.BUDGET}),
        ({"checkpoint_count": 2}, {Status.DIVERGED, Status.BUDGET}),
        ({"checkpoint_count": 10_000}, {Status.DIVERGED, Status.BUDGET}),
    ],
)
def test_stopping_rules_and_checkpoints(
    options: dict[str, Any], ends: set[Status], dim: int, precision: str, used: list[FusedLoop]
) -> None:
    problem = Quadratic(dim=dim, condition=3, rotate=False)
    plain, fused = both(used, problem, "sgd", precision=precision, runs=20, steps=1500, **options)
    assert set(plain.status) >= ends
    assert_same(fused, plain)


def test_the_loop_ends_with_its_last_run(used: list[FusedLoop]) -> None:
    settings = {"lr": np.linspace(0.5, 0.8, 7)}
    options: Any = {"settings": settings, "steps": 100_000, "stop_at_target": True, "checkpoint_count": 200}
    plain, fused = both(used, Quadratic(dim=4, condition=3, rotate=False), "sgd", **options)
    assert set(fused.status) == {Status.TARGET}
    assert fused.t[-1] < 2 * fused.end.max() + 20
    assert_same(fused, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [3, 20])
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e38])
def test_starts_that_are_not_finite(bad: float, dim: int, precision: str, used: list[FusedLoop]) -> None:
    x0 = np.ones((7, dim), precision)
    x0[1, 2] = bad
    x0[4] = bad
    for problem in (Rosenbrock(dim=dim), Quadratic(dim=dim, rotate=False)):
        plain, fused = both(used, problem, "adam", x0=x0, precision=precision, steps=20)
        assert_same(fused, plain)
        if not np.isfinite(bad):
            assert fused.status[1] == Status.DIVERGED
            assert fused.end[1] == 0


@pytest.mark.parametrize("longest", [1, 3, 1000])
@pytest.mark.parametrize("dim", [2, 20])
def test_the_length_of_calls_does_not_change_results(
    longest: int, dim: int, used: list[FusedLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    init = FusedLoop.__init__

    def shorter(self: FusedLoop, *args: Any) -> None:
        init(self, *args)
        self.max_steps = longest

    monkeypatch.setattr(FusedLoop, "__init__", shorter)
    plain, fused = both(used, Rosenbrock(dim=dim), "adam", stop_at_gradient=1e-3)
    assert_same(fused, plain)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_results(threads: int, used: list[FusedLoop], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "THREAD_WORK", 0)
    monkeypatch.setattr(fusing, "granted_threads", lambda: threads)
    for dim in (5, 21):
        plain, fused = both(used, Rosenbrock(dim=dim), "adam", runs=70, steps=100)
        assert used[0].is_threaded
        assert_same(fused, plain)


def test_metrics_are_computed_at_checkpoints(used: list[FusedLoop]) -> None:
    plain, fused = both(used, Rosenbrock(dim=2), "adam", checkpoint_count=7)
    assert set(fused.metrics) == {"x_1", "x_2"}
    assert_same(fused, plain)


def test_start_points_are_kept_and_converted(used: list[FusedLoop]) -> None:
    start = np.full((7, 3), 0.1, dtype=np.float32)
    for x0 in (start, np.asfortranarray(start)):
        plain, fused = both(used, Rosenbrock(dim=3), in_place, x0=x0, steps=5)
        np.testing.assert_array_equal(x0, start)
        assert fused.x.dtype == np.float64
        assert_same(fused, plain)


# ---- products with a matrix ------------------------------------------------------------------------------------------


def gradient(xp: Any, x: Any, g: Any, t: int, lr: float = 1.0) -> Any:
    """Returns the gradient as the next iterate."""
    return (lr * g,)


def test_a_product_is_one_chain_of_fused_multiply_adds() -> None:
    for dim, runs in ((5, 3), (20, 1), (20, 3), (21, 17)):
        problem = Quadratic(dim=dim)
        x0 = problem.starts(tuple(range(runs)))
        g = run(problem, gradient, True, runs=runs, settings={"lr": 1.0}, steps=1).x
        e = x0 - problem.center
        for r in range(runs):
            for j in range(dim):
                total = 0.0
                for k in range(dim):
                    total = float(Fraction(float(e[r, k])) * Fraction(float(problem.H[k, j])) + Fraction(total))
                assert g[r, j] == total


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_alone_equals_the_run_in_a_stack(precision: str, used: list[FusedLoop]) -> None:
    """Whatever the number of runs and the layout, also with a matrix, where BLAS has no such property."""
    for dim in (6, 19, 70):
        problem = Quadratic(dim=dim)
        x0: Any = np.asarray(problem.starts(range(33)), precision)
        settings = {"lr": np.linspace(0.01, 0.2, 33)}
        stack = run(problem, "adam", True, runs=33, settings=settings, x0=x0, precision=precision).x
        for parts in ([0], [5, 6], [1, 2, 3], list(range(9))):
            alone = {"lr": settings["lr"][parts]}
            part = run(problem, "adam", True, runs=len(parts), settings=alone, x0=x0[parts], precision=precision).x
            np.testing.assert_array_equal(part, stack[parts])
    assert len(used) == 15


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spec", ["dim=1", "dim=7", "dim=16", "dim=17,spectrum=chain", "dim=60", "dim=300"])
def test_products_stay_within_their_rounding(spec: str, precision: str, used: list[FusedLoop]) -> None:
    """One step is within d eps of BLAS; without growth of errors, 200 steps stay near."""
    problem: Any = make_problem(f"quadratic:{spec}")
    eps, dim = float(np.finfo(precision).eps), problem.dim
    for runs in (1, 5):
        plain, fused = (t.x for t in both(used, problem, gradient, runs=runs, steps=1, precision=precision))
        e = problem.starts(tuple(range(runs))) - problem.center
        bound = eps * (2 + dim) * np.max(np.abs(e)) * np.geomspace(1e-4, 30, runs)[:, None] * dim**0.5
        assert (np.abs(plain - fused) <= bound).all()
        settings = {"lr": np.linspace(0.1, 1.0, runs)}
        plain_trace, fused_trace = both(
            used, problem, "momentum", runs=runs, settings=settings | {"beta": 0.5}, steps=200, precision=precision
        )
        assert fused_trace.status == plain_trace.status
        np.testing.assert_array_equal(fused_trace.end, plain_trace.end)
        np.testing.assert_allclose(fused_trace.x, plain_trace.x, rtol=0, atol=100 * dim * eps)


# ---- problems of a user ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Bowl(Problem):
    """A problem with a vector of constants and no known optimum."""

    factor: float = 2.0
    dim: int = 3

    def __post_init__(self) -> None:
        self.place()

    def place(self) -> None:
        self.xp = self.backend.xp
        self.weights = self.backend.asarray(np.linspace(1.0, self.factor, self.dim))  # (d,)

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        squares = self.weights * x * x
        return self.factor * self.xp.sum(squares * x * x, axis=-1) / 4 + self.xp.max(
            x, axis=-1
        ), self.factor * squares * x

    def solve(self) -> Optimum | None:
        return None


@dataclass(eq=False)
class Curved(Bowl):
    """Functions that NumPy rounds in its own way."""

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        e = self.xp.exp(-self.weights * x)
        return self.xp.sum(self.xp.log1p(e), axis=-1), -self.weights * e / (1 + e) + 0.1 * self.xp.tanh(x)


@dataclass(eq=False)
class Walled(Bowl):
    """Takes one row after another, so it cannot be traced."""

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        f, g = super().value_and_grad(self.xp.reshape(x, (-1, self.dim)))
        return self.xp.where(f > 100, self.xp.inf, f), g


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_the_oracle_of_a_user_is_compiled(dim: int, precision: str, used: list[FusedLoop]) -> None:
    plain, fused = both(used, Bowl(dim=dim), "momentum", precision=precision)
    assert np.isnan(plain.steps_to_target).all()
    assert_same(fused, plain)


@dataclass(eq=False)
class Joined(Bowl):
    """Slices of joined arrays that begin and end anywhere, of other lengths than the parameters."""

    def value_and_grad(self, x: Any, samples: Any = None) -> tuple[Any, Any]:
        xp, d = self.xp, self.dim
        twice = xp.concat([x, 0.5 * x[..., :1], self.weights * x], axis=-1)  # (..., 2 d + 1)
        middle = (2 * twice - x[..., -1:])[..., 2 : d + 2]
        ends = xp.concat([twice[..., d:], xp.max(x, axis=-1)[..., None]], axis=-1)[..., 1 : d + 1]
        return xp.sum((twice * twice)[..., 1:], axis=-1) + xp.sum(ends, axis=-1) ** 2, middle + 0.1 * ends * x


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [2, 3, 16, 17, 40, 150])
def test_slices_of_joined_arrays(dim: int, precision: str, used: list[FusedLoop]) -> None:
    for runs in (1, 9):
        plain, fused = both(used, Joined(dim=dim), "adam", precision=precision, runs=runs, steps=50)
        assert_same(fused, plain)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [3, 40])
def test_elementary_functions_stay_near(dim: int, precision: str, used: list[FusedLoop]) -> None:
    eps = float(np.finfo(precision).eps)
    settings = {"lr": np.linspace(0.01, 0.5, 7)}
    plain, fused = both(used, Curved(dim=dim), "sgd", precision=precision, settings=settings)
    assert fused.status == plain.status
    for name in ("f", "best", "gradient_norm", "x"):
        np.testing.assert_allclose(getattr(fused, name), getattr(plain, name), rtol=100 * eps, atol=100 * eps)


def test_what_cannot_be_traced_runs_step_by_step(used: list[FusedLoop]) -> None:
    """An oracle that reshapes, one with noise, and a rule with decisions on t."""
    cases: list[Any] = [(Walled(), "adam", {}), (Quadratic(dim=4, noise=0.1), "sgd", {"steps": 10})]
    for problem, rule, options in [*cases, (Rosenbrock(dim=3), restarted, {})]:
        plain, fused = (run(problem, rule, way, **options) for way in (False, True))
        assert_same(fused, plain)
    assert not used


# ---- checks before use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [4, 20])
@pytest.mark.parametrize("runs", [1, 9])
def test_loops_are_compared_with_oracle_and_rule(
    dim: int, runs: int, used: list[FusedLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each defect of the printer is found before a loop is used."""
    original = printing.StepWriter.compute

    def negated(self: Any, node: Any, at: Any) -> Any:
        value, is_stored = original(self, node, at), node.id in self.buffers
        return value if node is not self.steps.g or is_stored else self.write(f"fneg {value}", value.kind, value.lanes)

    def inactive(self: Any, node: Any, at: Any) -> Any:
        return self.value(node.args[1], at) if node.op == "where" and node.dims[1:] else original(self, node, at)

    def neighbour(self: Any, node: Any, at: Any) -> Any:
        """In vectors, every lane gets the number of the lane before."""
        value = original(self, node, at)
        if node.op != "multiply" or not value.lanes:
            return value
        mask = ", ".join(f"i32 {(k - 1) % value.lanes}" for k in range(value.lanes))
        text = f"shufflevector {value}, {value.type} poison, <{value.lanes} x i32> <{mask}>"
        return self.write(text, value.kind, value.lanes)

    def reordered(self: Any, node: Any, parts: Any) -> Any:
        """A sum that begins at the other end."""
        return self.chain(node, parts[::-1])

    problem = Rosenbrock(dim=dim)
    plain, fused = both(used, problem, radam, runs=runs, steps=30)
    defects: list[tuple[str, Any]] = [("compute", negated), ("compute", inactive)]
    defects += [("compute", neighbour)] * (dim > 4 or runs > 1) + [("reduced", reordered)] * (dim == 4 and runs > 1)
    for name, defect in defects:
        with monkeypatch.context() as patch:
            patch.setattr(printing.StepWriter, name, defect)
            for module, table in ((printing, "_modules"), (looping, "_is_correct"), (rules, "_is_correct")):
                patch.setattr(module, table, {})
            patch.setattr(rules, "_warn_once", lambda message: None)  # the rule may run uncompiled too
            used.clear()
            trace = run(problem, radam, True, runs=runs, steps=30)
            assert not used, defect.__name__
        assert_same(trace, plain)
    assert_same(fused, plain)


# ---- processes -------------------------------------------------------------------------------------------------------


PROCESS = """
import sys
import numpy as np
import optbench
from problems import Quadratic
for spec in sys.argv[1:]:
    rule, rotate, betas = spec.split(",")
    settings = {"beta": [float(beta) for beta in betas.split("/")]} if betas else {}
    runs = [
        optbench.sweep(Quadratic(dim=4, rotate=rotate == "yes"), rule, seeds=2, steps=50, fused=way, **settings)
        for way in (False, True)
    ]
    plain, fused = (np.stack(run.x) for run in runs)
    assert np.allclose(fused, plain, rtol=1e-12, atol=1e-14), spec
print("equal")
"""


def test_processes_that_share_code_on_disk_do_not_mix_up_rules(tmp_path: Path) -> None:
    """What one process has compiled is found by another, and belongs to the same rule and problem."""
    environment = {**os.environ, "OPTBENCH_CACHE": str(tmp_path)}
    first = run_python("-c", PROCESS, "momentum,yes,0.5/0.9", "nesterov,yes,0.5/0.9", "sgd,yes,", env=environment)
    assert (first.returncode, first.stdout) == (0, "equal\n"), first.stderr
    stored = {path: path.stat().st_ino for path in tmp_path.rglob("*.kernel")}
    assert stored
    second = run_python("-c", PROCESS, "momentum,no,", "sgd,yes,", env=environment)
    assert (second.returncode, second.stdout) == (0, "equal\n"), second.stderr
    third = run_python("-c", PROCESS, "momentum,no,", "sgd,yes,", "nesterov,yes,0.5/0.9", env=environment)
    assert (third.returncode, third.stdout) == (0, "equal\n"), third.stderr
    later = {path: path.stat().st_ino for path in tmp_path.rglob("*.kernel")}
    assert stored.items() <= later.items()  # files are replaced when they are written
