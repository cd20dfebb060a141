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
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "bitwise_and": "&&", "bitwise_or": "||"}
SIGNS |= {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}
LOGIC = ("bitwise_and", "bitwise_or", "bitwise_not")
TEXTS = {op: f"{{0}} {sign} {{1}}" for op, sign in SIGNS.items()}
TEXTS |= {name: f"{name}{{f}}({{0}})" for name in ("sqrt", "exp", "log", "log1p", "tanh")}
TEXTS |= {"abs": "fabs{f}({0})", "pow": "pow{f}({0}, {1})", "negative": "-{0}", "bitwise_not": "!{0}"}
TEXTS |= {
    op: f"{{0}} {s} {{1}} || {{0}} != {{0}} ? {{0}} : {{1}}" for op, s in {"maximum": ">", "minimum": "<"}.items()
}
TEXTS |= {"where": "{0} ? {1} : {2}", "sign": "{0} > 0 ? 1 : {0} < 0 ? -1 : {0} == 0 ? 0 : {0}"}
TEXTS |= {"isnan": "{0} != {0}", "isfinite": "{0} - {0} == {0} - {0}"}


class Kernel:
    """A kernel over arrays with the axes `letters`: the last one on x, then y and z, then a loop.

    Dimensions of `arrays` are letters or 1. `results` overwrite the arrays whose numbers are `targets`; without
    them, they have arrays of their own.

    Attributes
    ----------
    text : str
        A function of the lengths of the axes, `arrays`, arrays for results, `columns` and `numbers`.
    columns, numbers : dict
        Names of weak values, one per run or a single one, by number of the node and type.
    """

    def __init__(
        self, name: str, letters: str, arrays: Sequence[Node], results: Sequence[Node], targets: Sequence[int] = ()
    ) -> None:
        self.name, self.letters, self.graph = "optbench_" + _identifier(name), letters, arrays[0].graph
        self.columns: dict[tuple[int, str], str] = {}
        self.numbers: dict[tuple[int, str], str] = {}
        self._known: dict[tuple[int, str], str] = {}
        self._lines: list[list[str]] = [[] for _ in range(len(letters) + 1)]  # before the loops, and in each of them
        self._arrays = {a.id: f"a{k}_{_identifier(a.value)}" for k, a in enumerate(arrays)}  # a rule may use words of C
        real = {"float32": "float", "float64": "double"}[self.graph.precision]
        names = list(self._arrays.values())
        outputs = [names[k] for k in targets] or [f"o{k}" for k in range(len(results))]
        values = [self.value(node, real) for node in results]
        for output, value in zip(outputs, values, strict=True):  # after all loads
            self._lines[-1].append(f"{output}[{self._index(tuple(letters))}] = {value};")
        body = self._lines[0]
        for k, (letter, lines) in enumerate(zip(letters, self._lines[1:], strict=True)):
            axis = "xyz"[len(letters) - 1 - k : len(letters) - k]
            body.append(f"EACH(i_{letter}, n_{letter}, {axis}) {{" if axis else f"ALL(i_{letter}, n_{letter}) {{")
            body += ["  " * (k + 1) + line for line in lines]
        declared = [f"const long long n_{letter}" for letter in letters]
        declared += [f"{real} *{a}" for a in dict.fromkeys([*names, *outputs])]
        declared += [f"const {kind} *{c}" for (_, kind), c in self.columns.items()]
        declared += [f"const {kind} {s}" for (_, kind), s in self.numbers.items()]
        head = f"KERNEL {self.name}({', '.join(declared)}) {{"
        self.text = "\n  ".join([head, *body, "}" * len(letters)]) + "\n}\n"

    def _index(self, dims: Dims) -> str:
        """The position of a number in an array with some of the axes."""
        first, *rest = [f"i_{letter}" for letter in dims if letter != 1]
        text = functools.reduce(lambda outer, i: f"({outer} * n{i[1:]} + {i})", rest, first)
        return text.removeprefix("(").removesuffix(")")

    def value(self, node: Node, kind: str) -> str:
        """A name or literal of this type for a value, after the line that computes it, as far outside as possible."""
        key, name = (node.id, kind), f"v{node.id}"
        level = max((self.letters.index(str(letter)) + 1 for letter in node.dims if letter != 1), default=0)
        if node.op == "const":
            return literal(node.value, kind)
        if key in self._known:
            return self._known[key]
        if node.weak and not node.dims:
            name = self.numbers[key] = f"s{len(self.numbers)}"
            self._known[key] = f"({name} != 0)" if node.truth else name
            return self._known[key]
        if node.weak and not node.stepwise:
            column = self.columns[key] = f"c{len(self.columns)}"
            name, text = f"{column}_r", f"{column}[i_r]{' != 0' if node.truth else ''}"
        elif node.weak and kind != "double":
            name, text = f"{name}_{kind}", self.value(node, "double")
        elif node.op == "input":
            text = f"{self._arrays[node.id]}[{self._index(node.dims)}]"
        elif node.op in TEXTS and (node.truth or node.op not in LOGIC):
            args = [self.value(a, kind) for a in node.args]
            for k, a in enumerate(node.args):
                if node.op in LOGIC or (node.op == "where" and k == 0):
                    args[k] = args[k] if a.truth else f"({args[k]} != 0)"
                elif a.truth and not (node.op == "where" and node.truth):
                    args[k] = f"({kind}){args[k]}"
            text = TEXTS[node.op].format(*args, f="f" if kind == "float" else "")
        else:
            raise TraceError(f"uses {node.op}, and kernels treat every number alone")
        self._lines[level].append(f"const {'int' if node.truth else kind} {name} = {text};")
        self._known[key] = name
        return name

    @functools.cached_property
    def function(self) -> Callable[..., None]:
        return load(HEADER + self.text, self.name)

    def launch(self, sizes: Sequence[int], arrays: Sequence[Array], values: Mapping[str, Any]) -> None:
        """Run it on arrays of `sizes`, one length per letter; `arrays` end with those of `columns`."""
        x, y, z = (*sizes[:-4:-1], 1, 1)[:3]
        across = min(THREADS, 1 << max(0, x - 1).bit_length())
        block = (across, min(THREADS // across, 1 << max(0, y - 1).bit_length()), 1)
        grid = tuple([min(max(1, -(-n // b)), most) for n, b, most in zip((x, y, z), block, MAX_BLOCKS, strict=True)])
        numbers = [TYPES[kind](evaluate(self.graph.nodes[k], values)) for k, kind in self.numbers]
        self.function(grid, block, (*map(np.int64, sizes), *arrays, *numbers))


def _identifier(name: Any) -> str:
    return re.sub(r"\W", "_", str(name), flags=re.ASCII)


def literal(value: float, kind: str) -> str:
    """A number as text, rounded to its type, without another rounding."""
    with np.errstate(over="ignore"):
        value = float(TYPES[kind](value))
    digits = (
        abs(value).hex() + "f" * (kind == "float") if math.isfinite(value) else "NAN" if value != value else "INFINITY"
    )
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


class RuleStep:
    """One step of a traced update rule.

    Parameters
    ----------
    arrays : mapping of str to Node
        The gradients, iterates and states of the rule, all (R, d).
    results : sequence of Node
        New iterates and states.

    Raises
    ------
    TraceError
        If the rule combines parameters, or does something else for which kernels have no text.
    """

    def __init__(self, name: str, arrays: Mapping[str, Node], results: Sequence[Node], backend: Backend) -> None:
        nodes, self.backend = list(arrays.values()), backend
        if any(node.dims != ("r", "d") for node in (*nodes, *results)):
            raise TraceError(f"has arrays of shapes {[node.dims for node in (*nodes, *results)]}, not only (R, d)")
        self.kernel = Kernel(name, "rd", nodes, results, range(1, len(nodes)))
        self.swept = [node.value for node in nodes[0].graph.nodes if node.op == "column"]
        self.given: list[Any] = []  # columns of hyperparameters, and what the kernel gets of them
        self.columns: list[Array] = []

    def run(self, x: Array, g: Array, t: int, state: Sequence[Array], values: Mapping[str, Any]) -> Any:
        """Overwrite iterates and state, and return them; `values` are numbers and NumPy columns (R, 1)."""
        backend, runs = self.backend, x.shape[0]
        arrays = [backend.xp.ascontiguousarray(a, dtype=backend.dtype) for a in (g, x, *state)]
        if any(a.shape != x.shape for a in arrays):
            raise ValueError(f"a rule takes arrays of one shape, not {[a.shape for a in arrays]}")
        given = [values[name] for name in self.swept]
        if not self.given or any(a is not b for a, b in zip(self.given, given, strict=True)):
            weak = [(evaluate(self.kernel.graph.nodes[k], values), kind) for k, kind in self.kernel.columns]
            columns = [np.broadcast_to(np.asarray(value, TYPES[kind]), (runs, 1)) for value, kind in weak]
            self.columns = [backend.as_float64(c) if c.dtype == np.float64 else backend.asarray(c) for c in columns]
            self.given = given
        # without columns, all runs are one row
        self.kernel.launch(x.shape if self.columns else (1, math.prod(x.shape)), [*arrays, *self.columns], values)
        return arrays[1], tuple(arrays[2:])


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
    distinct = list({r.id: r for r in results}.values())
    kernel = Kernel(formula.__name__, whole, [n for n in nodes if n.op == "input"], distinct)

    def run(*values: Any) -> tuple[Array, ...]:
        sizes = dict(zip(whole, values[0].shape, strict=True))
        if any(
            getattr(v, "shape", ()) != tuple([sizes[a] for a in letters])
            for v, letters in zip(values, axes, strict=True)
        ):
            raise ValueError(
                f"{formula.__name__} takes arrays {', '.join(axes)}, not {[getattr(v, 'shape', ()) for v in values]}"
            )
        inputs = [backend.xp.ascontiguousarray(v, dtype=backend.dtype) for v, a in zip(values, axes, strict=True) if a]
        shape, numbers = tuple(sizes.values()), {str(k): float(v) for k, v in enumerate(values) if not axes[k]}
        outputs = {r.id: backend.xp.empty(shape, dtype=backend.dtype, device=backend.device) for r in distinct}
        kernel.launch(shape, [*inputs, *outputs.values()], numbers)
        return tuple([outputs[r.id] for r in results])

    return run
