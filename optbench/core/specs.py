"""Parameters of registered objects, and specs that set them, such as ``"quadratic:dim=100"``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from optbench.core.errors import InputError, shown, suggestion
from optbench.core.memory import check_memory

MAX_DIM = 10**8  # parameters of a problem, or rows of its data; one vector has 0.8 GB
MAX_INTEGER = 2**63 - 1  # largest integer of an array, and of an Arrow column

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Interval:
    """A range of numbers.

    Parameters
    ----------
    low, high : float
        Ends of the range; unbounded by default.
    closed : {"both", "left", "right", "neither"}
        Ends that belong to the range, as in pandas.

    Examples
    --------
    >>> unit = optbench.Interval(0, 1, closed="left")
    >>> 0 in unit, 1 in unit, str(unit)
    (True, False, 'in [0, 1)')
    """

    low: float = -math.inf
    high: float = math.inf
    closed: Literal["both", "left", "right", "neither"] = "both"

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.closed in ("both", "left") else value > self.low
        return above and (value <= self.high if self.closed in ("both", "right") else value < self.high)

    def __str__(self) -> str:
        left, right = self.closed in ("both", "left"), self.closed in ("both", "right")
        if self.high == math.inf:
            return f"{'at least' if left else 'above'} {self.low:g}"
        if self.low == -math.inf:
            return f"{'at most' if right else 'below'} {self.high:g}"
        return f"in {'[' if left else '('}{self.low:g}, {self.high:g}{']' if right else ')'}"

    def violated_by(self, value: float) -> str:
        """What a value outside violates, for messages: the range or, where it is wide, one end of it.

        Parameters
        ----------
        value : float
            A number that does not belong to the range.

        Returns
        -------
        str
            Such as ``"at most 10000"`` or ``"in [0, 1)"``.
        """
        if self.high - self.low < 100:
            return str(self)
        is_below = value <= self.low
        return str(Interval(self.low if is_below else -math.inf, math.inf if is_below else self.high, self.closed))


class Choices(tuple[str, ...]):
    """The values that a text parameter may have."""


POSITIVE = Interval(0, closed="neither")
NONNEGATIVE = Interval(0)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A declared parameter of a registered object. A sequence is in range if all its numbers are."""

    name: str
    type: Any
    default: Any
    range: Interval | None = None
    choices: Choices | None = None

    def __str__(self) -> str:
        return f"{self.name}={format_value(self.default)}"


# ---- parameters: declared by a signature or by dataclass fields ------------------------------------------------------


def parameters(target: Any) -> dict[str, Parameter]:
    """The declared parameters of a registered object: a dataclass's fields, or a function's arguments with a default.

    A field may declare its range, ``dim: Annotated[int, Interval(1)] = 3``, or its `Choices`.
    """
    return _parameters(target)


@functools.cache  # on its own, because type checkers do not take classes for hashable
def _parameters(target: Any) -> dict[str, Parameter]:
    if dataclasses.is_dataclass(target):
        kind = target if isinstance(target, type) else type(target)
        hints, annotated = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)

        def declared(name: str, kind: type[T]) -> T | None:
            return next((e for e in getattr(annotated[name], "__metadata__", ()) if isinstance(e, kind)), None)

        return {
            f.name: Parameter(f.name, hints[f.name], f.default, declared(f.name, Interval), declared(f.name, Choices))
            for f in dataclasses.fields(target)
            if f.init and not f.metadata.get("internal")
        }
    return {
        p.name: Parameter(p.name, type(p.default), p.default)
        for p in inspect.signature(target).parameters.values()
        if p.default is not inspect.Parameter.empty
    }


@functools.cache
def state_names(rule: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the state of a rule: its arguments after `xp, x, g, t` that have no default."""
    return tuple(name for name in list(inspect.signature(rule).parameters)[4:] if name not in parameters(rule))


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split ``"quadratic:dim=100,condition=1e4"`` into the name and the parameters as text.

    Raises
    ------
    InputError
        If a parameter is not of the form ``name=value``.
    """
    check_text("spec", text)
    name, _, rest = text.strip().partition(":")
    settings: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"{shown(part)} in {shown(text)} is not name=value; write for example quadratic:dim=100,condition=1e4"
            )
        if key.strip() in settings:
            raise InputError(f"{shown(key.strip())} is given twice in {shown(text)}")
        settings[key.strip()] = value.strip()
    return name.strip(), settings


def check_text(owner: str, text: str) -> None:
    """Raise `InputError` for text that no file name and no table can hold: with NUL, or bytes that are not UTF-8."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{owner}: {shown(text)} contains NUL or is not UTF-8; write it without such characters")


def coerce_all(owner: str, declared: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters, each checked against its declaration and converted to the declared type."""
    check_names(owner, declared, given)
    return {name: coerce(owner, declared[name], value) for name, value in given.items()}


def check_names(owner: str, declared: Iterable[str], given: Iterable[str]) -> None:
    """Raise `InputError` for a given name that is not declared, and suggest the nearest declared one."""
    declared = list(declared)
    for name in given:
        if name not in declared:
            hint = suggestion(str(name), declared) or "it has: " + (", ".join(declared) or "none")
            raise InputError(f"{owner} has no parameter {shown(name)}; {hint}")


