"""Networks: derivatives against differences and PyTorch, mini-batches, known optima, backends."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, cast

import array_api_strict
import numpy as np
import pytest

from optbench.core.backend import Backend, get_backend
from optbench.core.errors import InputError
from optbench.core.specs import parse_spec
from optbench.problem import Problem, make_problem
from problems import MLP, LinearAutoencoder, TeacherStudent
from tests.conftest import host_reads_forbidden, present, strict_backend

VARIANTS = [
    "mlp:data=iris,hidden=6-5",
    "mlp:data=iris,hidden=",
    "mlp:data=wine,hidden=5,activation=relu,l2=0",
    "mlp:data=breast_cancer,hidden=3-2-3",
    "mlp:data=digits,hidden=2",
    "mlp:data=moons,hidden=4-3,loss=squared,rows=100",
    "mlp:data=moons,hidden=6,activation=relu,loss=squared,noise=0.1",
    "teacher",
    "teacher:inputs=3,outputs=2,hidden=6-5,teacher_hidden=3-4,activation=relu,rows=60,l2=0.001",
    "autoencoder:data=iris,hidden=2,scaling=feature",
    "autoencoder:data=wine,hidden=3",
]
REFERENCES = json.loads((Path(__file__).parent.parent / "references" / "mlp.json").read_text())
made: dict[str, Problem] = {}


def make(spec: str) -> Problem:
    if spec not in made:
        made[spec] = make_problem(*parse_spec(spec))
    return made[spec]


@pytest.fixture(params=VARIANTS)
def net(request: pytest.FixtureRequest) -> Problem:
    return make(request.param)


def normals(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape) / 2


def spacing(problem: Problem) -> float:
    """Step of the differences: short for relu, so that no sample's kink lies within it."""
    return 1e-7 if getattr(problem, "activation", "") == "relu" else 1e-5


def test_gradient_is_that_of_centered_differences(net: Problem) -> None:
    x, h = normals(net.dim), spacing(net)
    steps = h * np.eye(net.dim)
    differences = (net.value(x + steps) - net.value(x - steps)) / (2 * h)
    g = net.value_and_grad(x)[1]
    assert np.linalg.norm(g - differences) < 1e-7 * np.linalg.norm(g)


def test_hessian_products_are_those_of_differences_of_gradients(net: Problem) -> None:
    (x, v), h = normals(2, net.dim), spacing(net)
    differences = (net.value_and_grad(x + h * v)[1] - net.value_and_grad(x - h * v)[1]) / (2 * h)
    hv = net.hvp(x, v)
    assert np.linalg.norm(hv - differences) < 1e-7 * np.linalg.norm(hv)


def test_hessian_is_symmetric_and_made_of_its_products(net: Problem) -> None:
    x, v = normals(3, net.dim), normals(3, net.dim)[::-1]
    hessian = net.hessian(x)
    assert hessian.shape == (3, net.dim, net.dim)
    assert np.array_equal(hessian, hessian.mT)
    assert (hessian @ v[..., None])[..., 0] == pytest.approx(net.hvp(x, v), rel=1e-11, abs=1e-13)
    assert net.hessian(x[0]) == pytest.approx(hessian[0], rel=1e-11, abs=1e-13)


def test_hessian_in_blocks_is_that_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make("mlp:data=iris,hidden=6-5")
    x = normals(2, problem.dim)
    whole = problem.hessian(x)
    monkeypatch.setattr("optbench.problems.network.HESSIAN_BYTES", 7 * 2 * problem.bytes_per_run(None))
    assert problem.hessian(x) == pytest.approx(whole, rel=1e-12, abs=1e-14)


def test_no_hessian_above_its_dimension() -> None:
    problem = make("mlp:data=digits,hidden=16")
    assert not problem.has_hessian
    with pytest.raises(InputError, match="use hvp"):
        problem.hessian(normals(problem.dim))


