"""Sweeps and plans: grids, keys, chunks and tables."""

from __future__ import annotations

import functools
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.core.errors import InputError
from optbench.core.workers import blas_threads
from optbench.problem import Problem
from optbench.results.schema import COLUMNS
from optbench.runner import compute, execute
from optbench.runner.chunks import chunks_of, for_cores, for_threads
from optbench.runner.plan import Parallelism, Plan, make_plans
from problems import Logistic, Quadratic
from tests.conftest import noting, present


def plan_of(problem: Problem, optimizer: Any, settings: dict[str, Any] | None = None, **options: Any) -> Plan:
    (plan,) = make_plans(problem, optimizer, settings, **options)
    return plan


def test_a_sweep_gives_one_row_a_setting_and_seed() -> None:
    runs = optbench.sweep(Quadratic(dim=5), "momentum", lr=[0.1, 1.0], beta=[0.5, 0.9, 0.99], seeds=4, steps=30)
    table = runs.table
    assert len(table) == 2 * 3 * 4
    assert not table.duplicated(["lr", "beta", "seed"]).any()
    assert set(table["method"]) == {"momentum"}
    assert list(runs.rows.columns) == ["problem", "method", *COLUMNS]
    assert present(runs.x).shape == (24, 5)
    curves = runs.curves
    assert len(curves) == sum(map(len, runs.rows["t"]))
    last = curves.groupby("key", sort=False).tail(1)
    np.testing.assert_array_equal(last["f"], table["f_end"])
    np.testing.assert_array_equal(last["calls"], table["calls"])
    np.testing.assert_allclose(table["gap_end"], table["f_end"] - table["f_star"])


def test_a_sweep_equals_single_runs() -> None:
    problem = Logistic(data="wine")
    rates = [0.01, 0.1]
    runs = optbench.sweep(problem, "adam", lr=rates, seeds=3, steps=50, batch_size=16)
    for x, row in zip(present(runs.x), runs.table.itertuples(), strict=True):
        alone = optbench.sweep(problem, "adam", lr=row.lr, seeds=[row.seed], steps=50, batch_size=16)
        np.testing.assert_allclose(present(alone.x)[0], x, rtol=1e-10)