def coerce(owner: str, parameter: Parameter, value: Any) -> Any:
    """`value` (text from a command line, or a Python value) as the parameter's declared type.

    A sequence of numbers may be written ``32-16``; a float must be finite.

    Raises
    ------
    InputError
        If the value does not have that type, or is out of range.
    """
    is_union = typing.get_origin(parameter.type) in (typing.Union, types.UnionType)
    kinds = typing.get_args(parameter.type) if is_union else (parameter.type,)
    for kind in kinds:
        try:
            result = _as_type(kind, value)
            break
        except (TypeError, LookupError, ValueError, OverflowError):
            continue
    else:
        expected = " or ".join(_TYPE_NAMES.get(kind, "numbers such as 32-16") for kind in kinds)
        raise InputError(f"{owner}: {parameter.name} must be {expected}, not {shown(value)}")
    if isinstance(result, str):
        check_text(f"{owner}: {parameter.name}", result)
    if parameter.choices is not None and result not in parameter.choices:
        raise InputError(
            f"{owner}: {parameter.name} must be one of {', '.join(parameter.choices)}, not {shown(result)}"
        )
    for number in result if isinstance(result, tuple) else (result,):
        if parameter.range is not None and number is not None and number not in parameter.range:
            every = "every number of " if isinstance(result, tuple) else ""
            raise InputError(
                f"{owner}: {every}{parameter.name} must be {parameter.range.violated_by(number)}, not {shown(number)}"
            )
    return result


_TYPE_NAMES = {
    int: "a whole number below 2^63",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    type(None): "none",
}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _as_type(kind: Any, value: Any) -> Any:
    """The value converted to a type; raises one of the errors that `coerce` catches."""
    if typing.get_origin(kind) is tuple:
        (item, *_) = typing.get_args(kind)
        if isinstance(value, str):
            value = re.split(r"(?<![eE])-", value) if value else []  # not at the dash of 1e-3
        return tuple(_as_type(item, v) for v in (value if isinstance(value, Iterable) else [value]))
    if kind is bool and isinstance(value, str):
        return _WORDS[value.lower()]
    if kind is type(None) and value == "none":
        return None
    if kind in (bool, type(None)) and isinstance(value, kind):
        return value
    if kind is int and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = int(value) if isinstance(value, str | numbers.Integral) else value  # exact, unlike a float
        if not isinstance(value, int) and float(value) == int(float(value)):
            value = int(float(value))  # whole numbers may be written 1e4
        if isinstance(value, int) and abs(value) <= MAX_INTEGER:
            return value
    if kind is float and not isinstance(value, bool) and math.isfinite(number := float(value)):
        return number + 0.0  # turns -0.0 into 0.0, so that both have one key
    if kind is str and isinstance(value, str | Path):
        return str(value)
    raise TypeError


def format_value(value: Any) -> str:
    """The text of a parameter's value in a spec."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return text if float(text := f"{value:.12g}") == value else repr(float(value))  # so that two have two texts
    if isinstance(value, tuple):
        return "-".join(format_value(v) for v in value)
    if value is None or isinstance(value, str | int | Path):
        return "none" if value is None else str(value)
    # not the numbers of an array, nor the address of an object
    shape = "x".join(map(str, getattr(value, "shape", ())))
    return getattr(value, "__name__", None) or type(value).__name__ + f"[{shape}]" * bool(shape)


def _differ(value: Any, default: Any) -> bool:
    try:
        return value is not default and bool(value != default)
    except ValueError:  # arrays
        return True


def format_spec(name: str, settings: Mapping[str, Any]) -> str:
    """The inverse of `parse_spec`."""
    inner = ",".join(f"{key}={format_value(value)}" for key, value in settings.items())
    return f"{name}:{inner}" if inner else name


class Parametrized:
    """Base of dataclasses that are registered under a name and created from specs.

    Attributes
    ----------
    kind : str
        ``"problem"``, for messages.
    name : str
        The registered name.
    always_shown : tuple of str
        Parameters that `spec` names even at their defaults.
    """

    kind: ClassVar[str] = "object"
    name: ClassVar[str] = ""
    always_shown: ClassVar[tuple[str, ...]] = ()

    @property
    def unused(self) -> frozenset[str]:
        """Parameters without effect at the values of the others, such as the size of synthetic data when a file is read."""
        return frozenset()

    @property
    def bytes_to_create(self) -> float:
        """Estimated bytes of the arrays that the constructor creates from the parameters; 0 if they are few."""
        return 0

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that have an effect, by name."""
        return {name: getattr(self, name) for name in parameters(type(self)) if name not in self.unused}

    @property
    def spec(self) -> str:
        """Spec of this object: its name and the parameters that differ from their defaults."""
        declared = parameters(type(self))
        shown = {
            name: value
            for name, value in self.params.items()
            if _differ(value, declared[name].default) or name in self.always_shown
        }
        return format_spec(self.name or type(self).__name__, shown)

    def __str__(self) -> str:
        return self.spec

    def check_parameters(self) -> None:
        """Convert every parameter to its declared type and check its range; ``__post_init__`` calls this first.

        Raises
        ------
        InputError
            If a value has another type or is out of range, the object does not fit into memory, or a parameter without
            effect is set.
        """
        declared = parameters(type(self))
        for name, parameter in declared.items():
            setattr(self, name, coerce(f"{self.kind} {self.name!r}", parameter, getattr(self, name)))
        check_memory(f"{self.kind} {self.spec!r}", self.bytes_to_create)
        for name in sorted(self.unused):
            if getattr(self, name) != declared[name].default:
                raise InputError(f"{self.kind} {self.spec!r}: {name} has no effect here; leave it out")


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, and any other value as a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def canonical(value: Any) -> str:
    """Canonical JSON of plain Python values, from which keys are hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