@pytest.mark.parametrize("case", REFERENCES, ids=[case["spec"] for case in REFERENCES])
def test_value_gradient_and_hessian_products_are_those_of_pytorch(case: dict[str, Any]) -> None:
    problem = make(case["spec"])
    x, v = np.random.default_rng(1).standard_normal((2, problem.dim)) / 2
    f, g = problem.value_and_grad(x)
    assert f == pytest.approx(case["f"], rel=1e-12)
    assert np.linalg.norm(g - case["g"]) < 1e-12 * np.linalg.norm(case["g"])
    assert np.linalg.norm(problem.hvp(x, v) - case["hv"]) < 1e-12 * np.linalg.norm(case["hv"])


def test_a_stack_of_points_is_its_single_points(net: Problem) -> None:
    x = normals(2, 3, net.dim)
    f, g = net.value_and_grad(x)
    assert (f.shape, g.shape) == ((2, 3), x.shape)
    v, metrics = net.hvp(x, x[::-1]), net.metrics(x)
    for k in np.ndindex(2, 3):
        one_f, one_g = net.value_and_grad(x[k])
        assert (one_f.shape, one_g.shape) == ((), (net.dim,))
        assert f[k] == pytest.approx(one_f, rel=1e-13)
        assert g[k] == pytest.approx(one_g, rel=1e-11, abs=1e-13)
        assert v[k] == pytest.approx(net.hvp(x[k], x[::-1][k]), rel=1e-11, abs=1e-13)
        for name, values in net.metrics(x[k]).items():
            assert metrics[name][k] == pytest.approx(values, rel=1e-12)


def test_no_points_are_no_values(net: Problem) -> None:
    f, g = net.value_and_grad(np.empty((0, net.dim)))
    assert (f.shape, g.shape) == ((0,), (0, net.dim))


def test_batches_of_a_partition_average_to_the_full_objective(net: Problem) -> None:
    n, x = present(net.n_samples), normals(4, net.dim)
    batches = np.array_split(np.random.default_rng(0).permutation(n), 5)
    share = [len(batch) / n for batch in batches]
    values, gradients = zip(*(net.value_and_grad(x, batch) for batch in batches), strict=True)
    f, g = net.value_and_grad(x)
    assert np.tensordot(share, values, 1) == pytest.approx(f, rel=1e-12)
    assert np.tensordot(share, gradients, 1) == pytest.approx(g, rel=1e-11, abs=1e-13)


def test_each_seed_sees_its_own_batch(net: Problem) -> None:
    x = normals(3, 2, net.dim)  # 3 seeds, 2 settings
    samples = np.random.default_rng(0).integers(0, net.n_samples, (3, 8))
    f, g = net.value_and_grad(x, samples)
    for s in range(3):
        one_f, one_g = net.value_and_grad(x[s], samples[s])
        assert f[s] == pytest.approx(one_f, rel=1e-13)
        assert g[s] == pytest.approx(one_g, rel=1e-11, abs=1e-13)
    f, g = net.value_and_grad(x[:, 0], samples)  # and without settings
    assert (f.shape, g.shape) == ((3,), (3, net.dim))
    with pytest.raises(InputError, match="samples of shape"):
        net.value_and_grad(x[:2], samples)


def test_every_backend_gives_the_same_numbers(net: Problem, backend: Backend, no_host_sync: None) -> None:
    there, host = net.on(backend), backend.to_host
    x, v = normals(2, 2, 3, net.dim)
    samples = np.random.default_rng(0).integers(0, net.n_samples, (2, 8))
    at, along = backend.asarray(x), backend.asarray(v)
    same: dict[str, Any] = {"rel": 1e-11, "abs": 1e-13}
    for drawn in (None, samples, samples[0]):
        f, g = there.value_and_grad(at, None if drawn is None else backend.indices(drawn))
        expected_f, expected_g = net.value_and_grad(x, drawn)
        assert host(f) == pytest.approx(expected_f, **same)
        assert host(g) == pytest.approx(expected_g, **same)
    assert host(there.hvp(at, along)) == pytest.approx(net.hvp(x, v), **same)
    assert host(there.hessian(at[0, 0, :])) == pytest.approx(net.hessian(x[0, 0]), **same)
    expected = net.metrics(x)
    figures = there.metrics(at)
    assert list(figures) == list(expected)
    for name, values in figures.items():
        assert host(values) == pytest.approx(expected[name], **same)


