"""A rule and the oracle of a problem compiled into one loop over steps, without calls of Python between steps."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from optbench.compile import llvm, steps
from optbench.compile.graph import Graph, TraceError, X, call
from optbench.compile.rules import Rule, address, in_threads, trace_rule
from optbench.core.specs import state_names
from optbench.core.types import Array
from optbench.core.workers import granted_threads

MAX_SINGLE = 3  # at most as many runs advance one at a time if d is large
MAX_DIM = 20_000  # the code of sums grows with d
THREAD_WORK = 1e7  # products of a step from which blocks of runs share several threads
CALL_WORK = 2e8  # operations of a call of machine code, for a fraction of a second


class Values(NamedTuple):
    """Results at k steps of R runs, of which c are checkpoints."""

    f: np.ndarray  # (k, R)
    best: np.ndarray  # smallest finite value so far, (k, R)
    norms: np.ndarray  # gradient norms at the steps that were asked for, (c, R)
    x: np.ndarray  # iterates at those steps, (s, R, d)


class FusedLoop:
    """Many steps of all runs in one call of machine code.

    Parameters
    ----------
    problem : Problem
        Its ``value_and_grad`` is traced. Its backend is NumPy.
    rule : callable
    x : array of shape (R, d)
        Start points.
    hyperparameters : mapping
        Numbers, or arrays of shape (R,), by name.
    factor : callable, optional
        Function of the number of steps taken that returns the factor of the learning rate.
    per_run : collection of str
        State of the rule with one number per run.

    Raises
    ------
    TraceError
        If the rule or the oracle cannot be traced.
    """

    def __init__(
        self,
        problem: Any,
        rule: Rule,
        x: Array,
        hyperparameters: Mapping[str, Any],
        factor: Callable[[int], float] | None,
        per_run: Collection[str] = (),
    ) -> None:
        runs, d = x.shape
        if d > MAX_DIM:
            raise TraceError(f"has more than {MAX_DIM} parameters")
        self.factor, self.runs, self.dim, self.dtype = factor, runs, d, np.asarray(x).dtype
        swept = {name for name, value in hyperparameters.items() if np.ndim(value)}
        numbers = {name: value for name, value in hyperparameters.items() if name not in swept}
        self.graph = graph = Graph(str(self.dtype), numbers)
        self.loop = trace_loop(graph, problem, rule, d, swept, per_run, factor=factor is not None)
        size, vector_bytes = self.dtype.itemsize, llvm.processor().vector_bytes
        self.lanes = _lanes(runs, d, vector_bytes // size)
        block = max(1, self.lanes)
        self.blocks = -(-runs // block)
        self.padded = self.blocks * block
        self.ir, self.width, scratch = steps.write_module(self.loop, list(numbers), self.lanes, vector_bytes)
        self.steps, _ = llvm.machine_code(self.ir, steps.NAMES)
        self.scratch = np.empty(scratch + 1, self.dtype)
        matrices = {node.args[1].value for node in graph.nodes if node.op == "matmul"}
        data = [_packed(part) if k in matrices else _aligned(part) for k, part in enumerate(graph.data)]
        columns = [self._pad(np.asarray(hyperparameters[name], float)[:, None])[:, 0] for name in self.loop.columns]
        self._x = self._as_blocks(np.asarray(x))
        shapes = {name: (self.blocks, 1 if name in per_run else d, block) for name in state_names(rule)}
        self._own = 1 + len(shapes)  # arrays that change: iterates and state
        self._arrays = [*data, *columns, self._x, *(_aligned(np.zeros(s, self.dtype)) for s in shapes.values())]
        self._values = np.array([*numbers.values(), 0.0], dtype=float)
        self._least = np.full(self.padded, np.inf)
        work = self.padded * d * (d if matrices else 1)  # products of a step
        self.is_threaded = work >= THREAD_WORK
        self.max_steps = max(1, int(CALL_WORK / (work + 20 * self.padded * d)))  # in one call

    @property
    def x(self) -> np.ndarray:
        """The iterates, (R, d)."""
        return self._as_rows(self._x).copy()

    def copy(self) -> FusedLoop:
        """A loop at the same iterates, which advances on its own."""
        other, shared = copy.copy(self), len(self._arrays) - self._own
        own = [_aligned(array) for array in self._arrays[shared:]]
        other._x, other._least, other._arrays = own[0], self._least.copy(), [*self._arrays[:shared], *own]
        return other

    def iterate(self, block: int, first: int, t: int) -> np.ndarray:
        """Iterates t of a block of runs, in rows (R, d) that are undefined for other runs.

        The block advances from step `first` to t + 1.
        """
        is_last = np.arange(first, t + 1) == t
        values = self.advance(first, t + 1, np.zeros_like(is_last), is_last, block)
        x: np.ndarray = values.x[0]
        return x

    def block_of(self, run: int) -> int:
        """Number of the block of runs that contains a run."""
        return run // max(1, self.lanes)

    def advance(
        self, first: int, last: int, with_norm: np.ndarray, with_x: np.ndarray, block: int | None = None
    ) -> Values:
        """Evaluate the iterates `first <= t < last`, and take a step after each of them.

        Parameters
        ----------
        with_norm, with_x : arrays of bool, shape (last - first,)
            The steps at which gradient norms and iterates are wanted.
        block : int, optional
            The only block of runs that advances; the results of other runs are then undefined.
        """
        count = last - first
        f, best = np.empty((2, count, self.padded))
        # squares at other steps go to an additional row
        squares = np.empty((int(with_norm.sum()) + 1, self.padded))
        x = np.empty((int(with_x.sum()), *self._x.shape), self.dtype)
        factors = b"" if self.factor is None else np.array([*map(self.factor, range(first, last))], float).tobytes()
        table_of = _table_of if block is None else _table_of.__wrapped__  # which is needed once
        arrays = {
            **{steps.F: f, steps.BEST: best, steps.LEAST: self._least, steps.SQUARES: squares, steps.SNAPSHOTS: x},
            steps.TABLE: table_of(self.ir, self._values.tobytes(), factors, first, count, self.width),
            steps.ROWS: np.where(with_norm, np.cumsum(with_norm) - 1, len(squares) - 1),
            steps.MARKS: np.where(with_x, np.cumsum(with_x) - 1, -1),
        }
        arguments = np.zeros(steps.POINTERS, np.int64)
        values = {steps.COUNT: count, steps.WIDTH: self.width, steps.PADDED: self.padded, steps.LAST_BLOCK: self.blocks}
        arguments[list(values)] = list(values.values())
        arguments[list(arrays)] = [address(array) for array in arrays.values()]
        arguments = np.append(arguments, [address(array) for array in self._arrays])
        edges, threads = (steps.FIRST_BLOCK, steps.LAST_BLOCK), granted_threads() if self.is_threaded else 1
        if block is None:
            in_threads(self.steps, arguments, edges, lambda: _aligned(self.scratch), threads)
        else:
            scratch = _aligned(self.scratch)
            arguments[[*edges, steps.SCRATCH]] = block, block + 1, address(scratch)
            self.steps(address(arguments))
        # as the uncompiled loop has them: roots in the precision of the arrays
        norms = np.sqrt(squares[:-1, : self.runs].astype(self.dtype)).astype(float)
        return Values(f[:, : self.runs], best[:, : self.runs], norms, self._as_rows(x))

    def _pad(self, rows: np.ndarray) -> np.ndarray:
        """Rows (R, k) with copies of the last one up to a whole number of blocks."""
        return _aligned(np.concatenate([rows, np.repeat(rows[-1:], self.padded - self.runs, axis=0)]))

    def _as_blocks(self, rows: np.ndarray) -> np.ndarray:
        """Rows (R, d) as blocks (B, d, lanes)."""
        return _aligned(np.swapaxes(self._pad(rows).reshape(self.blocks, -1, self.dim), 1, 2))

    def _as_rows(self, blocks: np.ndarray) -> np.ndarray:
        """Blocks (..., B, d, lanes) as rows (..., R, d)."""
        return np.swapaxes(blocks, -1, -2).reshape(*blocks.shape[:-3], self.padded, self.dim)[..., : self.runs, :]


def trace_loop(
    graph: Graph, problem: Any, rule: Rule, d: int, swept: Collection[str], per_run: Collection[str], *, factor: bool
) -> steps.Steps:
    """The oracle of a problem and a rule as one graph."""
    x = graph.input(X, ("r", d))
    symbolic = copy.copy(problem)
    symbolic.xp, symbolic.backend = graph, dataclasses.replace(problem.backend, xp=graph)
    results = call(symbolic.value_and_grad, x)
    if len(results) != 2:
        raise TraceError("returns more than a value and a gradient")
    f, g = (graph.wrap(result) for result in results)
    arrays, new = trace_rule(graph, rule, x, g, swept, per_run, factor=factor)
    return steps.Steps(graph, arrays, new, f, g, d)


@functools.lru_cache(maxsize=64)  # most plans of a study have the same numbers at each step
def _table_of(ir: str, values: bytes, factors: bytes, first: int, count: int, width: int) -> np.ndarray:
    """The weak numbers of steps, (count, width)."""
    _, numbers = llvm.machine_code(ir, steps.NAMES)
    table = np.empty((count, width))
    arrays = np.frombuffer(values), np.frombuffer(factors) if factors else np.ones(count), table
    arguments = np.array([first, count, *map(address, arrays)])
    numbers(address(arguments))
    return table


def _lanes(runs: int, d: int, vector: int) -> int:
    """Runs in a block: one or two vectors, whichever leaves fewer lanes empty; 0 for one run at a time."""
    if d >= 8 and runs <= (MAX_SINGLE if d > steps.MAX_UNROLLED else 1):
        return 0
    if runs <= vector:
        return 1 << (runs - 1).bit_length()
    padded = [-(-runs // lanes) * lanes for lanes in (vector, 2 * vector)]
    return 2 * vector if padded[1] <= 1.1 * padded[0] else vector


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a whole number of cache lines, as vectors should."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -address(memory) % 64
    copied = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


def _packed(matrix: np.ndarray) -> np.ndarray:
    """A matrix (K, n) in strips of 8 columns, (ceil(n / 8), K, 8); the last one is filled with zeros."""
    rows, columns = matrix.shape
    strips = -(-columns // steps.STRIP)
    wide = np.zeros((rows, strips * steps.STRIP), matrix.dtype)
    wide[:, :columns] = matrix
    return _aligned(np.swapaxes(wide.reshape(rows, strips, steps.STRIP), 0, 1))
