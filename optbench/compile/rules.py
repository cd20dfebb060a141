"""Update rules compiled into one pass over memory.

The rule is traced, and its graph is compiled for the processor or for a GPU. Iterates and state are overwritten. A rule
that cannot be traced runs as it is written; so does one whose compiled form is not what it computes.
"""

from __future__ import annotations

import concurrent.futures as cf
import ctypes
import functools
import operator
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.compile import cuda, llvm, steps
from optbench.compile.graph import FACTOR, REDUCTIONS, G, Graph, Node, T, TraceError, X, call, evaluate
from optbench.core.backend import Backend, get_backend
from optbench.core.column import Column, rule_module
from optbench.core.specs import parameters, state_names
from optbench.core.types import Array
from optbench.core.workers import available_cores

Rule = Callable[..., Any]

CHECKED_DIM = 37  # whole vectors, and numbers that are left over
MIN_THREADED = 1 << 22  # size of an array; for smaller ones, threads cost more than they save


def trace_rule(
    graph: Graph,
    rule: Rule,
    x: Node,
    g: Node,
    swept: Collection[str],
    per_run: Collection[str] = (),
    factor: bool = False,
) -> tuple[dict[str, Node], dict[str, Node]]:
    """The iterates and states of a rule as nodes, before and after a step.

    Parameters
    ----------
    swept : collection of str
        Hyperparameters with one number per run.
    per_run : collection of str
        State with one number per run.
    factor : bool
        Whether the learning rate is multiplied by a number, which changes from step to step.

    Raises
    ------
    TraceError
        If the rule cannot be traced.
    """
    names = state_names(rule)
    states = {name: graph.input(name, ("r", 1) if name in per_run else x.dims) for name in names}
    numbers = {name: graph.column(name) if name in swept else graph.number(name) for name in parameters(rule)}
    if factor:
        numbers["lr"] = numbers["lr"] * graph.number(FACTOR)
    results = call(rule, graph, x, g, graph.number(T), *states.values(), **numbers)
    if len(results) != 1 + len(names):
        raise TraceError(f"returns {len(results)} arrays instead of {1 + len(names)}")
    return {X: x, **states}, dict(zip((X, *names), map(graph.wrap, results), strict=True))


def trace_step(
    rule: Rule, graph: Graph, length: int | str, swept: Collection[str] = (), per_run: Collection[str] = ()
) -> steps.Steps:
    """A step of a rule with given gradients, for arrays (R, length); see `trace_rule`."""
    x, g = (graph.input(name, ("r", length)) for name in (X, G))
    arrays, results = trace_rule(graph, rule, x, g, swept, per_run)
    return steps.Steps(graph, {G: g, **arrays}, results)


def fuse(
    rule: Rule, backend: Backend, swept: Collection[str] = (), per_run: Collection[str] = (), dim: int = 13
) -> RuleKernel | None:
    """The compiled form of a rule on a backend, or None if it has to run uncompiled, with one warning; see `compiled`."""
    result = compiled(rule, backend, swept, per_run, dim)
    if isinstance(result, str) and backend.name in ("numpy", "cupy"):
        _warn_once(f"the rule {rule.__name__!r} runs uncompiled, because {result}")
    return None if isinstance(result, str) else result


def compiled(
    rule: Rule, backend: Backend, swept: Collection[str], per_run: Collection[str], dim: int
) -> RuleKernel | str:
    """The compiled form of a rule on a backend, or why it has to run uncompiled.

    Parameters
    ----------
    swept : collection of str
        Hyperparameters that are columns of shape (R, 1); the others are numbers.
    per_run : collection of str
        State with one number per run.
    dim : int
        Number of parameters; a kernel of a rule that reduces over them holds for this number only.
    """
    if backend.name not in ("numpy", "cupy"):
        return f"there is no compiler for arrays of {backend.name}"
    try:
        kernel = RuleKernel(rule, backend, frozenset(swept), frozenset(per_run), dim)
        key = (rule, backend.name, backend.precision, kernel.swept, kernel.per_run, dim if kernel.reduces else 0)
        if key not in _is_correct:
            _is_correct[key] = _is_right(kernel, dim if kernel.reduces else CHECKED_DIM)
        return kernel if _is_correct[key] else "its compiled form differs"
    except TraceError as error:
        return f"it {error}"