@pytest.mark.parametrize("name", ["numpy", "numpy fused", "strict"])
def test_single_precision_stays_single(net: Problem, name: str) -> None:
    fused = name == "numpy fused"
    backend = strict_backend("float32") if name == "strict" else get_backend(precision="float32", fused=fused)
    there = net.on(backend)
    x = backend.asarray(normals(2, 2, net.dim))
    samples = backend.indices(np.arange(8).reshape(2, 4))
    with host_reads_forbidden():
        arrays = [*there.value_and_grad(x), *there.value_and_grad(x, samples), there.hvp(x, x)]
        arrays += there.metrics(x).values()
    assert all(array.dtype == backend.dtype for array in arrays)
    assert backend.to_host(arrays[0]) == pytest.approx(net.value(normals(2, 2, net.dim)), rel=1e-5)
    assert there.bytes_per_run(8) == net.bytes_per_run(8) // 2


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e3, 1e6])
@pytest.mark.parametrize("spec", ["mlp:data=iris,hidden=6-5", "mlp:data=iris,hidden=6,activation=relu", "teacher"])
def test_any_scale_of_the_weights_is_safe(spec: str, scale: float, precision: str, fused: bool) -> None:
    problem = make(spec).on(get_backend("numpy", precision=precision, fused=fused))
    x = scale * problem.backend.asarray(normals(3, problem.dim))
    f, g = problem.value_and_grad(x)
    hv = problem.hvp(x, problem.backend.asarray(normals(3, problem.dim)))
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    assert np.isfinite(hv).all()


@pytest.mark.parametrize("fused", [False, True])
def test_confident_and_wrong_is_the_size_of_the_margin(fused: bool) -> None:
    problem = make("mlp:data=iris,hidden=,l2=0").on(get_backend(fused=fused))
    x = np.zeros(problem.dim)
    x[-3] = 1e200  # all samples are taken for the first class, and a third of them is
    f, g = problem.value_and_grad(x)
    others = np.mean(cast(MLP, problem).y != 0)
    assert f == pytest.approx(others * 1e200)
    assert g[-3] == pytest.approx(others)


@pytest.mark.parametrize("fused", [False, True])
def test_a_run_that_left_the_finite_numbers_disturbs_no_other(fused: bool) -> None:
    problem = make("mlp:data=iris,hidden=6-5").on(get_backend(fused=fused))
    x = normals(3, problem.dim)
    expected = problem.value_and_grad(x[::2])
    x[1] = np.nan
    f, g = problem.value_and_grad(x)
    assert np.isnan(f[1])
    assert np.array_equal(f[::2], expected[0])
    assert np.array_equal(g[::2], expected[1])


# ---- known optima ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["autoencoder", "autoencoder:data=wine,hidden=3,scaling=feature", "autoencoder:data=iris,hidden=4"]
)
def test_optimum_of_the_autoencoder_is_certified(spec: str) -> None:
    problem = make(spec)
    optimum = present(problem.optimum)
    f, g = problem.value_and_grad(present(optimum.x))
    scale = problem.value(np.zeros(problem.dim))  # half the variance
    assert optimum.lower <= optimum.f
    assert optimum.f - optimum.lower < 1e-12 * scale
    assert abs(f - optimum.f) < 1e-14 * scale
    assert np.linalg.norm(g) == optimum.gradient_norm < 1e-13 * scale


def test_optimum_of_the_autoencoder_on_digits() -> None:
    problem = LinearAutoencoder()
    assert problem.f_star == pytest.approx(0.765224093975, abs=5e-13)
    X = problem.X
    W1, W2 = np.split(present(problem.x_star), 2)
    W1, W2 = W1.reshape(8, 64), W2.reshape(64, 8)
    assert ((X - X @ W1.T @ W2.T) ** 2).sum() / (2 * len(X)) == pytest.approx(problem.f_star, rel=1e-13)


