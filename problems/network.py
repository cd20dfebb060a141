"""Networks: mini-batches, products with inputs, second derivatives, and the multilayer perceptron.

Backpropagation is written by hand for all runs at once. Activations are columns, (..., features, batch), so that biases and
the softmax use contiguous memory. Runs with the same batch share one large product with the inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

from optbench.compile.elementwise import kernel
from optbench.core.memory import check_memory
from optbench.core.specs import Choices
from optbench.core.types import Array, Metric, Namespace

from .learning import CrossEntropy, LearningProblem, block_numbers, blocks, ridge, total

LOSSES = Choices(("cross_entropy", "squared"))
PARTS = ("train", "validation", "test")
HESSIAN_BYTES = 2**26  # intermediate results of the Hessian columns that are computed together
MIN_BLOCK = 128  # samples; see `_blocks`


# ---- formulas of activations and of the squared loss -----------------------------------------------------------------


class Activation(NamedTuple):
    """An activation function of outputs z with bias c, and the product of its derivative with d."""

    gain: float  # variance of the initial weights times fan-in
    forward: Callable[..., Any]  # (xp, z, c) -> a
    backward: Callable[..., Any]  # (xp, d, a) -> slope d, twice: the second is summed over the batch


def _tanh(xp: Any, z: Any, c: Any) -> Any:
    return (xp.tanh(z + c),)


def _tanh_slope(xp: Any, d: Any, a: Any) -> Any:
    d = d * (1 - a * a)
    return d, d


def _relu(xp: Any, z: Any, c: Any) -> Any:
    return (xp.maximum(z + c, 0.0),)


def _relu_slope(xp: Any, d: Any, a: Any) -> Any:
    d = xp.where(a > 0, d, 0 * d)  # 0 at 0
    return d, d


ACTIVATIONS = {"tanh": Activation(1.0, _tanh, _tanh_slope), "relu": Activation(2.0, _relu, _relu_slope)}
ACTIVATION_NAMES = Choices(ACTIVATIONS)


def _residuals(xp: Any, z: Any, c: Any, y: Any, share: Any) -> Any:
    """Derivative of share/2 (z + c - y)^2 by z, the loss itself, and the derivative by c."""
    e = z + c - y
    return share * e, share / 2 * e * e, share * e


class Batch(NamedTuple):
    """Samples that all points of a seed share."""

    rows: Array  # inputs, (S, b, p)
    targets: Array  # target outputs, (S, 1, q, b)


class Layer(NamedTuple):
    """Weights and biases between two layers of a network."""

    W: Array  # (..., out, in)
    c: Array  # (..., out)


class Network(LearningProblem):
    """Mini-batches, products with common inputs, and second derivatives.

    Internally points have the shape (S, L, d): L points for each of S batches; S = 1 if all points share one batch.
    """

    max_hessian_dim = 500

    xp: Namespace
    _batch: Batch  # all n training samples
    _rows: Array  # their inputs, (n, p)
    _target_rows: Array  # and targets, (n, q)

    def _hessian_products(self, x: Array, v: Array) -> Array:
        """H(x) v of the full batch; x of shape (1, L, 1, d) and v of (1, L or 1, K, d) give (1, L, K, d)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _hessian_products()")

    def hvp(self, x: Array, v: Array) -> Array:
        """Products H(x) v, (..., d), with points x and vectors v of shape (..., d)."""
        x, v = self.points(x), self.points(v)
        x, v = self.xp.broadcast_arrays(x, v)
        shape = (1, math.prod(x.shape[:-1]), 1, self.dim)
        return self.xp.reshape(self._hessian_products(self.xp.reshape(x, shape), self.xp.reshape(v, shape)), x.shape)

    def hessian(self, x: Array) -> Array:
        """Hessian, by Hessian-vector products with the columns of the identity; (..., d) gives (..., d, d)."""
        self.check_hessian_dim()
        xp, x = self.xp, self.points(x)
        runs = math.prod(x.shape[:-1])
        flat = xp.reshape(x, (1, runs, 1, self.dim))
        eye = xp.eye(self.dim, dtype=x.dtype, device=self.backend.device)
        block = max(1, HESSIAN_BYTES // (max(1, runs) * self.bytes_per_run(None)))
        parts = [
            self._hessian_products(flat, eye[None, None, k : min(k + block, self.dim), :])
            for k in range(0, self.dim, block)
        ]
        h = xp.reshape(xp.concat(parts, axis=2), (*x.shape, self.dim))  # (..., d, d)
        return (h + xp.matrix_transpose(h)) / 2

    def _points_and_batch(self, x: Array, samples: Array | None) -> tuple[Array, Batch]:
        """Points as (S, L, d), and their batch, which is gathered once per seed."""
        xp = self.xp
        if samples is None:
            batch = self._batch
        else:
            self.per_seed(samples, x)  # checks the shapes
            b = samples.shape[-1]
            flat = xp.reshape(samples, (-1,))
            rows = xp.reshape(xp.take(self._rows, flat, axis=0), (-1, b, self._rows.shape[-1]))
            targets = xp.reshape(xp.take(self._target_rows, flat, axis=0), (-1, b, self._target_rows.shape[-1]))
            batch = Batch(rows, self._as_columns(targets))
        seeds = batch.rows.shape[0]
        return xp.reshape(x, (seeds, math.prod(x.shape[:-1]) // seeds, self.dim)), batch

    def _as_columns(self, rows: Array) -> Array:
        """Rows (S, b, q) as columns (S, 1, q, b), contiguous in memory."""
        s, b, q = rows.shape
        flat = self.xp.reshape(self.xp.matrix_transpose(rows), (s, 1, q * b))
        return self.xp.reshape(flat, (s, 1, q, b))

    def _times_inputs(self, W: Array, rows: Array) -> Array:
        """W of shape (S, ..., h, p) times the inputs (S, b, p) of each seed: (S, ..., h, b), one product per seed."""
        s, *rest, p = W.shape
        z = self.xp.reshape(W, (s, math.prod(rest), p)) @ self.xp.matrix_transpose(rows)
        return self.xp.reshape(z, (s, *rest, rows.shape[1]))

    def _times_rows(self, delta: Array, rows: Array) -> Array:
        """delta of shape (S, ..., h, b) times the inputs (S, b, p) of each seed: (S, ..., h, p)."""
        s, *rest, b = delta.shape
        g = self.xp.reshape(delta, (s, math.prod(rest), b)) @ rows
        return self.xp.reshape(g, (s, *rest, rows.shape[2]))

    def _bytes(self, numbers: int) -> int:
        """Bytes of intermediate numbers, and of the gradient, its parts and the weights."""
        return (4 if self.backend.precision == "float32" else 8) * (numbers + 3 * self.dim)

    def _concatenate(self, parts: list[Array]) -> Array:
        """Matrices of shape (..., out, in), concatenated to parameters (..., d)."""
        return self.xp.concat([self.xp.reshape(m, (*m.shape[:-2], math.prod(m.shape[-2:]))) for m in parts], axis=-1)


class Perceptron(Network):
    """f(w) = 1/n sum_i loss(net(x_i; w), y_i) + l2/2 |w|^2 for fully connected layers.

    The parameters are, layer by layer from the inputs on, the weights (out, in) row by row, then the biases (out).
    """

    classifies: ClassVar[bool]  # whether targets are the unit vectors of classes

    hidden: tuple[int, ...]
    activation: str
    loss: str
    l2: float

    def set_data(self, sizes: tuple[int, ...], parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Set the layer sizes (p, ..., q) and the data: inputs (m, p) and targets (m, q) of each part."""
        self.sizes = sizes
        self._parts = parts
        self._layer_slots = []  # per layer: number of its first parameter, outputs, inputs
        self.dim = 0
        for p, q in itertools.pairwise(sizes):
            self._layer_slots.append((self.dim, q, p))
            self.dim += q * (p + 1)
        check_memory(f"problem {self.spec!r}", 8 * 4 * self.dim)
        self.n_samples = len(parts["train"][0])
        self.set_samples(*((X, self._labels(targets)) for X, targets in (parts["train"], parts["test"])))
        self.place()
        self.seal()

    def _labels(self, targets: np.ndarray) -> np.ndarray:
        """Targets (m, q) as class numbers (m,) if they are classes, or as (m,) if q = 1."""
        labels: np.ndarray = targets.argmax(axis=1) if self.classifies else targets
        return labels[:, 0] if labels.shape[1:] == (1,) else labels

    def place(self) -> None:
        to = self.backend.asarray
        self.xp = self.backend.xp
        self._rows, self._target_rows = (to(values) for values in self._parts["train"])
        self._batches = {
            part: Batch(to(rows)[None, ...], self._as_columns(to(targets)[None, ...]))
            for part, (rows, targets) in self._parts.items()
        }
        self._batch = self._batches["train"]
        self._ones = self.backend.asarray(np.ones((self._rows.shape[0], 1)))  # (n, 1)
        self._block_numbers = block_numbers(self.backend)
        self.choose_kernels()

    def choose_kernels(self) -> None:
        activation = ACTIVATIONS[self.activation]
        # letters of the axes: s batches, l points, h hidden units, q outputs, b samples; r runs, d parameters
        self._activate = kernel(activation.forward, "slhb, slh -> slhb", self.backend)
        self._backward = kernel(activation.backward, "slhb, slhb -> slhb, sum slh", self.backend)
        self._cross_entropy = CrossEntropy(self.backend)
        self._residuals = kernel(_residuals, "slqb, slq, sqb, -> slqb, sum sl, sum slq", self.backend)
        self._ridge = kernel(ridge, "rd, rd, , -> rd", self.backend)

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """Normal weights of variance 1/fan-in (tanh; LeCun et al. 1998) or 2/fan-in (relu; He et al. 2015), biases 0."""
        gain = ACTIVATIONS[self.activation].gain
        layers = [(rng.standard_normal((q, p)) * (gain / p) ** 0.5, np.zeros((q, 1))) for _, q, p in self._layer_slots]
        return np.concatenate([part.ravel() for layer in layers for part in layer])

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective (...) and gradient (..., d) at points (..., d); `samples` as in `Problem.value_and_grad`."""
        x = self.points(x)
        w, batch = self._points_and_batch(x, samples)  # (S, L, d)
        n, layers = batch.rows.shape[1], self._layers(w)
        f, g = total(
            self._sums(layers, part, 1 / n) for part in (self._blocks(w, batch) if samples is None else [batch])
        )
        f = f + self._decay(w)
        if self.l2:
            flat = (-1, self.dim)
            (g,) = self._ridge(self.xp.reshape(g, flat), self.xp.reshape(w, flat), 1.0, self.l2)
        return self.xp.reshape(f, x.shape[:-1]), self.xp.reshape(g, x.shape)

    def _sums(self, layers: list[Layer], batch: Batch, share: float) -> tuple[Array, Array]:
        """Losses (S, L) and their gradients (S, L, d), summed over the samples of a batch and multiplied by `share`."""
        xp, rows = self.xp, batch.rows
        *activations, z = self._forward(layers, rows)
        outputs = z, layers[-1].c, batch.targets[:, 0, ...], share
        # the losses (S, L), and their derivatives by the outputs (S, L, q, b) and by their biases (S, L, q)
        if self.loss == "squared":
            delta, f, bias = self._residuals(*outputs)
        else:
            f, delta, bias = self._cross_entropy.gradient(*outputs)
            f = f * share
        parts: list[Array] = []
        for (W, _), a in zip(layers[:0:-1], activations[::-1], strict=True):
            parts = [delta @ xp.matrix_transpose(a), bias[..., None], *parts]
            delta, bias = self._backward(xp.matrix_transpose(W) @ delta, a)
        return f, self._concatenate([self._times_rows(delta, rows), bias[..., None], *parts])

    def value(self, x: Array) -> Array:
        """Objective (...) at points (..., d)."""
        return self._value_and_metrics(self.points(x), ("train",))[0]

    def _decay(self, w: Array) -> Array:
        return (self.l2 / 2) * self.xp.vecdot(w, w) if self.l2 else self.xp.zeros_like(w[..., 0])

    @property
    def metric_types(self) -> tuple[Metric, ...]:
        """Losses without regularization, and shares of samples classified correctly by a classifier; ties are errors."""
        accuracies = {part: Metric(f"{part}_accuracy", "higher") for part in PARTS if self.classifies}
        losses = {part: Metric(f"{part}_loss", "lower") for part in PARTS if part != "train"}
        return tuple(kinds[part] for part in PARTS for kinds in (accuracies, losses) if part in kinds)

    def metrics(self, x: Array) -> dict[str, Array]:
        """The metrics of `metric_types` at points (..., d), (...) each."""
        return self.evaluate(x)[1]

    def evaluate(self, x: Array) -> tuple[Array, dict[str, Array]]:
        """Objective (...) at points (..., d), and the metrics of `metric_types`, (...) each."""
        return self._value_and_metrics(self.points(x), PARTS)

    def _value_and_metrics(self, x: Array, parts: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
        """Objective of points (..., d), and the losses and accuracies of parts of the data; each (...)."""
        xp, shape = self.xp, x.shape[:-1]
        w = xp.reshape(x, (1, -1, self.dim))
        runs = max(1, min(w.shape[1], self._block_numbers // (MIN_BLOCK * max(self.sizes[1:]))))  # at a time
        stacks = [w[:, k : k + runs, :] for k in range(0, w.shape[1], runs)] or [w]
        metrics = {}
        for part in parts:
            batch = self._batches[part]
            results = zip(*(self._loss_and_accuracy(stack, batch) for stack in stacks), strict=True)
            loss, accuracy = (xp.reshape(xp.concat(values, axis=1), shape) for values in results)
            if self.classifies:
                metrics[f"{part}_accuracy"] = accuracy
            metrics[f"{part}_loss"] = loss
        return metrics.pop("train_loss") + xp.reshape(self._decay(w), shape), metrics

    def _loss_and_accuracy(self, w: Array, batch: Batch) -> tuple[Array, Array]:
        """Mean loss of points (1, L, d) over a batch, and the share of samples classified correctly; each (1, L)."""
        n, layers = batch.rows.shape[1], self._layers(w)
        c, no_bias = layers[-1].c, self.xp.zeros_like(layers[-1].c)

        def sums(part: Batch) -> tuple[Array, Array]:
            z, codes = self._forward(layers, part.rows)[-1], part.targets[:, 0, ...]
            if self.loss == "cross_entropy":
                return self._cross_entropy.loss_and_correct(z, c, codes)
            if not self.classifies:
                _, loss, _ = self._residuals(z, c, codes, 1.0)
                return loss, 0 * loss
            z, correct = self._cross_entropy.scores_and_correct(z, c, codes)
            return self._residuals(z, no_bias, codes, 1.0)[1], correct

        loss, correct = total(sums(part) for part in self._blocks(w, batch))
        return loss / n, correct / n

    def bytes_per_run(self, batch_size: int | None) -> int:
        # all hidden activations, and two more arrays of the widest layer or three of the outputs; not the batch, which the
        # runs of a seed share
        b = batch_size or min(MIN_BLOCK, len(self._parts["train"][0]))
        columns = sum(self.sizes[1:-1]) + max(3 * self.sizes[-1], 2 * max(self.sizes[1:]))
        return self._bytes(b * columns)

    def _blocks(self, w: Array, batch: Batch) -> Iterator[Batch]:
        """A batch in blocks of at least `MIN_BLOCK` samples for which the activations of points (S, L, d) fit in cache."""
        length = max(MIN_BLOCK, self._block_numbers // max(1, w.shape[0] * w.shape[1] * max(self.sizes[1:])))
        for part in blocks(batch.rows.shape[1], length):
            yield Batch(batch.rows[:, part, :], batch.targets[..., part])

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        # three products with the weights, forward and backward
        return 0.8 * self.dim * (batch_size or len(self._parts["train"][0]))

    # ---- the network -------------------------------------------------------------------------------------------------

    def _layers(self, x: Array) -> list[Layer]:
        """Weights and biases of points (..., d), without copying."""
        reshape, lead = self.xp.reshape, x.shape[:-1]
        return [
            Layer(reshape(x[..., k : k + q * p], (*lead, q, p)), x[..., k + q * p : k + q * p + q])
            for k, q, p in self._layer_slots
        ]

    def _forward(self, layers: list[Layer], rows: Array) -> list[Array]:
        """Activations of the hidden layers, then the outputs without their biases; each (S, L, features, b)."""
        z = self._times_inputs(layers[0].W, rows)
        activations: list[Array] = []
        for (_, c), (W, _) in itertools.pairwise(layers):
            activations += self._activate(z, c)
            z = W @ activations[-1]
        return [*activations, z]

    # ---- second derivatives ------------------------------------------------------------------------------------------

    def _hessian_products(self, x: Array, v: Array) -> Array:
        """The R-operator (Pearlmutter 1994): derivatives along v of all lines of backpropagation; prefix r."""
        xp, (rows, targets) = self.xp, self._batch
        mT = xp.matrix_transpose
        _, forward, backward = ACTIVATIONS[self.activation]
        layers, directions = self._layers(x), self._layers(v)
        # uncompiled formulas, because points and directions broadcast against each other
        z = self._times_inputs(layers[0].W, rows) + layers[0].c[..., None]  # (1, L, 1, features, n)
        rz = self._times_inputs(directions[0].W, rows) + directions[0].c[..., None]  # (1, L or 1, K, features, n)
        activations: list[Array] = []
        tangents: list[Array] = []
        for (W, c), (V, rc) in zip(layers[1:], directions[1:], strict=True):
            activations += forward(xp, z, 0 * z)
            tangents.append(backward(xp, rz, activations[-1])[0])
            z = W @ activations[-1] + c[..., None]
            rz = V @ activations[-1] + W @ tangents[-1] + rc[..., None]
        delta, r_delta = self._loss_hessian_products(z, rz, targets[None, ...])
        ones = self._ones
        parts: list[Array] = []
        backwards = zip(layers[:0:-1], directions[:0:-1], activations[::-1], tangents[::-1], strict=True)
        for (W, _), (V, _), a, ra in backwards:
            parts = [r_delta @ mT(a) + delta @ mT(ra), r_delta @ ones, *parts]
            back = mT(W) @ delta
            r_delta, _ = backward(xp, mT(V) @ delta + mT(W) @ r_delta, a)
            if self.activation == "tanh":  # a'' = -2 a a'; relu has none
                r_delta = r_delta - 2 * (a * back) * ra
            delta, _ = backward(xp, back, a)
        return self._concatenate([self._times_rows(r_delta, rows), r_delta @ ones, *parts]) + self.l2 * v

    def _loss_hessian_products(self, z: Array, rz: Array, targets: Array) -> tuple[Array, Array]:
        """Derivative of the mean loss by the outputs z (1, L, 1, q, n), and its derivative along rz (1, L, K, q, n)."""
        xp, n = self.xp, z.shape[-1]
        if self.loss == "squared":
            return (z - targets) / n, rz / n
        e = xp.exp(z - xp.max(z, axis=-2, keepdims=True))
        p = e / xp.sum(e, axis=-2, keepdims=True)
        return (p - targets) / n, p * (rz - xp.sum(p * rz, axis=-2, keepdims=True)) / n
