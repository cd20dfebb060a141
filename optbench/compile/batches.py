"""Sums over mini-batches in one pass, for runs that are too few for matrix products to pay their overhead.

Four samples are processed at once, so that the arrays of the runs are read and written once for four.
"""

from __future__ import annotations

import functools
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optbench.compile.graph import TraceError, call
from optbench.compile.llvm import Value, assemble, is_available, machine_code
from optbench.compile.loops import FACTORS, FormulaWriter
from optbench.compile.rules import same
from optbench.core.backend import Backend
from optbench.core.types import Array

FEW_RUNS = 32  # runs per batch; with more of them, matrix products are faster
TOGETHER = 4  # samples
EIGHT = 8  # products that are summed up together: of two runs with four samples

Sums = Callable[[Array, Array, Array], tuple[Array, Array]]


def batch_sums(formula: Callable[..., Any], backend: Backend) -> Sums | None:
    """Sums over mini-batches of a loss that is a formula of margins, and of its gradient, in one pass for few runs.

    Parameters
    ----------
    formula : callable
        ``formula(xp, margin)`` returns a weight, e in [0, 1] and a number, where log1p(e) and the number make the loss.

    Returns
    -------
    callable or None
        ``(w, Z, samples) -> (f, g)`` for points w (S, L, d), rows Z (n, d) and sample numbers (S, b): sums of the losses
        (S, L) at the margins w^T z, and of z times the weights (S, L, d), where all L points of a seed use its batch. None
        if the backend does not compile formulas.
    """
    if not (backend.name == "numpy" and backend.fused and is_available()):
        return None
    return lambda w, Z, samples: _checked_sums(formula, backend.precision)(w, Z, samples)


@functools.cache
def _checked_sums(formula: Callable[..., Any], precision: str) -> Sums:
    """Compiled sums, or, with one warning, sums with matrix products."""

    def plain(w: Array, Z: Array, samples: Array) -> tuple[Array, Array]:
        rows = np.take(Z, samples, axis=0)  # (S, b, d)
        weight, e, rest = formula(np, w @ np.swapaxes(rows, 1, 2))  # of the margins, (S, L, b)
        return np.sum(np.log1p(e) + rest, axis=-1), weight @ rows

    try:
        compiled = _compiled_sums(formula, precision, plain)
        if _agree(plain, compiled, precision):
            return compiled
        cause = "its compiled form differs"
    except TraceError as error:
        cause = f"it {error}"
    warnings.warn(f"the sum of {formula.__name__!r} over mini-batches runs uncompiled, because {cause}", stacklevel=3)
    return plain


def _agree(plain: Sums, compiled: Sums, precision: str) -> bool:
    """Whether sums are the same for parts of vectors, odd numbers of runs and samples, and margins of all sizes."""
    rng = np.random.default_rng(0)
    for scale, seeds, runs, batch, d in ((1, 2, 3, 11, 21), (1e-3, 1, 1, 1, 3), (1e3, 3, 2, 40, 37), (0, 1, 5, 6, 16)):
        w = (scale * rng.standard_normal((seeds, runs, d))).astype(precision)
        Z, samples = rng.standard_normal((20, d)).astype(precision), rng.integers(0, 20, (seeds, batch))
        with np.errstate(all="ignore"):
            pairs = list(zip(plain(w, Z, samples), compiled(w, Z, samples), strict=True))
        if not all(a.dtype == b.dtype and same(a, b, 1000 * float(np.finfo(precision).eps)) for a, b in pairs):
            return False
    return True


def _compiled_sums(formula: Callable[..., Any], precision: str, plain: Sums) -> Sums:
    writer = BatchWriter(formula, precision)
    (code,) = machine_code(assemble([writer]), (writer.name,), unroll=False)
    pack, dtype = struct.Struct("11q").pack, np.dtype(precision)

    def sums(w: Array, Z: Array, samples: Array) -> tuple[Array, Array]:
        (seeds, runs, d), (n, _), batch = w.shape, Z.shape, samples.shape[1]
        if (Z.shape[1], samples.shape[0]) != (d, seeds):
            raise ValueError(f"sums over batches of shapes {w.shape}, {Z.shape} and {samples.shape} do not exist")
        w, Z = (np.ascontiguousarray(a, dtype) for a in (w, Z))
        samples = np.ascontiguousarray(samples, np.int64)
        f, g = np.zeros((seeds, runs), dtype), np.zeros(w.shape, dtype)
        memory = np.zeros(3 * _padded(runs) + 1, dtype)
        code(pack(seeds, runs, d, batch, n, *map(id, (w, Z, samples, f, g, memory))))
        if memory[-1]:  # a number of a sample is negative or too large
            return plain(w, Z, samples)
        return f, g

    return sums