@pytest.mark.parametrize(
    ("spec", "steps", "gap"),
    [("autoencoder", 300, 1e-3), ("autoencoder:data=wine,hidden=3,scaling=feature", 5000, 1e-12)],
)
def test_lbfgs_reaches_the_optimum_of_the_autoencoder(spec: str, steps: int, gap: float) -> None:
    from scipy.optimize import minimize

    problem = make(spec)
    options = {"maxiter": steps, "ftol": 0, "gtol": 1e-9, "maxfun": 10**5}
    found = minimize(problem.value_and_grad, problem.start(0), jac=True, method="L-BFGS-B", options=options)
    assert 0 <= found.fun - present(problem.optimum).lower < gap


@pytest.mark.parametrize(
    "spec",
    [
        "teacher",
        "teacher:inputs=3,outputs=2,hidden=6-5,teacher_hidden=3-4,activation=relu",
        "teacher:hidden=4,teacher_hidden=4,seed=1",
    ],
)
def test_the_teacher_is_a_minimizer(spec: str) -> None:
    problem = make(spec)
    optimum = present(problem.optimum)
    assert (optimum.f, optimum.lower) == (0, 0)
    x_star = present(optimum.x)
    f, g = problem.value_and_grad(x_star)
    assert f < 1e-28
    assert np.linalg.norm(g) < 1e-13
    assert problem.metrics(x_star)["test_loss"] < 1e-28
    assert np.linalg.eigvalsh(problem.hessian(x_star)).min() > -1e-12


def test_no_optimum_where_none_is_known() -> None:
    assert TeacherStudent(l2=1e-3).optimum is None
    assert make("mlp:data=iris,hidden=6-5").optimum is None


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_metrics_count_the_right_answers() -> None:
    problem = make("mlp:data=wine,hidden=5,activation=relu,l2=0")
    x = normals(problem.dim)
    metrics = problem.metrics(x)
    for part, (X, targets) in cast(MLP, problem)._parts.items():
        W1, c1, W2, c2 = np.split(x, [65, 70, 85])
        outputs = np.maximum(X @ W1.reshape(5, 13).T + c1, 0) @ W2.reshape(3, 5).T + c2
        hits = outputs.argmax(axis=1) == targets.argmax(axis=1)
        assert metrics[f"{part}_accuracy"] == pytest.approx(hits.mean())
        if part != "train":
            losses = np.log(np.exp(outputs).sum(axis=1)) - (outputs * targets).sum(axis=1)
            assert metrics[f"{part}_loss"] == pytest.approx(losses.mean())
    assert "train_loss" not in metrics


def test_ties_are_no_right_answers() -> None:
    metrics = make("mlp:data=iris,hidden=6-5").metrics(np.zeros(make("mlp:data=iris,hidden=6-5").dim))
    assert metrics["train_accuracy"] == metrics["test_accuracy"] == 0


def test_a_trained_network_generalizes() -> None:
    from scipy.optimize import minimize

    for spec in ("mlp:data=moons,hidden=16", "mlp:data=wine,hidden=8", "mlp:data=breast_cancer,activation=relu"):
        problem = make(spec)
        found = minimize(
            problem.value_and_grad, problem.start(0), jac=True, method="L-BFGS-B", options={"maxiter": 100}
        )
        assert problem.metrics(found.x)["test_accuracy"] > 0.9


def test_features_are_standardized_by_the_training_part() -> None:
    problem = make("mlp:data=wine,hidden=8")
    parts = [X for X, _ in cast(MLP, problem)._parts.values()]
    assert [len(X) for X in parts] == [125, 26, 27]
    assert parts[0].mean(axis=0) == pytest.approx(np.zeros(13), abs=1e-12)
    assert parts[0].std(axis=0) == pytest.approx(np.ones(13), rel=1e-12)
    assert abs(parts[1].mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 1), ("relu", 2)])
def test_start_weights_have_the_variance_of_their_layer(activation: str, gain: float) -> None:
    problem = MLP(hidden=(100, 50), activation=activation)
    layers = problem._layers(problem.start(0))
    for W, c in layers:
        assert W.shape[1] * np.var(W) == pytest.approx(gain, rel=0.15)
        assert not np.any(c)


