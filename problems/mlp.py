"""Multilayer perceptrons, a student of a teacher network, and the linear autoencoder: non-convex learning problems.

Backpropagation is written out by hand, one formula for all runs at once. Activations are columns, (..., features, batch),
so that biases and the softmax run along contiguous memory; runs that see the same batch share one big product with the
inputs. What reads, splits and scales data is in `problems.datasets`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from optbench.arrays import Array
from optbench.errors import InputError
from optbench.problem import Optimum, Problem, at_least, one_of, problem, stream
from optbench.registry import source_hash
from problems.datasets import load, split, standardize

ACTIVATIONS = {"tanh": 1.0, "relu": 2.0}  # variance of the initial weights times fan-in
LOSSES = ("cross_entropy", "squared")
SCALINGS = ("table", "feature")
PARTS = ("train", "validation", "test")
SHARES = (0.15, 0.15)  # of validation and test
HESSIAN_BYTES = 2**26  # intermediate results of the Hessian columns that are computed together


class Batch(NamedTuple):
    """Samples that all points of a seed see."""

    rows: Array  # inputs, (S, b, p)
    targets: Array  # what the outputs should be, (S, 1, q, b)


class Network(Problem):
    """What the networks share: mini-batches, products with common inputs, and second derivatives.

    Inside, points have the shape (S, L, d): L points for each of the S batches; a common batch is S = 1.
    """

    max_hessian_dim = 500

    xp: Any  # the backend's array namespace
    _batch: Batch  # all n training samples
    _rows: Array  # their inputs, (n, p)
    _target_rows: Array  # and targets, (n, q)
    _fingerprint: str = ""

    def _curvature(self, x: Array, v: Array) -> Array:
        """H(x) v of the full batch; x of shape (1, L, 1, d) and v of (1, L or 1, K, d) give (1, L, K, d)."""
        raise NotImplementedError

    def hvp(self, x: Array, v: Array) -> Array:
        x, v = self.points(x), self.points(v)
        x, v = self.xp.broadcast_arrays(x, v)
        shape = (1, math.prod(x.shape[:-1]), 1, self.dim)
        return self.xp.reshape(self._curvature(self.xp.reshape(x, shape), self.xp.reshape(v, shape)), x.shape)

    def hessian(self, x: Array) -> Array:
        """Hessian, by Hessian-vector products with the columns of the identity; (..., d) gives (..., d, d)."""
        if not self.has_hessian:
            raise InputError(
                f"{self.spec} offers its Hessian up to {self.max_hessian_dim} parameters and has {self.dim}; use hvp"
            )
        xp, x = self.xp, self.points(x)
        runs = math.prod(x.shape[:-1])
        flat = xp.reshape(x, (1, runs, 1, self.dim))
        eye = xp.eye(self.dim, dtype=x.dtype, device=self.backend.device)
        block = max(1, HESSIAN_BYTES // (max(1, runs) * self.bytes_per_run(None)))
        parts = [
            self._curvature(flat, eye[None, None, k : min(k + block, self.dim), :]) for k in range(0, self.dim, block)
        ]
        h = xp.reshape(xp.concat(parts, axis=2), (*x.shape, self.dim))  # (..., d, d)
        return (h + xp.matrix_transpose(h)) / 2

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def code_version(self) -> str:
        return source_hash(type(self).__mro__[:-1], modules=["problems.datasets"])

    def _stacked(self, x: Array, samples: Array | None) -> tuple[Array, Batch]:
        """Points as (S, L, d), and the batch that they see, gathered once a seed."""
        xp = self.xp
        if samples is None:
            batch = self._batch
        else:
            self.per_seed(samples, x)  # for its check of the shapes
            b = samples.shape[-1]
            flat = xp.reshape(samples, (-1,))
            rows = xp.reshape(xp.take(self._rows, flat, axis=0), (-1, b, self._rows.shape[-1]))
            targets = xp.reshape(xp.take(self._target_rows, flat, axis=0), (-1, b, self._target_rows.shape[-1]))
            batch = Batch(rows, self._columns(targets))
        seeds = batch.rows.shape[0]
        return xp.reshape(x, (seeds, math.prod(x.shape[:-1]) // seeds, self.dim)), batch

    def _columns(self, rows: Array) -> Array:
        """Rows (S, b, q) as columns (S, 1, q, b), which lie contiguous in memory whatever the first layout."""
        s, b, q = rows.shape
        flat = self.xp.reshape(self.xp.matrix_transpose(rows), (s, 1, q * b))
        return self.xp.reshape(flat, (s, 1, q, b))

    def _times_inputs(self, W: Array, rows: Array) -> Array:
        """W of shape (S, ..., h, p) times the inputs (S, b, p) of each seed: (S, ..., h, b), one product a seed."""
        s, *rest, p = W.shape
        z = self.xp.reshape(W, (s, math.prod(rest), p)) @ self.xp.matrix_transpose(rows)
        return self.xp.reshape(z, (s, *rest, rows.shape[1]))

    def _times_rows(self, delta: Array, rows: Array) -> Array:
        """delta of shape (S, ..., h, b) times the inputs (S, b, p) of each seed: (S, ..., h, p)."""
        s, *rest, b = delta.shape
        g = self.xp.reshape(delta, (s, math.prod(rest), b)) @ rows
        return self.xp.reshape(g, (s, *rest, rows.shape[2]))

    def _bytes(self, numbers: int) -> int:
        """Bytes of so many intermediate numbers and of the gradient, its parts and the weights laid out."""
        return (4 if self.backend.precision == "float32" else 8) * (numbers + 3 * self.dim)

    def _joined(self, parts: list[Array]) -> Array:
        """Matrices of shape (..., out, in), one after the other along the parameters: (..., d)."""
        return self.xp.concat([self.xp.reshape(m, (*m.shape[:-2], math.prod(m.shape[-2:]))) for m in parts], axis=-1)


class Perceptron(Network):
    """f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2 for fully connected layers.

    The parameters are, layer by layer from the inputs on, the weights (out, in) row by row, then the biases (out).
    """

    hidden: tuple[int, ...]
    activation: str
    loss: str
    l2: float

    def _check(self) -> None:
        one_of(self, "activation", ACTIVATIONS)
        at_least(self, "l2", 0)
        at_least(self, "seed", 0)
        _widths(self, "hidden")

    def _lay_out(self, sizes: tuple[int, ...], parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Take the layer sizes (p, ..., q) and the data: inputs (m, p) and targets (m, q) of each part."""
        self.sizes = sizes
        self._parts = parts
        self._slots = []  # first parameter, outputs and inputs of each layer
        self.dim = 0
        for p, q in itertools.pairwise(sizes):
            self._slots.append((self.dim, q, p))
            self.dim += q * (p + 1)
        self.n_samples = len(parts["train"][0])
        self.place()

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self._rows, self._target_rows = (to(values) for values in self._parts["train"])
        self._placed = {
            part: Batch(to(rows)[None, ...], self._columns(to(targets)[None, ...]))
            for part, (rows, targets) in self._parts.items()
        }
        self._batch = self._placed["train"]
        self._ones = self.backend.asarray(np.ones((self._rows.shape[0], 1)))  # (n, 1)
        self._zero = self.backend.zeros(())

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Normal weights of variance 1/fan-in (tanh; LeCun et al. 1998) or 2/fan-in (relu; He et al. 2015), biases 0."""
        gain = ACTIVATIONS[self.activation]
        layers = [(rng.standard_normal((q, p)) * (gain / p) ** 0.5, np.zeros((q, 1))) for _, q, p in self._slots]
        return np.concatenate([part.ravel() for layer in layers for part in layer])

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        x = self.points(x)
        w, (rows, targets) = self._stacked(x, samples)  # (S, L, d)
        layers = self._layers(w)
        *activations, z = self._forward(layers, rows)
        f, delta = self._loss(z, targets)  # (S, L), (S, L, q, b)
        ones = self._ones[: rows.shape[1], :]
        parts: list[Array] = []
        for (W, _), a in zip(layers[:0:-1], activations[::-1], strict=True):
            # a product with ones sums the batch at the speed of a matrix product
            parts = [delta @ self.xp.matrix_transpose(a), delta @ ones, *parts]
            delta = self.xp.matrix_transpose(W) @ delta
            delta *= self._slope(a)
        g = self._joined([self._times_rows(delta, rows), delta @ ones, *parts])  # (S, L, d)
        f = f + self._decay(w)
        if self.l2:
            g += self.l2 * w
        return self.xp.reshape(f, x.shape[:-1]), self.xp.reshape(g, x.shape)

    def value(self, x: Array) -> Array:
        x = self.points(x)
        w, (rows, targets) = self._stacked(x, None)  # (1, L, d)
        f, _ = self._loss(self._forward(self._layers(w), rows)[-1], targets)
        return self.xp.reshape(f + self._decay(w), x.shape[:-1])

    def _decay(self, w: Array) -> Array:
        return (self.l2 / 2) * self.xp.vecdot(w, w) if self.l2 else self.xp.zeros_like(w[..., 0])

    def metrics(self, x: Array) -> dict[str, Array]:
        """Losses without the decay, and for classes accuracies: the share of samples whose largest output is right."""
        return self.evaluate(x)[1]

    def evaluate(self, x: Array) -> tuple[Array, dict[str, Array]]:
        x = self.points(x)
        xp, shape = self.xp, x.shape[:-1]
        w = xp.reshape(x, (1, math.prod(shape), self.dim))
        layers = self._layers(w)
        figures = {}
        for part, (rows, targets) in self._placed.items():
            *_, z = self._forward(layers, rows)  # (1, L, q, m)
            if targets.shape[2] > 1:
                hits = xp.argmax(z, axis=-2) == xp.argmax(targets, axis=-2)  # (1, L, m)
                figures[f"{part}_accuracy"] = xp.reshape(xp.mean(xp.astype(hits, x.dtype), axis=-1), shape)
            figures[f"{part}_loss"] = xp.reshape(self._loss(z, targets)[0], shape)
        f = figures.pop("train_loss") + xp.reshape(self._decay(w), shape)
        return f, figures

    def bytes_per_run(self, batch_size: int | None) -> int:
        # every hidden activation is kept; of the widest layer two more are under way, or of the outputs three; the batch
        # itself is shared by the runs of a seed and not counted
        b = batch_size or len(self._parts["train"][0])
        columns = sum(self.sizes[1:-1]) + max(3 * self.sizes[-1], 2 * max(self.sizes[1:]))
        return self._bytes(b * columns)

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        # three products with the weights, forwards and backwards
        return 0.8 * self.dim * (batch_size or len(self._parts["train"][0]))

    # ---- the network -------------------------------------------------------------------------------------------------

    def _layers(self, x: Array) -> list[tuple[Array, Array]]:
        """Weights (..., out, in) and biases (..., out, 1) of points (..., d), without copying."""
        reshape, lead = self.xp.reshape, x.shape[:-1]
        return [
            (reshape(x[..., k : k + q * p], (*lead, q, p)), reshape(x[..., k + q * p : k + q * p + q], (*lead, q, 1)))
            for k, q, p in self._slots
        ]

    def _forward(self, layers: list[tuple[Array, Array]], rows: Array) -> list[Array]:
        """Activations of the hidden layers, then the outputs; each (S, ..., features, b)."""
        W, c = layers[0]
        z = self._times_inputs(W, rows)
        z += c
        activations = []
        for W, c in layers[1:]:
            activations.append(self._activate(z))
            z = W @ activations[-1]
            z += c
        return [*activations, z]

    def _activate(self, z: Array) -> Array:
        return self.xp.tanh(z) if self.activation == "tanh" else self.xp.maximum(z, self._zero)

    def _slope(self, a: Array) -> Array:
        """Derivative of the activation, told by its result a; that of relu is 0 at 0."""
        return 1 - a * a if self.activation == "tanh" else self.xp.astype(a > 0, a.dtype)

    def _loss(self, z: Array, targets: Array) -> tuple[Array, Array]:
        """Mean loss (S, L) of outputs (S, L, q, b), and its derivative by them; overwrites z."""
        xp, (s, runs, q, b) = self.xp, z.shape
        y = xp.reshape(targets, (s, 1, q * b))
        if self.loss == "squared":
            z -= targets
            e = xp.reshape(z, (s, runs, q * b))
            return xp.vecdot(e, e) / (2 * b), z / b
        # log sum_j exp(z_j) - z_y, with the largest output moved to 0: no exponential overflows
        z -= xp.max(z, axis=-2, keepdims=True)
        e = xp.exp(z)
        total = xp.sum(e, axis=-2, keepdims=True)  # (S, L, 1, b)
        f = xp.sum(xp.log(total), axis=(-2, -1)) - xp.vecdot(xp.reshape(z, (s, runs, q * b)), y)
        e /= b * total
        e -= targets / b
        return f / b, e

    # ---- second derivatives ------------------------------------------------------------------------------------------

    def _curvature(self, x: Array, v: Array) -> Array:
        """The R-operator (Pearlmutter 1994): derivatives along v, here prefixed r, of every line of backpropagation."""
        xp, (rows, targets) = self.xp, self._batch
        mT = xp.matrix_transpose
        layers, directions = self._layers(x), self._layers(v)
        *activations, z = self._forward(layers, rows)  # (1, L, 1, features, n)
        rz = self._times_inputs(directions[0][0], rows) + directions[0][1]  # (1, L or 1, K, features, n)
        tangents = []
        for (W, _), (V, c), a in zip(layers[1:], directions[1:], activations, strict=True):
            tangents.append(self._slope(a) * rz)
            rz = V @ a + W @ tangents[-1] + c
        delta, r_delta = self._loss_curvature(z, rz, targets[None, ...])
        ones = self._ones
        parts: list[Array] = []
        backwards = zip(layers[:0:-1], directions[:0:-1], activations[::-1], tangents[::-1], strict=True)
        for (W, _), (V, _), a, ra in backwards:
            parts = [r_delta @ mT(a) + delta @ mT(ra), r_delta @ ones, *parts]
            back, slope = mT(W) @ delta, self._slope(a)
            r_delta = slope * (mT(V) @ delta + mT(W) @ r_delta)
            if self.activation == "tanh":  # a'' = -2 a a'; relu has none
                r_delta = r_delta - 2 * (a * back) * ra
            delta = slope * back
        return self._joined([self._times_rows(r_delta, rows), r_delta @ ones, *parts]) + self.l2 * v

    def _loss_curvature(self, z: Array, rz: Array, targets: Array) -> tuple[Array, Array]:
        """Derivative of the mean loss by the outputs z (1, L, 1, q, n), and its derivative along rz (1, L, K, q, n)."""
        xp, n = self.xp, z.shape[-1]
        if self.loss == "squared":
            return (z - targets) / n, rz / n
        e = xp.exp(z - xp.max(z, axis=-2, keepdims=True))
        p = e / xp.sum(e, axis=-2, keepdims=True)
        return (p - targets) / n, p * (rz - xp.sum(p * rz, axis=-2, keepdims=True)) / n


@problem("mlp")
@dataclass(eq=False)
class MLP(Perceptron):
    """f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2: a multilayer perceptron that classifies.

    The rows are split 70/15/15 into training, validation and test parts, classes in proportion; f is over the training
    part, and features are standardized with its mean and deviation. There is one output a class. Non-convex: no f* is
    known. See `Perceptron` for the order of the parameters.

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
        ``tanh``; ``relu`` (its slope at 0 is taken as 0, its second derivative as 0 everywhere).
    loss : str
        ``cross_entropy``: -log softmax(output)_y; ``squared``: 1/2 |output - e_y|^2 with e_y the y-th unit vector.
    l2 : float
        Decay, at least 0. It applies to every weight and every bias, so that it is one plain quadratic of w.
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
    """

    citation = (
        "Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, Nature 323 (1986); "
        "Hessian products: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994)"
    )
    formula = "f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2"
    always_shown = ("data",)

    data: str = "digits"
    target: str = ""
    hidden: tuple[int, ...] = (16,)
    activation: str = "tanh"
    loss: str = "cross_entropy"
    l2: float = 1e-4
    rows: int = 500
    noise: float = 0.2
    seed: int = 0

    @property
    def idle(self) -> frozenset[str]:
        return frozenset({"target"} if self.data == "moons" else {"rows", "noise"})

    def __post_init__(self) -> None:
        self.check_types()
        self._check()
        one_of(self, "loss", LOSSES)
        at_least(self, "rows", 10)
        at_least(self, "noise", 0)
        if self.data == "moons":
            X, y = _moons(self.rows, self.noise, self.seed)
        else:
            dataset = load(self.data, self.target)
            X, y, self._fingerprint = dataset.X, dataset.y, dataset.sha256
        picked = split(y, SHARES, self.seed)
        inputs = standardize(*(X[rows] for rows in picked))
        targets = np.eye(int(y.max()) + 1)[y]  # (rows, classes)
        parts = {part: (Z, targets[rows]) for part, Z, rows in zip(PARTS, inputs, picked, strict=True)}
        self._lay_out((X.shape[1], *self.hidden, targets.shape[1]), parts)


@problem("teacher")
@dataclass(eq=False)
class TeacherStudent(Perceptron):
    """f(w) = 1/(2n) sum_i |net(x_i; w) - teacher(x_i)|^2 + l2/2 |w|^2: a network learns from a narrower random one.

    Inputs are standard normal, targets the exact outputs of the teacher, so without decay f* = 0: the teacher, padded with
    units of weight 0, is a minimizer (one of many). Local minima may exist. Weights of the teacher are normal with variance
    4/fan-in, its biases standard normal: twice the usual size, which takes its units out of their linear range. See
    `Perceptron` for the order of the parameters.

    Parameters
    ----------
    inputs, outputs : int
        At least 1.
    hidden : tuple of int
        Widths of the student's hidden layers.
    teacher_hidden : tuple of int
        Widths of the teacher's; as many layers, none wider than the student's.
    activation : str
        ``tanh`` or ``relu``, of both networks.
    l2 : float
        Decay of every weight and bias, at least 0; above 0 the optimum is not known.
    rows : int
        Number of samples, at least 10, of which 70 % train, 15 % validate and 15 % test.
    seed : int
        Seed of the teacher, the inputs and the split.

    References
    ----------
    Saad & Solla, On-line learning in soft committee machines, Physical Review E 52 (1995): students and teachers of
    different widths, there with fixed output weights. Gradient and products with H as in `MLP`.
    """

    citation = "Saad & Solla, On-line learning in soft committee machines, Physical Review E 52 (1995)"
    formula = "f(w) = 1/(2n) sum_i |net(x_i; w) - teacher(x_i)|^2 + l2/2 |w|^2"
    loss = "squared"

    inputs: int = 10
    outputs: int = 1
    hidden: tuple[int, ...] = (16,)
    teacher_hidden: tuple[int, ...] = (8,)
    activation: str = "tanh"
    l2: float = 0.0
    rows: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_types()
        self._check()
        _widths(self, "teacher_hidden")
        at_least(self, "inputs", 1)
        at_least(self, "outputs", 1)
        at_least(self, "rows", 10)
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
        picked = split(self.rows, SHARES, self.seed)
        self._lay_out(sizes, {part: (X[rows], z.T[rows]) for part, rows in zip(PARTS, picked, strict=True)})

    def solve(self) -> Optimum | None:
        if self.l2:
            return None
        return Optimum(0.0, 0.0, self._teacher, "exact by construction: a sum of squares that the teacher makes 0", 0.0)


@problem("autoencoder")
@dataclass(eq=False)
class LinearAutoencoder(Network):
    """f(W1, W2) = 1/(2n) sum_i |x_i - W2 W1 x_i|^2: a linear autoencoder without biases, all rows of a data set centred.

    Non-convex, and yet all its local minima are global (Baldi & Hornik 1989): W2 W1 projects on the first `hidden`
    principal directions, and f* is half the variance that the others carry (Eckart & Young 1936). The parameters are W1
    (hidden, p) row by row, then W2 (p, hidden) row by row.

    Parameters
    ----------
    data : str
        ``digits``, ``breast_cancer``, ``wine``, ``iris``, or the path of a LIBSVM or CSV file, of which only the features
        are used.
    target : str
        Label column of a CSV file, which is left out; by default its last column.
    hidden : int
        Width of the hidden layer, at least 1 and at most the number of features p.
    scaling : str
        ``table``: all features are divided by the largest absolute entry of the table, 16 for digits (pixels from 0 to 1);
        ``feature``: each is divided by its own deviation.

    References
    ----------
    Baldi & Hornik, Neural networks and principal component analysis: learning from examples without local minima, Neural
    Networks 2 (1989).
    """

    citation = (
        "Baldi & Hornik, Neural networks and principal component analysis: learning from examples without local minima, "
        "Neural Networks 2 (1989)"
    )
    formula = "f(W1, W2) = 1/(2n) sum_i |x_i - W2 W1 x_i|^2"

    data: str = "digits"
    target: str = ""
    hidden: int = 8
    scaling: str = "table"

    def __post_init__(self) -> None:
        self.check_types()
        at_least(self, "hidden", 1)
        one_of(self, "scaling", SCALINGS)
        dataset = load(self.data, self.target)
        self._fingerprint = dataset.sha256
        n, p = dataset.X.shape
        if self.hidden > p:
            raise InputError(f"problem {self.name!r}: hidden must be at most the {p} features, not {self.hidden}")
        if self.scaling == "table":
            X = dataset.X / max(np.abs(dataset.X).max(), np.finfo(float).tiny)
            X = X - X.mean(axis=0)
        else:
            (X,) = standardize(dataset.X)
        self._host_rows = X  # (n, p)
        self._singular, self._directions = np.linalg.svd(X / n**0.5, full_matrices=False)[1:]  # (r,), (r, p)
        self.n_samples = n
        self.dim = 2 * p * self.hidden
        self.place()

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self._rows = self._target_rows = to(self._host_rows)
        # S V^T in place of U S V^T: f depends on the inputs only through their second moments, and r <= p rows carry them
        compressed = to(self._singular[:, None] * self._directions)[None, ...]  # (1, r, p)
        self._batch = Batch(compressed, self._columns(compressed))

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Normal weights of variance 1/fan-in (LeCun et al. 1998)."""
        W1, W2 = (rng.standard_normal(shape) / shape[1] ** 0.5 for shape in self._shapes)
        return np.concatenate([W1.ravel(), W2.ravel()])

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        xp, x = self.xp, self.points(x)
        mT = xp.matrix_transpose
        w, (rows, targets) = self._stacked(x, samples)
        n = 1 if samples is None else rows.shape[1]  # the compressed rows have 1/n in them
        W1, W2 = self._matrices(w)
        a = self._times_inputs(W1, rows)  # (S, L, hidden, b)
        e = W2 @ a - targets  # (S, L, p, b)
        flat = xp.reshape(e, (*w.shape[:-1], math.prod(e.shape[-2:])))
        f = xp.vecdot(flat, flat) / (2 * n)
        g = self._joined([self._times_rows(mT(W2) @ e, rows), e @ mT(a)]) / n
        return xp.reshape(f, x.shape[:-1]), xp.reshape(g, x.shape)

    def solve(self) -> Optimum:
        kept, tail = self._directions[: self.hidden], self._singular[self.hidden :]
        if len(kept) < self.hidden:  # fewer rows than hidden units: the units left over are not needed
            kept = np.concatenate([kept, np.zeros((self.hidden - len(kept), kept.shape[1]))])
        x = np.concatenate([kept.ravel(), kept.T.ravel()])
        f = float(tail @ tail) / 2
        # singular values are known to a few units in the last place of the largest
        error = self._host_rows.shape[1] * np.finfo(float).eps * float(self._singular @ self._singular)
        gradient = float(np.linalg.norm(self.host.value_and_grad(x)[1]))
        return Optimum(f, max(0.0, float(f - error)), x, "singular value decomposition (Eckart-Young)", gradient)

    def bytes_per_run(self, batch_size: int | None) -> int:
        # of the hidden layer, its activation; of the outputs, the product and the residual
        b, p = batch_size or len(self._singular), int(self._host_rows.shape[1])
        return self._bytes(b * (2 * self.hidden + 2 * p))

    @property
    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        p = self._host_rows.shape[1]
        return (self.hidden, p), (p, self.hidden)

    def _matrices(self, x: Array) -> tuple[Array, Array]:
        """W1 (..., hidden, p) and W2 (..., p, hidden) of points (..., d), without copying."""
        (first, second), half = self._shapes, self.dim // 2
        lead = x.shape[:-1]
        return self.xp.reshape(x[..., :half], (*lead, *first)), self.xp.reshape(x[..., half:], (*lead, *second))

    def _curvature(self, x: Array, v: Array) -> Array:
        mT, (rows, targets) = self.xp.matrix_transpose, self._batch
        (W1, W2), (V1, V2) = self._matrices(x), self._matrices(v)
        a, ra = self._times_inputs(W1, rows), self._times_inputs(V1, rows)  # (1, L, 1, hidden, r), (1, L or 1, K, ..)
        e = W2 @ a - targets[None, ...]
        re = V2 @ a + W2 @ ra  # (1, L, K, p, r)
        return self._joined([self._times_rows(mT(V2) @ e + mT(W2) @ re, rows), re @ mT(a) + e @ mT(ra)])


def _widths(problem: Problem, name: str) -> None:
    """Raise `InputError` unless every width of a parameter is at least 1."""
    if any(width < 1 for width in getattr(problem, name)):
        raise InputError(
            f"problem {problem.name!r}: every width of {name} must be at least 1, not {getattr(problem, name)}"
        )


def _moons(rows: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles: the upper one around (0, 0), the lower one around (1, 1/2); points and classes."""
    rng = stream("data", seed)
    y = np.arange(rows) % 2
    angle = np.pi * rng.random(rows)
    side = 1 - 2 * y
    X = np.stack([y + side * np.cos(angle), y / 2 + side * np.sin(angle)], axis=1)  # (rows, 2)
    return X + noise * rng.standard_normal(X.shape), y
