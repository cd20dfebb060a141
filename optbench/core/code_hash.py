"""Hashes of what code means: two functions with the same hash compute the same.

A hash covers byte code, defaults, closures and everything that is reached by name: helpers, classes, global values, arrays
by content. It does not cover comments, docstrings, annotations, positions in files and the names of files. It ends at the
standard library, installed packages and the modules of optbench, of which only names are hashed; `module_hash` covers whole
modules. Byte code differs between versions of Python, and so do hashes.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import secrets
import sys
import types
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_CACHES = weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet
_warned: set[str] = set()
FEW = 8  # items of a list that are hashed one by one

# members of classes that Python or a decorator derives from others, or that compute nothing
_DERIVED = {
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotations_cache__"),
    *("__annotate__", "__annotate_func__", "__static_attributes__", "__firstlineno__", "__match_args__", "__repr__"),
    *("__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl", "__parameters__"),
    *("__orig_bases__", "__slotnames__", "__type_params__", "__classdictcell__"),
}


class Hasher:
    """Hashes of objects by content.

    It remembers every object, so it holds for one call, during which code and data do not change. An object with the method
    ``content_to_hash`` has the content that this returns, any other object the content that is pickled.

    Parameters
    ----------
    names_suffice : bool
        Whether functions and classes that can be imported are hashed by name instead of by code.
    """

    def __init__(self, *, names_suffice: bool = False) -> None:
        self.names_suffice = names_suffice
        self._nodes: dict[tuple[int, bool], _Node] = {}
        self._arrays: dict[int, tuple[np.ndarray, bytes]] = {}
        self._owner = ""
        self.random: set[str] = set()  # hashes of content that cannot be compared

    def by_name(self) -> Hasher:
        """A hasher to which names suffice, and which knows the same arrays."""
        other = Hasher(names_suffice=True)
        other._arrays = self._arrays
        return other

    def hash(self, *values: Any, owner: str = "") -> str:
        """Hash of values; `owner` names them in a warning about content that cannot be compared."""
        self._owner = owner
        root = _Node(None, "", "")
        root.state = _FILLED
        for value in values:
            self._add(root, value, follow=not self.names_suffice)
        digest, is_random = self._digest(root)
        if is_random:
            self.random.add(digest.hex())
        return digest.hex()

    def _digest(self, root: _Node) -> tuple[bytes, bool]:
        """Digest of a node and of all that it reaches, and whether a part is random."""
        # objects may refer to each other in circles, so they are numbered in the order of their discovery
        number, order = {id(root): 0}, [root]
        result = hashlib.blake2b(digest_size=16)
        for node in order:
            if node.state == _NEW:
                node.state = _FILLING
                self._fill(node, node.value)
                node.state = _FILLED
            elif node.state == _FILLING:  # an item of a set refers to the set
                result.update(b"set")
                continue
            result.update(b"%d " % len(node.content) + node.content)
            for child in node.children:
                if id(child) not in number:
                    number[id(child)] = len(order)
                    order.append(child)
                result.update(b"%d " % number[id(child)])
        return result.digest(), any(node.is_random for node in order)

    # ---- values --------------------------------------------------------------------------------------------------------

    def _add(self, node: _Node, value: Any, place: str = "", *, follow: bool = False) -> None:
        """Add a value to the content of a node: simple ones directly, others as a child."""
        kind = type(value)
        if (text := _atom(value)) is not None:
            node.write(text)
        elif kind is tuple:
            self._add_items(node, value, place)
        elif kind is np.ndarray and not value.dtype.hasobject:
            node.write(self._array(value))
        elif kind is types.CodeType:
            node.write(_code(value))
        elif isinstance(value, types.ModuleType) and not self._looks_into(node, value):
            node.write(f"module {value.__name__}".encode())
        elif (name := _name_of_c_function(value)) is not None:
            node.write(f"name {name}".encode())
        elif isinstance(value, types.FunctionType | type) and not (follow or self._follows(node, value)):
            node.write(f"name {qualified_name(value)}".encode())
            if isinstance(value, types.FunctionType) and not (self.names_suffice and is_importable(value)):
                node.children.append(self._node(value, place, node.package, by_name=True))
        else:
            node.write(b"object")
            node.children.append(self._node(value, place or node.place, node.package))

    def _add_items(self, node: _Node, values: Sequence[Any], place: str = "") -> None:
        node.write(b"%s %d" % (type(values).__name__.encode(), len(values)))
        if len(values) > FEW and all(kind in _ATOMS for kind in set(map(type, values))):
            with contextlib.suppress(ValueError):  # an integer with thousands of digits
                node.write(repr(values).encode())  # much faster
                return
        for value in values:
            self._add(node, value, place)

    def _add_pairs(self, node: _Node, items: Mapping[Any, Any]) -> None:
        """A mapping, whose order counts."""
        self._add_items(node, tuple(items))
        if len(items) > FEW:
            self._add_items(node, tuple(items.values()))
            return
        for key, value in items.items():
            self._add(node, value, f"{key!r} of {node.place}" if isinstance(key, str) else "")

    def _node(self, value: Any, place: str, package: str, *, by_name: bool = False) -> _Node:
        node = self._nodes.get((id(value), by_name))
        if node is None:
            if isinstance(value, types.FunctionType | type | types.ModuleType) and not by_name:
                package = _package(_home(value)) or ""
            node = self._nodes[id(value), by_name] = _Node(value, place, package, by_name=by_name)
        return node

    def _follows(self, node: _Node, value: Any) -> bool:
        """Whether a function or class is hashed by code, where the code of `node` refers to it."""
        if self.names_suffice and is_importable(value):
            return False
        package = _package(_home(value))
        return package is not None and _same_distribution(package, node.package)

    def _looks_into(self, node: _Node, module: types.ModuleType) -> bool:
        """Whether the values of a module count, where the code of `node` refers to it."""
        package = _package(module.__name__)
        return package is not None and _same_distribution(package, node.package)

    def _array(self, array: np.ndarray) -> bytes:
        if id(array) not in self._arrays:
            content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            data = hashlib.blake2b(content, digest_size=16)
            self._arrays[id(array)] = array, f"array {array.dtype.descr} {array.shape} ".encode() + data.digest()
        return self._arrays[id(array)][1]

    # ---- content of nodes ------------------------------------------------------------------------------------------------

    def _fill(self, node: _Node, value: Any) -> None:
        kind = type(value)
        if node.by_name:
            for part in _wrapped(value):
                self._add(node, part)
        elif kind is dict or kind is types.MappingProxyType:
            node.write(kind.__name__.encode())
            self._add_pairs(node, value)
        elif kind is list:
            self._add_items(node, value)
        elif isinstance(value, set | frozenset):
            self._add(node, kind)
            self._fill_set(node, value)
        elif isinstance(value, types.FunctionType):
            self._fill_function(node, value)
        elif isinstance(value, type):
            self._fill_class(node, value)
        elif isinstance(value, types.ModuleType):
            for name, member in sorted(vars(value).items()):
                if not name.startswith("__"):
                    node.write(name.encode())
                    self._add(node, member, f"{value.__name__}.{name}")
        elif isinstance(value, _CACHES):
            self._add(node, kind)
        elif isinstance(value, _WRAPPERS):
            self._fill_parts(node, value)
        else:
            self._fill_object(node, value)

    def _fill_function(self, node: _Node, function: types.FunctionType) -> None:
        code, cells = function.__code__, function.__closure__ or ()
        node.place = f"{function.__qualname__}()"
        node.write(_code(code))
        self._add(node, function.__defaults__)
        self._add_pairs(node, function.__kwdefaults__ or {})
        self._add_pairs(node, vars(function))
        closure = {name: _content(cell) for name, cell in zip(code.co_freevars, cells, strict=True)}
        for name, value in closure.items():
            if not isinstance(value, types.ModuleType):  # of a module counts what the code names
                node.write(name.encode())
                self._add(node, value, f"{name!r} of {node.place}")
        self._add_references(node, code, function.__globals__, closure)

    def _fill_class(self, node: _Node, kind: type) -> None:
        node.place = f"class {kind.__qualname__}"
        self._add(node, type(kind))
        self._add(node, kind.__bases__)
        ignored = _DERIVED.union(*(vars(base).get("display_only", ()) for base in kind.__mro__))
        for name, member in sorted(vars(kind).items()):
            if name not in ignored and not isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType):
                node.write(name.encode())
                self._add(node, member, f"{name!r} of {node.place}")

    def _fill_set(self, node: _Node, values: Iterable[Any]) -> None:
        digests = []  # sorted, because the order of a set means nothing
        for value in values:
            item = _Node(None, node.place, node.package)
            item.state = _FILLED
            self._add(item, value)
            digest, is_random = self._digest(item)
            digests.append(digest)
            node.is_random |= is_random
        node.write(b"set" + b"".join(sorted(digests)))

    def _fill_parts(self, node: _Node, value: Any) -> None:
        """A function with arguments, or functions behind an attribute."""
        node.write(type(value).__name__.encode())
        for name in (
            "__name__",
            "func",
            "fget",
            "fset",
            "fdel",
            "__func__",
            "__self__",
            "__wrapped__",
            "args",
            "keywords",
        ):
            if inspect.getattr_static(value, name, None) is not None:
                node.write(name.encode())
                self._add(node, getattr(value, name))

    def _fill_object(self, node: _Node, value: Any) -> None:
        """Class and state of an instance, as they are pickled."""
        kind = type(value)
        self._add(node, kind)
        if hasattr(kind, "content_to_hash"):
            self._add(node, value.content_to_hash())
            return
        if not self._follows(node, kind) and "__wrapped__" in getattr(value, "__dict__", ()):  # a library compiles it
            self._add(node, value.__wrapped__)
            return
        if hasattr(kind, "__dlpack__") and not isinstance(value, np.ndarray):  # a tensor
            with contextlib.suppress(Exception):  # it may be on a device, or have a gradient
                node.write(self._array(np.asarray(value)))
                return
        try:
            reduced: Any = value.__reduce_ex__(2)
            if isinstance(value, np.ufunc):  # made from a function that it does not show
                raise TypeError
            reduced = reduced if isinstance(reduced, str) else [*reduced, None, None, None][:5]
            items, pairs = ([], []) if isinstance(reduced, str) else (list(part or ()) for part in reduced[3:])
        except Exception:
            node.write(secrets.token_bytes(16))
            node.is_random = True
            self._warn(f"the content of {_described(value, node.place)} cannot be compared")
            return
        if isinstance(reduced, str):
            node.write(f"name {getattr(value, '__module__', '')}.{reduced}".encode())
            return
        create, arguments, state = reduced[:3]
        self._add(node, (create, arguments))
        derived = {
            k for base in kind.__mro__ for k, v in vars(base).items() if isinstance(v, functools.cached_property)
        }
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if type(part) is dict and all(
                isinstance(key, str) for key in part
            ):  # attributes, whose order means nothing
                self._add_pairs(node, {key: part[key] for key in sorted(part) if key not in derived})
            else:
                self._add(node, part)
        self._add_items(node, items)
        self._add_items(node, pairs)

    def _warn(self, problem: str) -> None:
        message = f"{self._owner}: " * bool(self._owner) + f"{problem}, so its runs are computed again in every call"
        if message not in _warned:
            _warned.add(message)
            warnings.warn(message, stacklevel=2)

    def _add_references(
        self, node: _Node, code: types.CodeType, names: Mapping[str, Any], closure: Mapping[str, Any]
    ) -> None:
        """The values that code names, in its order."""
        outside = names.get("__builtins__", builtins)
        outside = vars(outside) if isinstance(outside, types.ModuleType) else outside
        for base, attributes in _references(code):
            if isinstance(base, _Import):
                value = _imported(base, names, node.package)
            elif base.is_free:
                value = closure.get(base.name)
                if not isinstance(value, types.ModuleType):  # added with the closure
                    continue
            else:
                value = names.get(base.name, outside.get(base.name, _Missing))
            place = ".".join([base.name, *attributes])
            node.write(place.encode())
            path = list(attributes)
            # modules of optbench count by name, but may lead to problems and optimizers
            while (
                path
                and isinstance(value, types.ModuleType)
                and (value.__name__.partition(".")[0] == "optbench" or self._looks_into(node, value))
            ):
                value = _attribute(value, path.pop(0))
            if value is not _Missing:
                self._add(node, value, f"{place!r} in {node.place}")


_NEW, _FILLING, _FILLED = range(3)


class _Node:
    """The content of an object as bytes, and the objects to which it refers.

    `place` says where it was found, `package` is the installed package whose code referred to it, and `by_name` is set for
    a function whose own code does not count.
    """

    __slots__ = ("by_name", "children", "content", "is_random", "package", "place", "state", "value")

    def __init__(self, value: Any, place: str, package: str, *, by_name: bool = False) -> None:
        self.value, self.place, self.package, self.by_name, self.state = value, place, package, by_name, _NEW
        self.content, self.is_random = bytearray(), False
        self.children: list[_Node] = []

    def write(self, content: bytes) -> None:
        self.content += b"%d:" % len(content) + content


class _Missing:
    """Stands for a name that has no value yet."""


_ATOMS = {int, bool, float, complex, str, bytes, range, type(None), type(...), type(NotImplemented)}
_WRAPPERS = (
    *(property, classmethod, staticmethod, functools.partial, functools.cached_property, types.MethodType),
    *(types.BuiltinFunctionType, type(functools.cache(len))),
)


def _atom(value: Any) -> bytes | None:
    """A simple value as bytes, with its type; None for other values."""
    kind = type(value)
    if kind is int:
        return hex(value).encode()  # quick for any number of digits
    if kind in _ATOMS:
        return repr(value).encode()
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return f"{value.dtype.str} ".encode() + value.tobytes()
    return None


def _name_of_c_function(value: Any) -> str | None:
    """The name of a function written in C that has no data of its own; None for other values."""
    if isinstance(value, types.BuiltinFunctionType):
        owner = value.__self__
        is_free = owner is None or isinstance(owner, types.ModuleType | type)
        return f"{value.__module__}.{value.__qualname__}" if is_free else None
    kinds = types.WrapperDescriptorType | types.MethodDescriptorType | types.ClassMethodDescriptorType
    if isinstance(value, kinds | types.MemberDescriptorType | types.GetSetDescriptorType):
        return f"{qualified_name(value.__objclass__)}.{value.__name__}"
    if isinstance(value, np.ufunc):
        homes = (np, sys.modules.get("scipy.special"))
        return f"ufunc {value.__name__}" if any(getattr(m, value.__name__, 0) is value for m in homes) else None
    return None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return _Missing


def _wrapped(function: types.FunctionType) -> tuple[Any, ...]:
    """Functions that a function of a library calls: what a decorator wraps, and implementations by type."""
    closure = [
        value for value in map(_content, function.__closure__ or ()) if callable(value) and value is not _Missing
    ]
    return (*(vars(function)[name] for name in ("__wrapped__", "registry") if name in vars(function)), *closure)


def _described(value: Any, place: str) -> str:
    return f"{place} (a {type(value).__qualname__})" if place else f"a {type(value).__qualname__}"


# ---- byte code -----------------------------------------------------------------------------------------------------------

_CONSTANTS, _NAMES = frozenset(dis.hasconst), frozenset(dis.hasname)
_SHIFTS = {"LOAD_GLOBAL": 1} | ({"LOAD_ATTR": 1, "LOAD_SUPER_ATTR": 2} if sys.version_info >= (3, 12) else {})
_SHIFT = {dis.opmap[name]: bits for name, bits in _SHIFTS.items()}
_STORE_NAME = dis.opmap["STORE_NAME"]
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
_FLAGS |= inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


@functools.lru_cache(maxsize=10_000)
def _code(code: types.CodeType) -> bytes:
    """Digest of byte code, in which constants and names stand for their positions."""
    result = hashlib.blake2b(digest_size=16)
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS
    variables = code.co_varnames, code.co_cellvars, code.co_freevars
    # all names, because new versions of Python may number them in another way
    names = sorted({*code.co_names} - {"__doc__", "__firstlineno__"})
    result.update(repr((counts, variables, names, code.co_exceptiontable)).encode())
    raw, extended, constant = code.co_code, 0, None
    for op, low in zip(raw[::2], raw[1::2], strict=True):
        argument = extended | low
        if op == dis.EXTENDED_ARG:
            extended = argument << 8
            continue
        extended = 0
        if constant is not None:  # of the previous instruction
            if op == _STORE_NAME and code.co_names[argument] in ("__doc__", "__firstlineno__"):
                constant = None
                continue
            result.update(constant)
            constant = None
        if op in _CONSTANTS:
            constant = bytes([op]) + _constant(code.co_consts[argument])
        elif op in _NAMES:
            shift = _SHIFT.get(op, 0)
            k = argument >> shift
            result.update(f"{op} {argument & (1 << shift) - 1} {code.co_names[k : k + 1]};".encode())
        else:
            result.update(bytes([op]) + b"%d;" % argument)
    if constant is not None:
        result.update(constant)
    return result.digest()


def _constant(value: Any) -> bytes:
    """A constant of byte code as bytes."""
    if isinstance(value, types.CodeType):
        return b"code" + _code(value)
    if isinstance(value, tuple):
        return b"(%d" % len(value) + b"".join(map(_constant, value))
    if isinstance(value, frozenset):
        return b"{%d" % len(value) + b"".join(sorted(map(_constant, value)))
    content = _atom(value) or repr(value).encode()  # a slice
    return b"%d:" % len(content) + content


class _Name(NamedTuple):
    """A global or built-in name, or a variable of an enclosing function."""

    name: str
    is_free: bool


class _Import(NamedTuple):
    """An import statement: number of leading dots, module, and whether it begins with ``from``."""

    level: int
    name: str
    is_from: bool


Reference = tuple[_Name | _Import, tuple[str, ...]]  # where an expression begins, and the attributes that follow

# instructions between the parts of a name or import that change neither
_TRANSPARENT = {"CACHE", "PUSH_NULL", "PRECALL", "NOP", "EXTENDED_ARG", "SWAP", "COPY", "RESUME"}

# names that every module has, and that depend on where it lies
_OF_MODULES = {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__path__", "__cached__"}


@functools.lru_cache(maxsize=10_000)
def _references(code: types.CodeType) -> tuple[Reference, ...]:
    """What code refers to outside of its local variables, also in functions inside it."""
    found: dict[Reference, None] = {}
    _collect(code, {}, found)
    return tuple(reference for reference in found if reference[0].name not in _OF_MODULES)


def _collect(code: types.CodeType, outer: dict[str, list[Reference]], found: dict[Reference, None]) -> None:
    """Add the references of code; `outer` are the names of imports in the functions around it."""
    free = set(code.co_freevars)
    aliases = {name: list(references) for name, references in outer.items() if name in free}
    for reference, name in _imports(code):
        aliases.setdefault(name, []).append(reference)
    current: list[Reference] = []  # where an expression a.b.c began, perhaps with one of several imports
    for instruction in dis.get_instructions(code):
        op, argument = instruction.opname, instruction.argval
        if op in _TRANSPARENT:
            continue
        if op in ("LOAD_ATTR", "LOAD_METHOD") and current:
            current = [(base, (*attributes, argument)) for base, attributes in current]
            continue
        found.update(dict.fromkeys(current))
        current = []
        if op in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            current = aliases.get(argument) or [(_Name(argument, is_free=False), ())]
        elif "DEREF" in op and op.startswith("LOAD"):
            current = aliases.get(argument) or ([(_Name(argument, is_free=True), ())] if argument in free else [])
        elif "LOAD_FAST" in op:  # perhaps two of them in one
            for name in argument if isinstance(argument, tuple) else (argument,):
                found.update(dict.fromkeys(current))
                current = aliases.get(name, [])
    found.update(dict.fromkeys(current))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _collect(constant, aliases, found)


def _imports(code: types.CodeType) -> Iterator[tuple[Reference, str]]:
    """What the import statements of code import, and the names that they give it."""
    if dis.opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return
    constants: list[Any] = []
    module: tuple[_Import, tuple[str, ...]] | None = None
    current: Reference | None = None
    for instruction in dis.get_instructions(code):
        op, argument = instruction.opname, instruction.argval
        if op in _TRANSPARENT:
            continue
        if op == "IMPORT_NAME":
            level, names = constants[-2:]
            module = current = _Import(level, argument, bool(names)), ()
        elif op == "IMPORT_FROM" and current is not None:
            current = current[0], (*current[1], argument)
        elif op.startswith("STORE_") and current is not None:
            yield current, argument[0] if isinstance(argument, tuple) else argument
            current = module if module is not None and module[0].is_from else None
        elif op != "POP_TOP" or current is module:  # else: import a.b as c
            module = current = None
        if op in ("LOAD_CONST", "LOAD_SMALL_INT"):
            constants.append(argument)


def _imported(reference: _Import, names: Mapping[str, Any], package: str) -> Any:
    """What an import statement in code of a package gives, which is imported as the code does; missing from libraries."""
    name = reference.name
    try:
        if reference.level:
            above = names.get("__package__") or str(names.get("__name__", "")).rpartition(".")[0]
            name = importlib.util.resolve_name("." * reference.level + name, above)
        top = name.partition(".")[0]
        if top != "optbench" and not _is_own(top, package):
            return _Missing
        module = importlib.import_module(name)
    except (Exception, SystemExit):  # the code will fail, too
        return _Missing
    return module if reference.is_from else sys.modules.get(top, module)


def _is_own(top: str, package: str) -> bool:
    """Whether a top-level module, which may not be loaded yet, is a user's or belongs to a package."""
    if top in sys.modules:
        home = _package(top)
    elif top in sys.stdlib_module_names or (spec := importlib.util.find_spec(top)) is None:
        return False
    else:
        origin = spec.origin or next(iter(spec.submodule_search_locations or []), "")
        home = _package_of_file(top, origin)
    return home is not None and _same_distribution(home, package)