def test_the_same_seed_gives_the_same_problem() -> None:
    for spec in VARIANTS:
        one, two = make(spec), make_problem(*parse_spec(make(spec).spec))
        x = normals(one.dim)
        assert one.value(x) == two.value(x)
        assert one.fingerprint == two.fingerprint
    assert MLP(data="moons", seed=1).value(normals(82)) != MLP(data="moons").value(normals(82))
    assert bool(make("mlp:data=iris,hidden=6-5").fingerprint)


def test_a_file_of_the_users(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.csv"
    rows = [f"{a},{b},{'left' if a < 0 else 'right'}" for a, b in rng.standard_normal((60, 2))]
    path.write_text("\n".join(["a,b,side", *rows]))
    problem = MLP(data=str(path), hidden=(3,))
    assert (problem.sizes, problem.n_samples) == ((2, 3, 2), 42)
    autoencoder = LinearAutoencoder(data=str(path), hidden=1)
    assert autoencoder.value(present(autoencoder.x_star)) == pytest.approx(autoencoder.f_star)


@pytest.mark.parametrize(
    "spec", ["mlp:hidden=32", "mlp:hidden=40-40,activation=relu", "teacher:hidden=64", "autoencoder"]
)
@pytest.mark.parametrize("batch", [64, None])
def test_stated_memory_is_what_a_run_takes(spec: str, batch: int | None) -> None:
    problem = make(spec)
    x = problem.starts(range(16))  # as many share an array at least
    samples = None if batch is None else np.arange(batch)
    problem.value_and_grad(x, samples)
    tracemalloc.start()
    problem.value_and_grad(x, samples)
    peak = tracemalloc.get_traced_memory()[1] / 16
    tracemalloc.stop()
    assert 0.6 < problem.bytes_per_run(batch) / peak < 1.6


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mlp", {"data": "digit"}, "did you mean 'digits'"),
        ("mlp", {"hidden": "16-0"}, "every width of hidden"),
        ("mlp", {"hidden": "wide"}, "numbers such as 32-16"),
        ("mlp", {"activation": "sigmoid"}, "one of tanh, relu"),
        ("mlp", {"loss": "hinge"}, "one of cross_entropy, squared"),
        ("mlp", {"l2": -1}, "l2 must be at least 0"),
        ("mlp", {"data": "moons", "rows": 5}, "rows must be at least 10"),
        ("mlp", {"data": "moons", "noise": -0.1}, "noise must be at least 0"),
        ("mlp", {"seed": -1}, "seed must be at least 0"),
        ("mlp", {"width": 3}, "no parameter 'width'"),
        ("teacher", {"teacher_hidden": "17"}, "none of them wider"),
        ("teacher", {"teacher_hidden": "4-4"}, "as many layers"),
        ("teacher", {"teacher_hidden": "0"}, "every width of teacher_hidden"),
        ("teacher", {"inputs": 0}, "inputs must be at least 1"),
        ("teacher", {"outputs": 0}, "outputs must be at least 1"),
        ("teacher", {"rows": 9}, "rows must be at least 10"),
        ("autoencoder", {"hidden": 0}, "hidden must be at least 1"),
        ("autoencoder", {"hidden": 65}, "at most the 64 features"),
        ("autoencoder", {"scaling": "none"}, "one of table, feature"),
    ],
)
def test_impossible_parameters_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_problem(name, settings)


def test_points_of_another_length_are_refused(net: Problem) -> None:
    with pytest.raises(InputError, match="takes points of shape"):
        net.value_and_grad(np.zeros(net.dim + 1))


def test_importing_the_problems_imports_no_data_library() -> None:
    heavy = "{'sklearn', 'scipy', 'pandas'}"
    code = f"import sys, problems; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_strict_is_the_pretend_device() -> None:
    # the tests of the backends prove nothing if the arrays of a placed problem lie on the default device
    there = MLP(data="iris", hidden=(6, 5)).on(strict_backend())
    rows: Any = there._batch.rows
    assert rows.device == array_api_strict.Device("device1")
