"""Loops over the elements of arrays around an elementwise formula, as LLVM IR."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from optbench.compile.graph import Graph, Node, TraceError, call
from optbench.compile.llvm import ELEMENTARY, SIZES, Value, Writer, assemble, type_of
from optbench.compile.steps import PAIRWISE, reachable

VECTOR_BYTES = 64  # on all processors; several registers where they are shorter
FACTORS = {"double": 512, "float": 64}  # 1 + e <= 2 that are multiplied before a logarithm; products do not overflow
SUM = "sum"  # name of a function


class Result(NamedTuple):
    """One result of a formula."""

    reduction: str  # empty for none
    letters: str
    overwrites: bool  # whether the loops write it to the argument in the same position


def parse(indices: str) -> tuple[list[str], list[Result]]:
    """Indices of the arguments, and the results."""
    left, right = indices.split("->")
    arguments = [part.strip() for part in left.split(",")]
    results = []
    for k, part in enumerate(right.split(",")):
        *reduction, letters = part.split()
        results.append(Result("".join(reduction), letters, not reduction and arguments[k : k + 1] == [letters]))
    return arguments, results


class FormulaWriter(Writer):
    """Writes code that evaluates a formula for vectors of numbers.

    Attributes
    ----------
    graph : Graph
    lanes : int
        Numbers in a vector.
    known : dict
        Values of nodes, by their numbers.
    mask : Value
        Which numbers of a vector there are: all, except at the end of a row.
    """

    def __init__(self, name: str, precision: str) -> None:
        super().__init__(name, precision)
        self.graph, self.lanes = Graph(precision), VECTOR_BYTES // SIZES[self.kind]
        self.positions = itertools.count()  # of arguments of the function
        self.known: dict[int, Value] = {}
        self.mask = self.constant(1, "i1", self.lanes)

    def next(self, kind: str = "i64") -> Value:
        """The next argument of the function."""
        return self.argument(next(self.positions), kind)

    def array(self) -> Value:
        """The address of the numbers of the next argument, which follows the header that all Python objects have."""
        return self.load(self.address(self.next("ptr"), object.__basicsize__, "i8"), "ptr")

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Values that are computed inside are known inside only."""
        outer, self.known = self.known, dict(self.known)
        yield
        self.known = outer

    def value(self, node: Node) -> Value:
        """The value of a node, for a vector of numbers if it differs along the last axis."""
        if node.id not in self.known:
            self.known[node.id] = self.compute(node)
        return self.known[node.id]

    def compute(self, node: Node) -> Value:
        if node.op == "const":
            return self.constant(node.value, "double")
        if node.op in ELEMENTARY:
            return self.value(self.in_arithmetic(node))
        return self.operation(node, [self.value(a) for a in node.args])

    def log1p(self, value: Value) -> Value:
        """log1p of every number of a vector."""
        symbol = self.graph.input("product", ("r",))
        with self.scope():
            self.known[symbol.id] = value
            return self.value(self.graph.operation("log1p", symbol))

    @contextlib.contextmanager
    def end_of_row(self, length: Value) -> Iterator[Value]:
        """What is written inside runs for the part of a row that does not fill a vector; gives its position."""
        whole = self.integer("and", length, -self.lanes)
        with self.only_if(self.write(f"icmp ne {length}, {whole.name}", "i1")):
            everything, self.mask = self.mask, self.first(self.integer("sub", length, whole), range(self.lanes))
            yield whole
            self.mask = everything

    def first(self, count: Value, numbers: Iterable[int]) -> Value:
        """Which of some numbers are less than `count`."""
        vector = ", ".join(f"i64 {j}" for j in numbers)
        return self.write(f"icmp sgt {self.convert(count, 'i64', self.lanes)}, <{vector}>", "i1", self.lanes)

    def least(self, a: Value, b: Value) -> Value:
        """The smaller one of two integers."""
        return self.select(self.write(f"icmp slt {a}, {b.name}", "i1"), a, b)

    def vectors(self, length: Value) -> Iterator[Value]:
        """The positions of the vectors of a row. The body is written twice, for its end and for whole vectors."""
        with self.end_of_row(length) as whole:
            yield whole
        with self.loop(0, whole, self.lanes) as i:
            yield i

    def load_vector(self, place: Value) -> Value:
        vector = type_of(self.kind, self.lanes)
        types, arguments = f"ptr, i32, {self.mask.type}, {vector}", f"{place}, i32 {SIZES[self.kind]}, {self.mask}"
        return self.write(
            f"{self.masked('load', vector, types)}({arguments}, {vector} zeroinitializer)", self.kind, self.lanes
        )

    def store_vector(self, value: Value, place: Value) -> None:
        function = self.masked("store", "void", f"{value.type}, ptr, i32, {self.mask.type}")
        self.lines.append(f"  {function}({value}, {place}, i32 {SIZES[self.kind]}, {self.mask})")

    def masked(self, access: str, result: str, types: str) -> str:
        """The start of a call that loads or stores the numbers of a vector that there are."""
        name = f"llvm.masked.{access}.v{self.lanes}f{8 * SIZES[self.kind]}.p0"
        self.declarations.add(f"declare {result} @{name}({types})")
        return f"call {result} @{name}"

    def vector_in(self, place: Value) -> Value:
        """A whole vector in memory of the function."""
        return self.load(place, self.kind, self.lanes)

    def zeros(self) -> Value:
        """A vector of zeros, in memory of the function."""
        place = self.variable(self.kind, self.lanes)
        self.store(self.constant(0, self.kind, self.lanes), place)
        return place

    def increase(self, place: Value, more: Value) -> None:
        """Add to a vector in memory."""
        self.store(self.plus(self.vector_in(place), more), place)

    def multiply(self, place: Value, e: Value) -> None:
        """Multiply 1 + p by 1 + e, for p in memory: p + (p e + e), which keeps the digits of small numbers."""
        self.increase(place, self.intrinsic("fma", self.vector_in(place), e, e))


