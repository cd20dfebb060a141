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
import functools
import itertools
import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optbench.compile.graph import FACTOR, REDUCTIONS, Graph, Node, T, TraceError, X
from optbench.compile.llvm import ELEMENTARY, Value, Writer, assemble

STRIP = 8  # columns of a packed matrix that are stored together
PAIRWISE = 128  # numbers that NumPy sums without splitting them
MAX_UNROLLED = 16  # parameters

# positions in the arguments of the function `steps`; addresses of data, columns and arrays follow
FIRST_BLOCK, LAST_BLOCK, COUNT, TABLE, WIDTH, F, BEST, LEAST, SQUARES, ROWS, SNAPSHOTS, MARKS = range(12)
PADDED, SCRATCH, BEGIN, END, STRIDE, POINTERS = range(12, 18)
# and of the function `numbers`
N_FIRST, N_COUNT, N_VALUES, N_FACTORS, N_TABLE = range(5)

START = {"sum": -0.0, "dot": -0.0, "max": -math.inf, "min": math.inf}  # of reductions; it changes nothing
NAMES = ("steps", "numbers")  # functions of the machine code
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

    def __post_init__(self) -> None:
        for name, node in self.results.items():
            if node.dims != self.arrays[name].dims:
                raise TraceError(f"returns {name.strip('.')} of shape {node.dims} instead of {self.arrays[name].dims}")
        if self.f is not None and self.g is not None and (self.f.dims != ("r",) or self.g.dims != self.arrays[X].dims):
            raise TraceError(f"returns a value and a gradient of shapes {self.f.dims} and {self.g.dims}")
        self.columns: list[str] = [n.value for n in self.graph.nodes if n.op == "column"]
        # squared norm of the gradient
        self.squares = None if self.g is None else self.graph.sum(self.graph.square(self.g), axis=-1)


