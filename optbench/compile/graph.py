"""Formulas as graphs: a formula is called once with symbols, and every operation becomes a node.

A `Graph` is the array module of the formula that it traces. Its nodes are created in order, so arguments come before their
users, and equal operations are one node. Each node has the dimensions of the array for which it stands, as NumPy would
broadcast them: a length, or a letter where the length is not known, ``"r"`` for runs.

Numbers follow NumPy's rules for types. Hyperparameters, `t` and literals are *weak*: operations between them have double
precision, and the result is rounded once, where it meets an array. Everything else has the precision of the arrays.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import math
import operator
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Dims = tuple[int | str, ...]

# elementwise operations, and what they mean for weak values on the host
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{"add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv},
    **{"pow": operator.pow, "remainder": operator.mod, "floor_divide": operator.floordiv, "negative": operator.neg},
    **{"less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge},
    **{"equal": operator.eq, "not_equal": operator.ne},
    **{"bitwise_and": np.logical_and, "bitwise_or": np.logical_or, "bitwise_not": np.logical_not},
    **{name: getattr(np, name) for name in ("sqrt", "abs", "sign", "exp", "log", "log1p", "tanh", "isnan", "isfinite")},
    **{name: getattr(np, name) for name in ("maximum", "minimum", "where")},
}
INTERNAL = ("fma", "bits", "number", "shift_left", "shift_right")  # for the formulas of `elementary` only
TRUTHS = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "isnan", "isfinite"}
CHOICES = {"where", "bitwise_and", "bitwise_or", "bitwise_not"}  # truths, if they are made of truths
INEXACT = {"exp", "log", "log1p", "tanh", "matmul", "dot"}  # NumPy and compiled code may round them differently
REDUCTIONS = {"sum", "max", "min", "dot"}
# names that no state or hyperparameter can have: iterates, gradients, number of the step, factor of the learning rate
X, G, T, FACTOR = ".x", ".g", ".t", ".factor"
NOT_FORMULAS = (__file__, str(Path(np.__file__).parent))
WEAK_ONLY = {"pow", "remainder", "floor_divide"}


class TraceError(Exception):
    """A formula does something that cannot be traced. The message names the line."""


def refuse(message: str) -> TraceError:
    """An error that names the line of the formula, the innermost one outside of this module and of NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOT_FORMULAS):
        frame = frame.f_back
    return _at(message, frame.f_code.co_filename, frame.f_lineno)


def _at(message: str, file: str, line: int) -> TraceError:
    source = linecache.getline(file, line).strip()
    return TraceError(f"{message} (line {line} of {file.replace(chr(92), '/').rpartition('/')[2]}: {source})")


