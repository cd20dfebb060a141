"""Graphs as CUDA C++: update rules and elementwise formulas of problems, each as one kernel.

Arithmetic has the precision of the arrays and is strict: no products are fused with sums, subnormal numbers are kept. What
depends on hyperparameters and `t` only is computed in double precision, before the launch if possible, and rounded once.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optbench.compile.graph import Dims, Graph, Node, TraceError, call, evaluate
from optbench.core.backend import Backend
from optbench.core.types import Array

THREADS = 256  # per block
MAX_BLOCKS = (1024, 65535, 65535)  # along x, y and z; a thread goes on to further numbers
OPTIONS = ("--std=c++17", "--fmad=false")
TYPES: dict[str, Any] = {"float": np.float32, "double": np.float64}
HEADER = """#define KERNEL extern "C" __global__ void
#define ALL(i, n) for (long long i = 0; i < n; i++)
#define EACH(i, n, axis) _Pragma("unroll 1") for (long long i = blockIdx.axis * (long long)blockDim.axis + \\
    threadIdx.axis; i < n; i += (long long)gridDim.axis * blockDim.axis)
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
"""
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "equal": "==", "not_equal": "!="}
SIGNS |= {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
TEXTS = {op: f"{{0}} {sign} {{1}}" for op, sign in SIGNS.items()}  # truths are 0 and 1
TEXTS |= {name: f"{name}{{f}}({{0}})" for name in ("sqrt", "exp", "log", "log1p", "tanh")}
TEXTS |= {"abs": "fabs{f}({0})", "pow": "pow{f}({0}, {1})", "negative": "-{0}", "where": "{0} != 0 ? {1} : {2}"}
TEXTS |= {"maximum": "{0} > {1} || {0} != {0} ? {0} : {1}", "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}"}
TEXTS |= {"sign": "{0} > 0 ? 1 : {0} < 0 ? -1 : {0} == 0 ? 0 : {0}"}
TEXTS |= {"isnan": "{0} != {0}", "isfinite": "{0} - {0} == {0} - {0}"}
TEXTS |= {"bitwise_and": "{0} != 0 && {1} != 0", "bitwise_or": "{0} != 0 || {1} != 0", "bitwise_not": "{0} == 0"}


class Kernel:
    """A kernel over arrays with the axes `letters`: the last one on x, then y and z, then a loop.

    Parameters
    ----------
    arrays : sequence of Node
        The arguments, the first with all axes. Their dimensions are letters, or 1.
    results : sequence of Node
        What is written, with all axes: over the arguments with the numbers `targets`, or to new arrays.

    Raises
    ------
    TraceError
        If it combines numbers of one array, or uses an operation for which there is no text.
    """

    def __init__(
        self, name: str, letters: str, arrays: Sequence[Node], results: Sequence[Node], targets: Sequence[int] = ()
    ) -> None:
        if targets and any(node.dims != tuple(letters) for node in (*arrays, *results)):
            raise TraceError(f"returns arrays of shapes {[node.dims for node in results]}, not only {tuple(letters)}")
        self.name, self.letters, self.arrays, self.targets = _identifier(name), letters, arrays, targets
        self.graph, self.results = arrays[0].graph, results
        self.swept = [node.value for node in self.graph.nodes if node.op == "column"]
        # names of weak values by number of the node and type: one per run, or a single one
        self.columns: dict[tuple[int, str], str] = {}
        self.numbers: dict[tuple[int, str], str] = {}
        self._given: list[Any] = []  # swept hyperparameters, and what the kernel gets of them
        self._made: list[Array] = []
        self._known: dict[tuple[int, str], str] = {}
        self._lines: list[list[str]] = [[] for _ in letters]  # of each loop
        self._names = {a.id: f"a{k}_{_identifier(a.value)}" for k, a in enumerate(arrays)}  # a rule may use words of C
        names, real = list(self._names.values()), {"float32": "float", "float64": "double"}[self.graph.precision]
        outputs = [names[k] for k in targets] or [f"o{k}" for k in range(len(results))]
        values = [self._value(node, real) for node in results]
        for output, value in zip(outputs, values, strict=True):  # after all loads
            self._lines[-1].append(f"{output}[{self._index(tuple(letters))}] = {value};")
        body: list[str] = []
        for k, (letter, lines) in enumerate(zip(letters, self._lines, strict=True)):
            axis = "xyz"[len(letters) - 1 - k : len(letters) - k]
            loop = f"EACH(i_{letter}, n_{letter}, {axis})" if axis else f"ALL(i_{letter}, n_{letter})"
            body += ["  " * k + loop + " {", *("  " * (k + 1) + line for line in lines)]
        declared = [f"const long long n_{letter}" for letter in letters]
        declared += [f"{real} *{a}" for a in dict.fromkeys([*names, *outputs])]
        declared += [f"const {kind} *{c}" for (_, kind), c in self.columns.items()]
        declared += [f"const {kind} {s}" for (_, kind), s in self.numbers.items()]
        head = f"KERNEL optbench_{self.name}({', '.join(declared)}) {{"
        self.text = "\n  ".join([head, *body, "}" * len(letters)]) + "\n}\n"

    def _index(self, dims: Dims) -> str:
        """The position of a number in an array with some of the axes."""
        first, *rest = [f"i_{letter}" for letter in dims if letter != 1]
        text = functools.reduce(lambda outer, i: f"({outer} * n{i[1:]} + {i})", rest, first)
        return text.removeprefix("(").removesuffix(")")

    def _value(self, node: Node, kind: str) -> str:
        """A name or literal of this type for a value, after the line that computes it, as far outside as possible."""
        if node.op == "const":
            return literal(node.value, kind)
        if (key := (node.id, kind)) in self._known:
            return self._known[key]
        name = f"v{node.id}"
        if node.weak and not node.dims:
            name = self._known[key] = self.numbers[key] = f"s{len(self.numbers)}"
            return name
        if node.weak and not node.stepwise:
            column = self.columns[key] = f"c{len(self.columns)}"
            name, text = f"{column}_r", f"{column}[i_r]"
        elif node.weak and kind != "double":
            name, text = f"{name}_{kind}", self._value(node, "double")
        elif node.op == "input":
            text = f"{self._names[node.id]}[{self._index(node.dims)}]"
        elif node.op in TEXTS and (node.truth or not node.op.startswith("bitwise")):
            text = TEXTS[node.op].format(*[self._value(a, kind) for a in node.args], f="f" if kind == "float" else "")
        else:
            raise TraceError(f"uses {node.op}, and kernels treat every number alone")
        innermost = max(self.letters.index(str(i)) for i in node.dims if i != 1)
        self._lines[innermost].append(f"const {kind} {name} = {text};")
        self._known[key] = name
        return name

    @functools.cached_property
    def _function(self) -> Callable[..., None]:
        return load(HEADER + self.text, f"optbench_{self.name}")

    def run(self, backend: Backend, given: Sequence[Array], values: Mapping[str, Any]) -> list[Array]:
        """The results for arguments, numbers and columns (R, 1) of the host. Columns are moved to the GPU once."""
        xp, shape, dtype = backend.xp, given[0].shape, backend.dtype
        lengths: dict[Any, int] = dict(zip(self.letters, shape, strict=True))
        shapes = [a.shape for a in given]
        if shapes != [tuple([lengths[i] for i in node.dims if i != 1]) for node in self.arrays]:
            raise ValueError(f"{self.name} takes arrays {[node.dims for node in self.arrays]}, not {shapes}")
        arrays = [xp.ascontiguousarray(a, dtype=dtype) for a in given]
        new = [] if self.targets else [xp.empty(shape, dtype=dtype, device=backend.device) for _ in self.results]
        swept = [values[name] for name in self.swept]
        if list(map(id, swept)) != list(map(id, self._given)):
            weak = [np.asarray(evaluate(self.graph.nodes[k], values), TYPES[kind]) for k, kind in self.columns]
            columns = [np.broadcast_to(c, (shape[0], 1)) for c in weak]
            self._made = [backend.as_float64(c) if c.dtype == np.float64 else backend.asarray(c) for c in columns]
            self._given = swept
        if not self._made and shapes == [shape] * len(shapes):  # all axes are one
            shape = (*[1] * (len(shape) - 1), math.prod(shape))
        x, y, z = (*shape[:-4:-1], 1, 1)[:3]
        across = min(THREADS, 1 << max(0, x - 1).bit_length())
        block = (across, min(THREADS // across, 1 << max(0, y - 1).bit_length()), 1)
        grid = tuple([min(max(1, -(-n // b)), most) for n, b, most in zip((x, y, z), block, MAX_BLOCKS, strict=True)])
        numbers = [TYPES[kind](evaluate(self.graph.nodes[k], values)) for k, kind in self.numbers]
        self._function(grid, block, (*map(np.int64, shape), *arrays, *new, *self._made, *numbers))
        return new or [arrays[k] for k in self.targets]


def _identifier(name: Any) -> str:
    return re.sub(r"\W", "_", str(name).lstrip("."), flags=re.ASCII)


def literal(value: float, kind: str) -> str:
    """A number as text, rounded to its type and exact from there on."""
    with np.errstate(over="ignore"):
        value = float(TYPES[kind](value))
    suffix = "f" if kind == "float" else ""
    digits = abs(value).hex() + suffix if math.isfinite(value) else "NAN" if value != value else "INFINITY"
    return f"(-{digits})" if math.copysign(1, value) < 0 else digits


@functools.cache
def load(text: str, name: str) -> Callable[..., None]:
    """A kernel on the GPU, a function of grid, block and arguments."""
    from cupy.cuda import compiler, function

    code, _ = compiler.compile_using_nvrtc(text, OPTIONS)  # cupy.RawKernel would flush subnormal numbers
    module = function.Module()
    module.load(code)
    loaded: Callable[..., None] = module.get_function(name)
    return loaded


def formula_kernel(
    formula: Callable[..., Any], axes: Sequence[str], backend: Backend
) -> Callable[..., tuple[Array, ...]]:
    """A function of arrays that returns the results of an elementwise formula, all with the axes of the first argument.

    `axes` are the letters of every argument, see `elementwise.kernel`. Raises TraceError.
    """
    graph, whole = Graph(backend.precision, stepwise=()), axes[0]
    dims = [tuple([letter if letter in letters else 1 for letter in whole]) for letters in axes]
    nodes = [graph.input(str(k), dims[k]) if letters else graph.number(str(k)) for k, letters in enumerate(axes)]
    results = [graph.wrap(r) for r in call(formula, graph, *nodes)]
    distinct = {r.id: r for r in results}
    kernel = Kernel(formula.__name__, whole, [n for n in nodes if n.op == "input"], list(distinct.values()))

    def run(*values: Any) -> tuple[Array, ...]:
        arrays = [v for v, letters in zip(values, axes, strict=True) if letters]
        numbers = {str(k): float(v) for k, v in enumerate(values) if not axes[k]}
        outputs = dict(zip(distinct, kernel.run(backend, arrays, numbers), strict=True))
        return tuple([outputs[r.id] for r in results])

    return run
