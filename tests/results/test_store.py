"""The store and the execution of plans: no run is computed twice, lost or partially written."""

from __future__ import annotations

import concurrent.futures as cf
import errno
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import optbench
from optbench.core.errors import InputError, StoreError
from optbench.results import files
from optbench.results.files import write_file
from optbench.results.runs import Runs
from optbench.results.schema import COLUMNS, from_parquet, to_arrow, to_parquet, verify
from optbench.results.store import Store
from optbench.runner.chunks import chunks_of, for_cores
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans
from problems import Logistic, Quadratic
from tests.rows import race_rows
from tests.rows import stored_row as row


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


@pytest.mark.parametrize("again", ["failed", "budget"])
def test_a_failure_never_hides_a_result(again: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([row("a"), row("b", "failed")])
    store.write([row("a", "failed", created="2"), row("b", again, created="2"), row("c", "failed", "a", created="3")])
    assert store.keys() == {"a", "b", "c"}
    assert store.keys(failed=False) == {"a", *("b" * (again == "budget"))}
    statuses = store.load().rows.set_index("key")["status"].to_dict()
    assert statuses == {"a": "budget", "b": again}
    # what is asked for by its key is not replaced by another version of the code
    assert store.load(["a", "c", "absent"]).rows.set_index("key")["status"].to_dict() == {"a": "budget", "c": "failed"}
    assert store.load(["b"]).rows["created"].tolist() == ["2"]


def test_environments_are_those_of_the_loaded_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key, created in (("a", "1"), ("b", "2")):
        store.write_runs(to_arrow([row(key, identity="same", created=created)]), {"machine": key})
    assert store.load().environments == [{"machine": "b"}]
    assert store.load(["a"]).environments == [{"machine": "a"}]


def damage(data: bytes, kind: str, place: float) -> bytes:
    """The bytes of a file after a fault at a place between 0 and 1."""
    at = int(place * len(data))
    if kind == "bit":
        return data[:at] + bytes([data[at] ^ (1 << int(place * 8e6) % 8)]) + data[at + 1 :]
    return data[:at] + (b"\0" * (len(data) - at) if kind == "zeros" else b"")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = Store(tmp_path_factory.mktemp("whole")).write([row(key) for key in "abc"])
    return path, path.read_bytes()


@pytest.mark.parametrize("kind", ["bit", "truncated", "zeros"])
def test_no_fault_of_a_file_goes_unnoticed(kind: str, whole: tuple[Path, bytes]) -> None:
    path, data = whole

    def read(content: bytes) -> pa.Table:
        if verify(content) != path.stem:
            raise StoreError("it has the name of another file")
        return from_parquet(content, COLUMNS)

    assert read(data).num_rows == 3
    for place in [*np.random.default_rng(1).random(600), 0.0, 1 - 1e-9]:
        if (changed := damage(data, kind, place)) != data:
            with pytest.raises(StoreError):
                read(changed)


def test_pages_have_checksums_that_any_reader_can_verify(whole: tuple[Path, bytes]) -> None:
    data = bytearray(whole[1])
    group = pq.read_metadata(whole[0]).row_group(0)
    column = next(k for k in range(group.num_columns) if group.column(k).path_in_schema.startswith("f."))
    data[group.column(column).data_page_offset + group.column(column).total_compressed_size - 1] ^= 1
    with (
        pytest.raises(OSError, match="CRC"),
        pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True) as file,
    ):
        file.read()


