"""Loops over the steps of a rule, with the oracle of a problem or with given gradients, as LLVM IR.

There are two layouts. With *runs* as lanes, a block of `lanes` runs advances together, and an array of a block has the
shape (d, lanes). With *numbers* as lanes, one run advances at a time, and vectors hold consecutive numbers of its row. For
small d everything of a step is unrolled and stays in registers.

Otherwise a step is a sequence of passes over the parameters. A pass computes the reductions and buffers that need nothing
but earlier ones; the last pass overwrites iterates and state. Sums are added in the order of NumPy's pairwise summation,
products with matrices as one chain of fused multiply-adds per output, whatever the layout.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optbench.compile import elementary
from optbench.compile.graph import FACTOR, REDUCTIONS, Graph, Node, T, TraceError, X
from optbench.compile.llvm import Value, Writer, assemble

STRIP = 8  # columns of a packed matrix that are stored together
PAIRWISE = 128  # numbers that NumPy sums without splitting them
MAX_UNROLLED = 16  # parameters

# positions in the arguments of the function `steps`; addresses of data, columns and arrays follow
FIRST_BLOCK, LAST_BLOCK, COUNT, TABLE, WIDTH, F, BEST, LEAST, SQUARES, ROWS, SNAPSHOTS, MARKS = range(12)
PADDED, SCRATCH, BEGIN, END, STRIDE, POINTERS = range(12, 18)
# and of the function `numbers`
N_FIRST, N_COUNT, N_VALUES, N_FACTORS, N_TABLE = range(5)

ELEMENTARY = {name: getattr(elementary, name) for name in ("exp", "log", "log1p", "tanh")}
At = tuple[Value | None, int]  # a position in an array: a register, if it changes in a loop, and an offset


@dataclass
class Steps:
    """What a step computes.

    Attributes
    ----------
    graph : Graph
    arrays : dict
        Iterates `X`, gradients `G` if they are given, and the states, in the order of the arguments.
    results : dict
        New values of the iterates and the states.
    f, g : Node or None
        Value and gradient of the oracle; None if gradients are given.
    dim : int or None
        Number of parameters; None if the code holds for any, for elementwise rules with given gradients.
    """

    graph: Graph
    arrays: dict[str, Node]
    results: dict[str, Node]
    f: Node | None = None
    g: Node | None = None
    dim: int | None = None
    columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, node in self.results.items():
            if node.dims != self.arrays[name].dims:
                raise TraceError(f"returns {name.strip('.')} of shape {node.dims} instead of {self.arrays[name].dims}")
        if self.f is not None and self.g is not None and (self.f.dims != ("r",) or self.g.dims != self.arrays[X].dims):
            raise TraceError(f"returns a value and a gradient of shapes {self.f.dims} and {self.g.dims}")
        self.columns = [n.value for n in self.graph.nodes if n.op == "column"]

    @property
    def squares(self) -> Node | None:
        """Squared norm of the gradient."""
        return None if self.g is None else self.graph.sum(self.graph.square(self.g), axis=-1)


class StepWriter(Writer):
    """Writes the function `steps`.

    Parameters
    ----------
    steps : Steps
    lanes : int
        Runs in a block, or 0 for numbers as lanes.
    vector_bytes : int
        Length of a vector register.
    """

    def __init__(self, steps: Steps, lanes: int, vector_bytes: int) -> None:
        super().__init__("steps", steps.graph.precision)
        self.steps, self.lanes = steps, lanes
        self.by_runs = lanes > 0
        self.unrolled = self.by_runs and steps.dim is not None and steps.dim <= MAX_UNROLLED
        self.vector = 0  # numbers in a vector of the pass that is being written
        self.tile = STRIP if vector_bytes == 64 else STRIP // 2
        self.scopes: list[dict[tuple[Any, ...], Value]] = [{}]
        self.slots: dict[int, Node] = {}  # weak numbers, in a table with one row per step
        self.bounds: tuple[int, int] | None = None  # of the loop that is being written
        self.buffers: dict[int, Value] = {}  # addresses of nodes that are stored
        self.scratch_numbers = 0
        self.write_function()

    # ---- values ----------------------------------------------------------------------------------------------------------

    @property
    def run_lanes(self) -> int:
        """Lanes of a value that is one number per run."""
        return self.lanes if self.lanes > 1 else 0

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Values that are computed inside are known inside only."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def value(self, node: Node, at: At = (None, 0)) -> Value:
        """The value of a node at a position of the parameter axis."""
        scalar = node.length is None
        vector = 0 if scalar else self.vector
        at = (None, 0) if scalar else at
        key = (node.id, at[0].name if at[0] is not None else None, at[1], vector)
        for scope in reversed(self.scopes):
            known: Value | None = scope.get(key)
            if known is not None:
                return known
        outer, self.vector = self.vector, vector
        result: Value = self.compute(node, at)
        self.scopes[-1][key], self.vector = result, outer
        return result

    def compute(self, node: Node, at: At) -> Value:
        op, args = node.op, node.args
        if op == "const":
            return self.constant(node.value, "double")
        if node.weak and "r" not in node.dims:
            slot = list(self.slots).index(node.id) if node.id in self.slots else len(self.slots)
            self.slots[node.id] = node
            return self.load(self.address(self.row_of_table, slot, "double"), "double")
        if op == "column":
            place = self.address(self.pointers[node.value], self.block, "double", self.run_lanes)
            return self.load(place, "double", self.run_lanes)
        if node.id in self.buffers:
            return self.element(self.buffers[node.id], at, by_runs=self.by_runs)
        if op == "input":
            return self.element(self.pointers[node.value], at, by_runs=self.by_runs)
        if op == "data":
            return self.element(self.pointers[node.value], at, by_runs=False)
        if op in ("slice", "item"):
            return self.value(args[0], (at[0], at[1] + node.value))
        if op == "expand":
            return self.value(args[0])
        if op == "concat":
            return self.part(node, at)
        if op in REDUCTIONS:
            parts = [self.value(args[0], (None, k)) for k in range(self.length_of(args[0]))]
            return self.reduced(node, parts)
        if op == "matmul":
            return self.product_element(node, at[1])
        if op in ELEMENTARY:
            precision = elementary.DOUBLE if node.weak or self.kind == "double" else elementary.SINGLE
            expanded: Node = ELEMENTARY[op](self.steps.graph, args[0], precision)
            return self.value(expanded, at)
        return self.operation(node, [self.value(a, at) for a in args])

    def element(self, base: Value, at: At, *, by_runs: bool) -> Value:
        """An element of an array, or consecutive ones if numbers are lanes."""
        lanes = self.run_lanes if by_runs else self.vector
        return self.load(self.place(base, at, by_runs=by_runs), self.kind, lanes)

    def place(self, base: Value, at: At, *, by_runs: bool) -> Value:
        i: Value | int = at[1] if at[0] is None else self.integer("add", at[0], at[1]) if at[1] else at[0]
        return self.address(base, i, self.kind, self.run_lanes if by_runs else 0)

    def part(self, node: Node, at: At) -> Value:
        """An element of joined arrays; loops are cut so that all positions of a loop are in the same array."""
        low, high = (0, 1) if at[0] is None else self.bounds or (0, 0)
        low, high = low + at[1], high + at[1]
        start = 0
        for a in node.args:
            length = self.length_of(a)
            if start <= low and high <= start + length:
                return self.value(a, (at[0], at[1] - start))
            start += length
        raise AssertionError("a loop crosses the end of a joined array")

    @staticmethod
    def length_of(node: Node) -> int:
        last = node.dims[-1]
        if not isinstance(last, int):
            raise TraceError("has an axis of unknown length")
        return last

    def reduced(self, node: Node, parts: Sequence[Value]) -> Value:
        """The reduction of the elements of a row, in NumPy's order."""
        if node.op not in ("sum", "dot"):
            return self.chain(node, parts)
        n = len(parts)
        if n < 8:
            return self.chain(node, parts)
        if n <= PAIRWISE:
            whole = n - n % 8
            sums = [self.chain(node, parts[j:whole:8]) for j in range(8)]
            return self.chain(node, [self.tree(node, sums), *parts[whole:]])
        half = n // 2 - n // 2 % 8
        return self.add(node, self.reduced(node, parts[:half]), self.reduced(node, parts[half:]))

    def add(self, node: Node, a: Value, b: Value) -> Value:
        if node.op in ("sum", "dot"):
            return self.write(f"fadd {a}, {b.name}", a.kind, a.lanes)
        return self.larger(a, b, "greater" if node.op == "max" else "less")

    def chain(self, node: Node, parts: Sequence[Value]) -> Value:
        result = parts[0]
        for part in parts[1:]:
            result = self.add(node, result, part)
        return result

    def tree(self, node: Node, parts: Sequence[Value]) -> Value:
        """((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))"""
        while len(parts) > 1:
            parts = [self.add(node, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    # ---- products with a matrix, which is stored in strips of 8 columns: (strips, K, 8) ----------------------------------

    def product_element(self, node: Node, column: int) -> Value:
        """One element of a product, unrolled."""
        points, matrix = node.args
        size = self.length_of(points)
        total = self.constant(0, self.kind, self.run_lanes)
        for k in range(size):
            position = (column // STRIP * size + k) * STRIP + column % STRIP
            h = self.load(self.address(self.pointers[matrix.value], position, self.kind), self.kind)
            total = self.intrinsic(
                "fma", self.value(points, (None, k)), self.convert(h, self.kind, self.run_lanes), total
            )
        return total

    def product(self, node: Node) -> None:
        """A whole product, from the buffer of the points to that of the result."""
        points, matrix = node.args
        size, strips = self.length_of(points), -(-self.length_of(node) // STRIP)
        source = self.buffers[points.id] if points.id in self.buffers else self.pointers[points.value]
        target, packed = self.buffers[node.id], self.pointers[matrix.value]
        lanes, together = (self.run_lanes, self.tile) if self.by_runs else (STRIP, min(4, strips))
        if self.by_runs:
            # each pass of the outer loop computes `together` columns for all lanes
            with self.loop(0, strips) as s:
                base = self.address(packed, self.integer("mul", s, size * STRIP), self.kind)
                for first in range(0, STRIP, together):
                    sums = [self.zero(lanes) for _ in range(together)]
                    with self.loop(0, size) as k:
                        e = self.load(self.address(source, k, self.kind, lanes), self.kind, lanes)
                        row = self.address(base, self.integer("mul", k, STRIP), self.kind)
                        for j, s_j in enumerate(sums):
                            h = self.load(self.address(row, first + j, self.kind), self.kind)
                            self.accumulate(s_j, self.convert(h, self.kind, lanes), e, lanes)
                    out = self.address(target, self.integer("mul", s, STRIP), self.kind, lanes)
                    for j, s_j in enumerate(sums):
                        place = self.address(out, first + j, self.kind, lanes)
                        self.store(self.load(s_j, self.kind, lanes), place)
            return
        for start, stop, width in ((0, strips - strips % together, together), (strips - strips % together, strips, 1)):
            with self.loop(start, stop, width) as s:
                sums = [self.zero(STRIP) for _ in range(width)]
                base = self.address(packed, self.integer("mul", s, size * STRIP), self.kind)
                with self.loop(0, size) as k:
                    e = self.convert(self.load(self.address(source, k, self.kind), self.kind), self.kind, STRIP)
                    row = self.address(base, self.integer("mul", k, STRIP), self.kind)
                    for j, s_j in enumerate(sums):
                        h = self.load(self.address(row, j * size * STRIP, self.kind), self.kind, STRIP)
                        self.accumulate(s_j, h, e, STRIP)
                out = self.address(target, self.integer("mul", s, STRIP), self.kind)
                for j, s_j in enumerate(sums):
                    self.store(self.load(s_j, self.kind, STRIP), self.address(out, j * STRIP, self.kind))

    def zero(self, lanes: int) -> Value:
        variable = self.variable(self.kind, lanes)
        self.store(self.constant(0, self.kind, lanes), variable)
        return variable

    def accumulate(self, total: Value, a: Value, b: Value, lanes: int) -> None:
        self.store(self.intrinsic("fma", a, b, self.load(total, self.kind, lanes)), total)

    # ---- the function ----------------------------------------------------------------------------------------------------

    def write_function(self) -> None:
        steps = self.steps
        with self.loop(self.argument(FIRST_BLOCK), self.argument(LAST_BLOCK)) as block, self.scope():
            self.block = block
            self.begin_block()
            squares, outputs = steps.squares, list(steps.results.values())
            outputs += [n for n in (steps.f, squares) if n is not None]
            nodes = reachable(outputs)
            least = self.variable("double", self.run_lanes)
            if steps.f is not None:
                self.store(self.load(self.place_of_run(LEAST, 0), "double", self.run_lanes), least)
            with self.loop(0, self.argument(COUNT)) as k, self.scope():
                row = self.integer("mul", k, self.argument(WIDTH))
                self.row_of_table = self.address(self.argument(TABLE, "ptr"), row, "double")
                users = [n for n in nodes if not n.weak]
                for n in [a for user in users for a in user.args if a.weak]:
                    self.value(n)  # before loops over numbers
                if steps.f is not None:
                    self.snapshot(k)
                if self.unrolled:
                    new = {
                        name: [self.value(node, (None, i)) for i in range(self.rows_of(node))]
                        for name, node in steps.results.items()
                    }
                else:
                    self.passes(nodes, squares)
                    new = {}
                if steps.f is not None and squares is not None:
                    f, square = (self.convert(self.value(n), "double", self.run_lanes) for n in (steps.f, squares))
                    self.store(f, self.place_of_run(F, k))
                    self.store(self.smaller(f, least), self.place_of_run(BEST, k))
                    row = self.load(self.address(self.argument(ROWS, "ptr"), k, "i64"), "i64")
                    self.store(square, self.place_of_run(SQUARES, row))
                for name, values in new.items():
                    for i, value in enumerate(values):
                        value = self.convert(value, self.kind, self.run_lanes)
                        self.store(value, self.place(self.pointers[name], (None, i), by_runs=True))
            if steps.f is not None:
                self.store(self.load(least, "double", self.run_lanes), self.place_of_run(LEAST, 0))
            self.end_block()

    def place_of_run(self, argument: int, row: Value | int) -> Value:
        """The place of a block of runs in a row of an array (rows, runs)."""
        position = self.integer("mul", self.argument(PADDED), row)
        start = self.address(self.argument(argument, "ptr"), position, "double")
        return self.address(start, self.block, "double", self.run_lanes)

    def smaller(self, f: Value, least: Value) -> Value:
        """The smallest finite value so far, which is kept."""
        before = self.load(least, f.kind, f.lanes)
        is_less = self.compare("less", f, before)
        is_finite = self.compare("greater", f, self.constant(-math.inf, f.kind, f.lanes))
        after = self.select(self.write(f"and {is_less}, {is_finite.name}", "i1", f.lanes), f, before)
        self.store(after, least)
        return after

    @staticmethod
    def rows_of(node: Node) -> int:
        last = node.dims[-1]
        return last if isinstance(last, int) else 1

    def begin_block(self) -> None:
        """Addresses of the arrays of a block; unrolled arrays are copied to variables, which become registers."""
        steps, self.pointers = self.steps, {}
        keys: list[Any] = [*range(len(steps.graph.data)), *steps.columns]
        for k, key in enumerate([*keys, *steps.arrays]):
            self.pointers[key] = self.argument(POINTERS + k, "ptr")
        self.memory: dict[str, Value] = {}
        for name, node in steps.arrays.items():
            count: Value | int = self.argument(STRIDE) if node.dims[-1] == "i" else self.rows_of(node)
            offset = self.integer("mul", self.block, count)
            self.pointers[name] = self.address(self.pointers[name], offset, self.kind, self.run_lanes)
            if self.unrolled:
                self.memory[name] = self.pointers[name]
                self.pointers[name] = self.variable(self.kind, self.run_lanes, self.rows_of(node))
                self.copy(self.memory[name], self.pointers[name], self.rows_of(node))

    def end_block(self) -> None:
        for name, memory in self.memory.items():
            if name in self.steps.results:
                self.copy(self.pointers[name], memory, self.rows_of(self.steps.arrays[name]))

    def copy(self, source: Value, target: Value, rows: int) -> None:
        for i in range(rows):
            value = self.load(self.address(source, i, self.kind, self.run_lanes), self.kind, self.run_lanes)
            self.store(value, self.address(target, i, self.kind, self.run_lanes))

    def snapshot(self, k: Value) -> None:
        """Copy the iterates where the step has a number of a snapshot, not -1."""
        size = self.rows_of(self.steps.arrays[X])
        number = self.load(self.address(self.argument(MARKS, "ptr"), k, "i64"), "i64")
        with self.only_if(self.write(f"icmp sge i64 {number.name}, 0", "i1")):
            run = self.integer("add", self.integer("mul", number, self.argument(PADDED)), 0)
            start = self.address(self.argument(SNAPSHOTS, "ptr"), self.integer("mul", run, size), self.kind)
            target = self.address(start, self.integer("mul", self.block, size), self.kind, self.run_lanes)
            if self.unrolled:
                self.copy(self.pointers[X], target, size)
            else:
                with self.loop(0, size) as i:
                    x = self.load(
                        self.address(self.pointers[X], i, self.kind, self.run_lanes), self.kind, self.run_lanes
                    )
                    self.store(x, self.address(target, i, self.kind, self.run_lanes))

    # ---- passes over the parameters --------------------------------------------------------------------------------------

    def passes(self, nodes: Sequence[Node], squares: Node | None) -> None:
        """Reductions and buffers in the order in which they can be computed, then the new iterates and states."""
        steps = self.steps
        stored = self.stored_nodes(nodes)
        kept = {n.id for n in stored}
        scratch = self.argument(SCRATCH, "ptr")
        for n in stored:
            self.buffers[n.id] = self.address(scratch, self.scratch_numbers, self.kind)
            self.scratch_numbers += -(-self.length_of(n) // 16) * 16 * max(1, self.lanes)
        available: dict[int, int] = {}
        for n in nodes:
            after = n.op in REDUCTIONS or n.id in kept
            available[n.id] = max((available[a.id] for a in n.args), default=0) + after
        results = list(steps.results.values())
        last = max([available[n.id] for n in results] + [available[n.id] - 1 for n in nodes if n.op in REDUCTIONS])
        for p in range(last + 1):
            for n in nodes:  # one number per run, which may read iterates that are overwritten later
                if n.length is None and not n.weak and available[n.id] == p:
                    self.value(n)
            now = [n for n in nodes if available[n.id] == p + 1 and (n.op in REDUCTIONS or n.id in kept)]
            for n in now:
                if n.id in kept:
                    self.fill(n)
            # what reads other positions of the iterates has to be computed before they are overwritten
            main, update = steps.arrays[X].dims[-1], p == last
            together: list[Node] = []
            alone: dict[int | str, list[Node]] = {}
            for n in now:
                if n.op in REDUCTIONS and update and n.args[0].dims[-1] == main and not moves(n.args[0], self.buffers):
                    together.append(n)
                elif n.op in REDUCTIONS:
                    alone.setdefault(n.args[0].dims[-1], []).append(n)
            for length, reductions in alone.items():
                self.element_loop(length, reductions, update=False)
            if update:
                self.element_loop(main, together, update=True)
        for name, node in steps.results.items():
            if node.length is None and steps.arrays[X].length is not None:  # one number per run
                value = self.convert(self.value(node), self.kind, self.run_lanes)
                self.store(value, self.place(self.pointers[name], (None, 0), by_runs=self.by_runs))

    def stored_nodes(self, nodes: Sequence[Node]) -> list[Node]:
        """Nodes that need memory: products and their points, joined arrays, and gradients that read other positions."""
        found: dict[int, Node] = {}
        for n in nodes:
            if n.op == "matmul":
                found[n.id] = n
                if n.args[0].op != "input":
                    found[n.args[0].id] = n.args[0]
        g = self.steps.g
        if g is not None and moves(g, found):
            found[g.id] = g
        for n in nodes:
            if n.op in REDUCTIONS and moves(n.args[0], found, joined_only=True):
                found[n.args[0].id] = n.args[0]
        for name, n in self.steps.results.items():
            if n.id not in found and moves(n, found):
                raise TraceError(f"computes {name.strip('.')} from other parameters")
        return [n for n in nodes if n.id in found]

    def fill(self, node: Node) -> None:
        """Compute a stored node at all positions."""
        buffer = self.buffers.pop(node.id)
        if node.op == "matmul":
            self.buffers[node.id] = buffer
            self.product(node)
            return
        length = self.length_of(node)
        cuts = sorted({0, length, *(cut for cut in cuts_of(node, self.buffers) if 0 < cut < length)})
        for low, high in itertools.pairwise(cuts):
            self.bounds = low, high
            for at, vector in self.positions(low, high):
                with self.scope():
                    self.vector = vector
                    lanes = self.run_lanes or vector
                    value = self.convert(self.value(node, at), self.kind, lanes)
                    self.store(value, self.place(buffer, at, by_runs=self.by_runs))
        self.bounds, self.vector = None, 0
        self.buffers[node.id] = buffer

    def positions(self, low: int | Value, high: int | Value, width: int = 16) -> Iterator[tuple[At, int]]:
        """Loops over positions; numbers as lanes are taken `width` at a time, then one by one."""
        if isinstance(low, int) and isinstance(high, int) and high - low <= 2:
            for i in range(low, high):
                yield (None, i), 0
            return
        middle = low
        if not self.by_runs:
            first, last = (v if isinstance(v, Value) else self.constant(v, "i64") for v in (low, high))
            middle = self.integer("sub", last, self.integer("srem", self.integer("sub", last, first), width))
            with self.loop(low, middle, width) as start:
                yield (start, 0), width
        with self.loop(middle, high) as position:
            yield (position, 0), 0

    def element_loop(self, length: int | str, reductions: Sequence[Node], *, update: bool) -> None:
        """One loop over positions that computes reductions, and overwrites iterates and states if `update`."""
        if not isinstance(length, int):  # of any length, without reductions
            for at, vector in self.positions(self.argument(BEGIN), self.argument(END)):
                with self.scope():
                    self.vector = vector
                    self.visit(at, [], update)
            self.vector = 0
            return
        if not reductions:
            for at, vector in self.positions(0, length):
                with self.scope():
                    self.vector = vector
                    self.visit(at, [], update)
            self.vector = 0
            return
        if length < 8:
            parts: list[list[Value]] = []
            for k in range(length):
                parts.append(self.visit((None, k), reductions, update))
            for k, n in enumerate(reductions):
                self.result(n, self.chain(n, [p[k] for p in parts]))
            return
        leaves = list(leaves_of(0, length))
        totals = [self.variable(self.kind, self.run_lanes, len(leaves)) for _ in reductions]
        starts = self.variable("i64", 0, 2 * len(leaves))
        for k, (low, high) in enumerate(leaves):
            for j, edge in enumerate((low, high - (high - low) % 8)):
                self.store(self.constant(edge, "i64"), self.address(starts, 2 * k + j, "i64"))
        count = 8 if self.by_runs else 1
        width = self.run_lanes if self.by_runs else 8
        sums = [[self.variable(self.kind, width) for _ in range(count)] for _ in reductions]
        with self.loop(0, len(leaves)) as leaf:
            low_place = self.address(starts, self.integer("mul", leaf, 2), "i64")
            low_value = self.load(low_place, "i64")
            high_value = self.load(self.address(low_place, 1, "i64"), "i64")
            for n, accumulators in zip(reductions, sums, strict=True):
                for s in accumulators:
                    self.store(self.constant(start_of(n), self.kind, width), s)
            with self.loop(low_value, high_value, 8) as i:
                for j in range(count):
                    with self.scope():
                        self.vector = 0 if self.by_runs else 8
                        values = self.visit((i, j), reductions, update)
                        for n, accumulators, value in zip(reductions, sums, values, strict=True):
                            total = self.load(accumulators[j], self.kind, width)
                            self.store(self.add(n, total, self.convert(value, self.kind, width)), accumulators[j])
            self.vector = 0
            for n, accumulators, total in zip(reductions, sums, totals, strict=True):
                values = [self.load(s, self.kind, width) for s in accumulators]
                if not self.by_runs:
                    values = [self.write(f"extractelement {values[0]}, i64 {j}", self.kind) for j in range(8)]
                self.store(self.tree(n, values), self.address(total, leaf, self.kind, self.run_lanes))
        rest: list[list[Value]] = []
        for last in range(length - length % 8, length):
            with self.scope():
                rest.append(self.visit((None, last), reductions, update))
        for k, (n, total) in enumerate(zip(reductions, totals, strict=True)):
            places = [self.address(total, m, self.kind, self.run_lanes) for m in range(len(leaves))]
            values = [self.load(place, self.kind, self.run_lanes) for place in places]
            values[-1] = self.chain(n, [values[-1], *[r[k] for r in rest]])
            self.result(n, self.joined(n, values, length))

    def result(self, node: Node, value: Value) -> None:
        self.scopes[-1][node.id, None, 0, 0] = value

    def joined(self, node: Node, values: Sequence[Value], length: int) -> Value:
        """The sum of the sums of all leaves, in NumPy's order."""
        if length <= PAIRWISE:
            return values[0]
        half = length // 2 - length // 2 % 8
        left = sum(1 for _ in leaves_of(0, half))
        parts = self.joined(node, values[:left], half), self.joined(node, values[left:], length - half)
        return self.add(node, *parts)

    def visit(self, at: At, reductions: Sequence[Node], update: bool) -> list[Value]:
        """The terms of the reductions at a position, after which iterates and states are overwritten there."""
        lanes = self.run_lanes if self.by_runs else self.vector
        terms = [self.value(n.args[0], at) for n in reductions]
        if update:
            new = {
                name: self.convert(self.value(node, at), self.kind, lanes)
                for name, node in self.steps.results.items()
                if node.dims == self.steps.arrays[X].dims
            }
            for name, value in new.items():
                self.store(value, self.place(self.pointers[name], at, by_runs=self.by_runs))
        return terms


def reachable(outputs: Iterable[Node]) -> list[Node]:
    """The nodes that outputs depend on, arguments before users."""
    found: dict[int, Node] = {}
    pending = list(outputs)
    while pending:
        node = pending.pop()
        if node.id not in found:
            found[node.id] = node
            pending += node.args
    return [found[key] for key in sorted(found)]


def moves(node: Node, stored: Mapping[int, Any], *, joined_only: bool = False) -> bool:
    """Whether the value of a node at a position reads other positions of arrays that are not stored."""
    if node.op == "concat" or (node.op in ("slice", "item") and node.args[0].length is not None and not joined_only):
        return True
    if node.op in REDUCTIONS or node.weak:
        return False
    return any(a.id not in stored and moves(a, stored, joined_only=joined_only) for a in node.args)


def cuts_of(node: Node, stored: dict[int, Value], offset: int = 0) -> set[int]:
    """Positions of a node at which joined arrays in its formula meet."""
    if node.id in stored or node.weak or node.op in REDUCTIONS or node.op in ("item", "input", "data"):
        return set()
    if node.op == "slice":
        return cuts_of(node.args[0], stored, offset + node.value)
    if node.op != "concat":
        return set().union(*(cuts_of(a, stored, offset) for a in node.args))
    cuts, start = set(), 0
    for a in node.args:
        cuts |= {start - offset} | cuts_of(a, stored, offset - start)
        start += StepWriter.length_of(a)
    return cuts


def leaves_of(low: int, high: int) -> Iterator[tuple[int, int]]:
    """The parts of a sum that NumPy adds up without splitting them."""
    if high - low <= PAIRWISE:
        yield low, high
        return
    half = (high - low) // 2
    half -= half % 8
    yield from leaves_of(low, low + half)
    yield from leaves_of(low + half, high)


def start_of(node: Node) -> float:
    """A start of a reduction that changes nothing."""
    return {"sum": -0.0, "dot": -0.0, "max": -float("inf"), "min": float("inf")}[node.op]


def write_numbers(slots: Sequence[Node], names: Sequence[str], precision: str) -> Writer:
    """The function `numbers`: a table of weak numbers with one row per step."""
    w = Writer("numbers", precision)
    first, count = w.argument(N_FIRST), w.argument(N_COUNT)
    values, factors, table = (w.argument(k, "ptr") for k in (N_VALUES, N_FACTORS, N_TABLE))
    with w.loop(0, count) as k:
        t = w.write(f"sitofp {w.integer('add', w.integer('add', first, k), 1)} to double", "double")
        known: dict[int, Value] = {}
        for n in reachable(slots):
            if n.op == "const":
                known[n.id] = w.constant(n.value, "double")
            elif n.op == "number" and n.value == T:
                known[n.id] = t
            elif n.op == "number" and n.value == FACTOR:
                known[n.id] = w.load(w.address(factors, k, "double"), "double")
            elif n.op == "number":
                known[n.id] = w.load(w.address(values, names.index(n.value), "double"), "double")
            else:
                known[n.id] = w.operation(n, [known[a.id] for a in n.args])
        row = w.address(table, w.integer("mul", k, len(slots)), "double")
        for slot, n in enumerate(slots):
            w.store(w.convert(known[n.id], "double", 0), w.address(row, slot, "double"))
    return w


def write_module(steps: Steps, names: Sequence[str], lanes: int, vector_bytes: int) -> tuple[str, int, int]:
    """The IR of the functions `steps` and `numbers`, the width of the table, and numbers of scratch memory.

    Parameters
    ----------
    names : sequence of str
        Hyperparameters that are numbers, in the order of the values.
    lanes : int
        Runs in a block, or 0 for numbers as lanes.
    """
    outputs = [n.id for n in (*steps.arrays.values(), *steps.results.values(), steps.f, steps.g) if n is not None]
    key = (steps.graph.signature, tuple(outputs), tuple(names), lanes, vector_bytes)
    if key not in _modules:
        writer = StepWriter(steps, lanes, vector_bytes)
        numbers = write_numbers(list(writer.slots.values()), names, steps.graph.precision)
        _modules[key] = assemble([writer, numbers]), len(writer.slots), writer.scratch_numbers
    return _modules[key]


_modules: dict[Any, tuple[str, int, int]] = {}
