"""Graphs as LLVM IR, and IR as machine code.

`Writer` writes the IR of one function as text: loops, loads and stores, and the operations of a graph. All arithmetic is
strict IEEE arithmetic, so machine code gives the same digits as NumPy for all operations except those in `graph.INEXACT`.
llvmlite compiles the text; object code is kept in `cache`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from optbench.compile import cache, elementary
from optbench.compile.graph import CHOICES, Node, TraceError

SIZES = {"double": 8, "float": 4, "ptr": 8, "i64": 8, "i32": 4, "i1": 1}
KINDS = {"float64": "double", "float32": "float"}
ELEMENTARY = ("exp", "log", "log1p", "tanh")
ARITHMETIC = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg"}
INTRINSICS = {"sqrt": "sqrt", "abs": "fabs", "fma": "fma"}
COMPARISONS = {"less": "olt", "less_equal": "ole", "greater": "ogt", "greater_equal": "oge"}
COMPARISONS |= {"equal": "oeq", "not_equal": "une"}
INTEGERS = {"add": "add", "subtract": "sub", "shift_left": "shl", "shift_right": "ashr"}
INTEGERS |= {"bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "xor"}


class Value(NamedTuple):
    """A value of the IR: its name or constant, the kind of its elements, and their number (0 for a scalar)."""

    name: str
    kind: str
    lanes: int = 0

    @property
    def type(self) -> str:
        return type_of(self.kind, self.lanes)

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


def type_of(kind: str, lanes: int) -> str:
    """The type of a scalar or vector in LLVM's notation."""
    return f"<{lanes} x {kind}>" if lanes else kind


def name_of(value: Value | int) -> str:
    """An integer in LLVM's notation."""
    return value.name if isinstance(value, Value) else str(value)