def inconsistent_tables() -> dict[str, pa.Table]:
    """Tables that are no runs, by what is wrong with them."""
    rows = [row("a"), row("b")]
    table = to_arrow(rows)

    def changed(**columns: Any) -> pa.Table:
        return to_arrow([rows[0], rows[1] | columns])

    return {
        "no column 'f'": table.drop_columns("f"),
        "dtype": table.set_column(table.schema.get_field_index("seed"), "seed", pa.array(["0", "1"])),
        "foreign": pa.table({"a": [1]}),
        "another column": table.append_column("mine", pa.array([1, 2])),
        "a column twice": table.append_column("seed", table.column("seed")),
        "length of f": changed(f=[1.0]),
        "length of t": changed(t=[1, 2, 3]),
        "length of a metric": changed(metrics=[("accuracy", [0.5])]),
        "null metric": changed(metrics=[("accuracy", None)]),
        "targets": changed(calls_to_target=[1.0]),
        "status": changed(status="unheard of"),
        "no status": changed(status=None),
        "no key": changed(key=None),
        "key twice": changed(key="a"),
        "no JSON": changed(settings="{"),
        "no object": changed(fixed="[]"),
    }


@pytest.mark.parametrize("what", inconsistent_tables())
def test_an_inconsistent_file_is_put_aside_and_the_rest_is_used(what: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([row("good")])
    data, digest = to_parquet(inconsistent_tables()[what], {"environment": {}})
    bad = tmp_path / "v3" / "ab" / f"{digest}.parquet"
    write_file(bad, data)
    with pytest.warns(UserWarning, match=f"1 file of the results folder .*{digest}.*moved to .*quarantine"):
        assert store.load().rows["key"].tolist() == ["good"]
    assert not bad.exists()
    assert (tmp_path / "quarantine" / "v3" / "ab" / bad.name).read_bytes() == data
    assert store.keys() == {"good"}  # without another warning


@pytest.mark.parametrize("what", ["length of f", "key twice", "status"])
def test_inconsistent_rows_are_not_stored(what: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="these rows cannot be stored: "):
        Store(tmp_path).write_runs(inconsistent_tables()[what], {})
    assert not Store(tmp_path).files


def spoil(store: Store) -> None:
    """Everything that may be found in a folder in place of a file of runs."""
    one, two = (store.write([row(key)]) for key in ("one", "two"))
    one.write_bytes(one.read_bytes()[:-1])
    two.rename(two.with_name("0" * 64 + ".parquet"))
    folder = store.path / "v3" / "ff"
    folder.mkdir(exist_ok=True)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "foreign.parquet")
    (folder / "empty.parquet").touch()
    (folder / "folder.parquet").mkdir()
    (folder / "nowhere.parquet").symlink_to("absent")
    os.mkfifo(folder / "pipe.parquet")
    data, digest = to_parquet(to_arrow([row("old")]), {"schema": 2})
    write_file(folder / f"{digest}.parquet", data)


def test_one_warning_names_all_files_that_cannot_be_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([row("good")])
    spoil(store)
    with pytest.warns(UserWarning, match="8 files of the results folder") as caught:
        assert store.keys() == {"good"}
    assert len(caught) == 1
    assert len([*(tmp_path / "quarantine").rglob("*.parquet")]) == 8
    spoil(store)
    with pytest.warns(UserWarning, match="8 files"):  # names that are in the quarantine already are not replaced
        store.load()
    assert len([*(tmp_path / "quarantine").rglob("*.parquet*")]) == 16
    assert len(store.load()) == 1


def test_another_version_is_named(tmp_path: Path) -> None:
    data, digest = to_parquet(to_arrow([row("a")]), {"schema": 2})
    write_file(tmp_path / "v3" / "aa" / f"{digest}.parquet", data)
    with pytest.warns(UserWarning, match="it has version 2 of the schema, and this optbench reads 3"):
        Store(tmp_path).load()


def test_damaged_races_are_put_aside_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_race(race_rows("a"))
    other = store.write_table("races", "other", [{"a": 1.0}], {"a": ("double", "a number")})
    gpu = store.write_table("gpu", "b", [{"a": 1.0}], {"a": ("double", "a number")})
    gpu.write_bytes(gpu.read_bytes()[:-99])
    with pytest.warns(UserWarning, match=f"{other.name}: it has other columns than it must have"):
        assert len(store.load_races()) == 3
    with pytest.warns(UserWarning, match=f"{gpu.name}: .* its content does not match its digest"):
        assert store.load_table("gpu").empty
    assert not gpu.exists()


