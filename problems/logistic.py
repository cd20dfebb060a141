"""Regularized logistic regression, binary and multinomial, on real or synthetic data."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from optbench.arrays import Array
from optbench.errors import InputError
from optbench.problem import Optimum, Problem, at_least, problem
from optbench.registry import source_hash
from problems.datasets import load, split, standardize, synthetic

EXACT_SPECTRUM = 2000  # the Gram matrix's largest eigenvalue is computed up to this size and bounded above it
DENSE_FLOPS = 1e11  # a Newton step that would take more than this to form its Hessian asks for products instead
BLOCK = 512  # samples at a time on the CPU, at least; see `_blocks`
WORTH_FOLDING = 8192  # numbers in an array; see `_sum_log1p`
CPU_NUMBERS, DEVICE_NUMBERS = 2**16, 2**25  # size of one intermediate array: fits a second-level cache, fills a GPU


@problem("logistic")
@dataclass(eq=False)
class Logistic(Problem):
    """f(w) = (1/n) sum_i loss_i(w) + l2/2 |w|^2, the mean logistic loss of a linear classifier plus a ridge.

    Features are standardized with the statistics of the training rows and a constant 1 is appended: z_i in R^(p+1).
    Every weight is regularized, that of the constant too, which makes f strongly convex with mu = l2.

    With two classes, y_i = -1 or 1, d = p + 1 and loss_i = log(1 + exp(-y_i w^T z_i)). With K > 2 classes,
    W of shape (K, p + 1) holds one weight vector a class, d = K (p + 1), the point is W row by row, and
    loss_i = log(sum_k exp(W_k z_i)) - W_(y_i) z_i. No exponential overflows, at any margin.

    Parameters
    ----------
    data : str
        Name of a data set (``breast_cancer``, ``digits``, ``digits_binary``, ``wine``, ``iris``), ``synthetic``, or the
        path of a LIBSVM or CSV file; see `problems.datasets.load`.
    l2 : float
        Weight of the ridge, at least 0. With 0 the infimum may not be attained, and no optimum is stated.
    target : str
        Label column of a CSV file; by default the last.
    test_fraction : float
        Share of the rows held out for `metrics`, in [0, 1), stratified by class.
    rows, columns, condition : int, int, float
        Shape of ``synthetic`` data and condition number of its covariance, see `problems.datasets.synthetic`; otherwise
        without effect.
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
    """

    citation = "Böhning, Multinomial logistic regression algorithm, Ann. Inst. Statist. Math. 44 (1992) 197-200"
    formula = "f(w) = (1/n) sum_i log(1 + exp(-y_i w^T z_i)) + l2/2 |w|^2; K > 2 classes: softmax cross-entropy"
    always_shown = ("data",)

    data: str = "breast_cancer"
    l2: float = 1e-2
    target: str = ""
    test_fraction: float = 0.0
    rows: int = 1000
    columns: int = 20
    condition: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_types()
        at_least(self, "l2", 0)
        at_least(self, "test_fraction", 0)
        at_least(self, "seed", 0)
        if self.test_fraction >= 1:
            raise InputError(f"problem {self.name!r}: test_fraction must be below 1, not {self.test_fraction!r}")
        if self.data == "synthetic":
            data = synthetic(self.rows, self.columns, self.condition, self.seed)
        else:
            data = load(self.data, self.target)
        self._sha256 = "" if self.data == "synthetic" else data.sha256
        self.classes = data.classes
        train, test = split(data.y, (self.test_fraction,), self.seed)
        X, X_test = standardize(data.X[train], data.X[test])
        self._train = _rows(X, data.y[train], len(data.classes))  # (n, p + 1) and (n,)
        self._test = _rows(X_test, data.y[test], len(data.classes))
        self.n_samples, self.width = self._train[0].shape  # n, p + 1
        self.heads = 1 if len(data.classes) == 2 else len(data.classes)  # weight vectors: K, or 1 where K = 2
        self.dim = self.heads * self.width
        self.smoothness = _largest_eigenvalue(self._train[0]) / (4 if self.heads == 1 else 2) + self.l2
        self.strong_convexity = self.l2
        self.place()

    @property
    def idle(self) -> frozenset[str]:
        return frozenset({"target"} if self.data == "synthetic" else {"rows", "columns", "condition"})

    def place(self) -> None:
        self.xp = self.backend.xp
        self.Z = self.backend.asarray(self._train[0])  # (n, p + 1); rows times y_i = -1, 1 where there are two classes
        self.y = self.backend.indices(self._train[1])  # (n,)
        self.Z_test = self.backend.asarray(self._test[0])  # (n_test, p + 1)
        self.y_test = self.backend.indices(self._test[1])  # (n_test,)
        self._class_numbers = self.backend.indices(np.arange(self.heads)[:, None])  # (K, 1)
        self._numbers = CPU_NUMBERS if self.backend.name == "numpy" else DEVICE_NUMBERS

    # ---- value and gradient ------------------------------------------------------------------------------------------

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        x = self.points(x)
        xp = self.xp
        if samples is None:
            runs, count = xp.reshape(x, (-1, self.dim)), self.n_samples
            f, g = _total(self._sums(runs, Z, y) for Z, y in self._blocks(runs.shape[0] * self.heads))
        else:
            self.per_seed(samples, x)
            stack, count = samples.shape[:-1], samples.shape[-1]  # () or (S,), and b
            runs = xp.reshape(x, (*stack, -1, self.dim))  # ([S,] L, d)
            flat = xp.reshape(samples, (-1,))
            Z = xp.reshape(xp.take(self.Z, flat, axis=0), (*stack, count, self.width))  # once a seed, for all its runs
            y = xp.reshape(xp.take(self.y, flat, axis=0), (*stack, count)) if self.heads > 1 else None
            f, g = self._sums(runs, Z, y)
        f = xp.reshape(f, x.shape[:-1]) / count + self.l2 / 2 * xp.vecdot(x, x)
        g = xp.reshape(g, x.shape) / count + self.l2 * x
        return f, g

    def value(self, x: Array) -> Array:
        x = self.points(x)
        runs = self.xp.reshape(x, (-1, self.dim))
        (f,) = _total((self._loss_sums(runs, Z, y),) for Z, y in self._blocks(runs.shape[0] * self.heads))
        return self.xp.reshape(f, x.shape[:-1]) / self.n_samples + self.l2 / 2 * self.xp.vecdot(x, x)

    def _loss_sums(self, x: Array, Z: Array, y: Array) -> Array:
        """Sum of the losses (R,) of points (R, d) over the samples of Z (b, p + 1)."""
        if self.heads == 1:
            return self._signed_losses(x @ Z.mT)[0]
        W = self.xp.reshape(x, (-1, self.width))  # (R K, p + 1)
        return self.xp.sum(self._probabilities(W, Z, y)[1], axis=-1)

    def _sums(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array]:
        """Sum of the losses (..., L) and of their gradients (..., L, d) over the samples of Z (..., b, p + 1)."""
        return self._signed_sums(x, Z) if self.heads == 1 else self._softmax_sums(x, Z, y)

    def _signed_sums(self, w: Array, Z: Array) -> tuple[Array, Array]:
        margin = w @ Z.mT  # (..., L, b)
        loss, e = self._signed_losses(margin)
        xp = self.xp
        weight = xp.maximum(e, xp.astype(margin <= 0, e.dtype)) / (1 + e)  # 1 / (1 + exp(m)), with one exponential
        return loss, -(weight @ Z)

    def _signed_losses(self, margin: Array) -> tuple[Array, Array]:
        """Sum of log(1 + exp(-m)) over the margins m (..., b), and exp(-|m|)."""
        size = self.xp.abs(margin)
        e = self.xp.exp(-size)
        return self._sum_log1p(e) + self.xp.sum(size - margin, axis=-1) / 2, e  # log1p(e) + max(-m, 0)

    def _sum_log1p(self, e: Array) -> Array:
        """Sum of log1p(e) over the last axis, for e in [0, 1].

        With NumPy a logarithm costs up to twenty products, so factors are first multiplied by eights: (1 + a)(1 + b) =
        1 + (a + b + a b). All terms are positive, so small e keep their digits. It pays for all but small arrays; on a
        device the launches would cost more than the logarithms.
        """
        xp = self.xp
        rest = 0.0
        if self.backend.name == "numpy" and e.size >= WORTH_FOLDING:
            for _ in range(3):
                half, odd = divmod(e.shape[-1], 2)
                if odd:
                    rest = rest + xp.log1p(e[..., -1])
                a, b = e[..., :half], e[..., half : 2 * half]
                e = a + b + a * b
        return xp.sum(xp.log1p(e), axis=-1) + rest

    def _softmax_sums(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array]:
        xp = self.xp
        W = xp.reshape(x, (*x.shape[:-2], -1, self.width))  # (..., L K, p + 1)
        P, loss, chosen = self._probabilities(W, Z, y)
        G = xp.reshape(P - chosen, (*W.shape[:-1], Z.shape[-2])) @ Z  # (..., L K, p + 1)
        return xp.sum(loss, axis=-1), xp.reshape(G, x.shape)

    def _probabilities(self, W: Array, Z: Array, y: Array) -> tuple[Array, Array, Array]:
        """Class probabilities (..., L, K, b), losses (..., L, b) and the 0-1 coding of the labels (..., 1, K, b)."""
        xp = self.xp
        # samples run along the last axis, so that every step over classes is one over contiguous rows
        scores = xp.reshape(W @ Z.mT, (*W.shape[:-2], -1, self.heads, Z.shape[-2]))  # (..., L, K, b)
        scores = scores - xp.max(scores, axis=-2, keepdims=True)
        chosen = xp.astype(xp.expand_dims(y, axis=-2) == self._class_numbers, scores.dtype)  # (..., K, b)
        chosen = xp.expand_dims(chosen, axis=-3)
        e = xp.exp(scores)
        total = xp.sum(e, axis=-2, keepdims=True)  # between 1 and K
        loss = xp.log(total[..., 0, :]) - xp.sum(scores * chosen, axis=-2)
        return e / total, loss, chosen

    def _blocks(self, rows: int, least: int = BLOCK) -> Iterator[tuple[Array, Array]]:
        """Z and y in blocks of samples for which an array (rows, block) stays in cache; at least `least` samples."""
        return _cut(self.Z, self.y, max(least, self._numbers // max(rows, 1)))

    # ---- Hessian -----------------------------------------------------------------------------------------------------

    def hessian(self, x: Array) -> Array:
        x = self.points(x)
        if self.dim > self.max_hessian_dim:
            raise InputError(f"{self.spec} has {self.dim} parameters; a Hessian is formed up to {self.max_hessian_dim}")
        xp, d = self.xp, self.dim
        runs = xp.reshape(x, (-1, d))
        least = max(64, min(d, BLOCK))  # what a block makes, (R, d, least), is about as large as the result
        blocks = self._blocks(runs.shape[0] * d, least)
        if self.heads == 1:
            (H,) = _total(self._signed_hessian(runs, Z) for Z, _ in blocks)
        else:
            own, cross = _total(self._softmax_hessian(runs, Z, y) for Z, y in blocks)
            same = xp.eye(self.heads, dtype=x.dtype, device=self.backend.device)[:, None, :, None]  # (K, 1, K, 1)
            H = xp.reshape(same * own[:, :, :, None, :], cross.shape) - cross
        H = H / self.n_samples + self.l2 * xp.eye(d, dtype=x.dtype, device=self.backend.device)
        return xp.reshape(H, (*x.shape, d))

    def _signed_hessian(self, w: Array, Z: Array) -> tuple[Array]:
        """Z^T diag(curvature) Z for each row of w (R, d): shape (R, d, d)."""
        return ((self._curvature(w, Z)[:, None, :] * Z.mT) @ Z,)

    def _curvature(self, w: Array, Z: Array) -> Array:
        """Second derivative of the loss by the margin, (R, b)."""
        e = self.xp.exp(-self.xp.abs(w @ Z.mT))
        return e / (1 + e) ** 2

    def _softmax_hessian(self, x: Array, Z: Array, y: Array) -> tuple[Array, Array]:
        """The parts sum_i P_k z z^T, (R, K, p + 1, p + 1), and sum_i P_k P_l z z^T, (R, d, d).

        The sum's Hessian has the first on its diagonal blocks, less the second everywhere.
        """
        xp = self.xp
        P, _, _ = self._probabilities(xp.reshape(x, (x.shape[0], self.heads, self.width)), Z, y)  # (R, 1, K, b)
        Q = xp.reshape(P, (*x.shape[:1], self.heads, 1, -1)) * Z.mT  # (R, K, p + 1, b)
        rows = xp.reshape(Q, (*x.shape, -1))  # (R, d, b)
        return Q @ Z, rows @ rows.mT

    def hvp(self, x: Array, v: Array) -> Array:
        x, v = self.points(x), self.points(v)
        xp = self.xp
        flat = (-1, self.dim)
        runs, ahead = xp.reshape(x, flat), xp.reshape(v, flat)
        blocks = self._blocks(runs.shape[0] * self.heads)
        if self.heads == 1:
            (Hv,) = _total(((self._curvature(runs, Z) * (ahead @ Z.mT)) @ Z,) for Z, _ in blocks)
        else:
            (Hv,) = _total(self._softmax_hvp(runs, ahead, Z, y) for Z, y in blocks)
        return xp.reshape(Hv, v.shape) / self.n_samples + self.l2 * v

    def _softmax_hvp(self, x: Array, v: Array, Z: Array, y: Array) -> tuple[Array]:
        xp = self.xp
        W, V = (xp.reshape(a, (-1, self.heads, self.width)) for a in (x, v))  # (R, K, p + 1)
        P = xp.reshape(self._probabilities(W, Z, y)[0], (*W.shape[:-1], -1))  # (R, K, b)
        slope = V @ Z.mT  # (R, K, b)
        return ((P * (slope - xp.sum(P * slope, axis=-2, keepdims=True))) @ Z,)

    # ---- figures, starts, identity -----------------------------------------------------------------------------------

    def metrics(self, x: Array) -> dict[str, Array]:
        """``train_accuracy`` and, with a test set, ``test_accuracy``: shares of rows classified rightly, not by a tie."""
        x = self.points(x)
        found = {"train_accuracy": self._accuracy(x, self.Z, self.y)}
        if self.test_fraction > 0:
            found["test_accuracy"] = self._accuracy(x, self.Z_test, self.y_test)
        return found

    def _accuracy(self, x: Array, Z: Array, y: Array) -> Array:
        runs = self.xp.reshape(x, (-1, self.heads, self.width))
        block = max(BLOCK, self._numbers // max(runs.shape[0] * self.heads, 1))
        (hits,) = _total((self._hits(runs, *part),) for part in _cut(Z, y, block))
        return self.xp.reshape(hits, x.shape[:-1]) / Z.shape[0]

    def _hits(self, W: Array, Z: Array, y: Array) -> Array:
        xp = self.xp
        scores = W @ Z.mT  # (R, K, b), or margins (R, 1, b)
        right = scores[:, 0, :] > 0 if self.heads == 1 else xp.argmax(scores, axis=-2) == y
        return xp.sum(xp.astype(right, scores.dtype), axis=-1)  # (R,)

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Gaussian with standard deviation 0.1: near the origin, where every class is about equally likely."""
        return 0.1 * rng.standard_normal(self.dim)

    def bytes_per_run(self, batch_size: int | None) -> int:
        """Four arrays of a number a class and sample, of a batch or of one block of rows, and four of d numbers."""
        samples = min(batch_size or self._train[0].shape[0], BLOCK)
        return (8 if self.backend.precision == "float64" else 4) * 4 * (self.heads * samples + self.dim)

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        # two products with the rows, and an exponential and a logarithm a row and class
        rows, heads, width = batch_size or len(self._train[0]), int(self.heads), int(self.width)
        return rows * heads * (0.32 * width + 10)

    @property
    def fingerprint(self) -> str:
        return self._sha256

    @property
    def code_version(self) -> str:
        return source_hash(type(self).__mro__[:-1], modules=["problems.datasets"])

    # ---- optimum -----------------------------------------------------------------------------------------------------

    def solve(self) -> Optimum | None:
        """Newton's method until the gradient is at rounding level; None with l2 = 0, or if it stalls before.

        As f is strongly convex with mu = l2, f - |g|^2 / (2 l2) <= inf f (Nesterov 2018, equation 2.1.24). The bound is
        lowered by what rounding can have done to f and g.
        """
        from threadpoolctl import threadpool_limits

        if self.l2 == 0:
            return None
        with threadpool_limits(
            1, "blas"
        ):  # more threads gain nothing at these sizes, and ten times is lost on a busy CPU
            x, how = self._newton()
        _, g = self.value_and_grad(x)
        norm = float(np.linalg.norm(g))
        f, f_error, g_error = self._careful_value(x)
        width = (norm + g_error) ** 2 / (2 * self.l2)
        if not width <= 1e-10 * f:
            return None
        method = f"{how}, lower bound f - |g|^2 / (2 l2) by strong convexity, less rounding"
        return Optimum(f, max(f - width - f_error, 0.0), x, method, norm)

    def _newton(self) -> tuple[np.ndarray, str]:
        """The point of least gradient of Newton's method with backtracking from the origin, and the method's name."""
        dense = self.has_hessian and 2.0 * self.dim**2 * (self._train[0].shape[0] + self.dim) < DENSE_FLOPS
        x = best = np.zeros(self.dim)
        f, g = self.value_and_grad(x)
        least, stalls = float(np.linalg.norm(g)), 0
        for _ in range(200):
            p = -np.linalg.solve(self.hessian(x), g) if dense else self._newton_cg(x, g)
            slope = float(g @ p)
            tolerance = 2 * self._careful_value(x)[1]  # below it, a comparison of values tells nothing
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

    def _newton_cg(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Newton's direction by conjugate gradients, more exact as the gradient falls: superlinear convergence."""
        from scipy.sparse.linalg import LinearOperator, cg

        H = LinearOperator((self.dim, self.dim), matvec=lambda v: self.hvp(x, v.ravel()), dtype=float)
        p: np.ndarray = cg(H, -g, rtol=min(0.1, float(np.linalg.norm(g)) ** 0.5), maxiter=2000)[0]
        return p

    def _careful_value(self, x: np.ndarray) -> tuple[float, float, float]:
        """f(x) summed without rounding, and bounds of the rounding errors of f and of the norm of its gradient.

        A margin is a product of p + 1 terms, so its error is at most (p + 2) eps times the sum of their sizes. Where a
        margin changes, its loss and weight change at most min(1, loss) times as much, to first order; the mean over
        samples adds at most n eps to the gradient.
        """
        eps = float(np.finfo(float).eps)
        Z, y = self._train
        W = x.reshape(self.heads, self.width)
        if self.heads == 1:
            margin = Z @ x
            losses = np.log1p(np.exp(-np.abs(margin))) + np.maximum(-margin, 0)
        else:
            losses = np.concatenate([self._probabilities(W, *part)[1][0] for part in _cut(Z, y, BLOCK)])
        f = math.fsum(losses) / len(Z) + self.l2 / 2 * math.fsum(x * x)
        lengths = np.linalg.norm(Z, axis=1)
        margin_error = 2 * eps * (self.width + 2) * (np.abs(Z) @ np.abs(W).max(axis=0))  # (n,)
        weight = np.minimum(losses, 1)
        f_error = float(np.mean(weight * margin_error)) + 8 * eps * f
        g_error = 2 * float(np.mean((margin_error + eps * (len(Z) + 8)) * weight * lengths))
        return f, f_error, g_error + 4 * eps * self.l2 * float(np.linalg.norm(x))


def _rows(X: np.ndarray, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with the constant 1 appended, (n, p + 1), and labels; two classes: rows times y_i = -1, 1."""
    Z = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    return (Z * np.where(y == 1, 1.0, -1.0)[:, None] if classes == 2 else Z), y


def _largest_eigenvalue(Z: np.ndarray) -> float:
    """Largest eigenvalue of Z^T Z / n, or for large shapes an upper bound of it."""
    n, p = Z.shape
    if min(n, p) > EXACT_SPECTRUM:  # |Z|_2^2 <= |Z|_1 |Z|_inf
        return float(np.linalg.norm(Z, 1) * np.linalg.norm(Z, np.inf) / n)
    return float(np.linalg.eigvalsh(Z.T @ Z if p <= n else Z @ Z.T)[-1] / n)


def _cut(Z: Array, y: Array, block: int) -> Iterator[tuple[Array, Array]]:
    """Rows of Z and y in parts of about equal length, at most `block`."""
    n = Z.shape[0]
    parts = -(-n // block)
    edges = [n * k // parts for k in range(parts + 1)]
    return ((Z[i:j, :], y[i:j]) for i, j in itertools.pairwise(edges))


def _total(parts: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Sums of the corresponding members of tuples of arrays."""
    return functools.reduce(lambda left, right: tuple(a + b for a, b in zip(left, right, strict=True)), parts)