class LoopWriter(FormulaWriter):
    """Writes nested loops over the letters of a formula, the last one in vectors.

    A value is computed in the outermost loop that has all its letters. The terms of sums over the last letters are stored,
    and added up in NumPy's order. The arguments of the function are the sizes of the axes, the arguments of the formula,
    the results that do not overwrite one, and an array for these terms. Arrays are the addresses of Python's objects.

    Attributes
    ----------
    terms : dict
        By number of the result: the first of the letters over which it is a sum, and the memory of the terms.

    Raises
    ------
    TraceError
        If the formula cannot be traced.
    """

    def __init__(
        self, formula: Callable[..., Any], arguments: Sequence[str], results: Sequence[Result], precision: str
    ) -> None:
        super().__init__("loops", precision)
        self.whole, self.results = arguments[0], results
        self.letters = {f"a{k}": letters for k, letters in enumerate(arguments)}
        self.nodes = [self.graph.wrap(value) for value in call(formula, self.graph, *map(self.symbol, self.letters))]
        if len(self.nodes) != len(results):
            raise TraceError(f"returns {len(self.nodes)} numbers instead of {len(results)}")
        self.sizes = [self.next() for _ in self.whole]
        self.pointers = {a: self.array() if letters else self.next("double") for a, letters in self.letters.items()}
        self.outputs = [self.pointers[f"a{k}"] if r.overwrites else self.array() for k, r in enumerate(results)]
        self.terms: dict[int, tuple[int, Value]] = {}
        memory: Value | None = None
        for k, result in enumerate(results):
            lacks = self.whole[-1] not in result.letters
            if result.reduction not in (("sum", "log1p") if lacks else ("", "sum", "max")):
                raise TraceError(f"has a result {result.reduction} {result.letters}, which has no compiled form")
            if lacks and result.reduction == "sum":
                first = max([self.whole.index(letter) + 1 for letter in result.letters], default=0)
                memory = memory or self.array()
                self.terms[k] = first, memory
                memory = self.address(memory, self.product(first), self.kind)
        self.indices: list[Value] = []  # of the loops around

    def symbol(self, name: str) -> Node:
        """The node of an argument. The last axis is "r", over which graphs refuse reductions."""
        axes = zip([*map(str, range(len(self.whole) - 1)), "r"], self.whole, strict=True)
        dims = tuple([axis if letter in self.letters[name] else 1 for axis, letter in axes])
        return self.graph.input(name, dims) if self.letters[name] else self.graph.number(name)

    def module(self) -> str:
        """The IR of the loops, with the function for sums."""
        self.level(0)
        return assemble([self, SumWriter(self.graph.precision)] if self.terms else [self])

    def compute(self, node: Node) -> Value:
        if node.op == "number" and not node.args:
            return self.pointers[node.value]
        if node.op == "input":
            place = self.place(self.pointers[node.value], self.letters[node.value])
            return self.load_vector(place) if node.dims[-1] == "r" else self.load(place, self.kind)
        return super().compute(node)

    def place(self, base: Value, letters: str) -> Value:
        """The address of an element, or where no loop runs over a letter, of the first one."""
        position = self.constant(0, "i64")
        for k, (letter, size) in enumerate(zip(self.whole, self.sizes, strict=True)):
            if letter in letters:
                index = self.indices[k] if k < len(self.indices) else 0
                position = self.integer("add", self.integer("mul", position, size), index)
        return self.address(base, position, self.kind)

    def product(self, first: int) -> Value:
        """The size of the axes from `first` on."""
        return functools.reduce(lambda a, b: self.integer("mul", a, b), self.sizes[first:])

    def level(self, k: int) -> None:
        """The loop over letter k, with the loops inside."""
        with self.scope():
            for node in reachable(self.nodes):
                if max([j + 1 for j, axis in enumerate(node.dims) if axis != 1], default=0) == k:
                    self.value(node)
            if k == len(self.whole) - 1:
                self.row()
            else:
                with self.loop(0, self.sizes[k]) as i:
                    self.indices.append(i)
                    self.level(k + 1)
                    self.indices.pop()
        for j, (first, memory) in self.terms.items():
            if first == k:
                self.add(j, self.write(f"call {self.kind} @{SUM}({memory}, {self.product(first)})", self.kind))

    def add(self, k: int, value: Value) -> None:
        """Add to a number of a result."""
        place = self.place(self.outputs[k], self.results[k].letters)
        self.store(self.plus(self.load(place, self.kind), value), place)

    def row(self) -> None:
        """The loop over the last letter: first the part that does not fill a vector, then whole vectors.

        For sums of log1p(e), the 1 + e are multiplied, in groups before each logarithm. Products are stored less 1.
        """
        logs = [k for k, result in enumerate(self.results) if result.reduction == "log1p"]
        self.products = {k: self.zeros() for k in logs}
        totals = {k: self.zeros() for k in logs}
        with self.end_of_row(self.sizes[-1]) as whole:
            self.visit(whole)
        group = self.lanes * FACTORS[self.kind] if logs else 1 << 62
        with self.loop(0, self.integer("add", whole, 1), group) as start:  # at least once, for the part of a vector
            with self.loop(start, self.least(self.integer("add", start, group), whole), self.lanes) as i:
                self.visit(i)
            for k in logs:
                self.increase(totals[k], self.log1p(self.vector_in(self.products[k])))
                self.store(self.constant(0, self.kind, self.lanes), self.products[k])
        for k in logs:
            self.add(k, self.sum_of(self.vector_in(totals[k])))

    def visit(self, i: Value) -> None:
        """The results at numbers from i on. All are computed before arguments are overwritten."""
        self.indices.append(i)
        with self.scope():
            values = [self.convert(self.value(node), self.kind, self.lanes) for node in self.nodes]
        for k, (result, value) in enumerate(zip(self.results, values, strict=True)):
            if k in self.products:
                self.multiply(self.products[k], self.select(self.mask, value, self.constant(0, self.kind, self.lanes)))
                continue
            first, memory = self.terms.get(k, (0, self.outputs[k]))
            place = self.place(memory, self.whole[first:] if k in self.terms else result.letters)
            if result.reduction == "max":
                value = self.larger(self.load_vector(place), value)
            elif result.reduction == "sum" and k not in self.terms:
                value = self.plus(self.load_vector(place), value)
            self.store_vector(value, place)
        self.indices.pop()