def _padded(runs: int) -> int:
    """Size of an array of four numbers per run, for whole vectors and for two runs that are written at once."""
    return (TOGETHER * runs + 19) // 16 * 16


class BatchWriter(FormulaWriter):
    """Writes the sums over mini-batches.

    The arguments are S, L, d, b, n and the arrays w, Z, samples, f, g and memory. The last three are zeros. Memory is for
    margins or weights, products of 1 + e less 1, and sums of the rest, for each run and four samples; its last number
    becomes 1 if there is no such sample, and then nothing else is written.

    Raises
    ------
    TraceError
        If the formula cannot be traced.
    """

    def __init__(self, formula: Callable[..., Any], precision: str) -> None:
        super().__init__("batches", precision)
        self.margin = self.graph.input("margin", ("r",))
        self.nodes = [self.graph.wrap(value) for value in call(formula, self.graph, self.margin)]
        if len(self.nodes) != 3:
            raise TraceError(f"returns {len(self.nodes)} numbers instead of 3")
        seeds, self.runs, self.d, self.batch, n = (self.argument(k) for k in range(5))
        self.w, self.Z, self.samples, self.f, self.g, memory = (self.array(k) for k in range(5, 11))
        self.slots = self.integer("mul", self.runs, TOGETHER)
        size = self.integer("and", self.integer("add", self.slots, 19), -16)
        self.margins = memory
        self.products = self.address(memory, size, self.kind)
        self.rests = self.address(self.products, size, self.kind)
        flag = self.address(self.rests, size, self.kind)
        with self.loop(0, self.integer("mul", seeds, self.batch)) as k:
            sample = self.load(self.address(self.samples, k, "i64"), "i64")
            with self.only_if(self.write(f"icmp uge {sample}, {n.name}", "i1")):
                self.store(self.constant(1, self.kind), flag)
        right = self.write(f"fcmp oeq {self.load(flag, self.kind)}, {self.constant(0, self.kind).name}", "i1")
        with self.only_if(right), self.loop(0, seeds) as seed:
            points = self.integer("mul", self.integer("mul", seed, self.runs), self.d)
            self.points, self.slopes = (self.address(a, points, self.kind) for a in (self.w, self.g))
            self.losses = self.address(self.f, self.integer("mul", seed, self.runs), self.kind)
            numbers = self.address(self.samples, self.integer("mul", seed, self.batch), "i64")
            with self.loop(0, self.batch, TOGETHER) as first:
                self.four_samples(first, numbers)

    def four_samples(self, first: Value, numbers: Value) -> None:
        """Margins, weights and losses of the samples from the first on, and their parts of the gradients."""
        last = self.integer("sub", self.batch, 1)
        rows = []
        for j in range(TOGETHER):  # at the end of a batch the last one is repeated, with a weight of 0
            place = self.address(numbers, self.least(self.integer("add", first, j), last), "i64")
            rows.append(self.row(self.Z, self.load(place, "i64")))
        with self.loop(0, self.runs, 2) as r:
            other = self.least(self.integer("add", r, 1), self.integer("sub", self.runs, 1))
            pair = [self.row(self.points, run) for run in (r, other)]
            sums = [self.variable(self.kind, self.lanes) for _ in range(EIGHT)]
            for total in sums:
                self.store(self.constant(0, self.kind, self.lanes), total)
            for i in self.vectors(self.d):
                zs = [self.load_vector(self.address(row, i, self.kind)) for row in rows]
                ws = [self.load_vector(self.address(row, i, self.kind)) for row in pair]
                for which, total in enumerate(sums):
                    so_far = self.load(total, self.kind, self.lanes)
                    self.store(self.intrinsic("fma", ws[which // TOGETHER], zs[which % TOGETHER], so_far), total)
            margins = self.summed([self.load(total, self.kind, self.lanes) for total in sums])
            self.store(margins, self.slot(self.margins, self.integer("mul", r, TOGETHER)))
        there = self.first(self.integer("sub", self.batch, first), [k % TOGETHER for k in range(self.lanes)])
        with self.loop(0, self.slots, self.lanes) as k, self.scope():
            self.known[self.margin.id] = self.load(self.slot(self.margins, k), self.kind, self.lanes)
            values = [self.convert(self.value(node), self.kind, self.lanes) for node in self.nodes]
            zeros = self.constant(0, self.kind, self.lanes)
            weight, e, rest = (self.select(there, value, zeros) for value in values)
            self.store(weight, self.slot(self.margins, k))
            self.multiply(self.slot(self.products, k), e)
            place = self.slot(self.rests, k)
            more = self.load(place, self.kind, self.lanes)
            self.store(self.write(f"fadd {more}, {rest.name}", self.kind, self.lanes), place)
        for i in self.vectors(self.d):
            zs = [self.load_vector(self.address(row, i, self.kind)) for row in rows]
            with self.loop(0, self.runs) as r:
                place = self.address(self.row(self.slopes, r), i, self.kind)
                slope, weights = self.load_vector(place), self.slot(self.margins, self.integer("mul", r, TOGETHER))
                for j, z in enumerate(zs):
                    weight = self.load(self.address(weights, j, self.kind), self.kind)
                    slope = self.intrinsic("fma", self.convert(weight, self.kind, self.lanes), z, slope)
                self.store_vector(slope, place)
        group = self.integer("and", first, TOGETHER * FACTORS[self.kind] - 1)
        full = self.write(f"icmp eq {group}, {TOGETHER * (FACTORS[self.kind] - 1)}", "i1")
        end = self.write(f"icmp sge {self.integer('add', first, TOGETHER)}, {self.batch.name}", "i1")
        with self.only_if(self.write(f"or {full}, {end.name}", "i1")):
            self.add_losses()

    def add_losses(self) -> None:
        """Add the logarithms of the products, and the rests, to the losses of the runs."""
        zeros = self.constant(0, self.kind, self.lanes)
        with self.loop(0, self.slots, self.lanes) as k:
            places = [self.slot(a, k) for a in (self.products, self.rests, self.margins)]
            product, rest = (self.load(place, self.kind, self.lanes) for place in places[:2])
            loss = self.write(f"fadd {self.log1p(product)}, {rest.name}", self.kind, self.lanes)
            for value, place in zip((zeros, zeros, loss), places, strict=True):
                self.store(value, place)
        with self.loop(0, self.slots) as k:
            place = self.slot(self.losses, self.integer("lshr", k, 2))
            more = self.load(self.slot(self.margins, k), self.kind)
            self.store(self.write(f"fadd {self.load(place, self.kind)}, {more.name}", self.kind), place)

    def row(self, matrix: Value, number: Value) -> Value:
        return self.address(matrix, self.integer("mul", number, self.d), self.kind)

    def slot(self, memory: Value, number: Value) -> Value:
        return self.address(memory, number, self.kind)

    def summed(self, parts: Sequence[Value]) -> Value:
        """The sums of eight vectors, as one vector of eight numbers."""
        if self.lanes > EIGHT:
            parts = [self.joined(a, a, range(EIGHT), range(EIGHT, 2 * EIGHT)) for a in parts]
        for step in (1, 2, 4):  # number k comes from the second vector of a pair if its bit `step` is set
            from_second = [EIGHT * bool(k & step) for k in range(EIGHT)]
            low = [(k & ~step) + start for k, start in enumerate(from_second)]
            high = [(k | step) + start for k, start in enumerate(from_second)]
            parts = [self.joined(a, b, low, high) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def joined(self, a: Value, b: Value, low: Sequence[int], high: Sequence[int]) -> Value:
        """The sum of two selections from two vectors."""
        halves = []
        for order in (low, high):
            mask = f"<{EIGHT} x i32> <{', '.join(f'i32 {k}' for k in order)}>"
            halves.append(self.write(f"shufflevector {a}, {b}, {mask}", self.kind, EIGHT))
        return self.write(f"fadd {halves[0]}, {halves[1].name}", self.kind, EIGHT)
