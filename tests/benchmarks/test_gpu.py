"""The comparison of a GPU with the CPU on known answers and on simulated devices.

Tests that need a GPU: fused rules, eigenvectors, curves, and that no step waits.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optbench
from optbench.cli import main
from optbench.compile import rules as fusing
from optbench.core.backend import Backend, get_backend, gpu_problem
from optbench.core.column import Column
from optbench.core.errors import StoreError
from optbench.core.registry import OPTIMIZERS, PROBLEMS
from optbench.core.specs import parameters, state_names
from optbench.optimizer import make_recipe
from optbench.problem import make_problem
from optbench.results.runs import Runs
from optbench.results.schema import to_arrow, to_frame
from optbench.results.store import Store
from optbench.runner.chunks import chunks_of
from optbench.runner.loop import Loop, init_state
from optbench.runner.plan import make_plans
from reports import build_page
from reports.figures.crossover import crossing
from reports.sections.gpu import tables_of
from tests.conftest import gpu_waits_forbidden, host_reads_forbidden, made_backend, run_python, strict_backend

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import gpu  # noqa: E402

HOST = get_backend("cpu")
RULES = [
    name for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name]) and OPTIMIZERS.traits(name).elementwise
]


# ---- the envelope ----------------------------------------------------------------------------------------------------


def test_the_envelope_is_the_largest_effect_nearby() -> None:
    values = np.ones((30, 1, 3))
    values[12, 0, 1] = 1.5
    values[12, 0, 2] = 0.25
    allowed = gpu.envelope(values, 1e-3)[:, 0]
    for t in range(30):  # two steps and a tenth before and after
        assert allowed[t] == pytest.approx(gpu.FACTOR * ((0.75 if 10 <= t <= 15 else 0) + 1e-3)), t


def test_the_first_step_out() -> None:
    reference, allowed = np.ones((5, 2)), np.full((5, 2), 0.1)
    values = reference + np.array([0, 0.05, 0.09, 0.2, 0.0])[:, None] * [[1.0, 0.0]]
    out, share = gpu.first_out(values, reference, allowed)
    assert out == 3
    assert share == pytest.approx(2)
    out, share = gpu.first_out(reference, reference, np.zeros((5, 2)))
    assert np.isnan(out)
    assert share == 0
    values[1, 1] = np.nan
    assert gpu.first_out(values, reference, allowed) == (1, np.inf)
    allowed[1:] = np.nan  # no comparison where the copies have diverged
    assert np.isnan(gpu.first_out(values, reference, allowed)[0])


def test_rounding_stays_inside_and_a_wrong_precision_does_not() -> None:
    problem, recipe = make_problem("logistic", {"data": "iris"}), make_recipe("adam")
    make: dict[str, Any] = {"seeds": (0, 1), "steps": 60}

    def run(precision: str) -> np.ndarray:
        backend = dataclasses.replace(HOST, precision=precision)
        return gpu.trajectory(problem.on(backend), recipe.build({"lr": 0.01}), **make)[..., 0]

    allowed = {}
    for precision in ("float64", "float32"):
        eps = float(np.finfo(precision).eps)
        values = gpu.trajectory(problem, recipe.build({"lr": 0.01}), **make, copies=gpu.COPIES, jitter=eps)
        assert values.shape == (61, 2, gpu.COPIES)
        np.testing.assert_allclose(values[..., 0], run("float64"), rtol=1e-12)
        allowed[precision] = gpu.envelope(values, eps)
    assert gpu.first_out(run("float32"), run("float64"), allowed["float32"])[1] < 1
    assert gpu.first_out(run("float32"), run("float64"), allowed["float64"])[0] == 0


def test_a_small_error_of_the_matrix_leaves_the_envelope() -> None:
    rows = list(gpu.curves(HOST, HOST, names=("quadratic:dim=5",), steps=30, seeds=1))
    quantities = {"first step out", "share of envelope"}
    assert {row["quantity"] for row in rows} == quantities
    assert {row["contender"] for row in rows} == {"gpu", "gpu fused", "cpu"}
    assert all(row["value"] < 1 for row in rows if row["quantity"] == "share of envelope")
    assert all(np.isnan(row["value"]) for row in rows if row["quantity"] == "first step out")

    problem = make_problem("quadratic", {"dim": 5})
    wrong = make_problem("quadratic", {"dim": 5, "condition": 100.01})
    build = make_recipe("momentum").build
    right, off = (gpu.trajectory(p, build({"lr": 0.1}), (0,), 30)[..., 0] for p in (problem, wrong))
    eps = float(np.finfo("float32").eps)
    allowed = gpu.envelope(gpu.trajectory(problem, build({"lr": 0.1}), (0,), 30, copies=8, jitter=eps), eps)
    assert gpu.first_out(off, right, allowed)[0] >= 0


def test_values_stay_on_the_device_until_the_end() -> None:
    problem = make_problem("mlp", {"data": "moons", "rows": 40, "hidden": "4"}).on(strict_backend())
    with host_reads_forbidden():
        values = gpu.trajectory(problem, make_recipe("momentum").build({"lr": 0.1}), (0, 1), 5, batch=8)
    reference = gpu.trajectory(problem.host, make_recipe("momentum").build({"lr": 0.1}), (0, 1), 5, batch=8)
    np.testing.assert_allclose(values, reference, rtol=1e-12)


# ---- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "size"),
    [
        ([0.1, 10, 100], 10**1.5),  # a straight line in logarithms
        ([2, 3, 4], 10),
        ([0.1, 0.2, 0.9], np.inf),
        ([2, 0.5, 2], 10**2.5),  # a gain that is lost again does not count
        ([0.5, 1.0, 2.0], 100),
        ([], np.nan),
    ],
)
def test_crossing(ratios: list[float], size: float) -> None:
    assert crossing([10, 100, 1000][: len(ratios)], ratios) == pytest.approx(size, nan_ok=True)


def figures(rows: list[dict[str, Any]]) -> pd.DataFrame:
    common = {
        "measurement": "20260102T000000-a", "created": "2026-01-02T00:00:00", "machine": "A <GPU>",
        "processor": "some CPU", "precision": "float64", "repeat": 0, "note": "",
    }  # fmt: skip
    return to_frame(to_arrow([common | row for row in rows], gpu.COLUMNS))


def test_tables_of_known_numbers(tmp_path: Path) -> None:
    curve = {"section": "curves", "case": "quadratic:dim=5, adam", "contender": "gpu"}
    step = {"section": "steps", "case": "adam", "size": 1000, "quantity": "bytes a second"}
    sweep = {"section": "sweeps", "case": "quadratic d=10, adam", "size": 100}
    sweep |= {"quantity": "seconds", "note": "20 steps"}
    size: dict[str, Any] = {"section": "sizes", "case": "rosenbrock", "quantity": "seconds a step", "note": "d"}
    rows: list[dict[str, Any]] = [
        curve | {"quantity": "first step out", "value": np.nan, "note": "of 200 steps"},
        curve | {"quantity": "share of envelope", "value": 0.25},
        curve | {"contender": "gpu fused", "quantity": "first step out", "value": 7.0, "note": "of 200 steps"},
        curve | {"contender": "gpu fused", "quantity": "share of envelope", "value": np.inf},
        step | {"case": "copy", "contender": "copy", "value": 2e12},
        *(step | {"contender": "fused", "repeat": k, "value": v} for k, v in enumerate((1e12, 1.5e12, 9e12))),
        sweep | {"contender": "cpu", "value": 8.0},
        sweep | {"contender": "gpu", "value": 2.0},
        sweep | {"contender": "jax on gpu", "value": None, "note": "no JAX here"},
        sweep | {"contender": "gpu", "quantity": "deviation after 20 steps", "value": 1e-15},
        sweep | {"contender": "gpu", "quantity": "peak bytes of the pool", "value": 2.0**22},
        *(size | {"size": n, "contender": "cpu", "value": 1e-6 * n} for n in (10, 1000)),
        *(size | {"size": n, "contender": "gpu", "value": 1e-4} for n in (10, 1000)),
        size | {"size": 10_000, "contender": "gpu", "value": None, "note": "d; OutOfMemoryError"},
        # an older measurement of the same GPU is not shown
        curve | {"measurement": "20250101T000000-b", "quantity": "first step out", "value": 1.0, "case": "old"},
    ]
    tables = tables_of(figures(rows))
    cells = {
        name: [
            [getattr(cell.text, "name", cell.text) for cell in row.cells] for _, rows in table.groups for row in rows
        ]
        for name, table in tables.items()
    }
    assert cells == {
        "curves": [["quadratic:dim=5, adam", "never of 200 steps (0.25)", "step 7 (not finite)", "", "", ""]],
        "steps": [["adam", "1000", "2000", "1500 (0.75)", "–", "–", "–", "–"]],
        "sweeps": [["quadratic d=10, adam, 100 runs, 20 steps", "float64", "8", "2", "–", "4", "–", "1.00e-15", "4"]],
        "sizes": [["rosenbrock", "d", "100", "10 at 1000", "–", "–"]],
    }
    assert all(len(tables[name].heads) == len(lines[0]) for name, lines in cells.items())

    text = build_page(Runs.from_rows([]), tmp_path / "a.html", gpu=figures(rows)).read_text("utf-8")
    assert "GPU against CPU" in text
    assert "A &lt;GPU&gt;" in text
    assert "1500 (0.75)" in text
    assert "GPU against CPU" not in build_page(Runs.from_rows([]), tmp_path / "b.html").read_text("utf-8")


# ---- all of it on pretended devices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["strict", "numpy"])
def test_the_script_on_a_simulated_device(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = strict_backend() if name == "strict" else HOST
    store = Store(tmp_path / "results")
    messages: list[str] = []
    measurement = gpu.measure(HOST, device, store, quick=True, names=("quadratic", "beale"), report=messages.append)
    assert [line.split(":")[0] for line in messages] == ["curves", "steps", "sweeps", "sizes"]
    assert len(store.table_files("gpu")) == 4
    rows = store.load_table("gpu")
    assert list(rows.columns) == list(gpu.COLUMNS)
    assert set(rows["measurement"]) == {measurement}
    refused = rows[rows["note"].str.startswith("not compiled")]
    assert len(refused) == (0 if name == "numpy" else len(rows[rows["contender"].isin(["gpu fused", "fused"])]))
    assert refused["value"].isna().all()
    rows = rows.drop(refused.index)
    shares = rows.loc[rows["quantity"] == "share of envelope", "value"]
    assert (shares <= 1).all()
    apart = rows.loc[rows["quantity"] == "deviation after 20 steps"]
    assert (apart.loc[apart["precision"] == "float64", "value"] < 1e-12).all()
    assert (rows.loc[rows["quantity"].isin(["bytes a second", "seconds a step"]), "value"] > 0).all()
    assert [len(table) for table in tables_of(store.load_table("gpu")).values()] == [10, 4, 16, 2]

    if name == "numpy":  # slow with the other backend
        gpu.measure(HOST, device, store, quick=True, names=("beale",), report=messages.append)
        assert len(store.table_files("gpu")) == 8  # no file is overwritten
    assert main(["report", str(tmp_path / "results")]) == 0
    assert "Size at which the GPU takes over" in (tmp_path / "results" / "report.html").read_text("utf-8")


def test_what_does_not_run_compiled_is_not_called_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "compiled", lambda *_: "its compiled form differs")
    curves = list(gpu.curves(HOST, HOST, names=("quadratic:dim=5",), steps=3, seeds=1))
    steps = list(gpu.steps(HOST, sizes=(100,), seconds=1e-3, repeats=1))
    fused = [row for row in [*curves, *steps] if "fused" in row["contender"]]
    assert len(fused) == 2 * 3 + 2 * 2  # precisions times rules
    reason = "not compiled, because its compiled form differs"
    assert {(row["value"], row["note"]) for row in fused} == {(None, reason)}
    (table,) = tables_of(figures([row | {"section": "curves"} for row in curves])).values()
    lines = [[getattr(cell.text, "name", cell.text) for cell in row.cells] for _, rows in table.groups for row in rows]
    assert [line.count("not compiled") for line in lines] == [2, 2, 2, 0, 0]


def test_every_problem_grows_and_has_a_step_size() -> None:
    grown = {spec.partition(":")[0] for _, _, spec, _ in gpu.growing()}
    assert grown == set(PROBLEMS.names())
    for name in PROBLEMS.names():
        problem = make_problem(name)
        for method, batch in gpu.optimizers_for(problem):
            optimizer = make_recipe(method).build(gpu.settings_of(problem, method))
            values = gpu.trajectory(problem, optimizer, (0,), 3, batch=batch)
            assert np.isfinite(values).all(), (name, method)


def test_too_little_memory_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise MemoryError("no room for 800 bytes")

    monkeypatch.setattr(gpu, "_stepper", full)
    monkeypatch.setattr(gpu, "_walker", full)
    message = "MemoryError: no room for 800 bytes"
    assert {row["note"] for row in gpu.steps(HOST, sizes=(100,))} == {message}
    rows = list(gpu.sizes(HOST, HOST, names=("beale",), most=(10,)))
    assert [(row["value"], row["note"]) for row in rows] == 4 * [(None, f"runs; {message}")]


def test_growth_ends_at_the_limits_of_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "calls_within", lambda *_: 1)
    monkeypatch.setattr(gpu, "seconds_of", lambda *_: 1.0)
    options: dict[str, Any] = {"names": ("beale",), "most": (10, 100, 1000)}
    assert {row["size"] for row in gpu.sizes(HOST, HOST, **options)} == {10}
    assert {row["size"] for row in gpu.sizes(HOST, HOST, **options, patience=2.0)} == {10, 100, 1000}
    monkeypatch.setattr(gpu, "MAX_STEP_BYTES", 100 * make_problem("beale").bytes_per_run(None))
    assert {row["size"] for row in gpu.sizes(HOST, HOST, **options, patience=2.0)} == {10, 100}


def test_without_a_gpu_the_script_states_why(tmp_path: Path) -> None:
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    done = run_python("-m", "benchmarks.gpu", str(tmp_path / "results"), "--quick", cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr == f"benchmarks.gpu: {gpu_problem()}\n"
    assert not (tmp_path / "results").exists()


# ---- the store -------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    store = Store(tmp_path)
    row = dict.fromkeys(gpu.COLUMNS) | {"measurement": "a", "section": "steps", "value": 1.0}
    path = store.write_table("gpu", "a-steps", [row], gpu.COLUMNS)
    request.getfixturevalue("full_disk")
    with pytest.raises(StoreError, match="No space left"):
        store.write_table("gpu", "a-sizes", [row | {"section": "sizes"}], gpu.COLUMNS)
    assert store.table_files("gpu") == [path]
    assert not list(tmp_path.rglob("*.tmp"))
    assert store.load_table("gpu")["value"].tolist() == [1.0]


# ---- CuPy, as far as it can be shown without one -------------------------------------------------------------------------


def test_a_chunk_fills_the_device() -> None:
    problem = make_problem("quadratic", {"dim": 2000, "rotate": False})
    options: dict[str, Any] = {"settings": {"lr": list(np.geomspace(0.01, 1, 10))}, "seeds": 10, "steps": 5}
    (plan,) = make_plans(problem, "sgd", **options)
    assert len(list(chunks_of(plan))) > 1
    (plan,) = make_plans(problem.on(strict_backend()), "sgd", **options)
    assert len(list(chunks_of(plan))) == 1


def assert_precision_is_kept(rule: str, backend: Backend) -> None:
    """A step of a compiled rule at its defaults, all of them columns, returns arrays of the backend's precision."""
    target = OPTIMIZERS[rule]
    kernel = fusing.fuse(target, backend, list(parameters(target)))  # a warning would be an error
    assert kernel is not None
    x = backend.asarray(np.ones((2, 3)))
    columns = [Column.of(np.full(2, float(p.default)), backend.precision) for p in parameters(target).values()]
    new, state = kernel(x, x, 1, [x + 0 for _ in state_names(target)], columns)
    assert {array.dtype for array in (new, *state)} == {np.dtype(backend.precision)}


