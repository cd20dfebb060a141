"""Learning problems with networks: a classifier, a student of a teacher network, and the linear autoencoder."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from optbench.core.errors import InputError
from optbench.core.specs import MAX_DIM, NONNEGATIVE, Choices, Interval
from optbench.core.types import Array
from optbench.problem import Optimum, problem, stream

from .datasets import load, split, standardize
from .network import ACTIVATION_NAMES, LOSSES, PARTS, Batch, Network, Perceptron

SCALINGS = Choices(("table", "feature"))
FRACTIONS = (0.15, 0.15)  # of validation and test


@problem("mlp")
@dataclass(eq=False)
class MLP(Perceptron):
    """f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2: a multilayer perceptron for classification.

    The rows are split 70/15/15 into training, validation and test parts, stratified by class. f is the mean over the
    training part, by which features are standardized. There is one output per class. Non-convex: no f* is known. See
    `Perceptron` for the order of the parameters.

    Parameters
    ----------
    data : str
        ``digits``, ``breast_cancer``, ``wine``, ``iris``, ``digits_binary``, or the path of a LIBSVM or CSV file (see
        `problems.datasets.load`); ``moons``: two interleaved half circles of radius 1 in the plane.
    target : str
        Label column of a CSV file; by default its last column.
    hidden : tuple of int
        Widths of the hidden layers, each at least 1; empty for a linear classifier.
    activation : str
        ``tanh``; or ``relu``, with slope 0 at 0 and second derivative 0 everywhere.
    loss : str
        ``cross_entropy``: -log softmax(output)_y; ``squared``: 1/2 |output - e_y|^2 with e_y the y-th unit vector.
    l2 : float
        Regularization of all weights and biases, at least 0.
    rows : int
        Number of points of ``moons``, before the split; at least 10.
    noise : float
        Standard deviation of the Gaussian noise on the coordinates of ``moons``, at least 0.
    seed : int
        Seed of ``moons`` and of the split.

    References
    ----------
    Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, Nature 323 (1986), equations 1-7.
    Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994): the R-operator.

    Examples
    --------
    >>> problem = optbench.problems.MLP(data="moons", hidden=(8, 4), rows=100)
    >>> problem.dim, problem.n_samples  # 2 * 8 + 8, 8 * 4 + 4 and 4 * 2 + 2 parameters
    (70, 70)
    """

    citation = (
        "Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, Nature 323 (1986); "
        "Hessian products: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994)"
    )
    formula = "f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2"
    classifies = True
    always_shown = ("data",)

    data: str = "digits"
    target: str = ""
    hidden: Annotated[tuple[int, ...], Interval(1, MAX_DIM)] = (16,)
    activation: Annotated[str, ACTIVATION_NAMES] = "tanh"
    loss: Annotated[str, LOSSES] = "cross_entropy"
    l2: Annotated[float, NONNEGATIVE] = 1e-4
    rows: Annotated[int, Interval(10, MAX_DIM)] = 500
    noise: Annotated[float, NONNEGATIVE] = 0.2
    seed: Annotated[int, NONNEGATIVE] = 0

    @property
    def unused(self) -> frozenset[str]:
        return frozenset({"target"} if self.data == "moons" else {"rows", "noise"})

    @property
    def bytes_to_create(self) -> float:
        return 8 * 20 * self.rows * (self.data == "moons")  # points, classes and their parts

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.data == "moons":
            X, y = _moons(self.rows, self.noise, self.seed)
        else:
            dataset = load(self.data, self.target)
            X, y, self.fingerprint = dataset.X, dataset.y, dataset.sha256
        row_numbers = split(y, FRACTIONS, self.seed)
        inputs = standardize(*(X[rows] for rows in row_numbers))
        targets = np.eye(int(y.max()) + 1)[y]  # (rows, classes)
        parts = {part: (Z, targets[rows]) for part, Z, rows in zip(PARTS, inputs, row_numbers, strict=True)}
        self.set_data((X.shape[1], *self.hidden, targets.shape[1]), parts)


@problem("teacher")
@dataclass(eq=False)
class TeacherStudent(Perceptron):
    """f(w) = 1/(2n) sum_i |net(x_i; w) - teacher(x_i)|^2 + l2/2 |w|^2: a network learns from a narrower random one.

    Inputs are standard normal and targets are the exact outputs of the teacher. So without regularization f* = 0, and the
    teacher, padded with units of weight 0, is one of many minimizers. Local minima may exist. Weights of the teacher are
    normal with variance 4/fan-in, twice the usual size, and its biases are standard normal, so that its units are not
    linear. See `Perceptron` for the order of the parameters.

    Parameters
    ----------
    inputs, outputs : int
        Numbers of inputs and outputs of both networks, at least 1.
    hidden : tuple of int
        Widths of the student's hidden layers.
    teacher_hidden : tuple of int
        Widths of the teacher's hidden layers: as many, and none wider than the student's.
    activation : str
        ``tanh`` or ``relu``, of both networks.
    l2 : float
        Regularization of all weights and biases, at least 0; above 0 the optimum is not known.
    rows : int
        Number of samples, at least 10: 70 % for training, 15 % for validation and 15 % for tests.
    seed : int
        Seed of the teacher, the inputs and the split.

    References
    ----------
    Saad & Solla, On-line learning in soft committee machines, Physical Review E 52 (1995): students and teachers of
    different widths, there with fixed output weights. Gradient and products with H as in `MLP`.

    Examples
    --------
    >>> problem = optbench.problems.TeacherStudent(inputs=3, hidden=(4,), teacher_hidden=(2,))
    >>> problem.dim, problem.f_star
    (21, 0.0)
    """

    citation = "Saad & Solla, On-line learning in soft committee machines, Physical Review E 52 (1995)"
    formula = "f(w) = 1/(2n) sum_i |net(x_i; w) - teacher(x_i)|^2 + l2/2 |w|^2"
    classifies = False
    loss = "squared"

    inputs: Annotated[int, Interval(1, MAX_DIM)] = 10
    outputs: Annotated[int, Interval(1, MAX_DIM)] = 1
    hidden: Annotated[tuple[int, ...], Interval(1, MAX_DIM)] = (16,)
    teacher_hidden: Annotated[tuple[int, ...], Interval(1, MAX_DIM)] = (8,)
    activation: Annotated[str, ACTIVATION_NAMES] = "tanh"
    l2: Annotated[float, NONNEGATIVE] = 0.0
    rows: Annotated[int, Interval(10, MAX_DIM)] = 500
    seed: Annotated[int, NONNEGATIVE] = 0

    @property
    def bytes_to_create(self) -> float:
        sizes = (self.inputs, *self.hidden, self.outputs)
        weights = sum(p * q for p, q in itertools.pairwise(sizes))
        return 8 * (3 * weights + 4 * self.rows * (self.inputs + max(sizes[1:])))

    def __post_init__(self) -> None:
        self.check_parameters()
        if len(self.teacher_hidden) != len(self.hidden) or any(
            t > s for t, s in zip(self.teacher_hidden, self.hidden, strict=True)
        ):
            raise InputError(
                f"problem {self.name!r}: teacher_hidden={self.teacher_hidden} must have as many layers as "
                f"hidden={self.hidden}, none of them wider"
            )
        rng = stream("data", self.seed)
        X = rng.standard_normal((self.rows, self.inputs))
        sizes = (self.inputs, *self.hidden, self.outputs)
        narrow = (self.inputs, *self.teacher_hidden, self.outputs)
        teacher, z = [], X.T
        for k, (p, q) in enumerate(itertools.pairwise(narrow)):
            W, c = np.zeros((sizes[k + 1], sizes[k])), np.zeros((sizes[k + 1], 1))
            W[:q, :p] = rng.standard_normal((q, p)) * 2 / p**0.5
            c[:q] = rng.standard_normal((q, 1))
            if k:
                z = np.tanh(z) if self.activation == "tanh" else np.maximum(z, 0)
            z = W[:q, :p] @ z + c[:q]
            teacher += [W.ravel(), c.ravel()]
        self._teacher = np.concatenate(teacher)  # (d,)
        row_numbers = split(self.rows, FRACTIONS, self.seed)
        self.set_data(sizes, {part: (X[rows], z.T[rows]) for part, rows in zip(PARTS, row_numbers, strict=True)})

    def solve(self) -> Optimum | None:
        if self.l2:
            return None
        return Optimum(0.0, 0.0, self._teacher, "exact by construction: the sum of squares is 0 for the teacher", 0.0)


@problem("autoencoder")
@dataclass(eq=False)
class LinearAutoencoder(Network):
    """f(W1, W2) = 1/(2n) sum_i |x_i - W2 W1 x_i|^2: a linear autoencoder without biases, for all rows of a data set.

    The problem is not convex, but all local minima are global (Baldi & Hornik 1989): W2 W1 projects on the first `hidden`
    principal directions, and f* is half the variance of the others (Eckart & Young 1936). The parameters are W1 (hidden, p)
    row by row, then W2 (p, hidden) row by row. `X` and `y` are the rows x_i, centred and scaled; there is no test part.

    Parameters
    ----------
    data : str
        ``digits``, ``breast_cancer``, ``wine``, ``iris``, or the path of a LIBSVM or CSV file. Labels are not used.
    target : str
        Label column of a CSV file; by default its last column.
    hidden : int
        Width of the hidden layer, at least 1 and at most the number of features p.
    scaling : str
        ``table``: all features are divided by the largest absolute value of the table; ``feature``: each feature is divided
        by its standard deviation.

    References
    ----------
    Baldi & Hornik, Neural networks and principal component analysis: learning from examples without local minima, Neural
    Networks 2 (1989).

    Examples
    --------
    >>> problem = optbench.problems.LinearAutoencoder(data="iris", hidden=2)
    >>> problem.dim, bool(abs(problem.value(problem.x_star) - problem.f_star) < 1e-12)
    (16, True)
    """

    citation = (
        "Baldi & Hornik, Neural networks and principal component analysis: learning from examples without local minima, "
        "Neural Networks 2 (1989)"
    )
    formula = "f(W1, W2) = 1/(2n) sum_i |x_i - W2 W1 x_i|^2"

    data: str = "digits"
    target: str = ""
    hidden: Annotated[int, Interval(1)] = 8
    scaling: Annotated[str, SCALINGS] = "table"

    def __post_init__(self) -> None:
        self.check_parameters()
        dataset = load(self.data, self.target)
        self.fingerprint = dataset.sha256
        n, p = dataset.X.shape
        if self.hidden > p:
            raise InputError(f"problem {self.name!r}: hidden must be at most the {p} features, not {self.hidden}")
        if self.scaling == "table":
            X = dataset.X / max(np.abs(dataset.X).max(), np.finfo(float).tiny)
            X = X - X.mean(axis=0)
        else:
            (X,) = standardize(dataset.X)
        self.set_samples((X, X))
        self._singular_values, self._directions = np.linalg.svd(X / n**0.5, full_matrices=False)[1:]  # (r,), (r, p)
        self.n_samples = n
        self.dim = 2 * p * self.hidden
        self.place()
        self.seal()

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self._rows = self._target_rows = to(self.X)
        # S V^T instead of U S V^T, because f depends on the inputs by their second moments only; r <= p rows
        compressed = to(self._singular_values[:, None] * self._directions)[None, ...]  # (1, r, p)
        self._batch = Batch(compressed, self._as_columns(compressed))

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Normal weights of variance 1/fan-in (LeCun et al. 1998)."""
        W1, W2 = (rng.standard_normal(shape) / shape[1] ** 0.5 for shape in self._shapes)
        return np.concatenate([W1.ravel(), W2.ravel()])

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective (...) and gradient (..., d) at points (..., d); `samples` as in `Problem.value_and_grad`."""
        xp, x = self.xp, self.points(x)
        mT = xp.matrix_transpose
        w, (rows, targets) = self._points_and_batch(x, samples)
        n = 1 if samples is None else rows.shape[1]  # the compressed rows contain the factor 1/n
        W1, W2 = self._matrices(w)
        a = self._times_inputs(W1, rows)  # (S, L, hidden, b)
        e = W2 @ a - targets  # (S, L, p, b)
        flat = xp.reshape(e, (*w.shape[:-1], math.prod(e.shape[-2:])))
        f = xp.vecdot(flat, flat) / (2 * n)
        g = self._concatenate([self._times_rows(mT(W2) @ e, rows), e @ mT(a)]) / n
        return xp.reshape(f, x.shape[:-1]), xp.reshape(g, x.shape)

    def solve(self) -> Optimum:
        leading, tail = self._directions[: self.hidden], self._singular_values[self.hidden :]
        if len(leading) < self.hidden:  # fewer rows than hidden units: other weights are 0
            leading = np.concatenate([leading, np.zeros((self.hidden - len(leading), leading.shape[1]))])
        x = np.concatenate([leading.ravel(), leading.T.ravel()])  # (d,)
        f = self._exact_value(x) if len(tail) else 0.0
        # the error of a singular value is a few units in the last place of the largest
        eps, largest = float(np.finfo(float).eps), float(self._singular_values.max(initial=0.0))
        error = eps * self.X.shape[1] * largest * float(tail.sum()) + 8 * eps * f
        gradient = float(np.linalg.norm(self.host.value_and_grad(x)[1]))
        method = "singular value decomposition (Eckart-Young), less rounding"
        return Optimum(f, max(0.0, float(tail @ tail) / 2 - error), x, method, gradient)

    def _exact_value(self, x: np.ndarray) -> float:
        """The objective at a point x, (d,), in extended precision where the platform has it, rounded upward."""
        W1, W2 = (np.asarray(W, np.longdouble) for W in self._matrices(x))
        step = max(1, 2**20 // self.X.shape[1])
        parts = (self.X[start : start + step] for start in range(0, len(self.X), step))  # (b, p)
        total = math.fsum(float(np.sum((part - part @ W1.T @ W2.T) ** 2)) for part in parts)
        eps = float(np.finfo(float).eps) + len(self.X) * float(np.finfo(np.longdouble).eps)
        return total / (2 * len(self.X)) * (1 + 4 * eps)

    def bytes_per_run(self, batch_size: int | None) -> int:
        # the activations of the hidden layer; the product and the residual of the outputs
        b, p = batch_size or len(self._singular_values), int(self.X.shape[1])
        return self._bytes(b * (2 * self.hidden + 2 * p))

    @property
    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        p = self.X.shape[1]
        return (self.hidden, p), (p, self.hidden)

    def _matrices(self, x: Array) -> tuple[Array, Array]:
        """W1 (..., hidden, p) and W2 (..., p, hidden) of points (..., d), without copying."""
        (first, second), half = self._shapes, self.dim // 2
        lead = x.shape[:-1]
        return self.xp.reshape(x[..., :half], (*lead, *first)), self.xp.reshape(x[..., half:], (*lead, *second))

    def _hessian_products(self, x: Array, v: Array) -> Array:
        mT, (rows, targets) = self.xp.matrix_transpose, self._batch
        (W1, W2), (V1, V2) = self._matrices(x), self._matrices(v)
        a, ra = self._times_inputs(W1, rows), self._times_inputs(V1, rows)  # (1, L, 1, hidden, r), (1, L or 1, K, ..)
        e = W2 @ a - targets[None, ...]
        re = V2 @ a + W2 @ ra  # (1, L, K, p, r)
        return self._concatenate([self._times_rows(mT(V2) @ e + mT(W2) @ re, rows), re @ mT(a) + e @ mT(ra)])


def _moons(rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles: the upper one around (0, 0), the lower one around (1, 1/2); points and classes."""
    rng = stream("data", seed)
    y = np.arange(rows) % 2
    angle = np.pi * rng.random(rows)
    side = 1 - 2 * y
    X = np.stack([y + side * np.cos(angle), y / 2 + side * np.sin(angle)], axis=1)  # (rows, 2)
    return X + noise * rng.standard_normal(X.shape), y