_is_correct: dict[Any, bool] = {}  # whether kernels compute what their rules compute


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


class RuleKernel:
    """One step of a rule for a stack of runs; see `fuse` for the parameters.

    A rule may decide in Python on numbers, as in ``if t == 1``. Then there is a variant for each outcome.

    Raises
    ------
    TraceError
        If the rule cannot be traced.
    """

    def __init__(
        self, rule: Rule, backend: Backend, swept: Collection[str], per_run: Collection[str], dim: int
    ) -> None:
        self.rule, self.backend, self.swept, self.per_run, self.dim = rule, backend, swept, per_run, dim
        self.variant = _DeviceVariant if backend.name == "cupy" else _Variant
        declared = parameters(rule)
        self.names = list(declared)
        # with the default values, to find out whether the rule can be traced
        first = self.variant(self, {name: float(p.default) for name, p in declared.items()} | {T: 1})
        self.variants: list[_Variant | _DeviceVariant] = [first]
        self.reduces = not first.is_elementwise  # whether it combines the parameters of a run
        self.refusal = ""  # why there are no more variants

    def trace(self, values: Mapping[str, Any], length: int | str) -> steps.Steps:
        """A step with the decisions that the rule takes for these values."""
        return trace_step(self.rule, Graph(self.backend.precision, values), length, self.swept, self.per_run)

    def agrees(self, expected: Iterable[Array], actual: tuple[Array, tuple[Array, ...]]) -> bool:
        """Whether results of the rule and the kernel are equal: bit by bit, if all variants so far have NumPy's digits."""
        exact = self.backend.name == "numpy" and all(variant.graph.exact for variant in self.variants)
        pairs = zip(expected, (actual[0], *actual[1]), strict=True)
        to, tolerance = self.backend.to_host, 0.0 if exact else 64 * self.backend.eps
        return all(same(to(a), to(b), tolerance) for a, b in pairs)

    def __call__(self, x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        """Overwrite iterates (R, d) and states, and return them."""
        if not self.variants[0].graph.decisions:
            return self.variants[0].run(x, g, t, state, hyperparameters)
        settings = dict(zip(self.names, hyperparameters, strict=True))
        values = settings | {T: t}
        for variant in self.variants:
            if all(bool(evaluate(node, values)) == outcome for node, outcome in variant.graph.decisions):
                return variant.run(x, g, t, state, hyperparameters)
        # the first step of a variant is compared with the rule
        with np.errstate(all="ignore"):
            expected = self.rule(rule_module(self.backend), x + 0, g + 0, t, *[s + 0 for s in state], **settings)
        if not self.refusal:
            try:
                self.variants.append(self.variant(self, values))
                result = self.variants[-1].run(x, g, t, state, hyperparameters)
                if self.agrees(expected, result):
                    return result
                self.variants.pop()
                self.refusal = "its compiled form differs"
            except TraceError as error:
                self.refusal = f"it {error}"
            _warn_once(f"the rule {self.rule.__name__!r} runs uncompiled for some t, because {self.refusal}")
        return expected[0], tuple(expected[1:])


class _Variant:
    """Machine code of a rule for some outcomes of its decisions."""

    def __init__(self, kernel: RuleKernel, values: Mapping[str, Any]) -> None:
        loop = kernel.trace(values, "i")
        self.is_elementwise = not any(node.op in REDUCTIONS for node in loop.graph.nodes)
        if not self.is_elementwise:
            loop = kernel.trace(values, kernel.dim)
        self.graph = loop.graph
        names = [name for name in kernel.names if name not in kernel.swept]
        self.ir, width, scratch = steps.write_module(loop, names, 0, llvm.processor().vector_bytes)
        self.steps, self.numbers = llvm.machine_code(self.ir, steps.NAMES)
        self.numbers_at, self.columns_at = (list(map(kernel.names.index, part)) for part in (names, loop.columns))
        self.data = [np.ascontiguousarray(part) for part in self.graph.data]
        self.scratch = np.empty(scratch + 1, kernel.backend.precision)
        self.changes = any(node.stepwise for node in self.graph.nodes)  # whether numbers change from step to step
        self.values, self.table = (ctypes.c_double * (len(names) + 1))(), (ctypes.c_double * (width + 1))()
        self.numbers_known: list[float] | None = None
        places = ctypes.addressof(self.values), 0, ctypes.addressof(self.table)
        self.number_arguments = (ctypes.c_int64 * 5)(0, 1, *places)
        self.arguments = (ctypes.c_int64 * (steps.POINTERS + len(self.data) + len(loop.columns) + len(loop.arrays)))()
        self.arguments[steps.COUNT], self.arguments[steps.WIDTH] = 1, width
        self.arguments[steps.TABLE], self.arguments[steps.SCRATCH] = ctypes.addressof(self.table), address(self.scratch)
        self.places = ctypes.addressof(self.number_arguments), ctypes.addressof(self.arguments)
        self.arrays: list[Any] = []  # of the last step, whose addresses are in the arguments

    def run(self, x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        """Overwrite iterates (R, d) and states, and return them."""
        arguments = self.arguments
        numbers = [hyperparameters[k] for k in self.numbers_at]
        if self.changes or numbers != self.numbers_known:
            self.numbers_known, self.values[: len(numbers)], self.number_arguments[0] = numbers, numbers, t - 1
            self.numbers(self.places[0])
        arrays = [*[hyperparameters[k] for k in self.columns_at], x, *state]
        if len(arrays) != len(self.arrays) or not all(map(operator.is_, arrays, self.arrays)):
            self.arrays = arrays
            addresses = [address(a) for a in (*self.data, *arrays)]
            first = len(self.data) + len(self.columns_at)
            arguments[steps.POINTERS :] = [*addresses[:first], 0, *addresses[first:]]
            arguments[steps.LAST_BLOCK], arguments[steps.END] = x.shape
            arguments[steps.STRIDE] = x.shape[1]
        gradients = np.ascontiguousarray(g, x.dtype)  # (R, d)
        arguments[-2 - len(state)] = address(gradients)
        if x.size < MIN_THREADED:
            self.steps(self.places[1])
            return x, tuple(state)
        by_runs = not self.is_elementwise or x.shape[0] >= _threads()
        edges = (steps.FIRST_BLOCK, steps.LAST_BLOCK) if by_runs else (steps.BEGIN, steps.END)
        in_threads(self.steps, arguments, edges, self.scratch.copy, _threads())
        return x, tuple(state)


class _DeviceVariant:
    """A kernel for the GPU of a rule for some outcomes of its decisions."""

    is_elementwise = True

    def __init__(self, kernel: RuleKernel, values: Mapping[str, Any]) -> None:
        step, self.backend, self.names = kernel.trace(values, "d"), kernel.backend, kernel.names
        self.graph, arrays = step.graph, list(step.arrays.values())
        self.kernel = cuda.Kernel(
            kernel.rule.__name__, "rd", arrays, list(step.results.values()), range(1, len(arrays))
        )

    def run(self, x: Array, g: Array, t: int, state: Sequence[Array], hyperparameters: Sequence[Any]) -> Any:
        """Overwrite iterates (R, d) and states, and return them."""
        values = dict(zip(self.names, hyperparameters, strict=True)) | {T: t}
        x, *new = self.kernel.run(self.backend, [g, x, *state], values)
        return x, tuple(new)


def address(array: Any) -> int:
    """The address of the numbers of a NumPy array, which follows the header that all Python objects have.

    This is nine times faster than ``array.ctypes.data``.
    """
    return ctypes.c_int64.from_address(id(array) + object.__basicsize__).value


def _threads() -> int:
    """Threads of a step: one per core of this process, or OMP_NUM_THREADS if that is fewer."""
    cores = available_cores()
    requested = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, max(1, int(requested))) if requested.isdigit() else cores


@functools.cache
def _pool(threads: int) -> cf.ThreadPoolExecutor:
    return cf.ThreadPoolExecutor(threads, thread_name_prefix="optbench")


def in_threads(
    code: Callable[[int], None], arguments: Any, edges: tuple[int, int], scratch: Callable[[], np.ndarray], threads: int
) -> None:
    """Call machine code for a range, or for a piece of it on every thread; results do not depend on it.

    Parameters
    ----------
    code : callable
        The function `steps`.
    arguments : array of int64
    edges : tuple of int
        Positions of the first and last number of the range, which begins with 0, in the arguments.
    scratch : callable
        Makes the scratch memory of a thread.
    """

    def part(low: int, high: int) -> None:
        own, memory = np.array(arguments, np.int64), scratch()
        own[[*edges, steps.SCRATCH]] = low, high, address(memory)
        code(address(own))

    length = arguments[edges[1]]
    threads = max(1, min(threads, length))
    limits = [round(k * length / threads) for k in range(threads + 1)]
    if threads == 1:
        part(0, length)
    else:
        list(_pool(threads).map(part, limits[:-1], limits[1:]))


def _is_right(kernel: RuleKernel, dim: int) -> bool:
    """Whether a kernel computes what its rule computes: steps of stacks at several scales, and of one run alone."""
    rule, backend, precision = kernel.rule, kernel.backend, kernel.backend.precision
    rng, xp = np.random.default_rng(0), rule_module(get_backend("numpy", precision=precision))

    def stack(scale: float, runs: int, columns: int) -> np.ndarray:
        return (scale * rng.standard_normal((runs, columns))).astype(precision)

    for scale, runs in ((1.0, 3), (1e-6, 3), (1e4, 3), (0.0, 2), (1.0, 1)):
        # every other run has another value, because the kernel must not take that of its neighbour
        factors = 1 - 0.1 * (np.arange(runs) % 2)
        values: dict[str, Any] = {name: float(p.default) for name, p in parameters(rule).items()}
        values |= {name: Column.of(values[name] * factors, precision) for name in kernel.swept}
        # state is not negative, because a rule may take its root
        widths = [1 if name in kernel.per_run else dim for name in state_names(rule)]
        x, *state = stack(scale, runs, dim), *(np.abs(stack(scale, runs, width)) for width in widths)
        y, copies = backend.asarray(x.copy()), tuple(backend.asarray(s.copy()) for s in state)
        with np.errstate(all="ignore"):
            for t in (1, 2, 30, 1000):  # late steps too, because a rule may choose by t
                g = stack(scale, runs, dim)
                # on the host, where columns are rounded as numbers are
                x, *state = rule(xp, x, g + 0, t, *state, **values)
                y, copies = kernel(y, backend.asarray(g), t, copies, tuple(values.values()))
                if not kernel.agrees((x, *state), (y, copies)):
                    return False
    return True


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Whether arrays agree, up to a multiple of their magnitude and of their largest element."""
    a, b = np.asarray(a), np.asarray(b)
    if tolerance == 0.0 or a.shape != b.shape:
        return np.array_equal(a, b, equal_nan=True)
    finite = np.isfinite(a)
    scale = np.abs(a) + np.max(np.abs(a), initial=0.0, where=finite)
    rest = np.array_equal(a[~finite], b[~finite], equal_nan=True)
    return rest and bool(np.all((np.abs(a - b) <= tolerance * scale)[finite]))
