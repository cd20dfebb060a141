"""Worker pools: they are reused, replaced when modules or paths change, and end with their parent or when idle."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optbench
from optbench.core import workers
from optbench.core.backend import get_backend
from optbench.runner.execute import execute
from optbench.runner.plan import make_plans
from problems import Logistic, Quadratic


@pytest.fixture(autouse=True)
def no_pool() -> Iterator[None]:
    """Every test begins and ends without workers."""
    workers.dismiss_idle()
    yield
    workers.dismiss_idle()


def pid(_: int = 0) -> int:
    time.sleep(0.05)
    return os.getpid()


def blas_threads() -> set[int]:
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def die() -> None:
    os._exit(3)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(process: int) -> bool:
    """Whether a process ends within ten seconds."""
    until = time.monotonic() + 10
    while alive(process) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(process)


def test_a_pool_is_reused_by_the_next_call() -> None:
    pool = workers.acquire(2)
    first = pool.submit(pid).result()
    workers.release(pool)
    assert workers.idle_size() == 2
    again = workers.acquire(1)
    assert again is pool
    assert workers.idle_size() == 0
    assert again.submit(pid).result() == first
    workers.release(again)


def test_workers_have_one_blas_thread() -> None:
    pool = workers.acquire(1)
    assert pool.submit(blas_threads).result() == {1}
    workers.release(pool)


def test_a_larger_pool_replaces_a_smaller_one() -> None:
    small = workers.acquire(1)
    workers.release(small)
    large = workers.acquire(2)
    assert large is not small
    workers.release(large)
    assert workers.idle_size() == 2


def test_one_of_two_pools_stays_alive() -> None:
    first, second = workers.acquire(1), workers.acquire(1)
    assert first is not second
    workers.release(first)
    workers.release(second)
    assert workers.acquire(1) is first


def test_changed_modules_need_a_new_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    (tmp_path / "some_rules.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    rules = importlib.import_module("some_rules")
    pool = workers.acquire(1)
    workers.release(pool)
    assert workers.acquire(1) is pool
    workers.release(pool)

    importlib.reload(rules)  # workers may have loaded the old source
    other = workers.acquire(1)
    assert other is not pool
    workers.release(other)

    monkeypatch.chdir(tmp_path)  # relative paths have changed
    assert workers.acquire(1) is not other
    monkeypatch.delitem(sys.modules, "some_rules")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_idle_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    pool = workers.acquire(1)
    worker = pool.submit(pid).result()
    workers.release(pool)
    assert gone(worker)
    assert workers.idle_size() == 0


def runs(jobs: int | None) -> Any:
    plans = [
        plan
        for optimizer in ("sgd", "momentum", "adam")
        for plan in make_plans(Quadratic(dim=4), optimizer, seeds=2, steps=20)
    ]
    return execute(plans, jobs=jobs).rows.drop(columns="created")


def test_calls_share_workers_and_survive_their_death() -> None:
    alone = runs(1)
    assert runs(2).equals(alone)
    pool = workers.acquire(2)
    with pytest.raises(workers.WorkerDiedError):
        pool.submit(die).result()
    assert pool.submit(pid).result() != os.getpid()  # another worker takes its place
    workers.release(pool)
    assert runs(2).equals(alone)


def test_more_workers_than_jobs_are_not_used() -> None:
    pool = workers.acquire(4)
    workers.release(pool)
    assert runs(2).equals(runs(1))
    assert len(pool._workers) <= 2
    assert workers.idle_size() == 4


def test_what_cannot_be_pickled_fails_alone() -> None:
    def local(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
        """A rule that cannot be pickled."""
        return (x - lr * g,)

    problem = Quadratic(dim=4)
    plans = [*make_plans(problem, local, seeds=2, steps=5), *make_plans(problem, "sgd", seeds=2, steps=5)]
    rows = execute(plans, jobs=2).rows
    assert {m: set(part["status"]) for m, part in rows.groupby("method")} == {"local": {"failed"}, "sgd": {"budget"}}
    assert "local" in rows.loc[rows["method"] == "local", "error"].iloc[0]


def identity(problem: Any) -> tuple[int, float]:
    return id(problem), problem.optimum.f


def test_a_worker_caches_problems(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"

    def data(shift: int) -> Logistic:
        rows = np.random.default_rng(shift).standard_normal((20, 2))
        path.write_text("\n".join(["a,b,label", *(f"{a:.6f},{b:.6f},{int(a > 0)}" for a, b in rows)]))
        problem = Logistic(data=str(path))
        assert problem.optimum is not None
        return problem

    pool = workers.acquire(1)
    first = data(0)
    sent = [pool.submit(identity, problem).result() for problem in (first, first.on(first.backend), first)]
    assert len(set(sent)) == 1
    assert sent[0][1] == first.f_star
    single = first.on(get_backend("numpy", precision="float32"))
    assert pool.submit(identity, single).result() != sent[0]
    other = data(1)  # the same path, but another problem
    assert pool.submit(identity, other).result()[1] == other.f_star != first.f_star
    workers.release(pool)


def test_problems_are_not_cached_in_this_process() -> None:
    problem = Quadratic(dim=4)
    assert pickle.loads(pickle.dumps(problem)) is not pickle.loads(pickle.dumps(problem))
    single = problem.on(get_backend("numpy", precision="float32"))
    assert single.host is problem
    assert problem.backend.precision == "float64"


SCRIPT = """
import signal
import optbench
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background of a shell ignore it
    print("begun", flush=True)
    problem = "logistic:data=synthetic,rows=4000,columns=100"
    optbench.sweep(problem, "adam", lr=[0.1, 0.2, 0.3, 0.4], seeds=50, steps=10**6, jobs=2)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, sign: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    threads = Path(f"/proc/{process.pid}/task")
    try:
        until = time.monotonic() + 60
        started: list[str] = []
        while len(started) < 3 and time.monotonic() < until:  # with the resource tracker
            time.sleep(0.05)
            started = [pid for path in threads.glob("*/children") for pid in path.read_text().split()]
        assert len(started) == 3
        time.sleep(1.5 if sign is signal.SIGKILL else 0.1)  # while they import, and while they work
        process.send_signal(sign)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - begun < 5
        assert all(gone(int(child)) for child in started)
        if sign is signal.SIGINT:
            assert errors.count("Traceback") == 1
            assert errors.rstrip().endswith("KeyboardInterrupt")
    finally:
        process.kill()
        process.communicate()


def test_a_process_with_idle_workers_ends_without_messages(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from optbench.core import workers\n"
        "if __name__ == '__main__':\n"
        "    pool = workers.acquire(2)\n    pool.warm()\n    workers.release(pool)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_leaves_the_workers_to_its_parent() -> None:
    pool = workers.acquire(1)
    first = pool.submit(pid).result()
    workers.release(pool)
    child = os.fork()
    if not child:
        os._exit(workers.idle_size())
    assert os.waitpid(child, 0)[1] == 0
    assert pool.submit(pid).result() == first


def test_jobs_none_gives_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    few = optbench.sweep("quadratic:dim=4", "sgd", seeds=2, steps=20, jobs=None)
    assert workers.idle_size() == 0  # small work runs in this process
    assert len(few) == 2
    monkeypatch.setattr("optbench.runner.execute.START_SECONDS", -1.0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert runs(None).equals(runs(1))
    assert workers.idle_size() == 2
