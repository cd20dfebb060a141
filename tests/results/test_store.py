"""The store and the execution of plans: no run is computed twice, lost or partially written."""

from __future__ import annotations

import concurrent.futures as cf
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optbench
from optbench.core.errors import InputError, StoreError
from optbench.results.runs import Runs
from optbench.results.schema import COLUMNS
from optbench.results.store import Store
from optbench.runner.chunks import chunks_of, for_cores
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans
from problems import Logistic, Quadratic


def plans(seeds: int = 3, **options: Any) -> list[Plan]:
    problem = Quadratic(dim=4)
    return [
        *make_plans(problem, "sgd", {"lr": [0.1, 1.0, 100.0]}, seeds=seeds, steps=200, **options),
        *make_plans(problem, "lbfgs", seeds=seeds, steps=40, **options),
    ]


def comparable(runs: Runs) -> pd.DataFrame:
    return runs.rows.drop(columns=["created", "chunk_runs"]).sort_values("key").reset_index(drop=True)


def test_stored_runs_equal_computed_runs(tmp_path: Path) -> None:
    memory = execute(plans())
    stored = execute(plans(), store=Store(tmp_path))
    assert list(stored.rows.columns) == ["problem", "method", *COLUMNS]
    left, right = comparable(memory), comparable(stored)
    pd.testing.assert_frame_equal(left.drop(columns="metrics"), right.drop(columns="metrics"))
    assert {s: int((right["status"] == s).sum()) for s in ("budget", "diverged")} == {"budget": 9, "diverged": 3}
    left, right = (runs.curves.sort_values(["key", "t"], ignore_index=True) for runs in (memory, stored))
    pd.testing.assert_frame_equal(left, right)


def test_curves_are_stored_without_a_dictionary(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    optbench.sweep("rosenbrock", "sgd", lr=1e-4, seeds=2, steps=9, store=tmp_path)
    group = pq.read_metadata(Store(tmp_path).files[0]).row_group(0)
    encodings_of = {group.column(k).path_in_schema: group.column(k).encodings for k in range(group.num_columns)}
    split = {path.split(".")[0] for path, encodings in encodings_of.items() if "BYTE_STREAM_SPLIT" in encodings}
    assert split == {"f", "best", "gradient_norm", "metrics"}
    assert "RLE_DICTIONARY" in encodings_of["description"]


def test_a_second_run_computes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = execute(plans(), store=Store(tmp_path))
    files = {path: path.stat().st_mtime_ns for path in Store(tmp_path).files}
    monkeypatch.setattr("optbench.runner.execute.compute", None)
    started: list[Any] = []
    second = execute(plans(), store=Store(tmp_path), on_start=lambda *a: started.append(a))
    assert started == [(0, 0, 12)]
    assert {path: path.stat().st_mtime_ns for path in Store(tmp_path).files} == files
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.curves, second.curves)


def test_more_seeds_compute_only_missing_runs(tmp_path: Path) -> None:
    execute(plans(2), store=Store(tmp_path))
    started: list[Any] = []
    runs = execute(plans(5), store=Store(tmp_path), on_start=lambda *a: started.append(a))
    assert started[0][1:] == (12, 8)
    assert len(runs) == 20
    whole = comparable(execute(plans(5)))
    np.testing.assert_allclose(comparable(runs)["f_best"], whole["f_best"], rtol=1e-9, atol=1e-25)


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = comparable(execute(plans(), store=Store(tmp_path / "whole")))
    monkeypatch.setattr("optbench.runner.chunks.CHUNK_BYTES", 1)
    monkeypatch.setattr("optbench.runner.chunks.CHUNK_RUNS", 2)
    done = 0

    def interrupt(work: float) -> None:
        nonlocal done
        done += 1
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(plans(), store=Store(tmp_path / "parts"), progress=interrupt)
    stored = len(Store(tmp_path / "parts").keys())
    assert 0 < stored < 12
    runs = execute(plans(), store=Store(tmp_path / "parts"))
    np.testing.assert_allclose(comparable(runs)["f_best"], whole["f_best"], rtol=1e-9, atol=1e-25)


def test_a_failed_write_leaves_no_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    store = Store(tmp_path)
    execute(plans(1), store=store)
    before = store.files
    request.getfixturevalue("full_disk")
    with pytest.raises(StoreError, match="No space left"):
        execute(plans(2), store=store)
    assert store.files == before
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(store.load()) == 4


def test_stray_temporary_files_are_ignored_and_a_broken_file_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    execute(plans(1), store=store)
    (store.files[0].parent / "abc.tmp").write_bytes(b"half")
    assert len(store.load()) == 4
    store.files[0].write_bytes(b"not parquet")
    with pytest.raises(StoreError, match=f"{store.files[0].name} cannot be read"):
        store.load()


def test_a_foreign_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "v3" / "aa").mkdir(parents=True)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "v3" / "aa" / "x.parquet")
    for read in (Store(tmp_path).load, Store(tmp_path).keys):
        with pytest.raises(StoreError, match=r"x\.parquet cannot be read"):
            read()


def test_results_of_another_version_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "v1" / "aa").mkdir(parents=True)
    store = Store(tmp_path)
    for use in (store.load, store.check_writable):
        with pytest.raises(StoreError, match=r"v1' was written by another version of optbench.*choose another folder"):
            use()
    (tmp_path / "races" / "v2").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"v2' was written by another version"):
        store.load_races()
    assert store.load_table("gpu").empty


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results folder"):
        Store(tmp_path / "absent").load()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        execute(plans(1), store=Store(tmp_path / "file"))


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a file system that refuses to be written")
def test_a_read_only_folder() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        execute(plans(1), store=Store("/proc/results"))