def _attribute(module: types.ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        pass
    try:
        return importlib.import_module(f"{module.__name__}.{name}")
    except (Exception, SystemExit):
        return _Missing


# ---- where code comes from -------------------------------------------------------------------------------------------

_STANDARD = str(Path(os.__file__).parent) + os.sep


def _home(value: Any) -> str:
    """The name of the module whose code a function, class or module is."""
    if isinstance(value, types.FunctionType):  # a decorator may have changed its __module__
        return str(value.__globals__.get("__name__") or value.__module__)
    if isinstance(value, types.ModuleType):
        return value.__name__
    return str(getattr(value, "__module__", ""))


def _package(module: str) -> str | None:
    """The installed package of a module: empty for files of a user; None for modules that are hashed by name only.

    Those are the standard library, and optbench except its problems and optimizers.
    """
    top, _, rest = module.partition(".")
    if top == "optbench":
        return "" if rest.partition(".")[0] in ("problems", "optimizers") else None
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None) or getattr(sys.modules.get(top), "__file__", None)
    if file is not None:
        return _package_of_file(top, str(file))
    origin = getattr(getattr(loaded, "__spec__", None), "origin", None)
    return None if top in sys.stdlib_module_names or origin in ("built-in", "frozen") else ""


@functools.lru_cache(maxsize=10_000)
def _package_of_file(top: str, file: str) -> str | None:
    if {"site-packages", "dist-packages"} & set(Path(file).parts):
        return top
    return None if file.startswith(_STANDARD) else ""


