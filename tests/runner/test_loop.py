"""The loop and its trace: oracle calls, checkpoints, targets, endings and independent runs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, PROBLEMS
from optbench.core.specs import parse_spec
from optbench.core.trace import MAX_BLOCK, TARGETS, Trace, checkpoints
from optbench.core.types import Oracle, Status
from optbench.optimizer import At, Optimizer, make_recipe
from optbench.optimizers.random_search import RandomSearch
from optbench.problem import Problem, make_problem
from optbench.runner.loop import minimize
from problems import MLP, Logistic, Quadratic, Rosenbrock


def build(name: str, **settings: Any) -> Optimizer:
    return make_recipe(name).build(settings, None)


class Counting(Quadratic):
    """A quadratic that counts the calls of its oracles."""

    def __init__(self, **params: Any) -> None:
        self.requests: Counter[str] = Counter()
        super().__init__(**params)

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        self.requests.update(["gradient"] + ["samples"] * (samples is not None))
        return super().value_and_grad(x, samples)

    def value(self, x: Any) -> Any:
        self.requests.update(["value"])
        return super().value_and_grad(x)[0]

    def hessian(self, x: Any) -> Any:
        self.requests.update(["hessian"])
        return super().hessian(x)


AT_OPTIMUM = Counter(value=1)  # the loop's own call, which finds the rounding of values there


@pytest.mark.parametrize(
    ("name", "requests"),
    [("adam", {"gradient": 31}), ("lbfgs", {"gradient": 31}), ("newton", {"gradient": 31, "hessian": 31})]
    + [("random_search", {"value": 31})],
)
def test_every_oracle_call_is_counted(name: str, requests: dict[str, int]) -> None:
    problem = Counting(dim=5)
    trace = minimize(problem, build(name), steps=30, checkpoint_count=5)
    assert trace.calls[-1] == 31
    assert problem.requests == Counter(requests) + AT_OPTIMUM


def test_a_mini_batch_counts_its_fraction() -> None:
    trace = minimize(Logistic(data="iris"), build("sgd"), steps=20, batch_size=30)
    assert trace.calls_per_step == 30 / 150
    assert trace.calls[[0, -1]] == pytest.approx([0.2, 21 * 0.2])


@pytest.mark.parametrize(("steps", "count"), [(1, 5), (10, 100), (1000, 50), (100_000, 100)])
def test_checkpoints_are_log_spaced(steps: int, count: int) -> None:
    t = checkpoints(steps, count)
    assert t[0] == 0
    assert t[-1] == steps
    assert len(t) <= count + 2
    assert (np.diff(t) > 0).all()
    if steps >= 1000:
        ratios = (t[1:] + 1) / (t[:-1] + 1)
        assert ratios.max() <= 2 or ratios[t[:-1] > 20].max() < 1.3


@pytest.mark.parametrize(("steps", "count"), [(1, 2), (1, 100), (10, 11), (300, 301), (300, 1000)])
def test_enough_checkpoints_are_every_step(steps: int, count: int) -> None:
    np.testing.assert_array_equal(checkpoints(steps, count), np.arange(steps + 1))
    assert len(checkpoints(300, 300)) < 301


@pytest.mark.usefixtures("no_host_sync")
@pytest.mark.parametrize("spec", ["rosenbrock", "strict_saddle", "quadratic:dim=2"])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_paths_in_two_dimensions_are_recorded(backend: Backend, spec: str, name: str) -> None:
    problem = make_problem(*parse_spec(spec))
    seeds, settings = (0, 3), {"lr": 1e-3}
    trace = minimize(problem.on(backend), build(name, **settings), seeds=seeds, steps=20, checkpoint_count=21)
    for t in (0, 7, 20):
        before = minimize(problem, build(name, **settings), seeds=seeds, steps=t).x if t else problem.starts(seeds)
        path = np.stack([trace.metrics["x_1"][:, t], trace.metrics["x_2"][:, t]], axis=-1)
        np.testing.assert_allclose(path, before, rtol=1e-12)


def test_the_path_of_a_method_that_rejects_trials_has_its_best_points() -> None:
    problem = Rosenbrock()
    trace = minimize(problem, build("lbfgs"), seeds=(0, 1), steps=15, checkpoint_count=16)
    path = np.stack([trace.metrics["x_1"], trace.metrics["x_2"]], axis=-1)  # (R, C, 2)
    np.testing.assert_array_equal(problem.value(path), trace.f)


def test_paths_are_recorded_with_noise_but_only_in_two_dimensions() -> None:
    trace = minimize(Quadratic(dim=2, noise=0.1), build("sgd"), seeds=(0, 1), steps=8, checkpoint_count=9)
    path = np.stack([trace.metrics["x_1"], trace.metrics["x_2"]], axis=-1)
    np.testing.assert_array_equal(path[:, -1], trace.x)
    assert path.shape == (2, 9, 2)
    for problem in (Rosenbrock(dim=3), Quadratic(dim=3), Quadratic(dim=1)):
        assert minimize(problem, build("sgd", lr=1e-3), steps=5).metrics == {}


@pytest.mark.parametrize("stop", [False, True])
def test_curves_and_steps_to_targets_are_those_of_a_plain_loop(stop: bool) -> None:
    problem, lr, steps = Quadratic(dim=10, condition=30), 1.5, 700
    trace = minimize(problem, build("gradient_descent", lr=lr), steps=steps, stop_at_target=stop)
    x, iterates = problem.start(0), []
    for _ in range(steps + 1):
        f, g = problem.value_and_grad(x)
        iterates.append(f)
        x = x - lr * g
    values = np.array(iterates)
    np.testing.assert_allclose(trace.f[0], values[trace.t], rtol=1e-9, atol=1e-25)
    np.testing.assert_allclose(trace.best[0], np.minimum.accumulate(values)[trace.t], rtol=1e-9, atol=1e-25)
    first = [np.flatnonzero(values <= target * values[0])[0] for target in TARGETS]
    np.testing.assert_array_equal(trace.steps_to_target[0], first)
    assert trace.status == ["target" if stop else "budget"]
    assert trace.end[0] == (first[-1] if stop else steps)
    assert trace.f_end[0] == pytest.approx(values[trace.end[0]], rel=1e-9, abs=1e-25)


def test_steps_to_targets_are_the_same_however_values_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(dim=10)
    whole = minimize(problem, build("momentum"), steps=300)
    monkeypatch.setattr("optbench.core.trace.MAX_BLOCK", 3)
    pieces = minimize(problem, build("momentum"), steps=300)
    for name in ("t", "f", "best", "gradient_norm", "steps_to_target", "end", "f_end", "best_end", "x"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_random_numbers_are_the_same_however_they_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Logistic(data="iris")
    runs = []
    for size in (1 << 24, 100):
        monkeypatch.setattr("optbench.runner.loop.MAX_FEED_BYTES", size)
        pairs = (("sgd", 7), ("local_search", None))
        runs.append([minimize(problem, build(name), steps=70, batch_size=batch).x for name, batch in pairs])
    np.testing.assert_array_equal(runs[0], runs[1])


def test_a_diverging_run_does_not_affect_others() -> None:
    problem = Quadratic(dim=6)
    lr = [0.5, 50.0, 1.0]
    trace = minimize(problem, build("gradient_descent", lr=lr), np.tile(problem.start(0), (3, 1)), steps=2000)
    assert trace.status == ["budget", "diverged", "budget"]
    assert np.isnan(trace.f[1, -1])
    assert np.isfinite(trace.f_end[1])
    assert np.isfinite(trace.best[1]).all()
    alone = minimize(problem, build("gradient_descent", lr=0.5), steps=2000)
    np.testing.assert_allclose(trace.f[0], alone.f[0], rtol=1e-9, atol=1e-28)
    value = problem.value_and_grad(problem.start(0))[0]
    assert trace.best_end[1] == value  # it increases at once, so the start is its best
    end = trace.end[1]
    growth = minimize(problem, build("gradient_descent", lr=50.0), steps=int(end) - 1)
    assert growth.status == ["budget"]  # one step earlier it is still finite


def test_a_loop_ends_when_all_runs_have_diverged() -> None:
    calls: list[int] = []
    minimize(Quadratic(dim=3), build("sgd", lr=1e10), steps=100_000, progress=calls.append)
    assert sum(calls) < 1000


def test_a_line_search_never_diverges_by_a_trial() -> None:
    trace = minimize(Rosenbrock(dim=10), build("bfgs"), np.full((1, 10), 50.0), steps=500)
    assert trace.status == ["budget"]
    assert trace.best_end[0] < 10
    np.testing.assert_array_equal(trace.f, trace.best)


def test_a_run_with_an_infinite_start_diverges() -> None:
    trace = minimize(Quadratic(dim=2), build("lbfgs"), np.array([[np.inf, 0.0], [1.0, 1.0]]), steps=20)
    assert trace.status == ["diverged", "budget"]
    assert np.isnan(trace.steps_to_target[0]).all()
    assert np.isnan(trace.f_end[0])
    assert trace.steps_to_target[1, -1] < 20


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize(
    "problem", [Logistic(data="wine"), MLP(data="iris", hidden=(3,)), Quadratic(dim=4, noise=0.3)], ids=str
)
def test_settings_of_one_seed_see_the_same_batches(name: str, problem: Problem) -> None:
    seeds, rates = (0, 3), (0.01, 0.1, 0.02)
    x0 = np.repeat(problem.starts(seeds), 3, axis=0)
    stack = minimize(problem, build(name, lr=np.tile(rates, 2)), x0, seeds=seeds, steps=25, batch_size=8)
    for r, (seed, lr) in enumerate((s, lr) for s in seeds for lr in rates):
        alone = minimize(problem, build(name, lr=lr), seeds=(seed,), steps=25, batch_size=8)
        np.testing.assert_allclose(stack.x[r], alone.x[0], rtol=1e-9)


@pytest.mark.usefixtures("no_host_sync")
@pytest.mark.parametrize("spec", ["logistic", "mlp"])
def test_mini_batches_on_every_backend(backend: Backend, spec: str) -> None:
    problem = make_problem(spec, {"data": "iris"})
    expected = minimize(problem, build("adam"), seeds=(0, 1), steps=9, batch_size=10)
    trace = minimize(problem.on(backend), build("adam"), seeds=(0, 1), steps=9, batch_size=10)
    np.testing.assert_allclose(trace.x, expected.x, rtol=1e-9)
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(trace.metrics[name], values, rtol=1e-9)


def test_mini_batch_values_are_those_of_the_full_objective() -> None:
    problem = Logistic(data="iris")
    trace = minimize(problem, build("sgd"), steps=40, batch_size=10, checkpoint_count=4)
    assert trace.f[0, 0] == pytest.approx(problem.value(problem.start(0)))
    assert trace.f[0, -1] == pytest.approx(problem.value(trace.x[0]))
    reached = np.isfinite(trace.steps_to_target[0])
    assert set(trace.steps_to_target[0, reached]) <= set(trace.t)


def test_without_an_optimum_there_are_no_targets() -> None:
    trace = minimize(MLP(data="iris"), build("adam"), steps=5, stop_at_target=True)
    assert np.isnan(trace.steps_to_target).all()
    assert trace.status == ["budget"]


@dataclass
class Spy(RandomSearch):
    """Random search that records its random numbers."""

    def step(self, t: int, at: At, state: Any) -> Any:
        SEEN.append(at.z)
        return super().step(t, at, state)


SEEN: list[Any] = []


def test_runs_of_one_seed_share_their_directions() -> None:
    SEEN.clear()
    problem = Quadratic(dim=3)
    scales: Any = [0.1, 0.2, 0.1, 0.2]  # one for each run
    minimize(problem, Spy(scale=scales), np.repeat(problem.starts((0, 1)), 2, axis=0), seeds=(0, 1), steps=3)
    for z in SEEN:
        np.testing.assert_array_equal(z[0], z[1])
        np.testing.assert_array_equal(z[2], z[3])
        assert (z[0] != z[2]).all()


def test_an_oracle_may_be_a_string() -> None:
    @dataclass
    class Written(RandomSearch):
        oracle = "value"  # type: ignore[assignment]

    problem = Counting(dim=3)
    trace = minimize(problem, Written(), steps=4)
    assert trace.oracle is Oracle.VALUE
    assert problem.requests == Counter(value=5) + AT_OPTIMUM


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimize(Quadratic(), build("adam"), steps=0), "steps must be at least 1"),
        (lambda: minimize(Quadratic(), "adam"), "minimize takes an Optimizer"),  # type: ignore[arg-type]
        (lambda: Quadratic(dim=10**9), "dim must be at most 20000"),
        (lambda: minimize(Quadratic(dim=3), build("adam"), np.ones((2, 4))), r"points of shape \(..., 3\)"),
        (lambda: minimize(Quadratic(dim=3), build("adam"), np.ones((3, 3)), seeds=(0, 1)), "whole number of rows"),
        (lambda: minimize(Logistic(), build("lbfgs"), batch_size=8), "lbfgs compares values"),
        (lambda: minimize(Logistic(), build("gradient_descent"), batch_size=8), "mislead it; leave batch_size out"),
        (lambda: minimize(Quadratic(noise=1.0), build("newton")), "leave the noise out"),
        (lambda: minimize(MLP(), build("newton")), "needs Hessians, which mlp:data=digits does not provide at d = "),
        (lambda: minimize(Quadratic(dim=3000, rotate=False), build("bfgs")), "above 2000"),
        (lambda: minimize(Quadratic(), build("sgd"), batch_size=8), "no mini-batches"),
        (lambda: minimize(Logistic(data="iris"), build("sgd"), batch_size=151), "between 1 and the 150 samples"),
        (lambda: minimize(Quadratic(), build("random_search"), stop_at_gradient=1e-3), "values only"),
        (
            lambda: minimize(Logistic(), build("sgd"), batch_size=10, stop_at_gradient=1e-3),
            "its gradients are noisy",
        ),
        (lambda: minimize(Quadratic(), build("sgd"), stop_at_gradient=-1.0), "at least 0"),
    ],
)
def test_impossible_requests_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_long_runs_are_folded_in_blocks() -> None:
    trace = minimize(Quadratic(dim=2), build("sgd"), steps=2 * MAX_BLOCK + 100)
    assert trace.t[-1] == 2 * MAX_BLOCK + 100


@pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs", "newton", "gradient_descent"])
def test_runs_stop_at_a_small_gradient(optimizer: str) -> None:
    problem = Logistic(data="iris", l2=0.1)
    settings = {"lr": 0.5} if optimizer == "gradient_descent" else {}
    options: dict[str, Any] = {"seeds": (0, 1, 2), "steps": 300, "checkpoint_count": 5}
    whole = minimize(problem, build(optimizer, **settings), **options)
    trace = minimize(problem, build(optimizer, **settings), stop_at_gradient=1e-3, **options)
    assert trace.status == ["gradient"] * 3
    assert (trace.end < 300).all()
    assert (trace.best_end >= whole.best_end).all()
    f_star = problem.f_star
    assert f_star is not None
    # by strong convexity, a gradient of norm 1e-3 leaves a gap of at most (1e-3)^2 / (2 l2)
    assert (trace.best_end - f_star <= 1e-6 / 0.2).all()
    if optimizer == "gradient_descent":
        before = minimize(problem, build(optimizer, **settings), steps=int(trace.end[0]), checkpoint_count=1000)
        assert (before.gradient_norm[0, :-1] > 1e-3).all()
        assert before.gradient_norm[0, -1] <= 1e-3


# ---- the points at which runs end ------------------------------------------------------------------------------------

WITH_GRADIENT = [name for name in OPTIMIZERS.names() if make_recipe(name).kind.oracle != Oracle.VALUE]


def gradient_norms(problem: Problem, x: Any) -> Any:
    return np.linalg.norm(problem.value_and_grad(x)[1], axis=-1)


@pytest.mark.usefixtures("no_host_sync")
@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_the_returned_point_has_a_small_gradient(backend: Backend, name: str) -> None:
    """Also in stacks whose runs end at different steps."""
    problem, tolerance = Quadratic(dim=4, condition=5, rotate=False), 0.5
    seeds, recipe = range(6), make_recipe(name)
    settings = {"lr": 0.05} if "lr" in recipe.declared else {}
    x0 = problem.starts(seeds) * np.array([[0.02, 0.1, 0.3, 1, 3, 1e3]]).T  # (6, d)
    on_backend = problem.on(backend)

    def trace_of(rows: slice, stop: float | None, steps: int = 300) -> Trace:
        optimizer = recipe.build(settings, None)
        chosen = seeds[rows]
        return minimize(on_backend, optimizer, x0[rows], seeds=chosen, steps=steps, stop_at_gradient=stop)

    trace = trace_of(slice(0, 6), tolerance)
    ended = np.array(trace.status) == Status.GRADIENT
    assert ended.sum() > 2
    assert len(set(trace.end[ended])) > 1 or trace.end.max() == 1  # Newton's method needs one step
    np.testing.assert_array_less(gradient_norms(problem, trace.x[ended]), tolerance * (1 + 1e-9))
    np.testing.assert_allclose(problem.value(trace.x), trace.f_end, rtol=1e-9, atol=1e-12)
    for r in (0, 3, 4):
        alone = trace_of(slice(r, r + 1), tolerance)
        assert alone.status[0] == trace.status[r]
        assert alone.end[0] == trace.end[r]
        assert alone.x[0] == pytest.approx(trace.x[r], rel=1e-9, abs=1e-11)
        if trace.end[r]:  # the first small gradient, at the iterate of a run without this rule
            whole = trace_of(slice(r, r + 1), None, steps=int(trace.end[r]))
            assert whole.x[0] == pytest.approx(trace.x[r], rel=1e-9, abs=1e-11)


@pytest.mark.usefixtures("no_host_sync")
@pytest.mark.parametrize("batch_size", [None, 20])
def test_the_returned_point_of_a_run_is_that_of_its_last_target(backend: Backend, batch_size: int | None) -> None:
    problem = Logistic(data="iris", l2=0.5)
    x_star = problem.x_star
    assert x_star is not None
    # with mini-batches only a run near the optimum of all samples could end, so all but the first start there
    x0 = np.stack([problem.start(0), x_star, x_star + 1.0, x_star + 1e-2])
    optimizer = build("sgd", lr=[0.5, 0.5, 0.3, 0.7])
    options: dict[str, Any] = {"steps": 400, "batch_size": batch_size, "checkpoint_count": 1000}
    trace = minimize(problem.on(backend), optimizer, x0, stop_at_target=True, **options)
    assert (np.array(trace.status) == Status.TARGET).sum() == (0 if batch_size else 3)
    np.testing.assert_allclose(problem.value(problem.points(trace.x)), trace.f_end, rtol=1e-12)
    assert batch_size or len(set(trace.end)) > 2


@pytest.mark.parametrize("fused", [False, True])
def test_compiled_and_uncompiled_runs_end_at_the_same_points(fused: bool) -> None:
    """In blocks of runs that the machine code advances together, some runs end in the same block of steps."""
    problem = Rosenbrock(dim=3).on(get_backend(fused=fused))
    rates = np.geomspace(1e-4, 1e-3, 23)
    x0 = np.tile(problem.start(0), (23, 1))
    trace = minimize(problem, build("momentum", lr=rates), x0, steps=4000, stop_at_gradient=1e-2)
    assert trace.status.count(Status.GRADIENT) > 15
    assert len(set(trace.end)) > 15
    for r, end in enumerate(trace.end):
        alone = minimize(Rosenbrock(dim=3), build("momentum", lr=rates[r]), steps=int(end))
        np.testing.assert_array_equal(trace.x[r], alone.x[0])


@pytest.mark.parametrize("name", [name for name in WITH_GRADIENT if make_recipe(name).kind.keeps_best])
def test_gradient_norms_of_methods_that_reject_points_are_those_of_the_best_point(name: str) -> None:
    problem = Rosenbrock()
    trace = minimize(problem, build(name), seeds=(0, 1), steps=15, checkpoint_count=16)
    path = np.stack([trace.metrics["x_1"], trace.metrics["x_2"]], axis=-1)  # (R, C, 2)
    np.testing.assert_allclose(trace.gradient_norm, gradient_norms(problem, path), rtol=1e-12)


def test_runs_that_diverge_return_no_point() -> None:
    trace = minimize(Quadratic(dim=3), build("sgd", lr=[0.1, 1e10]), np.ones((2, 3)), steps=300)
    np.testing.assert_array_equal(np.isnan(trace.x), [[False] * 3, [True] * 3])


# ---- impossible and unresolved values --------------------------------------------------------------------------------


@dataclass(eq=False)
class Claims(Logistic):
    """A logistic regression with a stated optimum that is wrong or shifted."""

    shift: float = 0.0  # of the values
    above: float = 0.0  # of the stated optimum and its bound, from the truth
    doubt: float = 0.0  # width of the stated interval

    def value_and_grad(self, x: Any, samples: Any = None) -> Any:
        f, g = super().value_and_grad(x, samples)
        return f + self.shift, g

    def value(self, x: Any) -> Any:
        return super().value(x) + self.shift

    def evaluate(self, x: Any) -> Any:
        f, metrics = super().evaluate(x)
        return f + self.shift, metrics

    def solve(self) -> Any:
        optimum = Logistic(data="iris").optimum
        assert optimum is not None
        f = optimum.f + self.shift + self.above
        return dataclasses.replace(optimum, f=f, lower=f - self.doubt)


@pytest.mark.parametrize(("fused", "batch_size"), [(False, None), (True, None), (False, 30)])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_runs_below_the_certified_bound_are_invalid(fused: bool, batch_size: int | None, precision: str) -> None:
    options: dict[str, Any] = {"lr": [0.1, 0.5], "seeds": 2, "steps": 300, "batch_size": batch_size}
    options |= {"precision": precision, "fused": fused, "stop_at_target": True}
    table, curves = {}, {}
    for above in (0.0, 0.1):
        runs = optbench.sweep(Claims(data="iris", above=above), "sgd", **options)
        table[above], curves[above] = runs.rows, runs.curves
    assert not set(table[0.0]["status"]) & {Status.INVALID}
    assert set(table[0.1]["status"]) == {Status.INVALID}
    assert table[0.1]["error"].str.contains(r"^the value 0\.\d+ at step \d+ is below the stated lower bound 0").all()
    assert all(np.isinf(row).all() for row in table[0.1]["calls_to_target"])
    np.testing.assert_array_equal(curves[0.1]["f"], curves[0.0]["f"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("precision", "settings", "resolution"),
    [
        ("float64", {}, 0.0),
        ("float64", {"shift": 1e12}, 8 * 2.0**-52 * 1e12),
        ("float64", {"doubt": 1e-3}, 1e-3),
        ("float32", {}, 1e-7),
    ],
)
def test_targets_that_cannot_be_resolved_are_null(
    precision: str, settings: dict[str, Any], resolution: float, fused: bool
) -> None:
    problem = Claims(data="iris", **settings)
    options: dict[str, Any] = {"seeds": 2, "steps": 600, "lr": 5.0, "precision": precision, "fused": fused}
    rows = optbench.sweep(problem, "gradient_descent", stop_at_target=True, **options).rows
    for calls, f_start in zip(rows["calls_to_target"], rows["f_start"], strict=True):
        gaps = TARGETS * (f_start - problem.f_star)
        assert np.isnan(calls[gaps < resolution]).all()
        assert not np.isnan(calls[gaps > 10 * resolution]).any()
        assert np.isfinite(calls[gaps > max(10 * resolution, 1e-2)]).all()
    if resolution:
        assert set(rows["status"]) == {Status.BUDGET}


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", PROBLEMS.names())
def test_reached_targets_are_reached_in_exact_arithmetic(name: str, precision: str) -> None:
    """Gradient descent reaches no target in float32 that it misses in float64 at the same point."""
    host = make_problem(name)
    f_star = host.f_star
    if f_star is None:
        pytest.skip("no optimum is known")
    problem, start = host.on(get_backend(precision=precision)), host.value(host.start(0))
    for optimizer, steps in ((build("gradient_descent", lr=1 / (host.smoothness or 1e3)), 500), (build("lbfgs"), 60)):
        trace = minimize(problem, optimizer, steps=steps)
        reached = np.isfinite(trace.steps_to_target[0])
        gap = (host.value(trace.x[0].astype(float)) - f_star) / (start - f_star)
        if trace.status == [Status.BUDGET] and reached.any():
            assert gap <= 1.5 * TARGETS[reached].min()