# ---- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["float64", "float32"])
def device(request: pytest.FixtureRequest) -> Backend:
    """The GPU, in both precisions."""
    return dataclasses.replace(made_backend("cupy"), precision=request.param)


@pytest.mark.gpu
@pytest.mark.parametrize("rule", RULES)
def test_fused_rules_on_a_gpu(device: Backend, rule: str) -> None:
    assert fusing.fuse(OPTIMIZERS[rule], device) is not None  # a warning would be an error
    assert_precision_is_kept(rule, device)


@pytest.mark.gpu
@pytest.mark.parametrize("d", [2, 3, 31, 32, 33, 100])
def test_batched_eigenvectors_on_a_gpu(device: Backend, d: int) -> None:
    a = np.random.default_rng(d).standard_normal((5, d, d))
    a = a + a.swapaxes(1, 2)
    values, vectors = map(device.to_host, device.xp.linalg.eigh(device.asarray(a)))
    tolerance = 1e3 * d * device.eps
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a), atol=tolerance)
    np.testing.assert_allclose((vectors * values[:, None, :]) @ vectors.swapaxes(1, 2), a, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["quadratic:dim=20", "logistic:data=iris", "mlp:data=iris,hidden=4", "rosenbrock"])
def test_curves_on_a_gpu(name: str) -> None:
    rows = gpu.curves(HOST, made_backend("cupy"), names=(name,), steps=50, seeds=2)
    used = {(r["case"], r["precision"], r["contender"]): r["value"] for r in rows if r["quantity"].startswith("share")}
    # line searches may take other decisions
    assert max(share for key, share in used.items() if "lbfgs" not in key[0] and "newton" not in key[0]) <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["momentum", "adam", "lbfgs", "bfgs", "newton", "random_search"])