def broken(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A rule that raises an error."""
    if t == 5:
        raise ZeroDivisionError("a defect")
    return (x - lr * g,)


def repaired(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """The same rule without the error."""
    return (x - lr * g,)


def test_failed_runs_are_stored_and_repeated_only_on_request(tmp_path: Path) -> None:
    problem = Quadratic(dim=4)
    requested = make_plans(problem, broken, {"lr": [0.1, 0.2]}, seeds=2, steps=20)
    runs = execute(requested, store=Store(tmp_path))
    assert set(runs.rows["status"]) == {"failed"}
    (error,) = set(runs.rows["error"])
    assert error.startswith("ZeroDivisionError: a defect (test_store.py, line ")
    assert runs.curves.empty
    started: list[Any] = []
    execute(requested, store=Store(tmp_path), on_start=lambda *a: started.append(a))
    assert started[0][1:] == (0, 4)
    (plan,) = requested
    repaired_plans = [dataclasses.replace(plan, recipe=plan.recipe._replace(target=repaired))]
    runs = execute(repaired_plans, store=Store(tmp_path), retry_failed=True)
    assert set(runs.rows["status"]) == {"budget"}
    assert len(Store(tmp_path).load()) == 4


def test_the_newest_version_of_the_code_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(plans(1), store=Store(tmp_path))
    monkeypatch.setattr(Quadratic, "code_version", "newer")
    runs = execute(plans(1), store=Store(tmp_path))
    everything = Store(tmp_path).load()
    assert len(Store(tmp_path).keys()) == 8
    assert set(everything.rows["key"]) == set(runs.rows["key"])


def test_a_changed_data_file_is_another_problem(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    for shift in (0, 1):
        values = np.random.default_rng(shift).standard_normal((20, 2))
        lines = [f"{a:.6f},{b:.6f},{int(a > 0)}" for a, b in values]
        data.write_text("\n".join(["a,b,label", *lines]))
        optbench.sweep(Logistic(data=str(data)), "sgd", seeds=1, steps=10, store=tmp_path / "store")
    runs = Store(tmp_path / "store").load()
    assert runs.rows["problem"].nunique() == 2
    assert all("[data " in name for name in runs.rows["problem"])


def test_processes_give_the_same_numbers(tmp_path: Path) -> None:
    alone = comparable(execute(plans(), store=Store(tmp_path / "one"), jobs=1))
    many = comparable(execute(plans(), store=Store(tmp_path / "two"), jobs=2))
    pd.testing.assert_frame_equal(alone, many)


def test_a_cut_plan_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optbench.runner.chunks.MIN_CORE_SECONDS", 0.0)
    requested = make_plans(Quadratic(dim=300), "adam", {"lr": [0.01 * (k + 1) for k in range(10)]}, seeds=10, steps=20)
    requested = for_cores(requested)
    assert sum(1 for plan in requested for _ in chunks_of(plan)) == 4
    alone, *others = [execute(requested, jobs=jobs) for jobs in (1, 2, 4)]
    for many in others:
        pd.testing.assert_frame_equal(many.rows.drop(columns="created"), alone.rows.drop(columns="created"))
        np.testing.assert_array_equal(many.x, alone.x)


def sees_threads(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A rule that fails unless BLAS computes on one thread."""
    from threadpoolctl import threadpool_info

    if any(pool["num_threads"] != 1 for pool in threadpool_info() if pool["user_api"] == "blas"):
        raise RuntimeError("several threads")
    return (x - lr * g,)


@pytest.mark.parametrize("jobs", [1, 2])
def test_chunks_are_computed_on_one_blas_thread(jobs: int) -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    problems = [Quadratic(dim=4), Quadratic(dim=5)]
    with threadpool_limits(2, user_api="blas"):
        runs = execute([plan for p in problems for plan in make_plans(p, sees_threads, seeds=1, steps=3)], jobs=jobs)
        threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert set(runs.rows["status"]) == {"budget"}
    assert runs.environments[0]["blas threads"] == "1"
    assert threads <= {1, 2}
    assert max(threads) == min(2, os.cpu_count() or 1)


def test_any_executor_works(tmp_path: Path) -> None:
    alone = comparable(execute(plans()))
    with cf.ThreadPoolExecutor(2) as pool:
        threads = comparable(execute(plans(), executor=pool))
    pd.testing.assert_frame_equal(alone, threads)


def deadly(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """A rule that ends its process."""
    os._exit(3)


def test_a_dying_process_loses_only_its_own_runs(tmp_path: Path) -> None:
    problem = Quadratic(dim=4)
    requested = [
        *make_plans(problem, deadly, seeds=1, steps=5),
        *make_plans(problem, repaired, seeds=2, steps=5),
        *make_plans(problem, "adam", seeds=2, steps=5),
    ]
    runs = execute(requested, store=Store(tmp_path), jobs=2)
    statuses = {method: set(rows["status"]) for method, rows in runs.rows.groupby("method")}
    assert statuses == {"deadly": {"failed"}, "repaired": {"budget"}, "adam": {"budget"}}
    assert "ended its process: exit code 3" in runs.rows.loc[runs.rows["method"] == "deadly", "error"].iloc[0]


def test_dask_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    local = {"n_workers": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**local) as cluster, distributed.Client(cluster) as client:
        runs = execute(plans(1), store=Store(tmp_path), executor=client.get_executor(pure=False))
    assert len(runs) == 4


def test_jobs_must_be_positive() -> None:
    with pytest.raises(InputError, match="jobs must be at least 1"):
        execute(plans(1), jobs=0)


def test_the_environment_is_recorded(tmp_path: Path) -> None:
    runs = execute(plans(1), store=Store(tmp_path))
    (environment,) = runs.environments
    assert environment["numpy"] == np.__version__
    assert {"python", "processor", "cores", "system", "optbench", "commit"} <= set(environment)