def test_where_nothing_can_be_moved_the_rest_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write([row("good")])
    store.write([row("bad")]).write_bytes(b"not parquet")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.warns(UserWarning, match="1 file .* cannot be moved"):
        assert store.keys() == {"good"}
    assert store.load().rows["key"].tolist() == ["good"]  # without another warning


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_file_that_cannot_be_read_now_stays(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    path = store.write([row("a")])

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        for read in (store.load, store.keys):
            with pytest.raises(StoreError, match=f"{path.name} cannot be read .{os.strerror(number)}"):
                read()
    assert len(store.load()) == 1


def test_files_that_are_replaced_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    small = [store.write([row(key)]) for key in "abc"]
    read_file, lock = files.read_file, threading.Lock()

    def replaced(path: Path) -> bytes:
        with lock:
            if small:
                store.write([row(key) for key in "abc"])
                for each in small:
                    each.unlink()
                small.clear()
        return read_file(path)

    monkeypatch.setattr("optbench.results.files.read_file", replaced)
    assert store.keys() == {"a", "b", "c"}


def test_two_writers_of_the_same_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with cf.ThreadPoolExecutor(8) as pool:
        paths = {*pool.map(store.write, [[row("a"), row("b")]] * 16)}
    assert {*store.files} == paths
    assert len(paths) == 1
    assert len(store.load()) == 2


def test_a_folder_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    store = Store("results")
    monkeypatch.chdir(tmp_path / "b")
    store.write([row("a")])
    assert len(Store(tmp_path / "a" / "results").load()) == 1
    assert not [*(tmp_path / "b").iterdir()]
    assert pickle.loads(pickle.dumps(store)).path == store.path


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([row("a")])
    store.write_race(race_rows("a"))
    for folder in (store.files[0].parent, store.table_files("races")[0].parent):
        (folder / "old.tmp").touch()
        os.utime(folder / "old.tmp", (0, 0))
        (folder / "new.tmp").touch()
    store.check_writable()
    assert [path.name for path in tmp_path.rglob("*.tmp")] == ["new.tmp", "new.tmp"]


def test_a_store_deleted_midway_is_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.check_writable()
    store.write([row("a")])
    shutil.rmtree(tmp_path / "results")
    store.write([row("b")])
    assert store.keys() == {"b"}


@pytest.mark.parametrize(
    ("name", "reason"), [("", "it is empty"), ("a\0b", "null character"), ("a\udcff", "not UTF-8")]
)
def test_names_that_no_folder_has(name: str, reason: str) -> None:
    with pytest.raises(StoreError, match=f"cannot be the name of a results folder: .*{reason}"):
        Store(name)


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


def test_a_folder_that_appears_meanwhile_is_no_other_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, is_dir = Store(tmp_path), Path.is_dir

    def create_after(path: Path) -> bool:
        found = is_dir(path)
        if path.name.startswith("v"):
            path.mkdir(parents=True, exist_ok=True)
        return found

    monkeypatch.setattr(Path, "is_dir", create_after)
    assert len(store.load_table("races")) == 0
    assert is_dir(tmp_path / "races" / "v3")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "file", "loop", "pipe", "file/below", "long" * 100):
        with pytest.raises(StoreError, match="no results folder"):
            Store(tmp_path / name).load()
        if name != "absent":
            with pytest.raises(StoreError, match=r"cannot be written .*choose another folder"):
                Store(tmp_path / name).check_writable()


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


def test_failed_runs_are_stored_and_repeated_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(broken, "__code__", repaired.__code__)
    runs = execute(requested, store=Store(tmp_path), retry_failed=True)
    assert set(runs.rows["status"]) == {"budget"}
    assert len(Store(tmp_path).load()) == 4


def test_the_newest_version_of_the_code_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(plans(1), store=Store(tmp_path))
    monkeypatch.setattr(Quadratic, "max_hessian_dim", 4999)
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
    local = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
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