class SumWriter(Writer):
    """Writes a function that adds up n numbers in the order of NumPy's pairwise summation."""

    def __init__(self, precision: str) -> None:
        super().__init__(SUM, precision)
        kind, n = self.kind, Value("%n", "i64")
        numbers, result = Value("%a", "ptr"), self.variable(kind)
        with self.only_if(self.write(f"icmp sgt {n}, {PAIRWISE}", "i1")):
            half = self.integer("and", self.integer("lshr", n, 1), -8)
            rest = self.address(numbers, half, kind)
            a = self.write(f"call {kind} @{SUM}({numbers}, {half})", kind)
            b = self.write(f"call {kind} @{SUM}({rest}, {self.integer('sub', n, half)})", kind)
            self.store(self.plus(a, b), result)
        with self.only_if(self.write(f"icmp sle {n}, {PAIRWISE}", "i1")):
            sums, whole = self.variable(kind, 8), self.integer("and", n, -8)
            self.store(self.constant(-0.0, kind, 8), sums)
            with self.loop(0, whole, 8) as i:
                more = self.load(self.address(numbers, i, kind), kind, 8)
                self.store(self.plus(self.load(sums, kind, 8), more), sums)
            self.store(self.sum_of(self.load(sums, kind, 8)), result)
            with self.loop(whole, n) as i:
                self.store(self.plus(self.load(result, kind), self.load(self.address(numbers, i, kind), kind)), result)
        self.total = self.load(result, kind)

    def text(self) -> str:
        body = "\n".join(["entry:", *self.variables, *self.lines, f"  ret {self.total}"])
        return f"define internal {self.kind} @{self.name}(ptr %a, i64 %n) {{\n{body}\n}}\n"