class Writer:
    """Writes one function ``void NAME(ptr arguments)``, whose arguments are an array of 64-bit integers and addresses.

    Parameters
    ----------
    name : str
    precision : str
        Precision of arrays.
    """

    def __init__(self, name: str, precision: str) -> None:
        self.name, self.kind = name, KINDS[precision]
        self.variables: list[str] = []  # of the entry block, where LLVM turns them into registers
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.count = 0

    def text(self) -> str:
        body = "\n".join(["entry:", *self.variables, *self.lines, "  ret void"])
        return f"define void @{self.name}(ptr noalias %arguments) {{\n{body}\n}}\n"

    def new(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def write(self, text: str, kind: str = "i64", lanes: int = 0) -> Value:
        """A new value, the result of an instruction."""
        name = self.new()
        self.lines.append(f"  {name} = {text}")
        return Value(name, kind, lanes)

    def constant(self, value: float, kind: str, lanes: int = 0) -> Value:
        if kind in ("double", "float"):
            if kind == "float":  # rounded once; written as the double of the same value
                value = ctypes.c_float(value).value
            one = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
        else:
            one = str(int(value))
        return Value(f"<{', '.join([f'{kind} {one}'] * lanes)}>" if lanes else one, kind, lanes)

    def variable(self, kind: str, lanes: int = 0, count: int = 1) -> Value:
        """Memory of the function, for values that change in loops."""
        name = self.new()
        self.variables.append(f"  {name} = alloca [{count} x {type_of(kind, lanes)}], align 64")
        return Value(name, "ptr")

    def argument(self, position: int, kind: str = "i64") -> Value:
        """An integer or address that the function was called with."""
        place = self.write(f"getelementptr i64, ptr %arguments, i64 {position}", "ptr")
        return self.write(f"load {kind}, {place}, align 8", kind)

    # ---- integers, memory and loops --------------------------------------------------------------------------------------

    def integer(self, op: str, a: Value | int, b: Value | int) -> Value:
        """``add``, ``sub``, ``mul`` or another operation on 64-bit integers."""
        return self.write(f"{op} i64 {name_of(a)}, {name_of(b)}")

    def address(self, base: Value, position: Value | int, kind: str, lanes: int = 0) -> Value:
        """The address of an element of an array; vectors are as long as their elements."""
        return self.write(f"getelementptr {type_of(kind, lanes)}, ptr {base.name}, i64 {name_of(position)}", "ptr")

    def load(self, place: Value, kind: str, lanes: int = 0) -> Value:
        return self.write(f"load {type_of(kind, lanes)}, ptr {place.name}, align {SIZES[kind]}", kind, lanes)

    def store(self, value: Value, place: Value) -> None:
        self.lines.append(f"  store {value}, ptr {place.name}, align {SIZES[value.kind]}")

    def load_at(self, base: Value, position: Value | int, kind: str, lanes: int = 0) -> Value:
        """An element of an array."""
        return self.load(self.address(base, position, kind, lanes), kind, lanes)

    def store_at(self, value: Value, base: Value, position: Value | int) -> None:
        """Store an element of an array."""
        self.store(value, self.address(base, position, value.kind, value.lanes))

    @contextlib.contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """A loop over integers; the body is what is written inside."""
        counter, label = self.variable("i64"), self.new()[1:]
        self.store(start if isinstance(start, Value) else self.constant(start, "i64"), counter)
        self.lines += [f"  br label %{label}.head", f"{label}.head:"]
        i = self.load(counter, "i64")
        go = self.write(f"icmp slt i64 {i.name}, {name_of(stop)}", "i1")
        self.lines += [f"  br i1 {go.name}, label %{label}.body, label %{label}.end", f"{label}.body:"]
        yield i
        self.store(self.integer("add", i, step), counter)
        self.lines += [f"  br label %{label}.head", f"{label}.end:"]

    @contextlib.contextmanager
    def only_if(self, condition: Value) -> Iterator[None]:
        """What is written inside runs if the condition, an i1, holds."""
        label = self.new()[1:]
        self.lines += [f"  br i1 {condition.name}, label %{label}.then, label %{label}.end", f"{label}.then:"]
        yield
        self.lines += [f"  br label %{label}.end", f"{label}.end:"]

    # ---- operations of graphs --------------------------------------------------------------------------------------------

    def convert(self, a: Value, kind: str, lanes: int) -> Value:
        """A value with another kind of elements, and as a vector."""
        if a.kind == "i1" and kind != "i1":
            a = self.write(f"uitofp {a} to {type_of(kind, a.lanes)}", kind, a.lanes)
        if kind == "i1" and a.kind != "i1":
            a = self.write(f"fcmp une {a}, {self.constant(0, a.kind, a.lanes).name}", "i1", a.lanes)
        if a.kind != kind:
            cast = "fptrunc" if kind == "float" else "fpext"
            a = self.write(f"{cast} {a} to {type_of(kind, a.lanes)}", kind, a.lanes)
        if lanes and not a.lanes:
            one = self.write(f"insertelement {type_of(kind, lanes)} poison, {a}, i64 0", kind, lanes)
            zeros = f"<{lanes} x i32> zeroinitializer"
            a = self.write(f"shufflevector {one}, {type_of(kind, lanes)} poison, {zeros}", kind, lanes)
        return a

    def intrinsic(self, name: str, *args: Value) -> Value:
        """A call of one of LLVM's functions for values of one type."""
        kind, lanes = args[0].kind, args[0].lanes
        suffix = f"v{lanes}" if lanes else ""
        full = f"llvm.{name}.{suffix}f{8 * SIZES[kind]}"
        self.declarations.add(f"declare {args[0].type} @{full}({', '.join(a.type for a in args)})")
        return self.write(f"call {args[0].type} @{full}({', '.join(map(str, args))})", kind, lanes)

    def compare(self, op: str, a: Value, b: Value) -> Value:
        return self.write(f"fcmp {COMPARISONS[op]} {a}, {b.name}", "i1", a.lanes)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        return self.write(f"select {condition}, {a}, {b}", a.kind, a.lanes)

    def in_arithmetic(self, node: Node) -> Node:
        """exp, log, log1p or tanh in plain arithmetic."""
        precision = elementary.DOUBLE if node.weak or self.kind == "double" else elementary.SINGLE
        formula: Callable[..., Node] = getattr(elementary, node.op)
        return formula(node.graph, *node.args, precision)

    def operation(self, node: Node, args: Sequence[Value]) -> Value:
        """An elementwise operation: weak values in double precision, others in that of the arrays."""
        op, lanes = node.op, max(a.lanes for a in args)
        kind = "i1" if op in CHOICES and node.truth else "double" if node.weak else self.kind
        integer = next((a.kind for a in args if a.kind in ("i32", "i64")), kind)
        if op in INTEGERS and integer[0] == "i":
            a, *rest = [
                self.constant(n.value, integer, lanes) if n.op == "const" else self.convert(a, integer, lanes)
                for n, a in zip(node.args, args, strict=True)
            ]
            b = rest[0] if rest else self.constant(1, integer, lanes)
            return self.write(f"{INTEGERS[op]} {a}, {b.name}", integer, lanes)
        if op == "where":
            condition = self.convert(args[0], "i1", lanes)
            return self.select(condition, *[self.convert(a, kind, lanes) for a in args[1:]])
        if op in ("bits", "number"):
            kind = {"double": "i64", "float": "i32", "i64": "double", "i32": "float"}[args[0].kind]
            return self.write(f"bitcast {args[0]} to {type_of(kind, lanes)}", kind, lanes)
        a, *rest = [self.convert(a, kind, lanes) for a in args]
        if op in ARITHMETIC:
            return self.write(f"{ARITHMETIC[op]} {', '.join([str(a), *(b.name for b in rest)])}", kind, lanes)
        if op in COMPARISONS:
            return self.compare(op, a, rest[0])
        if op in INTRINSICS:
            return self.intrinsic(INTRINSICS[op], a, *rest)
        if op in ("maximum", "minimum"):
            return self.larger(a, rest[0], "greater" if op == "maximum" else "less")
        if op == "sign":
            zero, one = self.constant(0, kind, lanes), self.constant(1, kind, lanes)
            y = self.write(f"fsub {a}, {a.name}", kind, lanes)  # NaN, or 0.0 for both zeros
            y = self.select(self.compare("greater", a, zero), one, y)
            return self.select(self.compare("less", a, zero), self.constant(-1, kind, lanes), y)
        if op in ("isnan", "isfinite"):
            b = a if op == "isnan" else self.write(f"fsub {a}, {a.name}", kind, lanes)
            return self.write(f"fcmp {'uno' if op == 'isnan' else 'ord'} {b}, {b.name}", "i1", lanes)
        if op == "pow":
            return self._power(a, rest[0])
        raise TraceError(f"uses {op}, which has no machine code")

    def plus(self, a: Value, b: Value) -> Value:
        return self.write(f"fadd {a}, {b.name}", a.kind, a.lanes)

    def across(self, *vectors: Value) -> Value:
        """The sums of the numbers of vectors, neighbours first, as the first numbers of a vector."""
        lanes, parts = vectors[0].lanes, list(vectors)
        for _ in range(lanes.bit_length() - 1):
            pairs = list(zip(parts[::2], parts[1::2], strict=True)) if len(parts) > 1 else [(parts[0], parts[0])]
            parts = []
            for a, b in pairs:
                orders = [", ".join(f"i32 {j}" for j in range(start, 2 * lanes, 2)) for start in (0, 1)]
                texts = [f"shufflevector {a}, {b}, <{lanes} x i32> <{order}>" for order in orders]
                parts.append(self.plus(*[self.write(text, a.kind, lanes) for text in texts]))
        return parts[0]

    def sum_of(self, vector: Value) -> Value:
        """The sum of the numbers of a vector, neighbours first."""
        return self.write(f"extractelement {self.across(vector)}, i64 0", vector.kind)

    def larger(self, a: Value, b: Value, comparison: str = "greater") -> Value:
        """The larger number, or the smaller one; NaN if either is, as in NumPy."""
        nan = self.write(f"fcmp uno {a}, {a.name}", "i1", a.lanes)
        return self.select(self.write(f"or {self.compare(comparison, a, b)}, {nan.name}", "i1", a.lanes), a, b)

    def _power(self, a: Value, b: Value) -> Value:
        """pow of the C library, which Python uses too, for each number; weak values only."""
        self.declarations.add("declare double @pow(double, double)")
        if not a.lanes:
            return self.write(f"call double @pow({a}, {b})", "double")
        result = Value("poison", "double", a.lanes)
        for k in range(a.lanes):
            x, y = (self.write(f"extractelement {v}, i64 {k}", "double") for v in (a, b))
            one = self.write(f"call double @pow({x}, {y})", "double")
            result = self.write(f"insertelement {result}, {one}, i64 {k}", "double", a.lanes)
        return result


# ---- machine code ----------------------------------------------------------------------------------------------------


class Processor(NamedTuple):
    """What the machine code is made for."""

    cpu: str
    features: str

    @property
    def vector_bytes(self) -> int:
        """Length of a vector register."""
        has = self.features.split(",")
        return 64 if "+avx512f" in has else 32 if "+avx" in has else 16


def is_available() -> bool:
    """Whether llvmlite is installed; it may not be available yet for new versions of Python."""
    return importlib.util.find_spec("llvmlite") is not None


@functools.cache
def processor() -> Processor:
    """The processor of this machine."""
    import llvmlite.binding as llvm

    return Processor(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


@functools.cache
def _target() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = processor()
    return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2, jit=True)


def assemble(writers: Sequence[Writer]) -> str:
    """The IR of a module with these functions."""
    declarations = sorted(set().union(*(w.declarations for w in writers)))
    return "\n".join([*(w.text() for w in writers), *declarations, ""])


@functools.lru_cache(maxsize=512)
def machine_code(ir: str, names: tuple[str, ...], *, unroll: bool = True) -> tuple[Callable[[int | bytes], None], ...]:
    """The functions of a module, each called with the address of its arguments, or with their bytes.

    To unroll loops takes about as long as all the rest, and loops over vectors with much to compute gain little.
    """
    import llvmlite.binding as llvm

    target = _target()
    module = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(module, target)
    _engines.append(engine)  # functions live as long as their engine, and so does the target
    key = cache.key(f"{ir}; unroll={unroll}", *processor())
    code = cache.load(key)
    if code is None:
        source = llvm.parse_assembly(ir)
        source.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_unrolling = unroll
        builder = llvm.create_pass_builder(target, options)
        builder.getModulePassManager().run(source, builder)
        code = target.emit_object(source)
        cache.store(key, code)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return tuple([prototype(engine.get_function_address(name)) for name in names])


_engines: list[Any] = []
