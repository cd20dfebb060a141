"""Regularized logistic regression, binary and multinomial, on real or synthetic data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from optbench.compile.batches import FEW_RUNS, batch_sums
from optbench.compile.elementwise import kernel
from optbench.core.specs import MAX_DIM, NONNEGATIVE, Interval
from optbench.core.types import Array, Metric
from optbench.problem import Optimum, problem

from .datasets import load, split, standardize, synthetic
from .learning import CrossEntropy, LearningProblem, block_numbers, blocks, ridge, total

EXACT_SPECTRUM = 2000  # size above which the largest eigenvalue of the Gram matrix is only bounded
DENSE_FLOPS = 1e11  # cost of a Newton step above which Hessian-vector products are used instead
MIN_BLOCK = 512  # samples; see `_blocks`


def _margin_loss(xp: Any, m: Any) -> Any:
    """e = exp(-|m|) and max(-m, 0), where the loss at a margin m is log(1 + exp(-m)) = log1p(e) + max(-m, 0)."""
    return xp.exp(-xp.abs(m)), xp.maximum(-m, 0.0)


def _weights(xp: Any, m: Any) -> Any:
    """Minus the derivative of the loss by the margin, 1 / (1 + exp(m)), and the two parts of the loss."""
    e, excess = _margin_loss(xp, m)
    return xp.where(m <= 0, 1.0, e) / (1 + e), e, excess


def _losses(xp: Any, m: Any) -> Any:
    """The two parts of the loss, and 1 if the margin is positive, else 0."""
    e, excess = _margin_loss(xp, m)
    return e, excess, xp.where(m > 0, 1.0, 0 * e)


def _curvatures(xp: Any, m: Any) -> Any:
    """Second derivative of the loss by the margin."""
    e = xp.exp(-xp.abs(m))
    return (e / (1 + e) ** 2,)


@problem("logistic")
@dataclass(eq=False)
class Logistic(LearningProblem):
    """f(w) = (1/n) sum_i loss_i(w) + l2/2 |w|^2: mean logistic loss of a linear classifier with l2 regularization.

    Features are standardized by the training rows and a constant 1 is appended: z_i in R^(p+1). All weights are
    regularized, also that of the constant, so f is strongly convex with mu = l2. `X` does not contain the constant:
    scikit-learn's LogisticRegression with C = 1 / (n l2) and fit_intercept=False fits the same model to X with a column of
    ones appended; for two classes, so does solver="liblinear" for X.

    With two classes, y_i = -1 or 1, d = p + 1 and loss_i = log(1 + exp(-y_i w^T z_i)). With K > 2 classes, W of shape
    (K, p + 1) has one weight vector per class, d = K (p + 1), the point is W row by row, and
    loss_i = log(sum_k exp(W_k z_i)) - W_(y_i) z_i. No exponential overflows.

    Parameters
    ----------
    data : str
        Name of a data set (``breast_cancer``, ``digits``, ``digits_binary``, ``wine``, ``iris``), ``synthetic``, or the
        path of a LIBSVM or CSV file; see `problems.datasets.load`.
    l2 : float
        Regularization, at least 0. With 0 there may be no minimizer, and no optimum is stated.
    target : str
        Label column of a CSV file; by default its last column.
    test_fraction : float
        Share of the rows in the test part, in [0, 1), stratified by class.
    rows, columns, condition : int, int, float
        Shape of ``synthetic`` data and condition number of their covariance, see `problems.datasets.synthetic`.
    seed : int
        Seed of the split and of synthetic data.

    Raises
    ------
    InputError
        If a parameter is out of range, or the data cannot be read.

    References
    ----------
    Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992): the Hessian is at most
    (1/2) (I - 11^T/K) ⊗ Z^T Z / n, from which L follows; for two classes it is at most Z^T Z / (4n) (Böhning & Lindsay
    1988).

    Examples
    --------
    >>> problem = optbench.problems.Logistic(data="synthetic", rows=100, columns=3, l2=0.1)
    >>> f, g = problem.value_and_grad(np.zeros(problem.dim))
    >>> round(float(f), 6), g.shape  # log 2 at zero weights
    (0.693147, (4,))
    """

    citation = "Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992) 197-200"
    formula = "f(w) = (1/n) sum_i log(1 + exp(-y_i w^T z_i)) + l2/2 |w|^2; K > 2 classes: softmax cross-entropy"
    always_shown = ("data",)

    data: str = "breast_cancer"
    l2: Annotated[float, NONNEGATIVE] = 1e-2
    target: str = ""
    test_fraction: Annotated[float, Interval(0, 1, closed="left")] = 0.0
    rows: Annotated[int, Interval(2, MAX_DIM)] = 1000
    columns: Annotated[int, Interval(1, MAX_DIM)] = 20
    condition: Annotated[float, Interval(1)] = 100.0
    seed: Annotated[int, NONNEGATIVE] = 0

    @property
    def bytes_to_create(self) -> float:
        is_synthetic = self.data == "synthetic"
        return (
            8 * 6 * self.columns * (self.rows + self.columns) * is_synthetic
        )  # the data, their factors and their parts

    def __post_init__(self) -> None:
        self.check_parameters()
        if self.data == "synthetic":
            data = synthetic(self.rows, self.columns, self.condition, self.seed)
        else:
            data = load(self.data, self.target)
        self.fingerprint = "" if self.data == "synthetic" else data.sha256
        self.classes = data.classes
        train, test = split(data.y, (self.test_fraction,), self.seed)
        X, X_test = standardize(data.X[train], data.X[test])
        self.set_samples((X, data.y[train]), (X_test, data.y[test]) if self.test_fraction > 0 else None)
        self.heads = 1 if len(data.classes) == 2 else len(data.classes)  # weight vectors: K, or 1 if K = 2
        self._train = self._rows(X, data.y[train]), data.y[train]  # (n, p + 1) and (n,)
        self._test = self._rows(X_test, data.y[test]), data.y[test]
        self.n_samples, self.width = self._train[0].shape  # n, p + 1
        self.dim = self.heads * self.width
        self.smoothness = _largest_eigenvalue(self._train[0]) / (4 if self.heads == 1 else 2) + self.l2
        self.strong_convexity = self.l2
        self.place()
        self.seal()

    def _rows(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Features with the constant 1 appended, (n, p + 1); two classes: times y_i = -1, 1."""
        Z = np.concatenate([X, np.ones((len(X), 1))], axis=1)
        return Z * np.where(y == 1, 1.0, -1.0)[:, None] if self.heads == 1 else Z

    @property
    def unused(self) -> frozenset[str]:
        return frozenset({"target"} if self.data == "synthetic" else {"rows", "columns", "condition"})

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self.Z = to(self._train[0])  # (n, p + 1); for two classes, rows times y_i = -1, 1
        self.Z_test = to(self._test[0])  # (n_test, p + 1)
        self._codes, self._codes_test = (to(self._one_hot(y)) for y in (self._train[1], self._test[1]))  # (n, K)
        self._block_numbers = block_numbers(self.backend)
        self.choose_kernels()

    def _one_hot(self, y: np.ndarray) -> np.ndarray:
        """Class numbers (n,) as one-hot rows, (n, K); (n, 0) for two classes, as Z contains their signs."""
        return np.eye(self.heads)[y] if self.heads > 1 else np.empty((len(y), 0))

    def choose_kernels(self) -> None:
        # letters of the axes: s batches, l points, d parameters, b samples; r runs
        self._ridge = kernel(ridge, "sld, sld, , -> sld", self.backend)
        if self.heads == 1:
            self._weights = kernel(_weights, "slb -> slb, log1p sl, sum sl", self.backend)
            self._batch_sums = batch_sums(_weights, self.backend)
            self._losses = kernel(_losses, "rb -> log1p r, sum r, sum r", self.backend)
            self._curvatures = kernel(_curvatures, "rb -> rb", self.backend)
        else:
            self._cross_entropy = CrossEntropy(self.backend)

    # ---- value and gradient ------------------------------------------------------------------------------------------

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective (...) and gradient (..., d) at points (..., d); `samples` as in `Problem.value_and_grad`."""
        x = self.points(x)
        xp = self.xp
        if samples is None:
            runs, count = xp.reshape(x, (1, -1, self.dim)), self.Z.shape[0]
            f, g = total(self._sums(runs, Z, y) for Z, y in self._blocks(runs.shape[1] * self.heads))
        else:
            self.per_seed(samples, x)
            seeds = 1 if samples.ndim == 1 else samples.shape[0]
            count = samples.shape[-1]
            runs = xp.reshape(x, (seeds, -1, self.dim))  # (S, L, d)
            if self.heads == 1 and self._batch_sums is not None and runs.shape[1] <= FEW_RUNS:
                f, g = self._batch_sums(runs, self.Z, xp.reshape(samples, (seeds, count)))
            else:
                flat = xp.reshape(samples, (-1,))
                # gathered once per seed, for all its runs
                Z = xp.reshape(xp.take(self.Z, flat, axis=0), (seeds, count, self.width))  # (S, b, p + 1)
                y = xp.reshape(xp.take(self._codes, flat, axis=0), (seeds, count, -1)) if self.heads > 1 else None
                f, g = self._sums(runs, Z, y)
        (g,) = self._ridge(g, runs, (-1 if self.heads == 1 else 1) / count, self.l2)
        return self._mean(xp.reshape(f, x.shape[:-1]), x, count), xp.reshape(g, x.shape)

    def _mean(self, f: Array, x: Array, count: int) -> Array:
        """The objective (...) at points x (..., d), from sums of the losses."""
        return self.xp.reshape(f, x.shape[:-1]) / count + self.l2 / 2 * self.xp.vecdot(x, x)

    def value(self, x: Array) -> Array:
        """Objective (...) at points (..., d)."""
        return self._value_and_accuracy(self.points(x), self.Z, self._codes)[0]

    def _sums(self, x: Array, Z: Array, y: Array | None) -> tuple[Array, Array]:
        """Sums of the losses (S, L) of points (S, L, d), and of their gradients, over samples Z (S or 1, b, p + 1).

        With two classes, the gradients have the other sign.
        """
        reshape = self.xp.reshape
        if self.heads == 1 or y is None:
            weight, loss, excess = self._weights(x @ Z.mT)  # of the margins, (S, L, b)
            return loss + excess, weight @ Z
        loss, slope, _ = self._cross_entropy.gradient(*self._scores(x, Z, y))
        seeds, runs, heads, b = slope.shape
        return loss, reshape(reshape(slope, (seeds, runs * heads, b)) @ Z, x.shape)

    def _scores(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array, Array]:
        """Scores (S, L, K, b), biases of zero (S, L, K) and codes (S, K, b); samples are contiguous in memory."""
        xp, (seeds, runs, _) = self.xp, x.shape
        scores = xp.reshape(x, (seeds, runs * self.heads, self.width)) @ Z.mT  # (S, L K, b)
        return (
            xp.reshape(scores, (seeds, runs, self.heads, Z.shape[1])),
            xp.zeros((seeds, runs, self.heads), dtype=x.dtype, device=self.backend.device),
            y.mT,
        )

    def _blocks(self, rows: int, least: int = MIN_BLOCK) -> Iterator[tuple[Array, Array]]:
        """Z and codes, (1, b, ...), in blocks of b >= `least` samples for which an array (rows, b) fits in cache."""
        return _in_blocks(self.Z, self._codes, max(least, self._block_numbers // max(rows, 1)))

    # ---- Hessian -----------------------------------------------------------------------------------------------------

    def hessian(self, x: Array) -> Array:
        """Hessians (..., d, d) at points (..., d)."""
        x = self.points(x)
        self.check_hessian_dim()
        xp, d = self.xp, self.dim
        runs = xp.reshape(x, (-1, d))
        least = max(64, min(d, MIN_BLOCK))  # the arrays of a block, (R, d, least), are about as large as the result
        blocks = self._blocks(runs.shape[0] * d, least)
        H, *cross = total(self._hessian_sums(runs, Z, y) for Z, y in blocks)
        if cross:
            same = xp.eye(self.heads, dtype=x.dtype, device=self.backend.device)[:, None, :, None]  # (K, 1, K, 1)
            H = xp.reshape(same * H[:, :, :, None, :], cross[0].shape) - cross[0]
        H = H / self.n_samples + self.l2 * xp.eye(d, dtype=x.dtype, device=self.backend.device)
        return xp.reshape(H, (*x.shape, d))

    def _hessian_sums(self, x: Array, Z: Array, y: Array) -> tuple[Array, ...]:
        """The Hessian of the losses summed over samples, (R, d, d); for K > 2 classes its two parts.

        These are sum_i P_k z z^T for the diagonal blocks, (R, K, p + 1, p + 1), and sum_i P_k P_l z z^T, (R, d, d), which
        is subtracted.
        """
        xp = self.xp
        if self.heads == 1:
            Z = Z[0, ...]
            return ((self._curvatures(x @ Z.mT)[0][:, None, :] * Z.mT) @ Z,)
        P = self._cross_entropy.probabilities(*self._scores(x[None, ...], Z, y))[0, ...]  # (R, K, b)
        Q = P[:, :, None, :] * Z.mT  # (R, K, p + 1, b)
        rows = xp.reshape(Q, (*x.shape, -1))  # (R, d, b)
        return Q @ Z, rows @ rows.mT

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        x, v = self.points(x), self.points(v)
        xp = self.xp
        flat = (-1, self.dim)
        runs, ahead = xp.reshape(x, flat), xp.reshape(v, flat)
        blocks = self._blocks(runs.shape[0] * self.heads)
        (Hv,) = total((self._hvp_sum(runs, ahead, Z, y),) for Z, y in blocks)
        return xp.reshape(Hv, v.shape) / self.n_samples + self.l2 * v

    def _hvp_sum(self, x: Array, v: Array, Z: Array, y: Array) -> Array:
        """Products of points and vectors (R, d) with the Hessian of the losses summed over samples Z (1, b, p + 1)."""
        xp = self.xp
        if self.heads == 1:
            Z = Z[0, ...]
            return (self._curvatures(x @ Z.mT)[0] * (v @ Z.mT)) @ Z
        P = self._cross_entropy.probabilities(*self._scores(x[None, ...], Z, y))[0, ...]  # (R, K, b)
        slope = xp.reshape(v, (-1, self.heads, self.width)) @ Z.mT  # (R, K, b)
        return (P * (slope - xp.sum(P * slope, axis=-2, keepdims=True))) @ Z

    # ---- metrics, starts, costs -----------------------------------------------------------------------------------

    @property
    def metric_types(self) -> tuple[Metric, ...]:
        """Shares of rows that are classified correctly; ties are errors. ``test_accuracy`` needs a test part."""
        parts = ("train", "test") if self.test_fraction > 0 else ("train",)
        return tuple(Metric(f"{part}_accuracy", "higher") for part in parts)

    def metrics(self, x: Array) -> dict[str, Array]:
        """The metrics of `metric_types` at points (..., d), (...) each."""
        return self.evaluate(x)[1]

    def evaluate(self, x: Array) -> tuple[Array, dict[str, Array]]:
        """Objective (...) at points (..., d), and the metrics of `metric_types`, (...) each."""
        x = self.points(x)
        f, accuracy = self._value_and_accuracy(x, self.Z, self._codes)
        metrics = {"train_accuracy": accuracy}
        if self.test_fraction > 0:
            metrics["test_accuracy"] = self._value_and_accuracy(x, self.Z_test, self._codes_test)[1]
        return f, metrics

    def _value_and_accuracy(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array]:
        """Objective over the samples of Z (n, p + 1), and the share of them classified correctly; each (...)."""
        runs = self.xp.reshape(x, (1, -1, self.dim))
        length = max(MIN_BLOCK, self._block_numbers // max(runs.shape[1] * self.heads, 1))
        f, correct = total(self._loss_and_correct(runs, *block) for block in _in_blocks(Z, y, length))
        return self._mean(f, x, Z.shape[0]), self.xp.reshape(correct, x.shape[:-1]) / Z.shape[0]

    def _loss_and_correct(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array]:
        """Sums of the losses of points (1, L, d) over samples, and numbers of samples classified correctly."""
        if self.heads > 1:
            return self._cross_entropy.loss_and_correct(*self._scores(x, Z, y))
        loss, excess, correct = self._losses(x[0, ...] @ Z[0, ...].mT)
        return loss + excess, correct

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Gaussian of standard deviation 0.1 around the origin, where all classes are equally likely; (d,)."""
        return 0.1 * rng.standard_normal(self.dim)

    def bytes_per_run(self, batch_size: int | None) -> int:
        """Four arrays with one number per class and sample of a batch or block, and four of d numbers."""
        samples = min(batch_size or self._train[0].shape[0], MIN_BLOCK)
        return (8 if self.backend.precision == "float64" else 4) * 4 * (self.heads * samples + self.dim)

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        # two products with the rows, and an exponential and a logarithm per row and class
        rows, heads, width = batch_size or len(self._train[0]), int(self.heads), int(self.width)
        return rows * heads * (0.32 * width + 10)

    # ---- optimum -----------------------------------------------------------------------------------------------------

    def solve(self) -> Optimum | None:
        """The result of Newton's method at rounding level; None if l2 = 0 or if it stalls before.

        As f is strongly convex with mu = l2, f - |g|^2 / (2 l2) <= inf f (Nesterov 2018, equation 2.1.24). Bounds of the
        rounding errors of f and g are added to the upper and subtracted from the lower bound. Extended precision, where
        the platform has it, makes that of f a few units in its last place.
        """
        from threadpoolctl import threadpool_limits

        if self.l2 == 0:
            return None
        with threadpool_limits(1, "blas"):  # more threads are not faster, and ten times slower on a busy CPU
            x, algorithm = self._newton()
        _, g = self.value_and_grad(x)
        norm = float(np.linalg.norm(g))
        _, _, g_error = self._value_with_bounds(x)
        f, f_error, _ = self._value_with_bounds(x, np.longdouble)
        width = (norm + g_error) ** 2 / (2 * self.l2)
        if not width <= 1e-10 * f:
            return None
        method = f"{algorithm}, lower bound f - |g|^2 / (2 l2) by strong convexity, less rounding"
        return Optimum(f + f_error, max(f - width - f_error, 0.0), x, method, norm)

    def _newton(self) -> tuple[np.ndarray, str]:
        """The iterate with the smallest gradient of Newton's method with backtracking from the origin, and its name.

        It stops after three steps at rounding level that do not reduce the gradient.
        """
        dense = self.has_hessian and 2.0 * self.dim**2 * (self._train[0].shape[0] + self.dim) < DENSE_FLOPS
        x = best = np.zeros(self.dim)
        f, g = self.value_and_grad(x)
        least, stalls = float(np.linalg.norm(g)), 0
        for _ in range(200):
            p = -np.linalg.solve(self.hessian(x), g) if dense else self._newton_cg(x, g)
            slope = float(g @ p)
            tolerance = 2 * self._value_with_bounds(x)[1]  # smaller differences of values are rounding
            if not slope < 0 or stalls == 3:
                break
            t = 1.0
            f_new, g_new = self.value_and_grad(x + p)
            while not f_new <= f + 1e-4 * t * slope + tolerance and t > 1e-12:
                t /= 2
                f_new, g_new = self.value_and_grad(x + t * p)
            x, f, g = x + t * p, f_new, g_new
            norm = float(np.linalg.norm(g))
            if norm < least:
                best, least, stalls = x, norm, 0
            elif -slope <= tolerance:
                stalls += 1
        return best, f"{'Newton' if dense else 'Newton-CG'} in float64"

    def _newton_cg(self, x: np.ndarray, g: Array) -> np.ndarray:
        """Newton's direction by conjugate gradients; its tolerance decreases with the gradient, for fast convergence."""
        from scipy.sparse.linalg import LinearOperator, cg

        H = LinearOperator((self.dim, self.dim), matvec=lambda v: self.hvp(x, v.ravel()), dtype=float)
        p: np.ndarray = cg(H, -g, rtol=min(0.1, float(np.linalg.norm(g)) ** 0.5), maxiter=2000)[0]
        return p

    def _value_with_bounds(self, x: np.ndarray, precision: Any = float) -> tuple[float, float, float]:
        """f(x) summed without rounding, and bounds of the rounding errors of f and of the norm of its gradient.

        Losses are computed in the precision of the given NumPy type. A margin is a scalar product of p + 1 terms, so its
        error is at most (p + 2) eps times the sum of their magnitudes. To first order, the loss and weight change by at
        most min(1, loss) times the change of the margin. The mean over samples adds at most n eps to the gradient.
        """
        eps, last_place = (float(np.finfo(kind).eps) for kind in (precision, float))
        Z, y = self._train
        W = x.reshape(self.heads, self.width)
        step = max(1, 2**22 // max(Z.shape[1], self.heads))  # rows converted to the precision at a time
        parts = (slice(start, start + step) for start in range(0, len(Z), step))
        losses = np.concatenate([self._host_losses(W.astype(precision), Z[part], y[part]) for part in parts])  # (n,)
        rounded = losses.astype(float)
        mean = math.fsum(itertools.chain(rounded, (losses - rounded).astype(float))) / len(Z)
        f = mean + self.l2 / 2 * math.fsum(x * x)
        lengths = np.linalg.norm(Z, axis=1)
        margin_error = 2 * eps * (self.width + 2) * (np.abs(Z) @ np.abs(W).max(axis=0))  # (n,)
        weight = np.minimum(rounded, 1)
        f_error = float(np.mean(weight * margin_error)) + 8 * (eps + last_place) * f
        g_error = 2 * float(np.mean((margin_error + eps * (len(Z) + 8)) * weight * lengths))
        return f, f_error, g_error + 4 * eps * self.l2 * float(np.linalg.norm(x))

    def _host_losses(self, W: np.ndarray, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The losses (b,) of rows Z (b, p + 1) of classes y (b,), in the precision of the weights W (K or 1, p + 1)."""
        scores = Z.astype(W.dtype) @ W.T  # (b, K), or the margins (b, 1)
        if self.heads == 1:
            binary: np.ndarray = np.log1p(np.exp(-np.abs(scores))) + np.maximum(-scores, 0)
            return binary[:, 0]
        shifted = scores - scores.max(axis=1, keepdims=True)
        losses: np.ndarray = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
        return losses


def _largest_eigenvalue(Z: np.ndarray) -> float:
    """Largest eigenvalue of Z^T Z / n, or an upper bound of it if Z is large."""
    n, p = Z.shape
    if min(n, p) > EXACT_SPECTRUM:  # |Z|_2^2 <= |Z|_1 |Z|_inf
        return float(np.linalg.norm(Z, 1) * np.linalg.norm(Z, np.inf) / n)
    return float(np.linalg.eigvalsh(Z.T @ Z if p <= n else Z @ Z.T)[-1] / n)


def _in_blocks(Z: Array, y: Array, length: int) -> Iterator[tuple[Array, Array]]:
    """Rows of Z and y in blocks of about equal length, at most `length`; each (1, b, ...)."""
    return ((Z[None, part, :], y[None, part, :]) for part in blocks(Z.shape[0], length))