def test_own_rules_need_no_registration() -> None:
    def sign_descent(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        """Steps of constant size."""
        return (x - lr * xp.sign(g),)

    runs = optbench.sweep("quadratic:dim=3", sign_descent, lr=[0.01, 0.1], seeds=2, steps=100)
    assert set(runs.table["method"]) == {"sign_descent"}
    assert (runs.table["gap_end"] < runs.table["gap_start"]).all()


def test_settings_that_cannot_share_an_array_become_separate_plans() -> None:
    plans = make_plans(Quadratic(), "lbfgs", {"memory": [3, 10]}, seeds=2)
    assert [plan.fixed for plan in plans] == [{"memory": 3}, {}]
    assert all(plan.size == 2 for plan in plans)


@pytest.mark.parametrize(
    ("settings", "fixed"),
    [({"lr": [0.1, 1], "beta": 0.99}, {"beta": 0.99}), ({"lr": 0.2, "beta": 0.9}, {}), ({"beta": [0.5, 0.99]}, {})],
)
def test_fixed_settings_differ_from_the_defaults_and_are_not_swept(
    settings: dict[str, Any], fixed: dict[str, Any]
) -> None:
    assert plan_of(Logistic(data="iris"), "momentum", settings).fixed == fixed


def test_the_linear_scaling_rule() -> None:
    plans = make_plans(Logistic(data="iris"), "sgd", {"lr": [0.1, 0.2]}, batch_size=[8, 32], linear_scaling=True)
    assert [[point["lr"] for point in plan.grid] for plan in plans] == [[0.1, 0.2], [0.4, 0.8]]
    with pytest.raises(InputError, match="linear_scaling needs batch sizes"):
        make_plans(Logistic(), "sgd", linear_scaling=True)


def test_a_budget_of_calls_is_the_same_work_for_every_batch() -> None:
    problem = Logistic(data="iris")
    plans = make_plans(problem, "sgd", calls=10, batch_size=[15, 30, 150])
    assert [(plan.steps + 1) * plan.batch_size / 150 for plan in plans] == [10, 10, 10]  # type: ignore[operator]
    assert plan_of(problem, "sgd", calls=10).steps == 9


def test_the_last_iterate_is_that_of_a_plain_loop_and_schedules_act_on_the_learning_rate() -> None:
    problem = Quadratic(dim=3)
    runs = optbench.sweep(problem, "sgd", lr=0.5, seeds=1, steps=10, schedule="linear")
    x = problem.start(0)
    for t in range(10):
        x = x - 0.5 * (1 - t / 10) * problem.value_and_grad(x)[1]
    np.testing.assert_allclose(runs.x[0], x, rtol=1e-12)  # type: ignore[index]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(("rates", "seeds"), [(1, 1), (3, 4), (5, 1), (1, 6)])
def test_chunks_cover_a_plan_once(monkeypatch: pytest.MonkeyPatch, size: int, rates: int, seeds: int) -> None:
    plan = plan_of(Quadratic(dim=4), "sgd", {"lr": np.linspace(0.1, 1, rates)}, seeds=seeds)
    monkeypatch.setattr("optbench.runner.chunks.CHUNK_BYTES", size * plan.problem.bytes_per_run(None))
    monkeypatch.setattr("optbench.runner.chunks.CHUNK_RUNS", 1)
    chunks = list(chunks_of(plan))
    runs = [(seed, point["lr"]) for chunk in chunks for seed, point in itertools.product(chunk.seeds, chunk.grid)]
    assert sorted(runs) == sorted((s, p["lr"]) for s in plan.seeds for p in plan.grid)
    assert max(chunk.size for chunk in chunks) <= size


@pytest.mark.parametrize("batch", [None, 128])
@pytest.mark.parametrize(("rates", "seeds"), [(10, 10), (100, 1), (1, 100), (25, 8), (31, 30)])
def test_large_plans_are_cut_for_four_cores(rates: int, seeds: int, batch: int | None) -> None:
    settings = {"lr": np.linspace(0.1, 1, rates)}
    problem = Logistic(data="synthetic", rows=2000, columns=100)
    whole = plan_of(problem, "sgd", settings, seeds=seeds, steps=100_000, batch_size=batch)
    (long,) = for_cores([whole])
    sizes = [chunk.size for chunk in chunks_of(long)]
    assert len(sizes) % 4 == 0
    assert sum(sizes) == rates * seeds
    assert max(sizes) <= 1.3 * sum(sizes) / len(sizes)
    assert min(sizes) >= 20
    (short,) = for_cores([plan_of(problem, "sgd", settings, seeds=seeds, steps=2, batch_size=batch)])
    # a plan is not cut if it is short, if cutting is not requested, or if there are many plans
    for plan in (short, whole, for_cores([whole] * 20)[0]):
        assert len(list(chunks_of(plan))) < len(sizes)


@pytest.mark.parametrize("problem", [Quadratic(dim=10), Quadratic(dim=100)], ids=str)
def test_plans_with_fast_steps_are_not_cut(problem: Problem) -> None:
    (plan,) = for_cores([plan_of(problem, "adam", {"lr": np.linspace(0.1, 1, 10)}, seeds=10, steps=1_000_000)])
    assert len(list(chunks_of(plan))) == 1


def test_a_large_matrix_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(dim=300)
    request: dict[str, Any] = {"settings": {"lr": np.linspace(0.1, 1, 10)}, "seeds": 10, "steps": 100_000}
    (plan,) = make_plans(problem, "adam", **request)
    (shared,) = for_threads([plan])
    assert shared.parallelism is Parallelism.THREADS
    assert len(list(chunks_of(shared))) == 1
    noisy = make_plans(Quadratic(dim=300, noise=0.1), "adam", **request)
    plain = make_plans(problem.on(optbench.get_backend("numpy", fused=False)), "adam", **request)
    diagonal = make_plans(Quadratic(dim=3000, rotate=False), "adam", **request)
    for others in (noisy, plain, diagonal, [plan, plan]):
        assert not any(one.parallelism is Parallelism.THREADS for one in for_threads(others))
    counts: list[Any] = []
    monkeypatch.setattr(compute, "blas_threads", noting(blas_threads, counts))
    monkeypatch.setattr(execute, "available_cores", lambda: 2)
    monkeypatch.setattr("optbench.runner.chunks.MIN_CORE_SECONDS", 0.0)
    few: dict[str, Any] = {"lr": [0.1, 0.2], "seeds": 2, "steps": 20, "fused": True}
    alone, several = (optbench.sweep(problem, "sgd", jobs=jobs, **few) for jobs in (1, 2))
    assert counts == [(1,), (2,)]
    assert [runs.environments[0]["blas threads"] for runs in (alone, several)] == ["1", "2"]
    np.testing.assert_array_equal(several.x, alone.x)


def test_few_runs_are_not_cut_unless_each_has_large_matrices() -> None:
    problem = Logistic(data="synthetic", rows=2000, columns=400)
    for optimizer, chunks in (("adam", 1), ("bfgs", 4)):
        (plan,) = for_cores([plan_of(problem, optimizer, seeds=4, steps=100_000)])
        assert len(list(chunks_of(plan))) == chunks


def test_chunks_of_missing_runs() -> None:
    plan = plan_of(Quadratic(dim=4), "sgd", {"lr": [0.1, 0.2, 0.3]}, seeds=4)
    there = {plan.key(plan.grid[1], seed) for seed in (0, 1, 2, 3)} | {plan.key(plan.grid[0], 2)}
    chunks = list(chunks_of(plan, lambda key: key not in there))
    runs = {(seed, point["lr"]) for chunk in chunks for seed, point in itertools.product(chunk.seeds, chunk.grid)}
    assert runs == {(s, lr) for s in range(4) for lr in (0.1, 0.3)} - {(2, 0.1)}


def test_keys_distinguish_all_inputs() -> None:
    base: dict[str, Any] = {"problem": Quadratic(dim=3), "optimizer": "adam", "settings": {"lr": 0.1}}
    variants: list[dict[str, Any]] = [
        {},
        {"problem": Quadratic(dim=3, seed=1)},
        {"problem": Quadratic(dim=3).on(optbench.get_backend("numpy", precision="float32"))},
        {"optimizer": "adamw"},
        {"settings": {"lr": 0.2}},
        {"settings": {"lr": 0.1, "beta1": 0.8}},
        {"steps": 500},
        {"schedule": "cosine"},
        {"stop_at_target": True},
        {"checkpoint_count": 7},
    ]
    keys = set()
    for variant in variants:
        request = base | variant
        plan = plan_of(request.pop("problem"), request.pop("optimizer"), request.pop("settings"), **request)
        keys |= {plan.key(plan.grid[0], seed) for seed in (0, 1)}
    assert len(keys) == 2 * len(variants)


@pytest.mark.parametrize("same", [{"lr": 0.1}, {"lr": [0.1]}, {"lr": "0.1"}, {"lr": np.float64(0.1), "beta1": 0.9}])
def test_keys_do_not_depend_on_spelling(same: dict[str, Any]) -> None:
    plan, other = plan_of(Quadratic(), "adam", {"lr": 0.1}), plan_of(Quadratic(condition=100), "adam", same)
    assert plan.key(plan.grid[0], 0) == other.key(other.grid[0], 0)


def test_a_change_of_code_changes_keys_but_not_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(Quadratic(), "adam")
    key, identity = plan.key(plan.grid[0], 0), plan.identity(plan.grid[0], 0)
    monkeypatch.setattr(Quadratic, "max_hessian_dim", 4999)
    changed = plan_of(Quadratic(), "adam")
    assert changed.identity(plan.grid[0], 0) == identity
    assert changed.key(plan.grid[0], 0) != key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": [-1]}, "different whole numbers"),
        ({"seeds": 1.5}, "a number of seeds"),
        ({"seeds": [2**63]}, "a number of seeds"),
        ({"steps": 0}, "at least one step"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"calls": float("inf")}, "calls must be above 0"),
        ({"calls": -3}, "calls must be above 0"),
        ({"batch_size": []}, "a whole number or a list"),
        ({"schedule": []}, "a schedule such as"),
        ({"schedule": 3}, "a schedule such as"),
        ({"checkpoint_count": 0}, "at least 2"),
        ({"problem": 3}, "a problem must be a spec"),
        ({"optimizer": functools.partial(print, "no rule")}, "a name, a rule or an Optimizer class"),
        ({"steps": 5, "calls": 5}, "either steps or calls"),
        ({"batch_size": 2.5}, "whole number"),
        ({"batch_size": 0}, "between 1 and"),
        ({"schedule": "cosine:end=1"}, "no parameter 'end'"),
        ({"schedule": "cosine:final=-1"}, "final must be at least 0, not -1"),
        ({"optimizer": "lbfgs", "schedule": "cosine"}, "not a rule with a learning rate"),
        ({"optimizer": "lbfgs", "batch_size": 8}, "use a first-order rule"),
        ({"lr": -1}, "lr must be above 0"),
        ({"precision": "half"}, "float64 or float32"),
        ({"device": "tpu"}, "choose cpu"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"jobs": "2"}, "jobs must be at least 1"),
    ],
)
def test_bad_requests(options: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"problem": Logistic(data="iris"), "optimizer": "sgd"} | options
    with pytest.raises(InputError, match=message):
        optbench.sweep(request.pop("problem"), request.pop("optimizer"), **request)


