"""Sums over mini-batches in one pass, for runs that are too few for matrix products to pay their overhead."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optbench.compile.elementwise import Kernel, checked, first_call_makes
from optbench.compile.graph import TraceError, call
from optbench.compile.llvm import Value, assemble, is_available, machine_code
from optbench.compile.loops import FACTORS, FormulaWriter
from optbench.core.backend import Backend
from optbench.core.types import Array

FEW_RUNS = 32  # runs per batch; with more of them, matrix products are faster
TOGETHER = 4  # samples for which the arrays of the runs are read and written once


def batch_sums(formula: Callable[..., Any], backend: Backend) -> Kernel | None:
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
    return first_call_makes(lambda: _checked_sums(formula, backend))


@functools.cache
def _checked_sums(formula: Callable[..., Any], backend: Backend) -> Kernel:
    """Compiled sums, or, with one warning, sums with matrix products."""
    dtype, rng = np.dtype(backend.precision), np.random.default_rng(0)

    def plain(w: Array, Z: Array, samples: Array) -> tuple[Array, ...]:
        rows = np.take(Z, samples, axis=0)  # (S, b, d)
        weight, e, rest = formula(np, w @ np.swapaxes(rows, 1, 2))  # of the margins, (S, L, b)
        return np.sum(np.log1p(e) + rest, axis=-1), weight @ rows

    def build() -> tuple[Kernel, float]:
        writer, pack = BatchWriter(formula, backend.precision), struct.Struct("11q").pack
        (code,) = machine_code(assemble([writer]), (writer.name,), unroll=False)

        def sums(w: Array, Z: Array, samples: Array) -> tuple[Array, ...]:
            (seeds, runs, d), (n, _), batch = w.shape, Z.shape, samples.shape[1]
            if (Z.shape[1], samples.shape[0]) != (d, seeds):
                raise ValueError(f"sums over batches of shapes {w.shape}, {Z.shape} and {samples.shape} do not exist")
            w, Z = (np.ascontiguousarray(a, dtype) for a in (w, Z))
            samples = np.ascontiguousarray(samples, np.int64)
            f, g = np.zeros((seeds, runs), dtype), np.zeros(w.shape, dtype)
            memory = np.zeros(3 * ((TOGETHER * runs + 27) // 16 * 16) + 1, dtype)
            code(pack(seeds, runs, d, batch, n, *map(id, (w, Z, samples, f, g, memory))))
            if memory[-1]:  # a number of a sample is negative or too large
                return plain(w, Z, samples)
            return f, g

        return sums, 1000.0

    def case(scale: float, seeds: int, runs: int, batch: int, d: int) -> Sequence[Array]:
        """Arrays with parts of vectors, odd numbers of runs and samples, and margins of all sizes."""
        w, Z = scale * rng.standard_normal((seeds, runs, d)), rng.standard_normal((20, d))
        return w.astype(dtype), Z.astype(dtype), rng.integers(0, 20, (seeds, batch))

    cases = [case(*c) for c in ((1, 2, 3, 11, 21), (1e-3, 1, 1, 1, 3), (1e3, 3, 2, 40, 37), (0, 1, 5, 6, 16))]
    return checked(f"the sum of {formula.__name__!r} over mini-batches", plain, build, cases, backend)


class BatchWriter(FormulaWriter):
    """Writes the sums over mini-batches.

    The arguments are S, L, d, b, n and the arrays w, Z, samples, f, g and memory. The last three are zeros. Memory is for
    margins or weights, products of 1 + e less 1, and sums of the rest, for each run and the samples of a group; its last
    number becomes 1 if there is no such sample, and then nothing else is written.

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
        seeds, self.runs, self.d, self.batch, n = (self.next() for _ in range(5))
        self.w, self.Z, samples, self.f, self.g, memory = (self.array() for _ in range(6))
        self.slots = self.integer("mul", self.runs, TOGETHER)
        size = self.integer("and", self.integer("add", self.slots, 27), -16)  # whole vectors, also at the last run
        *self.memory, flag = (self.address(memory, self.integer("mul", size, k), self.kind) for k in range(4))
        with self.loop(0, self.integer("mul", seeds, self.batch)) as k:
            missing = self.write(f"icmp uge {self.load_at(samples, k, 'i64')}, {n.name}", "i1")
            with self.only_if(missing):
                self.store(self.constant(1, self.kind), flag)
        right = self.write(f"fcmp oeq {self.load(flag, self.kind)}, {self.constant(0, self.kind).name}", "i1")
        with self.only_if(right), self.loop(0, seeds) as seed:
            self.first_run = self.integer("mul", seed, self.runs)
            numbers = self.address(samples, self.integer("mul", seed, self.batch), "i64")
            with self.loop(0, self.batch, TOGETHER * FACTORS[self.kind]) as start:
                stop = self.least(self.integer("add", start, TOGETHER * FACTORS[self.kind]), self.batch)
                with self.loop(start, stop, TOGETHER) as first:
                    self.group(first, numbers)
                self.add_losses()

    def group(self, first: Value, numbers: Value) -> None:
        """Margins, weights and losses of the samples from the first on, and their parts of the gradients."""
        last, rows = self.integer("sub", self.batch, 1), []
        for j in range(TOGETHER):  # at the end of a batch the last one is repeated, with a weight of 0
            sample = self.load_at(numbers, self.least(self.integer("add", first, j), last), "i64")
            rows.append(self.address(self.Z, self.integer("mul", sample, self.d), self.kind))
        with self.loop(0, self.runs, 2) as r:
            pair = r, self.least(self.integer("add", r, 1), self.integer("sub", self.runs, 1))
            sums = [[self.zeros() for _ in rows] for _ in pair]
            for i in self.vectors(self.d):
                zs = [self.load_vector(self.address(row, i, self.kind)) for row in rows]
                for run, totals in zip(pair, sums, strict=True):
                    w = self.load_vector(self.place(self.w, run, i))
                    for z, total in zip(zs, totals, strict=True):
                        self.store(self.intrinsic("fma", w, z, self.vector_in(total)), total)
            # also written to the slots of later runs, which follow
            self.store(self.across(*[self.vector_in(total) for totals in sums for total in totals]), self.slot(r, 0))
        there = self.first(self.integer("sub", self.batch, first), [k % TOGETHER for k in range(self.lanes)])
        with self.loop(0, self.slots, self.lanes) as k, self.scope():
            margins, products, rests = (self.address(a, k, self.kind) for a in self.memory)
            self.known[self.margin.id] = self.vector_in(margins)
            values = [self.convert(self.value(node), self.kind, self.lanes) for node in self.nodes]
            weight, e, rest = (self.select(there, v, self.constant(0, self.kind, self.lanes)) for v in values)
            self.store(weight, margins)
            self.multiply(products, e)
            self.increase(rests, rest)
        for i in self.vectors(self.d):
            zs = [self.load_vector(self.address(row, i, self.kind)) for row in rows]
            with self.loop(0, self.runs) as r:
                place = self.place(self.g, r, i)
                slope = self.load_vector(place)
                for j, z in enumerate(zs):
                    weight = self.load(self.slot(r, j), self.kind)
                    slope = self.intrinsic("fma", self.convert(weight, self.kind, self.lanes), z, slope)
                self.store_vector(slope, place)

    def add_losses(self) -> None:
        """Add the logarithms of the products, and the rests, to the losses of the runs."""
        zeros = self.constant(0, self.kind, self.lanes)
        with self.loop(0, self.slots, self.lanes) as k:
            margins, products, rests = (self.address(a, k, self.kind) for a in self.memory)
            self.store(self.log1p(self.vector_in(products)), margins)
            self.increase(margins, self.vector_in(rests))
            self.store(zeros, products)
            self.store(zeros, rests)
        with self.loop(0, self.runs) as r:
            place = self.address(self.f, self.integer("add", self.first_run, r), self.kind)
            loss = self.sum_of(self.load(self.slot(r, 0), self.kind, TOGETHER))
            self.store(self.plus(self.load(place, self.kind), loss), place)

    def place(self, matrix: Value, r: Value, i: Value) -> Value:
        """The address of number i of a run of the seed in a matrix (S, L, d)."""
        row = self.integer("mul", self.integer("add", self.first_run, r), self.d)
        return self.address(matrix, self.integer("add", row, i), self.kind)

    def slot(self, r: Value, j: int) -> Value:
        """The address of the margin or weight of a run and sample."""
        return self.address(self.memory[0], self.integer("add", self.integer("mul", r, TOGETHER), j), self.kind)