@pytest.mark.parametrize("batch", [None, 8])
def test_no_step_waits_for_a_gpu(device: Backend, method: str, batch: int | None) -> None:
    recipe = make_recipe(method)
    if batch is not None and recipe.traits.full_batch:
        pytest.skip("compares values")
    problem = make_problem("logistic", {"data": "iris"}).on(device)
    optimizer = recipe.build({})
    loop = Loop(problem, optimizer, (0, 1), 12, batch, 2)
    x = problem.starts((0, 1))
    state = init_state(optimizer, x, device)
    x, state = optimizer.step(1, loop.evaluate(0, x), state)  # compiles, and creates handles
    with gpu_waits_forbidden():
        for t in range(1, 12):
            x, state = optimizer.step(t + 1, loop.evaluate(t, x), state)
    assert np.isfinite(device.to_host(x)).all()


@pytest.mark.gpu
def test_a_sweep_on_a_gpu_reports_its_memory() -> None:
    problem = make_problem("quadratic", {"dim": 100}).on(made_backend("cupy"))
    runs = optbench.sweep(problem, "adam", lr=[0.01, 0.1], seeds=3, steps=30)
    here = optbench.sweep(problem.host, "adam", lr=[0.01, 0.1], seeds=3, steps=30)
    np.testing.assert_allclose(runs.rows["f_end"].astype(float), here.rows["f_end"].astype(float), rtol=1e-9)
    assert (runs.rows["device_bytes"] >= 6 * 100 * 8).all()
    assert here.rows["device_bytes"].isna().all()
    assert runs.environments[0]["tf32"] == "off"


@pytest.mark.gpu
@pytest.mark.slow
def test_the_script_on_a_gpu(tmp_path: Path) -> None:
    made_backend("cupy")
    assert gpu.main([str(tmp_path / "results"), "--quick"]) == 0
    assert len(Store(tmp_path / "results").table_files("gpu")) == 4