class StepWriter(Writer):
    """Writes the function `steps`, for blocks of `lanes` runs, or if that is 0, with numbers as lanes."""

    def __init__(self, steps: Steps, lanes: int, vector_bytes: int) -> None:
        super().__init__("steps", steps.graph.precision)
        self.steps, self.by_runs = steps, lanes > 0
        self.lanes = lanes if lanes > 1 else 0  # of a value that is one number per run
        self.unrolled = self.by_runs and steps.dim is not None and steps.dim <= MAX_UNROLLED
        self.vector = 0  # numbers in a vector of the loop that is being written
        self.tile = STRIP if vector_bytes == 64 else STRIP // 2
        self.known: dict[tuple[int, At, int], Value] = {}  # by node, position and vector
        self.slots: dict[int, Node] = {}  # weak numbers, in a table with one row per step
        self.bounds = 0, 0  # of the loop that is being written
        self.buffers: dict[int, Value] = {}  # addresses of nodes that are stored
        self.scratch_numbers = 0
        self.write_function()

    # ---- values ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def scope(self, vector: int = 0) -> Iterator[None]:
        """Values that are computed inside, in vectors of this length, are known inside only."""
        outer = self.known, self.vector
        self.known, self.vector = self.known.copy(), vector
        yield
        self.known, self.vector = outer

    def value(self, node: Node, at: At = (None, 0)) -> Value:
        """The value of a node at a position of the parameter axis."""
        outer = self.vector
        if node.length is None:
            at, self.vector = (None, 0), 0
        key = node.id, at, self.vector
        if key not in self.known:
            self.known[key] = self.compute(node, at)
        self.vector = outer
        return self.known[key]

    def compute(self, node: Node, at: At) -> Value:
        op, args, stored = node.op, node.args, self.buffers.get(node.id)
        if op == "const":
            return self.constant(node.value, "double")
        if node.weak and "r" not in node.dims:
            self.slots[node.id] = node
            return self.load_at(self.row_of_table, list(self.slots).index(node.id), "double")
        if op == "column":
            return self.load_at(self.pointers[node.value], self.block, "double", self.lanes)
        if op == "input" or stored is not None:
            place = self.place(stored or self.pointers[node.value], at, self.lanes)
            return self.load(place, self.kind, self.lanes or self.vector)
        if op == "data":
            return self.load(self.place(self.pointers[node.value], at, 0), self.kind, self.vector)
        if op in ("slice", "item"):
            return self.value(args[0], (at[0], at[1] + node.value))
        if op == "expand":
            return self.value(args[0])
        if op == "concat":
            return self.part(node, at)
        if op in REDUCTIONS:
            return self.reduced(node, [self.value(args[0], (None, k)) for k in range(length_of(args[0]))])
        if op == "matmul":
            return self.product_element(node, at[1])
        if op in ELEMENTARY:
            return self.value(self.in_arithmetic(node), at)
        return self.operation(node, [self.value(a, at) for a in args])

    def place(self, base: Value, at: At, lanes: int) -> Value:
        """The address of a position of an array of numbers, or of vectors of runs."""
        start, offset = at
        return self.address(base, self.integer("add", start, offset) if start else offset, self.kind, lanes)

    def part(self, node: Node, at: At) -> Value:
        """An element of joined arrays; loops are cut so that all positions of a loop are in the same array."""
        low, high = (0, 1) if at[0] is None else self.bounds
        start = 0
        for a in node.args:
            end = start + length_of(a)
            if start <= low + at[1] and high + at[1] <= end:
                return self.value(a, (at[0], at[1] - start))
            start = end
        raise AssertionError("a loop crosses the end of a joined array")

    # ---- reductions, in the order of NumPy -------------------------------------------------------------------------------

    def add(self, node: Node, a: Value, b: Value) -> Value:
        """Two terms of a reduction as one."""
        if node.op in ("sum", "dot"):
            return self.plus(a, b)
        return self.larger(a, b, "greater" if node.op == "max" else "less")

    def chain(self, node: Node, terms: Iterable[Value]) -> Value:
        return functools.reduce(functools.partial(self.add, node), terms)

    def tree(self, node: Node, terms: Sequence[Value]) -> Sequence[Value]:
        """((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)) as the only element, or none of no terms."""
        while len(terms) > 1:
            terms = [self.add(node, a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)]
        return terms

    def reduced(self, node: Node, terms: Sequence[Value]) -> Value:
        """The reduction of all elements of a row."""
        sums = []
        for start, stop in itertools.pairwise(leaves_of(0, len(terms))):
            rest = stop - (stop - start) % 8
            whole = [self.chain(node, terms[start + j : rest : 8]) for j in range(8 if start < rest else 0)]
            sums.append(self.chain(node, [*self.tree(node, whole), *terms[rest:stop]]))
        return self.joined(node, iter(sums), len(terms))

    def joined(self, node: Node, sums: Iterator[Value], length: int) -> Value:
        """The reduction of a row from those of its leaves."""
        if length <= PAIRWISE:
            return next(sums)
        left = self.joined(node, sums, half_of(length))
        return self.add(node, left, self.joined(node, sums, length - half_of(length)))

    # ---- products with a matrix, which is stored in strips of 8 columns: (strips, K, 8) ----------------------------------

    def product_element(self, node: Node, column: int) -> Value:
        """One element of a product, unrolled."""
        points, matrix = node.args
        size, total = length_of(points), self.constant(0, self.kind, self.lanes)
        for k in range(size):
            position = (column // STRIP * size + k) * STRIP + column % STRIP
            h = self.convert(self.load_at(self.pointers[matrix.value], position, self.kind), self.kind, self.lanes)
            total = self.intrinsic("fma", self.value(points, (None, k)), h, total)
        return total

    def product(self, node: Node) -> None:
        """A whole product, from the buffer of the points to that of the result."""
        points, matrix = node.args
        size, strips = length_of(points), -(-length_of(node) // STRIP)
        source = self.buffers.get(points.id) or self.pointers[points.value]
        # strips of the outer loop, and the columns that are computed together, as they start from the strip
        if self.by_runs:
            width, vector, stride = self.lanes, 0, 1
            loops = [(0, strips, 1, [range(j, j + self.tile) for j in range(0, STRIP, self.tile)])]
        else:
            width, vector, stride, together = STRIP, STRIP, size, min(4, strips)
            whole = strips - strips % together
            loops = [(0, whole, together, [range(0, together * STRIP, STRIP)]), (whole, strips, 1, [range(1)])]
        for start, stop, step, groups in loops:
            with self.loop(start, stop, step) as s:
                strip = self.address(self.pointers[matrix.value], self.integer("mul", s, size * STRIP), self.kind)
                target = self.address(self.buffers[node.id], self.integer("mul", s, STRIP), self.kind, self.lanes)
                for columns in groups:
                    sums = [(column, self.variable(self.kind, width)) for column in columns]
                    for _, total in sums:
                        self.store(self.constant(0, self.kind, width), total)
                    with self.loop(0, size) as k:
                        e = self.convert(self.load_at(source, k, self.kind, self.lanes), self.kind, width)
                        row = self.address(strip, self.integer("mul", k, STRIP), self.kind)
                        for column, total in sums:
                            place = self.address(row, column * stride, self.kind)
                            h = self.convert(self.load(place, self.kind, vector), self.kind, width)
                            self.store(self.intrinsic("fma", h, e, self.load(total, self.kind, width)), total)
                    for column, total in sums:
                        place = self.address(target, column, self.kind, self.lanes)
                        self.store(self.load(total, self.kind, width), place)

    # ---- the function ----------------------------------------------------------------------------------------------------

    def write_function(self) -> None:
        steps = self.steps
        oracle = [n for n in (steps.f, steps.squares) if n is not None]
        nodes = reachable([*steps.results.values(), *oracle])
        with self.loop(self.argument(FIRST_BLOCK), self.argument(LAST_BLOCK)) as self.block, self.scope():
            names: list[Any] = [*range(len(steps.graph.data)), *steps.columns, *steps.arrays]
            self.pointers = {name: self.argument(POINTERS + k, "ptr") for k, name in enumerate(names)}
            memory: dict[str, Value] = {}
            for name, node in steps.arrays.items():
                rows = self.argument(STRIDE) if node.dims[-1] == "i" else length_of(node)
                offset = self.integer("mul", self.block, rows)
                self.pointers[name] = self.address(self.pointers[name], offset, self.kind, self.lanes)
                if self.unrolled:  # in variables, which become registers
                    memory[name] = self.pointers[name]
                    self.pointers[name] = self.variable(self.kind, self.lanes, length_of(node))
                    self.copy(memory[name], self.pointers[name], length_of(node))
            self.least = self.variable("double", self.lanes)
            if oracle:
                self.store(self.load(self.place_of_run(LEAST, 0), "double", self.lanes), self.least)
            with self.loop(0, self.argument(COUNT)) as k, self.scope():
                row = self.integer("mul", k, self.argument(WIDTH))
                self.row_of_table = self.address(self.argument(TABLE, "ptr"), row, "double")
                for n in [a for user in nodes if not user.weak for a in user.args if a.weak]:
                    self.value(n)  # before loops over numbers
                if oracle:
                    self.snapshot(k)
                if not self.unrolled:
                    self.passes(nodes)
                # new values before the record of the old ones: other orders are up to a quarter slower
                counts = [(key, length_of(steps.arrays[key])) for key in steps.results] if self.unrolled else []
                new = self.new_values([(key, (None, i)) for key, length in counts for i in range(length)])
                if oracle:
                    self.record(k, *oracle)
                for value, target in new:
                    self.store(value, target)
            if oracle:
                self.store(self.load(self.least, "double", self.lanes), self.place_of_run(LEAST, 0))
            for name, place in memory.items():
                if name in steps.results:
                    self.copy(self.pointers[name], place, length_of(steps.arrays[name]))

    def copy(self, source: Value, target: Value, rows: int) -> None:
        """Copy the rows of a block."""
        with self.loop(0, rows) as i:
            self.store_at(self.load_at(source, i, self.kind, self.lanes), target, i)

    def snapshot(self, k: Value) -> None:
        """Copy the iterates where the step has a number of a snapshot, not -1."""
        size, number = length_of(self.steps.arrays[X]), self.load_at(self.argument(MARKS, "ptr"), k, "i64")
        with self.only_if(self.write(f"icmp sge i64 {number.name}, 0", "i1")):
            numbers = self.integer("mul", self.integer("mul", number, self.argument(PADDED)), size)
            start = self.address(self.argument(SNAPSHOTS, "ptr"), numbers, self.kind)
            target = self.address(start, self.integer("mul", self.block, size), self.kind, self.lanes)
            self.copy(self.pointers[X], target, size)

    def record(self, k: Value, f: Node, squares: Node) -> None:
        """The value, the smallest finite one so far, and the squared norm of the gradient."""
        value, square = (self.convert(self.value(n), "double", self.lanes) for n in (f, squares))
        before = self.load(self.least, "double", self.lanes)
        is_less = self.compare("less", value, before)
        is_finite = self.compare("greater", value, self.constant(-math.inf, "double", self.lanes))
        best = self.select(self.write(f"and {is_less}, {is_finite.name}", "i1", self.lanes), value, before)
        row = self.load_at(self.argument(ROWS, "ptr"), k, "i64")
        self.store(best, self.least)
        for result, argument, position in ((value, F, k), (best, BEST, k), (square, SQUARES, row)):
            self.store(result, self.place_of_run(argument, position))

    def place_of_run(self, argument: int, row: Value | int) -> Value:
        """The place of a block of runs in a row of an array (rows, runs)."""
        start = self.address(self.argument(argument, "ptr"), self.integer("mul", self.argument(PADDED), row), "double")
        return self.address(start, self.block, "double", self.lanes)

    # ---- passes over the parameters --------------------------------------------------------------------------------------

    def new_values(self, positions: Iterable[tuple[str, At]]) -> list[tuple[Value, Value]]:
        """Elements of the next iterates and states, and their places."""
        new = []
        for name, at in positions:
            value = self.convert(self.value(self.steps.results[name], at), self.kind, self.lanes or self.vector)
            new.append((value, self.place(self.pointers[name], at, self.lanes)))
        return new

    def overwrite(self, positions: Iterable[tuple[str, At]]) -> None:
        """Replace elements of iterates and states, after all of them are computed."""
        for value, place in self.new_values(positions):
            self.store(value, place)

    def passes(self, nodes: Sequence[Node]) -> None:
        """Reductions and buffers in the order in which they can be computed, then the new iterates and states."""
        steps, main = self.steps, self.steps.arrays[X].dims
        stored = self.stored_nodes(nodes)
        scratch = self.argument(SCRATCH, "ptr")
        for n in nodes:
            if n.id in stored:
                self.buffers[n.id] = self.address(scratch, self.scratch_numbers, self.kind)
                self.scratch_numbers += -(-length_of(n) // 16) * 16 * max(1, self.lanes)
        ready: dict[int, int] = {}  # the pass before which a node is known
        for n in nodes:
            ready[n.id] = max((ready[a.id] for a in n.args), default=0) + (n.op in REDUCTIONS or n.id in stored)
        needed = [ready[n.id] for n in steps.results.values()]
        last = max(needed + [ready[n.id] - 1 for n in nodes if n.op in REDUCTIONS])
        for p in range(last + 1):
            for n in nodes:  # one number per run, which may read iterates that are overwritten later
                if n.length is None and not n.weak and ready[n.id] == p:
                    self.value(n)
            # what reads other positions of the iterates has to be computed before they are overwritten
            groups: dict[tuple[bool, int | str], list[Node]] = {(True, main[-1]): []} if p == last else {}
            for n in nodes:
                if ready[n.id] == p + 1 and n.id in stored:
                    self.fill(n)
                if ready[n.id] == p + 1 and n.op in REDUCTIONS:
                    length = n.args[0].dims[-1]
                    update = p == last and length == main[-1] and not moves(n.args[0], self.buffers)
                    groups.setdefault((update, length), []).append(n)
            for (update, length), reductions in sorted(groups.items(), key=lambda group: group[0][0]):
                self.element_loop(length, reductions, update)
        self.overwrite([(name, (None, 0)) for name, node in steps.results.items() if node.dims != main])

    def stored_nodes(self, nodes: Sequence[Node]) -> set[int]:
        """Nodes that need memory: products and their points, joined arrays, and gradients that read other positions."""
        found = {m.id for n in nodes if n.op == "matmul" for m in (n, n.args[0]) if m.op != "input"}
        if self.steps.g is not None and moves(self.steps.g, found):
            found.add(self.steps.g.id)
        for n in nodes:
            if n.op in REDUCTIONS and cuts_of(n.args[0], found):
                found.add(n.args[0].id)
        for name, n in self.steps.results.items():
            if n.id not in found and moves(n, found):
                raise TraceError(f"computes {name.strip('.')} from other parameters")
        return found

    def fill(self, node: Node) -> None:
        """Compute a stored node at all positions."""
        if node.op == "matmul":
            self.product(node)
            return
        buffer, length = self.buffers.pop(node.id), length_of(node)
        cuts = sorted(cut for cut in cuts_of(node, self.buffers) if 0 < cut < length)
        for self.bounds in itertools.pairwise([0, *cuts, length]):
            for at in self.positions(*self.bounds):
                value = self.convert(self.value(node, at), self.kind, self.lanes or self.vector)
                self.store(value, self.place(buffer, at, self.lanes))
        self.buffers[node.id] = buffer

    def positions(self, low: Value | int, high: Value | int, width: int = 16) -> Iterator[At]:
        """Loops over positions; numbers as lanes are taken `width` at a time, then one by one."""
        if isinstance(low, int) and isinstance(high, int) and high - low <= 2:
            for i in range(low, high):
                with self.scope():
                    yield None, i
            return
        middle = low
        if not self.by_runs:
            middle = self.integer("sub", high, self.integer("srem", self.integer("sub", high, low), width))
            with self.loop(low, middle, width) as start, self.scope(width):
                yield start, 0
        with self.loop(middle, high) as position, self.scope():
            yield position, 0

    def element_loop(self, length: int | str, reductions: Sequence[Node], update: bool) -> None:
        """One loop over positions that computes reductions, and overwrites iterates and states if `update`."""
        if not reductions or not isinstance(length, int):
            edges = (0, length) if isinstance(length, int) else (self.argument(BEGIN), self.argument(END))
            for at in self.positions(*edges):
                self.visit(at, [], update)
            return
        sums = self.sums_of_leaves(length, reductions, update) if length >= 8 else [[] for _ in reductions]
        rest = []
        for k in range(length - length % 8, length):
            with self.scope():
                rest.append(self.visit((None, k), reductions, update))
        for j, (n, values) in enumerate(zip(reductions, sums, strict=True)):
            values[-1:] = [self.chain(n, [*values[-1:], *(terms[j] for terms in rest)])]
            self.known[n.id, (None, 0), 0] = self.joined(n, iter(values), length)

    def sums_of_leaves(self, length: int, reductions: Sequence[Node], update: bool) -> list[list[Value]]:
        """The reductions of all leaves, without the elements at the end that are not eight."""
        edges = leaves_of(0, length)
        edges[-1] -= length % 8
        table = self.variable("i64", 0, len(edges))
        for k, edge in enumerate(edges):
            self.store_at(self.constant(edge, "i64"), table, k)
        # eight partial sums, in one vector if numbers are lanes
        count, width = (8, self.lanes) if self.by_runs else (1, 8)
        totals = [self.variable(self.kind, self.lanes, len(edges) - 1) for _ in reductions]
        partial = [self.variable(self.kind, width, count) for _ in reductions]
        with self.loop(0, len(edges) - 1) as leaf:
            for n, sums in zip(reductions, partial, strict=True):
                for j in range(count):
                    self.store_at(self.constant(START[n.op], self.kind, width), sums, j)
            place = self.address(table, leaf, "i64")
            with self.loop(self.load(place, "i64"), self.load_at(place, 1, "i64"), 8) as i:
                for j in range(count):
                    with self.scope(0 if self.by_runs else 8):
                        terms = self.visit((i, j), reductions, update)
                        for n, sums, term in zip(reductions, partial, terms, strict=True):
                            before, term = self.load_at(sums, j, self.kind, width), self.convert(term, self.kind, width)
                            self.store_at(self.add(n, before, term), sums, j)
            for n, sums, total in zip(reductions, partial, totals, strict=True):
                eight = [self.load_at(sums, j, self.kind, self.lanes) for j in range(8)]
                self.store_at(self.tree(n, eight)[0], total, leaf)
        return [[self.load_at(total, k, self.kind, self.lanes) for k in range(len(edges) - 1)] for total in totals]

    def visit(self, at: At, reductions: Sequence[Node], update: bool) -> list[Value]:
        """The terms of the reductions at a position, after which iterates and states are overwritten there."""
        terms = [self.value(n.args[0], at) for n in reductions]
        if update:
            main = self.steps.arrays[X].dims
            self.overwrite([(name, at) for name, node in self.steps.results.items() if node.dims == main])
        return terms


def length_of(node: Node) -> int:
    last = node.dims[-1]
    if not isinstance(last, int):
        raise TraceError("has an axis of unknown length")
    return last


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


def moves(node: Node, stored: Container[int]) -> bool:
    """Whether the value of a node at a position reads other positions of arrays that are not stored."""
    if node.op == "concat" or (node.op in ("slice", "item") and node.args[0].length is not None):
        return True
    if node.op in REDUCTIONS or node.weak:
        return False
    return any(a.id not in stored and moves(a, stored) for a in node.args)


def cuts_of(node: Node, stored: Container[int], offset: int = 0) -> set[int]:
    """Positions of a node at which joined arrays in its formula meet."""
    if node.id in stored or node.weak or node.op in REDUCTIONS or node.op == "item":
        return set()
    if node.op == "slice":
        return cuts_of(node.args[0], stored, offset + node.value)
    cuts, start = set(), 0
    for a in node.args:
        cuts |= cuts_of(a, stored, offset - start)
        if node.op == "concat":
            cuts.add(start - offset)
            start += length_of(a)
    return cuts


def half_of(length: int) -> int:
    """Where NumPy splits a sum."""
    return length // 16 * 8


def leaves_of(low: int, high: int) -> list[int]:
    """The edges of the parts of a sum that NumPy adds up without splitting them."""
    if high - low <= PAIRWISE:
        return [low, high]
    middle = low + half_of(high - low)
    return leaves_of(low, middle)[:-1] + leaves_of(middle, high)


def write_numbers(slots: Sequence[Node], names: Sequence[str], precision: str) -> Writer:
    """The function `numbers`: a table of weak numbers with one row per step."""
    w = Writer("numbers", precision)
    first, count = w.argument(N_FIRST), w.argument(N_COUNT)
    values, factors, table = (w.argument(k, "ptr") for k in (N_VALUES, N_FACTORS, N_TABLE))
    with w.loop(0, count) as k:
        numbers = {name: w.load_at(values, j, "double") for j, name in enumerate(names)}
        numbers[FACTOR] = w.load_at(factors, k, "double")
        numbers[T] = w.write(f"sitofp {w.integer('add', w.integer('add', first, k), 1)} to double", "double")
        known: dict[int, Value] = {}
        for n in reachable(slots):
            if n.op == "const":
                known[n.id] = w.constant(n.value, "double")
            else:
                known[n.id] = numbers[n.value] if n.op == "number" else w.operation(n, [known[a.id] for a in n.args])
        row = w.address(table, w.integer("mul", k, len(slots)), "double")
        for slot, n in enumerate(slots):
            w.store_at(w.convert(known[n.id], "double", 0), row, slot)
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
