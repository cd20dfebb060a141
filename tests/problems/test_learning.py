"""The data of learning problems, with which other libraries solve the same problem."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from optbench.core.registry import PROBLEMS
from optbench.problem import make_problem
from problems import MLP, LinearAutoencoder, Logistic, TeacherStudent
from problems.learning import LearningProblem
from tests.conftest import present
from tests.test_problem import make

LEARNING = [name for name in PROBLEMS.names() if issubclass(PROBLEMS[name], LearningProblem)]


@pytest.mark.parametrize("name", LEARNING)
def test_data_have_matching_shapes_and_are_read_only(name: str) -> None:
    problem = make_problem(name)
    assert isinstance(problem, LearningProblem)
    assert problem.X.dtype == np.float64
    assert len(problem.X) == len(problem.y) == problem.n_samples
    if problem.X_test is not None:
        y_test = present(problem.y_test)
        assert len(problem.X_test) == len(y_test)
        assert (problem.X_test.shape[1:], y_test.shape[1:]) == (problem.X.shape[1:], problem.y.shape[1:])
    for array in (problem.X, problem.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_shapes() -> None:
    logistic = Logistic(test_fraction=0.25)
    assert (logistic.X.shape, logistic.y.shape) == ((427, 30), (427,))
    assert present(logistic.X_test).shape == (142, 30)
    assert Logistic().X_test is Logistic().y_test is None
    assert MLP(data="wine").sizes == (13, 16, 3)
    assert present(MLP(data="wine").X_test).shape == (27, 13)
    assert TeacherStudent().y.shape == (350,)
    assert TeacherStudent(outputs=2).y.shape == (350, 2)
    autoencoder = LinearAutoencoder(data="iris", hidden=2)
    np.testing.assert_array_equal(autoencoder.X, autoencoder.y)
    assert autoencoder.X_test is None


@pytest.mark.parametrize(
    ("problem", "n"),
    [(Logistic(), 569), (Logistic(data="wine", test_fraction=0.5), 89), (MLP(data="wine", hidden=(8,)), 125)],
    ids=str,
)
def test_features_are_standardized_by_the_training_part(problem: Logistic | MLP, n: int) -> None:
    assert problem.n_samples == n
    if problem.X_test is not None:
        assert abs(problem.X_test.mean(axis=0)).max() > 1e-3
    np.testing.assert_allclose(problem.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(problem.X.std(axis=0), 1, rtol=1e-12)
    assert np.unique(problem.y).tolist() == list(range(problem.y.max() + 1))
    assert problem.y.dtype.kind == "i"


@pytest.mark.parametrize("data", ["breast_cancer", "wine"])
def test_scikit_learn_fits_the_same_model_to_the_data(data: str) -> None:
    problem = Logistic(data=data, l2=1e-2)
    X = np.c_[problem.X, np.ones(len(problem.X))]
    model = LogisticRegression(C=1 / (len(X) * problem.l2), fit_intercept=False, tol=1e-10, max_iter=10_000)
    w = model.fit(X, problem.y).coef_.ravel()  # (d,)
    assert float(problem.value(w)) == pytest.approx(problem.f_star, abs=1e-6)
    x_star = present(problem.x_star)
    np.testing.assert_allclose(w, x_star, rtol=0, atol=1e-6)
    assert problem.metrics(x_star)["train_accuracy"] == pytest.approx(model.score(X, problem.y))


def test_liblinear_appends_the_column_of_ones_itself() -> None:
    problem = Logistic(l2=1e-2)
    model = LogisticRegression(solver="liblinear", C=1 / (len(problem.X) * problem.l2), tol=1e-10, max_iter=10_000)
    model.fit(problem.X, problem.y)
    w = np.append(model.coef_, model.intercept_)
    assert float(problem.value(w)) == pytest.approx(problem.f_star, abs=1e-6)


def test_test_accuracy_is_measured_on_the_test_data() -> None:
    problem = Logistic(test_fraction=0.25)
    w = present(problem.x_star)
    accuracy = np.mean((present(problem.X_test) @ w[:-1] + w[-1] > 0) == problem.y_test)
    assert float(problem.metrics(w)["test_accuracy"]) == pytest.approx(accuracy)


NETWORKS = ("mlp:hidden=32", "mlp:hidden=40-40,activation=relu", "teacher:hidden=64", "autoencoder")
LOGISTIC = ("logistic:data=synthetic,rows=1300,columns=7", "logistic:data=wine")


@pytest.mark.parametrize(
    ("spec", "batch"), [*itertools.product(NETWORKS, (64, None)), *itertools.product(LOGISTIC, (100,))]
)
def test_stated_memory_matches_the_memory_of_a_run(spec: str, batch: int | None) -> None:
    problem = make(spec)
    runs = 200 if spec in LOGISTIC else 16  # at least as many share an array
    x = problem.starts(range(runs))
    samples = None if batch is None else np.arange(batch)
    problem.value_and_grad(x, samples)
    tracemalloc.start()
    problem.value_and_grad(x, samples)
    peak = tracemalloc.get_traced_memory()[1] / runs
    tracemalloc.stop()
    assert 0.6 < problem.bytes_per_run(batch) / peak < 1.6