def _operators(op: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """An operator between a node and something else, and the same with the node on the right."""
    return lambda a, b: a.graph.operation(op, a, b), lambda a, b: a.graph.operation(op, b, a)


def _sign(op: str) -> Callable[[Any], Any]:
    return lambda a: a.graph.operation(op, a)


class Node:
    """One operation of a graph, or a leaf.

    Attributes
    ----------
    op : str
        A name in `OPERATIONS`; ``input``, ``data``, ``column``, ``number`` or ``const`` for leaves; ``slice``
        (elements of an array from ``value`` on), ``item`` (element ``value``), ``expand`` (a new last axis), ``concat``,
        ``matmul``; or a reduction over the last axis.
    args : tuple of Node
    value : object
        Name of a leaf, constant, or position.
    dims : tuple
        Dimensions.
    weak : bool
        Whether it consists of hyperparameters, `t` and literals.
    stepwise : bool
        Whether it is weak and changes from step to step.
    """

    __array_ufunc__ = None  # NumPy's arrays and numbers leave operators to this class
    __hash__ = object.__hash__

    def __init__(self, graph: Graph, op: str, args: tuple[Node, ...], value: Any, dims: Dims) -> None:
        self.graph, self.op, self.args, self.value, self.dims, self.shape = graph, op, args, value, dims, dims
        self.ndim, self.dtype = len(dims), graph.dtype
        self.id = len(graph.nodes)
        self.weak: bool = all(a.weak for a in args) if args else op in ("const", "number", "column")
        self.truth: bool = op in TRUTHS or (op in CHOICES and all(a.truth for a in args[-2:]))
        self.stepwise: bool = value in graph.stepwise if op == "number" else self.weak and any(a.stepwise for a in args)

    @property
    def length(self) -> int | str | None:
        """Length of the last axis, or None if the node has the same value along it."""
        last = self.dims[-1] if self.dims else 1
        return None if last in (1, "r") else last

    def __bool__(self) -> bool:
        if self.weak and not self.dims and not (self.stepwise and T not in self.graph.values):
            with contextlib.suppress(KeyError):  # the value of a number is not given
                outcome = bool(evaluate(self, self.graph.values))
                self.graph.decisions.append((self, outcome))
                return outcome
        raise refuse("decides in Python on a value that is only known when it runs; use xp.where")

    def __getitem__(self, key: Any) -> Node:
        rows = self.ndim == (1 if isinstance(key, tuple) and key[1:] == (None,) else 2)
        if isinstance(key, tuple) and len(key) == 2 and (key[0] is ... or (key[0] == slice(None) and rows)):
            position, last = key[1], self.dims[-1] if self.dims else None
            if position is None and self.length is None and not self.weak:
                return self.graph.node("expand", self, dims=(*self.dims, 1))
            if isinstance(position, slice) and isinstance(last, int) and position.step in (None, 1):
                start, stop, _ = position.indices(last)
                if stop > start:
                    return self.graph.node("slice", self, value=start, dims=(*self.dims[:-1], stop - start))
            if isinstance(position, int) and isinstance(last, int) and -last <= position < last:
                return self.graph.node("item", self, value=position % last, dims=self.dims[:-1])
        raise refuse(
            "takes elements of an array in a way that cannot be traced; use [..., i], [..., i:j] or [..., None]"
        )

    def _refuse_number(self, *_: Any) -> Any:
        raise refuse("turns a value that is only known when it runs into a Python number; use functions of xp")

    __float__ = __int__ = __index__ = __iter__ = __len__ = __array__ = __complex__ = __round__ = _refuse_number

    def __setitem__(self, key: Any, value: Any) -> None:
        raise refuse("assigns to elements of an array; use xp.where or xp.concat")

    __add__, __radd__ = _operators("add")
    __sub__, __rsub__ = _operators("subtract")
    __mul__, __rmul__ = _operators("multiply")
    __truediv__, __rtruediv__ = _operators("divide")
    __mod__, __rmod__ = _operators("remainder")
    __floordiv__, __rfloordiv__ = _operators("floor_divide")
    __and__, __rand__ = _operators("bitwise_and")
    __or__, __ror__ = _operators("bitwise_or")
    __lshift__, _ = _operators("shift_left")
    __rshift__, _ = _operators("shift_right")
    __lt__, __gt__ = _operators("less")
    __le__, __ge__ = _operators("less_equal")
    __eq__, _ = _operators("equal")
    __ne__, _ = _operators("not_equal")
    __neg__, __abs__, __invert__ = _sign("negative"), _sign("abs"), _sign("bitwise_not")
    _, __rpow__ = _operators("pow")

    def __pow__(self, other: Any) -> Any:
        if self.weak or isinstance(other, Node):
            return self.graph.operation("pow", self, other)
        # as NumPy has it: x**2 is x * x, x**0.5 a root, and x**-1 a reciprocal
        if other in (1, 2, 0.5, -1):
            return {1: self, 2: self * self, 0.5: self.graph.operation("sqrt", self), -1: 1 / self}[other]
        raise refuse(f"raises an array to the power {other!r}; multiply, or use xp.sqrt or xp.exp")

    def __matmul__(self, other: Any) -> Node:
        matrix = self.graph.wrap(other)
        if self.dims[-1:] != matrix.dims[:1] or self.ndim != 2 or matrix.ndim != 2 or "r" in matrix.dims or self.weak:
            raise refuse("multiplies matrices other than points (R, d) by a constant matrix (d, k)")
        return self.graph.node("matmul", self, matrix, dims=(self.dims[0], matrix.dims[1]))


class Graph:
    """The operations of a formula, and the array module with which it is traced.

    Parameters
    ----------
    precision : str
        ``"float64"`` or ``"float32"``, the precision of the arrays.
    values : mapping, optional
        Values of the numbers, for decisions of the formula in Python, such as ``if nesterov:``. The graph holds for all
        values with the same `decisions`.
    stepwise : collection of str
        Names of numbers that change from step to step.

    Attributes
    ----------
    data : list of numpy.ndarray
        Constant arrays that the formula uses.
    """

    inf, nan, pi, e = math.inf, math.nan, math.pi, math.e

    def __init__(
        self, precision: str, values: Mapping[str, Any] | None = None, stepwise: Sequence[str] = (T, FACTOR)
    ) -> None:
        self.precision, self.values, self.stepwise = precision, dict(values or {}), frozenset(stepwise)
        self.dtype = np.dtype(precision)
        self.nodes: list[Node] = []
        self.data: list[np.ndarray] = []
        self.decisions: list[tuple[Node, bool]] = []
        self._known: dict[Any, Node] = {}
        self.linalg = self

    @property
    def signature(self) -> tuple[Any, ...]:
        """The graph as a hashable value; equal graphs have equal code."""
        return (self.precision, *(self._key(n.op, n.args, n.value, n.dims) for n in self.nodes))

    @property
    def exact(self) -> bool:
        """Whether compiled code gives the same digits as NumPy."""
        return not any(n.op in INEXACT for n in self.nodes)

    @staticmethod
    def _key(op: str, args: tuple[Node, ...], value: Any, dims: Dims) -> tuple[Any, ...]:
        return op, tuple([a.id for a in args]), value.hex() if isinstance(value, float) else value, dims

    def node(self, op: str, *args: Node, value: Any = None, dims: Dims) -> Node:
        """The node of an operation, a new one or the same as before."""
        key = self._key(op, args, value, dims)
        if key not in self._known:
            self._known[key] = Node(self, op, args, value, dims)
            self.nodes.append(self._known[key])
        return self._known[key]

    def input(self, name: str, dims: Dims) -> Node:
        """An array that is known when the code runs."""
        return self.node("input", value=name, dims=dims)

    def number(self, name: str | Node) -> Node:
        """A weak number that is known when the code runs; for a node of bits, the number that has them."""
        if isinstance(name, Node):
            return self.operation("number", name)
        return self.node("number", value=name, dims=())

    def column(self, name: str) -> Node:
        """Weak numbers, one per run: (R, 1)."""
        return self.node("column", value=name, dims=("r", 1))

    def wrap(self, value: Any) -> Node:
        """A node for a node, a number or a constant array."""
        if isinstance(value, Node):
            return value
        if isinstance(value, bool | int | float | np.number | np.bool_):
            return self.node("const", value=int(value) if isinstance(value, int) else float(value), dims=())
        if isinstance(value, np.ndarray) and value.dtype == self.dtype and 1 <= value.ndim <= 2:
            if not any(known is value for known in self.data):
                self.data.append(value)
            position = next(k for k, known in enumerate(self.data) if known is value)
            return self.node("data", value=position, dims=value.shape)
        raise refuse(
            f"uses {type(value).__name__} {value!r:.40}, which is neither a number nor an array {self.precision}"
        )

    def operation(self, op: str, *args: Any) -> Node:
        """An elementwise operation on nodes, numbers and constant arrays."""
        nodes = tuple([self.wrap(a) for a in args])
        if op in WEAK_ONLY and not all(n.weak for n in nodes):
            raise refuse(f"uses {op} on arrays; use products, xp.sqrt, xp.exp or xp.where")
        return self.node(op, *nodes, dims=self._broadcast(nodes))

    @staticmethod
    def _broadcast(nodes: Sequence[Node]) -> Dims:
        rank = max(n.ndim for n in nodes)
        dims: list[int | str] = [1] * rank
        for n in nodes:
            for k, length in enumerate(n.dims, rank - n.ndim):
                if length != 1 and dims[k] not in (1, length):
                    raise refuse(f"combines arrays of shapes {' and '.join(str(n.dims) for n in nodes)}")
                dims[k] = length if length != 1 else dims[k]
        return tuple(dims)

    def _reduce(self, op: str, a: Any, axis: Any = None, keepdims: bool = False) -> Node:
        a = self.wrap(a)
        if a.ndim and axis not in (-1, a.ndim - 1, (-1,), (a.ndim - 1,)):
            raise refuse(
                "combines the runs of a stack; reduce over axis=-1, the parameters of a run, with keepdims=True"
            )
        if a.weak or a.ndim == 0 or a.dims[-1] == "r":
            raise refuse("reduces something that has no parameter axis")
        if a.truth:
            raise refuse("reduces truth values; use xp.where to make numbers of them")
        if a.length is None:  # one number
            return a if keepdims else self.node("item", a, value=0, dims=a.dims[:-1])
        return self.node(op, a, dims=(*a.dims[:-1], 1) if keepdims else a.dims[:-1])

    # ---- the array module ------------------------------------------------------------------------------------------------

    def vecdot(self, a: Any, b: Any, axis: int = -1) -> Node:
        return self._reduce("dot", self.operation("multiply", a, b), axis)

    def vector_norm(self, a: Any, axis: Any = None, keepdims: bool = False) -> Node:
        a = self.wrap(a)
        return self.operation("sqrt", self._reduce("sum", a * a, axis, keepdims))

    def square(self, a: Any) -> Node:
        return self.operation("multiply", a, a)

    def clip(self, a: Any, low: Any, high: Any) -> Node:
        return self.operation("minimum", self.operation("maximum", a, low), high)

    def full_like(self, a: Any, value: float) -> Node:
        # a strong value of the right shape: where(True, value, a) has no effect of a
        return self.node("where", self.wrap(True), self.wrap(value), self.wrap(a), dims=self.wrap(a).dims)

    def zeros_like(self, a: Any) -> Node:
        return self.full_like(a, 0.0)

    def ones_like(self, a: Any) -> Node:
        return self.full_like(a, 1.0)

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Node:
        parts = tuple([self.wrap(a) for a in arrays])
        if axis not in (-1, parts[0].ndim - 1) or len({p.dims[:-1] for p in parts}) != 1:
            raise refuse("joins arrays along another axis than the parameters of a run")
        lengths = [length for p in parts for length in p.dims[-1:] if isinstance(length, int)]
        if len(lengths) < len(parts):
            raise refuse("joins arrays of unknown length")
        return self.node("concat", *parts, dims=(*parts[0].dims[:-1], sum(lengths)))

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Node:
        parts = [self.wrap(a) for a in arrays]
        if any(p.dims != ("r",) for p in parts) or axis not in (-1, 1):
            raise refuse("stacks arrays other than numbers per run along the last axis")
        return self.concat([p[..., None] for p in parts], axis=-1)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        name = {"logical_and": "bitwise_and", "logical_or": "bitwise_or", "logical_not": "bitwise_not"}.get(name, name)
        if name in ("sum", "max", "min"):
            return functools.partial(self._reduce, name)
        if name in OPERATIONS or name in INTERNAL:
            return functools.partial(self.operation, name)
        raise refuse(f"uses xp.{name}, which cannot be traced")


def evaluate(node: Node, values: Mapping[str, Any]) -> Any:
    """The value of a weak node on the host, computed as the formula itself would compute it in Python."""
    if node.op == "const":
        return node.value
    if node.op in ("number", "column"):
        return values[node.value]
    args = [evaluate(a, values) for a in node.args]
    return args[0] if node.op == "expand" else OPERATIONS[node.op](*args)


def call(formula: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[Node, ...]:
    """The results of a traced formula as a tuple of nodes.

    Raises
    ------
    TraceError
        If it cannot be traced.
    """
    try:
        results = formula(*args, **keywords)
    except TraceError:
        raise
    except Exception as error:  # symbols meet arbitrary code
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(NOT_FORMULAS)]
        raise _at(f"raises {type(error).__name__}: {error}", frames[-1].filename, frames[-1].lineno or 0) from error
    if not isinstance(results, tuple | list) or not all(isinstance(r, Node | int | float) for r in results):
        raise TraceError(f"returns {type(results).__name__} instead of a tuple of arrays")
    return tuple(results)