def _same_distribution(package: str, other: str) -> bool:
    """Whether a package is a user's, or was installed together with another one."""
    return package in ("", other) or bool(other and set(_distributions(package)) & set(_distributions(other)))


@functools.cache
def _distributions(package: str) -> tuple[str, ...]:
    from importlib.metadata import packages_distributions

    return tuple(packages_distributions().get(package, ()))


def qualified_name(target: Any) -> str:
    """Module and name of a function or class."""
    module = getattr(target, "__module__", "")
    # the main module of a worker process has another name
    module = "__main__" if module == "__mp_main__" else module
    return f"{module}.{getattr(target, '__qualname__', None) or type(target).__qualname__}"


def is_importable(target: Any) -> bool:
    """Whether the name of a function or class leads to it; it does not for those made inside functions, or replaced."""
    value: Any = sys.modules.get(getattr(target, "__module__", None) or "")
    for name in getattr(target, "__qualname__", "<>").split("."):
        value = inspect.getattr_static(value, name, None)
    return value is target or getattr(value, "__func__", None) is target


# ---- whole modules -------------------------------------------------------------------------------------------------------


@functools.cache
def module_hash(names: tuple[str, ...]) -> str:
    """Hash of the code of modules, which need not be loaded, without comments, docstrings and line numbers."""
    result = hashlib.blake2b(digest_size=16)
    for name in names:
        spec = importlib.util.find_spec(name)
        code = spec.loader.get_code(name)  # type: ignore[union-attr]
        result.update(_code(code))
    return result.hexdigest()