def test_a_problem_keeps_its_precision() -> None:
    problem = Logistic(data="iris").on(optbench.get_backend("numpy", precision="float32"))
    for precision, expected in ((None, "float32"), ("float64", "float64")):
        runs = optbench.sweep(problem, "adam", lr=[0.1, 0.2], seeds=2, steps=5, precision=precision)
        assert present(runs.x).dtype == expected
        assert set(runs.table["precision"]) == {expected}


def bare(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """Forgets that it returns a tuple."""
    return x - lr * g


def forgetful(xp: Any, x: Any, g: Any, t: int, v: Any, lr: float = 0.1) -> Any:
    """Forgets its state."""
    return (x - lr * g,)


@pytest.mark.parametrize(
    ("rule", "message"), [(bare, "'bare' must return (x,), a tuple"), (forgetful, "'forgetful' must return (x, v)")]
)
def test_rules_with_wrong_return_values_fail_with_a_message(rule: Any, message: str) -> None:
    runs = optbench.sweep("quadratic:dim=3", rule, seeds=3, steps=5, fused=False)
    assert set(runs.table["status"]) == {"failed"}
    assert message in runs.table["error"].iloc[0]


def test_repeated_values_are_one_run() -> None:
    runs = optbench.sweep("quadratic:dim=3", "sgd", lr=[0.1, 0.2, 0.1], seeds=2, steps=5)
    assert runs.table["lr"].tolist() == [0.1, 0.2, 0.1, 0.2]
    alone = optbench.sweep("quadratic:dim=3", "sgd", lr=0.1, seeds=1, steps=5)
    np.testing.assert_allclose(present(runs.x)[0], present(alone.x)[0], rtol=1e-12)


def test_options_accept_numpy_scalars_text_and_any_iterable() -> None:
    options: Any = {"stop_at_gradient": np.float32(0.5), "checkpoint_count": np.int64(5), "steps": np.int64(20)}
    runs = optbench.sweep("quadratic:dim=3", "sgd", seeds=1, **options)
    plain = optbench.sweep("quadratic:dim=3", "sgd", seeds=1, steps=20, stop_at_gradient=0.5, checkpoint_count=5)
    assert runs.table["key"].tolist() == plain.table["key"].tolist()
    text: Any = {"seeds": "0,4", "steps": "5"}
    assert set(optbench.sweep("quadratic:dim=3", "sgd", **text).table["seed"]) == {0, 4}
    sizes: Any = np.array([5, 10])
    assert len(optbench.sweep("logistic:data=iris", "sgd", seeds=range(2), steps=3, batch_size=sizes)) == 4


def test_runs_can_be_pickled() -> None:
    runs = optbench.sweep("quadratic:dim=3", "sgd", seeds=2, steps=5)
    again = pickle.loads(pickle.dumps(runs))
    assert again.rows.equals(runs.rows)
    np.testing.assert_array_equal(again.x, runs.x)
    assert again.environments == runs.environments
